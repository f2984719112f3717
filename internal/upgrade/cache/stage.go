package cache

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/job/engine"
	"holdfast/internal/lib/clock"
	"holdfast/internal/upgrade"
)

// Times of staging.
const (
	askEvery = 2 * time.Second // between two rounds over the holders
	askFor   = 5 * time.Minute // without anything that comes
)

// fetchShare is the share of fetching in the work, percent; the rest is unpacking.
const fetchShare = 60

// Holder is a host that says it has a bundle.
type Holder struct {
	Host cluster.HostID
	API  string // of its agent, https://IP:PORT
}

// Stage brings a bundle to this host and unpacks it: the Executor of
// upgrade.KindStage.
type Stage struct {
	Cache *Cache
	Host  cluster.HostID // this one
	// Holders are hosts that say they have the bundle's file, and that live.
	Holders func(sha string) []Holder
	// Fetch opens the bundle's file there, see Source.
	Fetch func(ctx context.Context, h Holder, sha string, offset int64) (r io.ReadCloser, size int64, err error)

	every, patience time.Duration // 0: askEvery and askFor
}

// Probe tells whether the bundle is unpacked and whole.
func (s *Stage) Probe(_ context.Context, t engine.Task) (engine.Probed, error) {
	sha, err := stageHash(t)
	if err != nil {
		return engine.CanNotTell, err
	}
	_, err = s.Cache.look(sha)
	switch {
	case err == nil:
		return engine.ProbedDone, nil
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, errNotWhole):
		return engine.NotDone, nil // what was fetched is found, and gone on with
	}
	return engine.CanNotTell, fmt.Errorf("look at bundle %s: %w", short(sha), err)
}

func stageHash(t engine.Task) (string, error) {
	var args upgrade.StageArgs
	if err := json.Unmarshal(t.Step.Args, &args); err != nil {
		return "", fmt.Errorf("read the arguments of %s: %w", t.Step.ID, err)
	}
	if err := checkHash(args.SHA256); err != nil {
		return "", fmt.Errorf("read the arguments of %s: %w", t.Step.ID, err)
	}
	return args.SHA256, nil
}

// Do fetches the bundle if it is not here, and unpacks it. It may be repeated.
func (s *Stage) Do(ctx context.Context, t engine.Task) error {
	sha, err := stageHash(t)
	if err != nil {
		return err
	}
	p := &progress{note: t.Note}
	for fresh := false; ; fresh = true {
		if _, err := s.Cache.look(sha); err == nil {
			_, err := s.Cache.Find(sha)
			return err
		}
		if err := s.bring(ctx, t, sha, p); err != nil {
			return err
		}
		began := time.Now()
		st, err := s.Cache.unpack(ctx, sha, 0, func(done, total int64) {
			p.tell("unpacks the bundle", fetchShare, 100, done, total)
		})
		switch {
		case err == nil:
			_, err := fmt.Fprintf(t.Log, "unpacked %s %s into %s in %s\n", st.Manifest.Name, st.Manifest.Version, st.Dir, since(began))
			return err
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case fresh || !errors.Is(err, ErrDamaged):
			return err
		}
		if _, err := fmt.Fprintf(t.Log, "%v: it is fetched anew\n", err); err != nil {
			return err
		}
	}
}

// bring fetches the bundle's file from one of those that have it. It goes on
// asking for a while when none can give it. One that is slow is left for another, which
// goes on where it was; that nobody fetches twice at a time is the bundle cache's care.
func (s *Stage) bring(ctx context.Context, t engine.Task, sha string, p *progress) error {
	if _, err := s.Cache.complete(sha); err == nil {
		return nil
	}
	got := time.Now() // something came last
	past := map[cluster.HostID]attempt{}
	last := errors.New("no host that answers has the bundle")
	for {
		left := false
		for _, h := range s.order(s.Holders(sha), past) {
			began := time.Now()
			p.say("fetches the bundle from host " + string(h.Host))
			err := s.from(ctx, h, sha, past, func(done, total int64) {
				got = time.Now()
				p.tell("fetches the bundle from host "+string(h.Host), 0, fetchShare, done, total)
			})
			if err == nil {
				_, err := fmt.Fprintf(t.Log, "fetched from host %s in %s\n", h.Host, since(began))
				return err
			}
			var theirs *SourceError
			switch {
			case ctx.Err() != nil:
				return context.Cause(ctx)
			case !errors.As(err, &theirs):
				return err
			}
			past[h.Host] = judge(err)
			last = fmt.Errorf("host %s: %w", h.Host, err)
			if _, err := fmt.Fprintln(t.Log, last); err != nil {
				return err
			}
			if left = past[h.Host].slow; left {
				break
			}
		}
		if left { // for one that comes first now
			continue
		}
		if time.Since(got) > cmp.Or(s.patience, askFor) {
			return fmt.Errorf("bring bundle %s: %w", short(sha), last)
		}
		p.say("waits for a host that gives the bundle: " + last.Error())
		if !clock.Sleep(ctx, cmp.Or(s.every, askEvery)) {
			return context.Cause(ctx)
		}
	}
}

// attempt is what is known of a host that was asked in vain.
type attempt struct {
	wrong bool  // it gave something else
	slow  bool  // it was left for another one
	rate  int64 // then: bytes a second
}

func judge(err error) attempt {
	var slow *slowError
	if errors.As(err, &slow) {
		return attempt{slow: true, rate: slow.rate}
	}
	return attempt{wrong: errors.Is(err, ErrWrong)}
}

// from fetches the file from a host. A slow one is given up when another has the
// bundle that was not asked before, or was much faster when it was; so a fast one is
// kept when all are slow.
func (s *Stage) from(ctx context.Context, h Holder, sha string, past map[cluster.HostID]attempt, note func(done, total int64)) error {
	better := func(rate int64) bool {
		return slices.ContainsFunc(s.Holders(sha), func(o Holder) bool {
			before, asked := past[o.Host]
			return o.Host != s.Host && o.Host != h.Host && (!asked || before.rate > 2*rate)
		})
	}
	return s.Cache.fetch(ctx, sha, func(ctx context.Context, offset int64) (io.ReadCloser, int64, error) {
		return s.Fetch(ctx, h, sha, offset)
	}, better, note)
}

// order gives the others that may have the bundle in an order that differs from
// host to host, so that not all ask the same one: first those that were not asked,
// then the slow ones, the fastest of them first. Who gave something else is not
// asked again.
func (s *Stage) order(holders []Holder, past map[cluster.HostID]attempt) []Holder {
	rank := func(h Holder) []byte {
		sum := sha256.Sum256([]byte(string(s.Host) + "/" + string(h.Host)))
		return sum[:]
	}
	asked := func(h Holder) int {
		if _, asked := past[h.Host]; asked {
			return 1
		}
		return 0
	}
	out := slices.DeleteFunc(slices.Clone(holders), func(h Holder) bool { return h.Host == s.Host || past[h.Host].wrong })
	slices.SortFunc(out, func(a, b Holder) int {
		return cmp.Or(asked(a)-asked(b), cmp.Compare(past[b.Host].rate, past[a.Host].rate), bytes.Compare(rank(a), rank(b)))
	})
	return out
}

// progress tells people how far it is, when that has changed.
type progress struct {
	note func(what string, percent int)
	what string
	last int
}

func (p *progress) say(what string) {
	if what != p.what {
		p.what = what
		p.note(what, -1)
	}
}

// tell says how much of a part of the work is done, which goes from one
// percentage to another.
func (p *progress) tell(what string, from, to int, done, total int64) {
	percent := from
	if total > 0 {
		percent += int(int64(to-from) * min(done, total) / total)
	}
	if what != p.what || percent != p.last {
		p.what, p.last = what, percent
		p.note(what, percent)
	}
}

func since(t time.Time) time.Duration { return time.Since(t).Round(10 * time.Millisecond) }
