package group

import (
	"context"
	"fmt"
	"reflect"
	"slices"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/ha/records"
	"holdfast/internal/host/replica"
	"holdfast/internal/host/replica/mariadb"
	"holdfast/internal/lib/fail"
	"holdfast/internal/lib/text"
	"holdfast/internal/pair"
	"holdfast/internal/store"
)

// Report is what a node tells people, as it stands in the store.
type Report struct {
	cluster.PairReport
	Judged int64 `json:"judged"` // revision of the record of the copies by which Why was said; 0: an older program's
}

// By is what the report tells when the record of the copies has a revision: why the copy was not fit by an earlier one does not count.
func (r Report) By(sync int64) cluster.PairReport {
	if r.Judged != 0 && r.Judged != sync && r.Why != "" {
		r.Why = pair.NotJudged
	}
	return r.PairReport
}

// reportEvery is between two reports of a node, which may change with each look.
const reportEvery = time.Second

// copyEvery is between two reports of a copy that goes on, which changes with each look.
const copyEvery = 2 * time.Second

// tell writes what the peer must know, when that is not what the store has.
func (d *Driver) tell(ctx context.Context, told string) {
	if told != "" && told != d.said {
		d.write(ctx, keyTold, []byte(told), func() { d.said = told })
	}
}

// stamp notes when the group came on.
func (d *Driver) stamp(a pair.Action, o pair.Outcome) {
	if !o.OK {
		return
	}
	now := time.Now().UTC()
	switch a := a.(type) {
	case pair.StopMember:
		if d.m.Phase == pair.HandingOver {
			d.times.Stopped = now
		}
	case pair.Put:
		if a.Sync.To == d.opt.Peer {
			d.times.Handed = now
		}
	case pair.Promote:
		d.times.Promoted = now
	}
}

// report writes what people want to know, when it has changed.
func (d *Driver) report(ctx context.Context) {
	m, now := d.m, time.Now().UTC()
	r := Report{Judged: m.Sync.Mod}
	r.Role, r.Linked, r.Waits = roleWord[m.Seen.Replica.Role], m.Seen.Replica.Linked, m.Seen.Replica.Waits
	if m.Phase != pair.Serving {
		r.Why = m.Fit()
	}
	r.Fit = r.Why == ""
	parts := d.now.Load()
	for i, s := range m.Seen.Members {
		of := cluster.PairMember{Name: parts.members[i].Spec().Name, State: stateWord[s]}
		if a, ok := parts.members[i].(*Address); ok {
			of.VIP = a.VIP.Addr().String()
		}
		r.Members = append(r.Members, of)
	}
	if t, ok := parts.data.(interface{ Describe(*cluster.PairReport) }); ok {
		t.Describe(&r.PairReport)
	}
	if d.opt.Also != nil {
		d.opt.Also(&r.PairReport)
	}
	if d.opt.Trouble != nil && r.Problem == "" {
		r.Problem = d.opt.Trouble()
	}
	switch {
	case m.Shut():
		r.Problem, r.Outage = isShut, true
	case m.Promoted && m.Phase == pair.Serving && m.UnobservableAt != 0:
		silent := fmt.Sprintf("its database does not answer; after %s without an answer the group is ended here", m.Hang)
		if r.Problem != "" {
			silent += ": " + r.Problem
		}
		r.Problem, r.Outage = silent, true
	}
	d.judge(ctx, r.PairReport)
	if r.Problem == "" && (!r.Fit || m.Serves() && !m.Sync.Has(d.opt.Peer)) { // it may be why
		r.Problem = d.failed
	}
	if d.times.Active.IsZero() && m.Promoted && m.Phase == pair.Serving &&
		!slices.ContainsFunc(m.Seen.Members, func(s pair.State) bool { return s != pair.Up }) {
		d.times.Active = now
	}
	r.Times = d.times
	r.Time = d.shown.Time
	every := reportEvery
	if r.Copy != nil && d.shown.Copy != nil && r.Copy.Stage == d.shown.Copy.Stage && r.Copy.Stage != cluster.Copied {
		every = copyEvery
	}
	if reflect.DeepEqual(r, d.shown) || !r.Time.IsZero() && r.Times == d.shown.Times && now.Sub(r.Time) >= 0 && now.Sub(r.Time) < every {
		return
	}
	r.Time = now
	d.write(ctx, KeyNode, records.Encode(r), func() { d.shown = r })
}

var (
	roleWord  = [...]string{pair.RoleUnknown: "unknown", pair.RoleOff: "off", pair.RoleStandby: "standby", pair.RoleActive: "active"}
	stateWord = [...]string{pair.StateUnknown: "unknown", pair.Down: "down", pair.Up: "up", pair.Failed: "failed"}
)

// write writes a record of this node, one at a time of each key; done runs in the loop when it
// is written. What could not be written is tried again with the next look.
func (d *Driver) write(ctx context.Context, key string, value []byte, done func()) {
	if d.writing[key] {
		return
	}
	d.writing[key] = true
	d.acts.Go(func() {
		wctx, cancel := context.WithTimeout(ctx, putWithin)
		defer cancel()
		_, _, err := d.opt.Store.Txn(wctx, nil, []store.Op{{Key: key + string(d.opt.Self), Value: value}})
		d.post(ctx, func() {
			delete(d.writing, key)
			if err == nil {
				done()
			}
		})
	})
}

// outageAfter is how long clients may be kept from the active database until an event tells it: a pause is no outage.
const outageAfter = 2 * time.Second

const (
	isShut  = "somebody has made the active database read-only; it is made writable again: to end all writing, use holdfast pair stop"
	wasShut = "somebody had made the active database read-only; it was made writable again: to end all writing, use holdfast pair stop"
)

// outage is what was told of clients that are kept from the active database. It belongs to the loop.
type outage struct {
	since time.Time // zero: they are not
	told  bool      // by an event
}

// judge has an event written when clients are kept from the database here for a while, and when they are not any more. A group that
// has left the node has events of its own.
func (d *Driver) judge(ctx context.Context, r cluster.PairReport) {
	now := time.Now()
	switch serves := d.m.Phase == pair.Serving && d.m.WasActive; {
	case serves && r.Outage && d.out.since.IsZero():
		d.out.since = now
	case serves && r.Outage:
		if !d.out.told && now.Sub(d.out.since) >= outageAfter {
			d.out.told = true
			d.event(ctx, cluster.EvOutage, r.Problem)
		}
	case serves && d.m.Seen.Replica.Role != pair.RoleActive: // it is started anew, and may not let them write yet
	default:
		if d.out.told && serves {
			d.event(ctx, cluster.EvOutageOver, "")
		}
		d.out = outage{}
	}
}

// event writes one. What is lost with the store is in the log.
func (d *Driver) event(ctx context.Context, kind cluster.EventKind, detail string) {
	if d.events == nil {
		return
	}
	ev := cluster.Event{Kind: kind, By: d.opt.Self, Resource: d.opt.Resource, Host: d.opt.Self, Detail: detail}
	d.acts.Go(func() {
		ctx, cancel := context.WithTimeout(ctx, putWithin)
		defer cancel()
		if err := d.events(ctx, ev); err != nil {
			d.opt.Log.Warn("an event was not written", "kind", ev.Kind, "detail", ev.Detail, "err", err)
		}
	})
}

// Reopen lets clients write again to the copy that was promoted in this run of its server.
func (d *Database) Reopen(ctx context.Context) error {
	run, wrote, err := readWrote(d.Dir)
	if err != nil {
		return err
	}
	st, err := d.DB.Status(ctx)
	if err != nil {
		return err
	}
	if !wrote || st.Role != replica.Idle || st.Run != run {
		return fail.Errorf(fail.Refused, "this database is not the one any more that was made read-only")
	}
	return d.DB.Promote(ctx, replica.Claim{License: replica.Guarantee{Safe: true, Primary: d.DB.Node(), Run: st.Run}})
}

// meter makes of what a driver counts of a copy what people are shown.
type meter struct {
	begun time.Time // of the copy that the rest is of
	most  text.Percent[int]
	rate  text.Rate
}

// look says how far the copy is, at a time that is not before that of the last call.
func (m *meter) look(c replica.Copy, at time.Time) *cluster.PairCopy {
	if !c.Begun.Equal(m.begun) {
		*m = meter{begun: c.Begun}
	}
	if c.Stage == replica.Copied {
		at = c.Ended
	}
	elapsed := max(0, at.Sub(c.Begun))
	out := &cluster.PairCopy{Stage: string(c.Stage), Elapsed: elapsed.Truncate(time.Second), Bytes: c.Bytes, About: c.About}
	rate := m.rate.At(at, c.Bytes)
	if c.Stage != replica.Receiving {
		out.Percent = m.most.At(100)
		if c.Stage == replica.Copied && elapsed > 0 {
			out.Rate = int64(float64(c.Bytes) / elapsed.Seconds())
		}
		return out
	}
	out.Rate = int64(rate)
	if c.About > 0 { // an estimate: more may come
		out.Percent = m.most.At(int(min(99, 100*float64(c.Bytes)/float64(c.About))))
	}
	if left := c.About - c.Bytes; left > 0 && rate > 0 {
		out.Left = time.Duration(float64(left) / rate * float64(time.Second)).Round(time.Second)
	}
	return out
}

// strays reports that somebody has written to this standby, and keeps what is told of it until it follows again.
func (d *Database) strays(st replica.Status, wrote bool) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	is := len(st.Stray) > 0 && !wrote
	switch {
	case is:
		d.stray = fmt.Sprintf("%s; they are saved in a file in %s, and the database is copied anew", mariadb.Stray(st.Stray), d.SaveDir)
	case wrote || st.Role == replica.Replica:
		d.stray = ""
	}
	return is
}
