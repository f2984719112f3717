package probe

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/lib/text"
	"holdfast/internal/store"
	"holdfast/internal/upgrade/check"
)

// ErrNone is what Sum returns of a run that was not measured, or whose figures
// are gone: those of the last measured run are kept only.
var ErrNone = errors.New("lost packets were not counted")

// late is how much earlier than the last record of all one may be without telling
// that its host had stopped counting.
const late = 30 * time.Second

// Summary is what is known about all guests of a run.
type Summary struct {
	Began  time.Time `json:"began"` // by the wall clock of who coordinated then; the other times go by it, and not by others' clocks
	Ended  time.Time `json:"ended"` // when something was last counted; zero: never
	Guests []Guest   `json:"guests"`
	Left   int       `json:"left,omitempty"` // guests that nobody pinged: a host pings 200 at most
}

// Guest is what is known about one.
type Guest struct {
	check.Loss
	UUID      string         `json:"uuid"`
	Addr      string         `json:"addr,omitempty"` // that was pinged last; "": none has answered
	By        cluster.HostID `json:"by"`             // who has pinged it
	Unwatched time.Duration  `json:"unwatched_ns"`   // of the run, in which nobody could tell
	First     time.Time      `json:"first,omitzero"` // when the first packet was sent
	Last      time.Time      `json:"last,omitzero"`
	Note      string         `json:"note,omitempty"` // why there is little to tell, for people
}

// Losses are the rows of a report.
func (s Summary) Losses() []check.Loss {
	out := make([]check.Loss, 0, len(s.Guests))
	for _, g := range s.Guests {
		g.UnwatchedMS, g.Loss.Note = g.Unwatched.Milliseconds(), g.Note
		out = append(out, g.Loss)
	}
	if s.Left > 0 {
		out = append(out, check.Loss{Guest: "others", Note: fmt.Sprintf("%d guests were pinged by nobody: a host pings 200 at most", s.Left)})
	}
	return out
}

// Sum reads what all hosts have counted in a run, by the names of guests.
func Sum(ctx context.Context, st store.Store, run string) (Summary, error) {
	if !usable(run) {
		return Summary{}, fmt.Errorf("lost packets of run %q: %w", run, ErrNone)
	}
	ctx, cancel := context.WithTimeout(ctx, listWithin)
	defer cancel()
	kvs, _, err := st.List(ctx, runKey(run))
	if err != nil {
		return Summary{}, fmt.Errorf("lost packets of run %s: %w", run, err)
	}
	p, parts, records, bad, err := sorted(run, kvs)
	if err != nil {
		return Summary{}, fmt.Errorf("lost packets of run %s: %w", run, err)
	}
	s := Summary{Began: p.Began, Left: p.Left}
	for _, r := range records {
		if at := s.Began.Add(r.passed()); at.After(s.Ended) {
			s.Ended = at
		}
	}
	names := map[string]int{}
	for h, x := range parts {
		rows := map[string]row{}
		for _, r := range records[h].Guests {
			rows[r.UUID] = r
		}
		for _, n := range x.Guests {
			names[n.Name]++
			g := s.guest(n, h, rows[n.UUID], records[h])
			if why := bad[h]; why != nil {
				g.Note = fmt.Sprintf("what host %s, which was to ping it, has counted can not be read: %s", h, text.Cut(why.Error(), maxProblem))
			}
			s.Guests = append(s.Guests, g)
		}
	}
	for i, g := range s.Guests {
		if names[g.Guest] > 1 {
			s.Guests[i].Guest += " (" + g.UUID + ")"
		}
	}
	slices.SortFunc(s.Guests, func(a, b Guest) int {
		return cmp.Or(strings.Compare(a.Guest, b.Guest), strings.Compare(a.UUID, b.UUID))
	})
	return s, nil
}

// sorted reads the keys of a run. bad are the hosts whose counts can not be read, and why.
func sorted(run string, kvs []store.KV) (p plan, parts map[cluster.HostID]part, records map[cluster.HostID]record,
	bad map[cluster.HostID]error, err error) {
	i := slices.IndexFunc(kvs, func(kv store.KV) bool { return kv.Key == planKey(run) })
	if i < 0 {
		return p, nil, nil, nil, ErrNone
	}
	if p, err = decode[plan](kvs[i]); err != nil {
		return p, nil, nil, nil, err
	}
	parts, records, bad = map[cluster.HostID]part{}, map[cluster.HostID]record{}, map[cluster.HostID]error{}
	for _, kv := range kvs {
		if h, ok := strings.CutPrefix(kv.Key, partKeys(run, p.ID)); ok {
			if parts[cluster.HostID(h)], err = decode[part](kv); err != nil {
				return p, nil, nil, nil, err
			}
			continue
		}
		if h := strings.TrimPrefix(kv.Key, runKey(run)); h != namePlan && !strings.Contains(h, "/") {
			r, why := formed[record](kv)
			if why != nil {
				bad[cluster.HostID(h)] = why
				continue
			}
			records[cluster.HostID(h)] = r
		}
	}
	return p, parts, records, bad, nil
}

func (s Summary) guest(n name, by cluster.HostID, r row, rec record) Guest {
	f := r.figures()
	g := Guest{
		Loss: check.Loss{Guest: n.Name, Sent: f.sent, Lost: f.lost, LongestMS: r.Longest},
		UUID: n.UUID, Addr: r.Addr, By: by, Unwatched: f.unwatched,
	}
	if f.first > 0 {
		g.First = s.Began.Add(f.first)
	}
	if f.last > 0 {
		g.Last = s.Began.Add(f.last)
	}
	switch {
	case rec.Run == "":
		g.Note = fmt.Sprintf("host %s, which was to ping it, has told nothing", by)
		if !s.Ended.IsZero() {
			g.Unwatched = max(0, s.Ended.Sub(s.Began))
		}
		return g
	case rec.Problem != "":
		g.Note = fmt.Sprintf("host %s can not ping: %s", by, rec.problem())
	case g.Addr == "":
		g.Note = "it has never answered, or no address of it is known"
	}
	if gap := s.Ended.Sub(s.Began.Add(rec.passed())); gap > late { // its host is down since
		g.Unwatched += gap
	}
	return g
}
