package e2e

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/lab"
)

// defaultRuns is how often a drill is run; HOLDFAST_DRILL_RUNS says otherwise.
const defaultRuns = 5

// guestBoot is what the laboratory's guest may take from the start to its first
// answer on a busy machine.
const guestBoot = 15 * time.Second

// settled is more than a guest must have run for its end not to count as a
// failed start (internal/ha: 10 s).
const settled = 11 * time.Second

// drill is one fault and what must come of it.
type drill struct {
	fault  func(ctx context.Context, r *rig, holder string) error
	repair func(ctx context.Context, r *rig, holder string) error // nil: it mends itself
	// outage that the client may see at most. The figures are those of
	// docs/operations.md: T + G + margin is 8.54 s.
	most time.Duration
	same bool // the guest goes on: same boot, counter never back
	away bool // it must run on another host afterwards
	down bool // it must have stopped before the repair
	long bool // the guest must have run for a while, else its end counts as a failed start
}

const takeoverMost = 8540*time.Millisecond + 2*time.Second + guestBoot

var drills = map[string]drill{
	"power loss of the active host": {
		fault:  func(ctx context.Context, r *rig, h string) error { return r.lab.Crash(ctx, h) },
		repair: func(ctx context.Context, r *rig, h string) error { return r.lab.On(ctx, h) },
		most:   takeoverMost, away: true,
	},
	"isolation of the active host": {
		fault:  func(ctx context.Context, r *rig, h string) error { return r.lab.Isolate(ctx, h) },
		repair: func(ctx context.Context, r *rig, h string) error { return r.lab.Heal(ctx, h) },
		most:   takeoverMost, away: true,
	},
	"agent killed": {
		fault: func(ctx context.Context, r *rig, h string) error { return r.lab.Kill(ctx, h, lab.AgentDaemon) },
		most:  500 * time.Millisecond, same: true,
	},
	"libvirtd killed": {
		fault: func(ctx context.Context, r *rig, h string) error { return r.lab.Kill(ctx, h, "libvirtd") },
		most:  500 * time.Millisecond, same: true,
	},
	"guest crashes": {
		fault: func(ctx context.Context, r *rig, _ string) error { return inGuest(ctx, r, "/cgi-bin/crash") },
		most:  5*time.Second + guestBoot, long: true,
	},
	"guest halts from inside": {
		fault: func(ctx context.Context, r *rig, _ string) error { return inGuest(ctx, r, "/cgi-bin/halt") },
		most:  5*time.Second + guestBoot, long: true,
	},
	"agent frozen longer than every timeout": {
		fault:  func(ctx context.Context, r *rig, h string) error { return r.lab.Pause(ctx, h, lab.AgentDaemon) },
		repair: func(ctx context.Context, r *rig, h string) error { return nil }, // the watchdog resets the host
		most:   takeoverMost, away: true,
	},
	"power loss of the whole cluster and return": {
		fault: func(ctx context.Context, r *rig, h string) error {
			return every(r, func(x string) error { return r.lab.Crash(ctx, x) })
		},
		repair: func(ctx context.Context, r *rig, h string) error {
			return every(r, func(x string) error { return r.lab.On(ctx, x) })
		},
		most: time.Minute, down: true,
	},
	"loss of two of three and return": {
		fault: func(ctx context.Context, r *rig, h string) error {
			return others(r, h, func(x string) error { return r.lab.Crash(ctx, x) })
		},
		repair: func(ctx context.Context, r *rig, h string) error {
			return others(r, h, func(x string) error { return r.lab.On(ctx, x) })
		},
		most: time.Minute, down: true,
	},
}

// inGuest asks the guest for a page whose answer may not come: it dies of it.
func inGuest(ctx context.Context, r *rig, page string) error {
	if _, err := r.lab.GuestGet(ctx, page); err != nil {
		return nil
	}
	return nil
}

func every(r *rig, f func(string) error) error { return others(r, "", f) }

func others(r *rig, h string, f func(string) error) error {
	for _, x := range r.lab.Hosts() {
		if x != h {
			if err := f(x); err != nil {
				return err
			}
		}
	}
	return nil
}

func runs(t *testing.T) int {
	t.Helper()
	if s := os.Getenv("HOLDFAST_DRILL_RUNS"); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil || n < 1 {
			t.Fatalf("HOLDFAST_DRILL_RUNS=%q: want a number above 0", s)
		}
		return n
	}
	return defaultRuns
}

func TestDrills(t *testing.T) {
	names := make([]string, 0, len(drills))
	for n := range drills {
		names = append(names, n)
	}
	slices.Sort(names)
	for _, name := range names {
		t.Run(strings.ReplaceAll(name, " ", "-"), func(t *testing.T) {
			var got []figures
			for range runs(t) {
				got = append(got, drills[name].run(t, ready(t)))
			}
			report(t, name, got)
		})
	}
}

// figures are what one run of a drill measured. Phases count from the fault and
// do not overlap; 0 when the log has no such event.
type figures struct{ outage, detect, proof, start, answer time.Duration }

func (d drill) run(t *testing.T, r *rig) figures {
	t.Helper()
	ctx := t.Context()
	st := r.healthy(t, 90*time.Second)
	holder := string(st.Owner.Host)
	if d.long {
		time.Sleep(settled - time.Since(st.Owner.Time))
	}
	before, err := r.lab.Ask(ctx)
	if err != nil {
		t.Fatal(err)
	}
	end := r.watching(t)
	time.Sleep(time.Second) // a second of answers before the fault
	at := time.Now()
	if err := d.fault(ctx, r, holder); err != nil {
		t.Fatal(err)
	}
	if d.down {
		r.until(t, 12*time.Second, "the guest to stop by itself", func(ctx context.Context) (string, bool) {
			st, err := r.lab.Status(ctx)
			return fmt.Sprintf("%+v, %v", st, err), err == nil && guests(st) == 0
		})
	}
	if d.repair != nil && d.down {
		if err := d.repair(ctx, r, holder); err != nil {
			t.Fatal(err)
		}
	}
	after := d.recovered(t, r, before, holder)
	if d.repair != nil && !d.down {
		if err := d.repair(ctx, r, holder); err != nil {
			t.Fatal(err)
		}
	}
	st = r.healthy(t, 90*time.Second)
	time.Sleep(500 * time.Millisecond) // for the client to note the end of the outage
	w := end()
	d.judge(t, w, before, after, holder, st)
	return measure(w, at, r.events(t, at))
}

// guests counts the QEMU processes of all hosts.
func guests(st lab.Status) (n int) {
	for _, h := range st.Hosts {
		n += h.Guests
	}
	return n
}

// recovered waits until the guest answers as the drill wants it.
func (d drill) recovered(t *testing.T, r *rig, before lab.Answer, holder string) lab.Answer {
	t.Helper()
	var after lab.Answer
	r.until(t, d.most+30*time.Second, "the guest to answer again", func(ctx context.Context) (string, bool) {
		var err error
		after, err = r.lab.Ask(ctx)
		if err != nil {
			return err.Error(), false
		}
		if d.same {
			return fmt.Sprintf("%+v", after), after.N > before.N+10
		}
		return fmt.Sprintf("%+v", after), after.Boot != before.Boot
	})
	return after
}

func (d drill) judge(t *testing.T, w watch, before, after lab.Answer, holder string, st cluster.Status) {
	t.Helper()
	if w.err != nil {
		t.Fatal(w.err)
	}
	if w.seen.Max != 1 {
		t.Errorf("the observer saw %d holders at once: %+v", w.seen.Max, w.seen.Overlap)
	}
	if d.same && after.Boot != before.Boot {
		t.Errorf("the guest was started again: %+v, then %+v", before, after)
	}
	if !d.same && !strings.Contains(after.Prev, before.Boot) {
		t.Errorf("the disk does not come from the boot before: %q, want %q", after.Prev, before.Boot)
	}
	if d.away && string(st.Owner.Host) == holder {
		t.Errorf("it runs on %s again, want another host", holder)
	}
	if out := longest(w); out > d.most {
		t.Errorf("the client was without an answer for %s, want at most %s", out, d.most)
	}
}

// longest is the longest outage that ended.
func longest(w watch) time.Duration {
	var most time.Duration
	for _, o := range w.pings.Outages {
		if !o.End.IsZero() {
			most = max(most, o.End.Sub(o.Start))
		}
	}
	return most
}

// measure splits the outage into its phases by the events of the log. All
// clocks are one machine's.
func measure(w watch, at time.Time, events []cluster.Event) figures {
	f := figures{outage: longest(w)}
	first := func(kinds ...cluster.EventKind) time.Time {
		for _, e := range events {
			if slices.Contains(kinds, e.Kind) {
				return e.Time
			}
		}
		return time.Time{}
	}
	last := at
	step := func(to time.Time) time.Duration {
		if to.IsZero() || to.Before(last) {
			return 0
		}
		d := to.Sub(last)
		last = to
		return d
	}
	f.detect = step(first(cluster.EvSilent, cluster.EvReleased))
	f.proof = step(first(cluster.EvTakeover, cluster.EvAssigned))
	f.start = step(first(cluster.EvStarted))
	for _, o := range w.pings.Outages {
		if o.End.Sub(o.Start) == f.outage {
			f.answer = step(o.End)
		}
	}
	return f
}

func report(t *testing.T, name string, got []figures) {
	t.Helper()
	line := func(f func(figures) time.Duration) string {
		var all []time.Duration
		for _, g := range got {
			all = append(all, f(g))
		}
		slices.SortFunc(all, cmp.Compare)
		return fmt.Sprintf("%.2f (%.2f-%.2f)", all[len(all)/2].Seconds(), all[0].Seconds(), all[len(all)-1].Seconds())
	}
	s := fmt.Sprintf("drill %q, %d runs, seconds, median (min-max): outage %s; detect %s, proof %s, start %s, answer %s", name, len(got),
		line(func(f figures) time.Duration { return f.outage }), line(func(f figures) time.Duration { return f.detect }),
		line(func(f figures) time.Duration { return f.proof }), line(func(f figures) time.Duration { return f.start }),
		line(func(f figures) time.Duration { return f.answer }))
	t.Log(s)
	if path := os.Getenv("HOLDFAST_DRILL_RESULTS"); path != "" {
		f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintln(f, s)
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
