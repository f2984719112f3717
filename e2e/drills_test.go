package e2e

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"holdfast/internal/cluster"
	"holdfast/testbed/lab"
	"holdfast/testbed/need"
)

// defaultRuns is how often a fault comes in a drill; HOLDFAST_DRILL_RUNS says otherwise.
const defaultRuns = 1

// guestBoot is what the laboratory's guest may take from the start to its first
// answer: five times what it does where nothing else runs.
const guestBoot = 30 * time.Second

// settled is more than a guest must have run for its end not to count as a
// failed start (internal/ha: 10 s).
const settled = 11 * time.Second

// drill is one fault and what must come of it. The times in it are promises of the product, and hold on a machine that does
// nothing else, which a drill is alone on.
type drill struct {
	fault  func(ctx context.Context, r *rig, holder string) error
	repair func(ctx context.Context, r *rig, holder string) error // nil: it mends itself
	// outage that the client may see at most; 0: its length is not judged. The figures are those of
	// docs/operations.md: T + G + margin is 8.66 s.
	most time.Duration
	same bool // the guest goes on: same boot, counter never back
	away bool // it must run on another host afterwards
	down bool // it must have stopped before the repair
	long bool // the guest must have run for a while, else its end counts as a failed start
	// proof of the one takeover that must come, within decided after the fault;
	// without it takeovers are not looked at.
	proof   cluster.ProofKind
	decided time.Duration
	check   func(t testing.TB, r *rig, c course) // what else must have happened; nil: nothing
}

// course is what happened in one run.
type course struct {
	holder string
	at     time.Time       // of the fault
	boots  []int           // of all hosts before it
	events []cluster.Event // of the cluster, from the fault to health
	lab    []lab.Event     // the same of the laboratory
	st     cluster.Status  // at the end
}

// did counts what the laboratory did to a host.
func (c course) did(host, what, note string) (n int) {
	for _, e := range c.lab {
		if e.Host == host && e.What == what && (note == "" || e.Note == note) {
			n++
		}
	}
	return n
}

// told gives the cluster's events of a kind.
func (c course) told(k cluster.EventKind) (all []cluster.Event) {
	for _, e := range c.events {
		if e.Kind == k {
			all = append(all, e)
		}
	}
	return all
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
		fault: func(ctx context.Context, r *rig, h string) error { return r.lab.Pause(ctx, h, lab.AgentDaemon) },
		// the watchdog resets the host
		most: takeoverMost, away: true,
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

func runs(t testing.TB, otherwise int) int {
	t.Helper()
	if s := os.Getenv("HOLDFAST_DRILL_RUNS"); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil || n < 1 {
			t.Fatalf("HOLDFAST_DRILL_RUNS=%q: want a number above 0", s)
		}
		return n
	}
	return otherwise
}

// TestPowerLossAndKills has the faults that matter most. How long they may take is for TestFaults.
func TestPowerLossAndKills(t *testing.T) {
	needLab(t)
	some := map[string]drill{}
	for _, name := range []string{"power loss of the active host", "agent killed", "libvirtd killed"} {
		d := drills[name]
		d.most = 0
		some[name] = d
	}
	runAll(t, plain, some, 1)
}

// TestFaults has faults of each kind.
func TestFaults(t *testing.T) {
	need.Drill(t, "P1: losses of power and of the majority, cuts, kills and freezes: one copy at any time, back "+
		"within the time that is promised")
	runAll(t, plain, drills, defaultRuns)
}

// runAll runs the drills of a table, in the order of their names.
func runAll(t *testing.T, k kind, table map[string]drill, otherwise int) {
	for _, name := range slices.Sorted(maps.Keys(table)) {
		t.Run(strings.ReplaceAll(name, " ", "-"), func(t *testing.T) {
			var got []figures
			for range runs(t, otherwise) {
				onLab(t, k, func(t testing.TB, r *rig) { got = append(got, table[name].run(t, r)) })
			}
			if k != plain {
				name = string(k) + ": " + name
			}
			report(t, name, got)
		})
	}
}

// figures are what one run of a drill measured. Phases count from the fault and
// do not overlap; 0 when the log has no such event.
type figures struct{ outage, detect, proof, start, answer time.Duration }

// run does the drill.
func (d drill) run(t testing.TB, r *rig) figures {
	t.Helper()
	ctx := t.Context()
	st := r.healthy(t)
	holder := string(st.Owner.Host)
	if d.long {
		time.Sleep(settled - time.Since(st.Owner.Time))
	}
	before, err := r.lab.Ask(ctx)
	if err != nil {
		t.Fatal(err)
	}
	boots := r.boots(t)
	end := r.watching(t)
	time.Sleep(time.Second) // a second of answers before the fault
	at := time.Now()
	if err := d.fault(ctx, r, holder); err != nil {
		t.Fatal(err)
	}
	if d.down {
		r.until(t, "the guest to stop by itself", func(ctx context.Context) (string, bool) {
			st, err := r.lab.Status(ctx)
			return fmt.Sprintf("%+v, %v", st, err), err == nil && guests(st) == 0
		})
	}
	if d.repair != nil && d.down {
		if err := d.repair(ctx, r, holder); err != nil {
			t.Fatal(err)
		}
	}
	after := d.recovered(t, r, before)
	if d.repair != nil && !d.down {
		if d.away && r.lost(t, holder, at) {
			r.tellsOfTheLost(t, holder)
		}
		if err := d.repair(ctx, r, holder); err != nil {
			t.Fatal(err)
		}
	}
	st = r.healthy(t)
	time.Sleep(500 * time.Millisecond) // for the client to note the end of the outage
	w := end()
	d.judge(t, w, before, after, holder, st)
	c := course{holder: holder, at: at, boots: boots, events: r.events(t, at), lab: r.history(t, at), st: st}
	d.judgeProof(t, c)
	if d.check != nil {
		d.check(t, r, c)
	}
	if t.Failed() {
		for _, e := range c.events {
			t.Logf("%s %+v", e.Time.Sub(at).Round(time.Millisecond), e)
		}
		for _, e := range c.lab {
			t.Logf("%s laboratory: %s %s %s", e.Time.Sub(at).Round(time.Millisecond), e.Host, e.What, e.Note)
		}
	}
	return measure(w, at, c.events)
}

// lost reports that a host is cut off or has no power, and does not come back by itself, as one does that its watchdog
// has reset since a moment.
func (r *rig) lost(t testing.TB, host string, since time.Time) bool {
	t.Helper()
	st, err := r.lab.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	reset := course{lab: r.history(t, since)}.did(host, "watchdog", "fired") > 0
	return slices.ContainsFunc(st.Hosts, func(h lab.HostStatus) bool { return h.Name == host && (!h.Cable || !h.On && !reset) })
}

// tellsOfTheLost waits until another host's status says of a lost one what is known, and promises no takeover without a quorum.
func (r *rig) tellsOfTheLost(t testing.TB, lost string) {
	t.Helper()
	r.until(t, "a status that promises nothing after the loss of "+lost, func(ctx context.Context) (string, bool) {
		other := slices.DeleteFunc(r.lab.Hosts(), func(h string) bool { return h == lost })[0]
		st, err := r.statusOf(ctx, other)
		if err != nil {
			return err.Error(), false
		}
		i := slices.IndexFunc(st.Hosts, func(h cluster.HostStatus) bool { return string(h.Name) == lost })
		said := fmt.Sprintf("%s of %s: %+v, takeover %+v", other, lost, st.Hosts, st.Takeover)
		return said, i >= 0 && !st.Hosts[i].Alive && st.Hosts[i].Guest == cluster.GuestAbsent && !st.Hosts[i].Fit &&
			string(st.Owner.Host) != lost && !st.Takeover.Possible && strings.Contains(st.Takeover.Why, "1 of its 3 members would vote")
	})
}

// history gives what was done to the laboratory since a moment.
func (r *rig) history(t testing.TB, since time.Time) []lab.Event {
	t.Helper()
	all, err := r.lab.Events()
	if err != nil {
		t.Fatal(err)
	}
	return slices.DeleteFunc(all, func(e lab.Event) bool { return e.Time.Before(since) })
}

// storeStall is how long the store may be without a leader after losses and cuts
// that follow each other closely (docs/postmortems/etcd-after-a-cut.md). Nothing is decided meanwhile.
const storeStall = 5 * time.Second

// judgeProof looks at the takeovers in the event log.
func (d drill) judgeProof(t testing.TB, c course) {
	t.Helper()
	all := c.told(cluster.EvTakeover)
	if d.proof == cluster.ProofNone {
		return
	}
	if len(all) != 1 || string(all[0].Host) != c.holder {
		t.Errorf("takeovers %+v: want one from %s", all, c.holder)
		return
	}
	took, proof := all[0].Time.Sub(c.at), all[0].Proof
	if took > d.decided {
		t.Logf("decided late, after %s instead of %s at most, by the proof %s: was the store without a leader?", took, d.decided, proof)
	}
	if most := d.decided + storeStall; took > most {
		t.Errorf("decided after %s, want at most %s", took, most)
	}
	if other := d.proof == cluster.ProofFenced && proof == cluster.ProofDeadline && took > d.decided; proof != d.proof && !other {
		t.Errorf("the proof is %s, want %s", proof, d.proof)
	}
	least := c.st.Timings.Lease + c.st.Timings.Grace + c.st.Timings.Epsilon
	if w := all[0].Wait; d.proof == cluster.ProofDeadline && w < least {
		t.Errorf("the deadline's proof after %s of silence, want at least %s", w, least)
	}
}

// guests counts the QEMU processes of all hosts.
func guests(st lab.Status) (n int) {
	for _, h := range st.Hosts {
		n += h.Guests
	}
	return n
}

// recovered waits until the guest answers as the drill wants it.
func (d drill) recovered(t testing.TB, r *rig, before lab.Answer) (after lab.Answer) {
	t.Helper()
	r.until(t, "the guest to answer again", func(ctx context.Context) (string, bool) {
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

func (d drill) judge(t testing.TB, w watch, before, after lab.Answer, holder string, st cluster.Status) {
	t.Helper()
	w.oneHolder(t)
	if d.same && after.Boot != before.Boot {
		t.Errorf("the guest was started again: %+v, then %+v", before, after)
	}
	if !d.same && !strings.Contains(after.Prev, before.Boot) {
		t.Errorf("the disk does not come from the boot before: %q, want %q", after.Prev, before.Boot)
	}
	if d.away && string(st.Owner.Host) == holder {
		t.Errorf("it runs on %s again, want another host", holder)
	}
	if d.most == 0 {
		return
	}
	most := d.most
	if d.away {
		most += storeStall
	}
	if out := longest(w); out > most {
		t.Errorf("the client was without an answer for %s, want at most %s", out, most)
	}
}

// longestOutage is the longest one that ended, the zero value when there was none.
func longestOutage(w watch) (most lab.Outage) {
	for _, o := range w.pings.Outages {
		if !o.End.IsZero() && o.End.Sub(o.Start) > most.End.Sub(most.Start) {
			most = o
		}
	}
	return most
}

// longest is how long it lasted.
func longest(w watch) time.Duration {
	o := longestOutage(w)
	return o.End.Sub(o.Start)
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

func report(t testing.TB, name string, got []figures) {
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
