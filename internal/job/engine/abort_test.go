package engine

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"holdfast/internal/job"
	"holdfast/internal/upgrade"
	"holdfast/testbed/need"
	"holdfast/testbed/try"
)

// A job that begins when none is under way is carried out by its plan, on the platform
// as it is: agents have nothing in memory then that is not in the store, and a planner
// knows its plan and its own job's records only. So of all jobs that may follow on an
// abort those with the same plan, on the same platform, are carried out once, in a world
// that begins with that platform. Times, attempts and names of processes are taken out
// of the records before the next job is planned, so that no plan can depend on them.

// ends is what becomes of the platform after jobs.
type ends struct {
	t      *testing.T
	dir    string
	o      upgrade.Options
	known  map[string]*ending
	counts map[string]int // of jobs that were carried out
	times  map[string]int // of those that were asked for
	seen   map[string]bool
	when   string  // what came before
	past   moments // of the first course that is aborted
}

// ending is how a job has ended.
type ending struct {
	j      Journal
	status upgrade.Status
	plant  plantState
	passes int
}

func newEnds(t *testing.T, o upgrade.Options) *ends {
	return &ends{t: t, dir: t.TempDir(), o: o, known: map[string]*ending{}, counts: map[string]int{},
		times: map[string]int{}, seen: map[string]bool{}}
}

// newWorld makes the world of a course that is aborted at a point. That of the
// undisturbed course, point 0, comes first.
func (e *ends) newWorld(t *testing.T, p *plant, at int) *upWorld {
	if m := e.past.before(at); m != nil {
		return m.world(t, e.dir)
	}
	w := newUpWorld(t, p, e.dir)
	if at == 0 {
		w.remember(&e.past)
	}
	return w
}

func (e *ends) was() string { return e.when }

// key tells values apart.
func key(v ...any) string {
	text, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	sum := sha256.Sum256(text)
	return string(sum[:])
}

// slack is how often guests may still be stopped.
func (b broken) slack() map[string]int {
	slack := map[string]int{}
	for name, g := range b.plant.Guests {
		slack[name] = b.stops(g) - g.Stops
	}
	return slack
}

// plain takes out what depends on when and by whom things were done. The guests'
// stops begin anew, with what is left of those that are right.
func (b broken) plain() broken {
	p, slack := plantOf(b.plant).plantState, b.slack()
	for _, g := range p.Guests {
		g.Stops = 0
	}
	for _, h := range p.Hosts {
		h.Mark = rebootOrder{}
	}
	b.plant, b.stops = p, func(g *plantGuest) int { return slack[g.VM.Name] }
	b.recs, b.status.Aborted = plainRecords(b.recs), time.Time{}
	return b
}

func plainRecords(recs map[string]job.Record) map[string]job.Record {
	out := map[string]job.Record{}
	for id, r := range recs {
		out[id] = job.Record{Step: r.Step, State: r.State, Undo: r.Undo, Attempt: min(r.Attempt, 1)}
	}
	return out
}

// take makes what a job has left ready for another world. This one has come to rest.
func (w *upWorld) take(b broken) broken {
	w.plant.mu.Lock()
	defer w.plant.mu.Unlock()
	for id, k := range w.plant.kids {
		if k.state == "runs" {
			w.t.Errorf("the job has ended, and %s runs", id)
		}
	}
	if len(w.plant.moving) > 0 {
		w.t.Errorf("the job has ended, and guests are on their way: %v", slices.Sorted(maps.Keys(w.plant.moving)))
	}
	b.plant = w.plant.plantState
	return b.plain()
}

// carry carries out a job, unless one with the same plan was on the same platform. nil:
// the test has failed.
func (e *ends) carry(b broken, what string, plan upgrade.Plan, do func(w *upWorld) Journal) *ending {
	e.times[what]++
	k := key(what, plan, b.plant, b.slack())
	if out := e.known[k]; out != nil || e.t.Failed() {
		return out
	}
	e.counts[what]++
	bubble(e.t, func() string { return what + " " + e.was() }, func(t *testing.T) {
		w := newUpWorld(t, plantOf(b.plant), e.dir)
		defer w.stop()
		w.start()
		if j := do(w); !t.Failed() {
			left := w.take(broken{recs: j.Records, status: w.status(j), stops: func(*plantGuest) int { return 0 }})
			w.mu.Lock()
			defer w.mu.Unlock()
			e.known[k] = &ending{j, left.status, w.plant.plantState, w.passes}
		}
	})
	return e.known[k]
}

// rollback goes back, all of the way.
func (e *ends) rollback(b broken, id string) {
	plan, err := b.planBack(plantOf(b.plant))
	if err != nil {
		e.t.Fatal(err)
	}
	e.carry(b, "rollback "+id, plan, func(w *upWorld) Journal {
		w.rollback(id, b)
		return w.journal(id)
	})
}

func (e *ends) commit(b broken) {
	p := plantOf(b.plant)
	plan, err := upgrade.PlanCommit(*p.manifest, *b.plan, b.status, p.inventory(), nil, nil)
	if err != nil {
		e.t.Fatal(err)
	}
	e.carry(b, "commit", plan, func(w *upWorld) Journal { return w.commit("c1", b.plan, b.status, nil) })
}

// again ends the upgrade by another run. at: it is aborted before this point of all
// agents; 0: it is not. next is called with what it leaves, and whether it was done. The result is
// how many points all agents have passed.
func (e *ends) again(b broken, id string, at int, next func(b broken, done bool)) (passes int) {
	plan, err := b.planAgain(plantOf(b.plant), id, e.o)
	if err != nil {
		e.t.Fatal(err)
	}
	what := "run " + id
	if at > 0 {
		what = fmt.Sprintf("%s aborted at %d", what, at)
	}
	out := e.carry(b, what, plan, func(w *upWorld) Journal {
		w.at, w.then = at, func() { w.abort(id) }
		_, j := w.again(id, b, e.o)
		return j
	})
	if out == nil {
		return 0
	}
	both := b.joined(&plan, out.j, out.status, planned(e.t, &plan))
	both.plant = out.plant
	next(both.plain(), out.j.Job.Result == "done")
	return out.passes
}

// abortAt aborts an upgrade before its at-th point, of all agents together; 0: not
// at all. soon: the coordinator's agent ends so many of its own points later; 0: it
// does not. ended: it had ended before.
func abortAt(t *testing.T, e *ends, o upgrade.Options, at, soon int) (passes int, b broken, ended bool) {
	w := e.newWorld(t, newPlant(), at)
	w.at, w.then = at, func() {
		if soon > 0 {
			b := w.machine["h1"].bomb
			b.mu.Lock()
			b.at, b.fate = len(b.names)+soon, endsBefore
			b.mu.Unlock()
		}
		w.abort("u1")
	}
	w.start()
	defer w.stop()
	if w.plant.job != "u1" {
		w.begin("u1", planUpgrade(t, w.plant, o))
	}
	b = broken{plan: w.plant.plan}
	b.stops = planned(t, b.plan)
	j, _ := w.watch("u1")
	b.recs, b.status = j.Records, w.status(j)
	if j.Job.Result == "aborted" {
		b.stops = onceMore(b.stops)
	}
	w.mu.Lock()
	passes = w.passes
	w.mu.Unlock()
	if at == 0 || j.Job.Result == "done" {
		complain(t, w, "the upgrade", finished(w, j, nil, upgrade.Prepared, upgrade.HostRollupDone),
			w.plant.look(plantNew, nil), w.plant.stops(b.stops))
		return passes, w.take(b), true
	}
	complain(t, w, fmt.Sprintf("aborted at %d", at), aborted(w, j), w.plant.look("", b.status.Mixed), w.plant.stops(b.stops))
	return passes, w.take(b), false
}

// TestUpgradeAbortAnywhere aborts an upgrade at points anywhere in it, with or without the
// end of the coordinator's agent soon after, and tries all that may follow: all hosts go
// back to what they were before; or a second run ends it, or a third one when the second
// was aborted somewhere, too, and then it is committed, or all hosts go back.
func TestUpgradeAbortAnywhere(t *testing.T) { upgradeAborts(t, !all) }

func TestUpgradeAbortAnywhereAtLength(t *testing.T) {
	need.Drill(t, "P4: an upgrade that is aborted at any of its points can be rolled back, or ended by another run and committed")
	upgradeAborts(t, all)
}

func upgradeAborts(t *testing.T, all bool) {
	less(t)
	modes := upModes(all)
	if try.Race {
		modes = modes[:1] // the others have other plans, and no other goroutines
	}
	for _, m := range modes {
		t.Run(string(m.Mode), func(t *testing.T) {
			t.Parallel()
			e := newEnds(t, m.Options)
			passes, aborts, over := 0, 0, 0
			synctest.Test(t, func(t *testing.T) { passes, _, _ = abortAt(t, e, m.Options, 0, 0) })
			points := m.points(passes)
			for _, at := range points {
				if t.Failed() {
					break
				}
				for _, soon := range []int{0, 1 + at%9} {
					var b broken
					ended := false
					e.when = fmt.Sprintf("after an abort at point %d, when the coordinator's agent ended %d later", at, soon)
					bubble(t, e.was, func(t *testing.T) { _, b, ended = abortAt(t, e, m.Options, at, soon) })
					if ended {
						over++
						continue
					}
					aborts++
					e.follow(b)
				}
			}
			if aborts == 0 || over > 2+len(points)/10 || len(e.counts) == 0 {
				t.Errorf("%d aborts at %d points, %d came too late", aborts, passes, over)
			}
			t.Logf("%d aborts at %d of %d points; %d came too late; %d states; what followed: %s", aborts, len(points), passes, over, len(e.seen), e)
		})
	}
}

// follow tries what may follow an abort that leaves this: all hosts go back; or a second
// run ends the upgrade, and it is committed, or all hosts go back.
func (e *ends) follow(b broken) {
	state := key(b.plant, b.plan, b.recs, b.status, b.slack())
	if e.seen[state] {
		return
	}
	e.seen[state] = true
	if len(b.status.Hosts) > 0 {
		e.rollback(b, "r1")
	}
	fresh := e.counts["run u2"]
	passes := e.again(b, "u2", 0, func(b broken, _ bool) {
		e.commit(b)
		e.rollback(b, "r1")
	})
	if fresh < e.counts["run u2"] && passes > 0 {
		e.second(b, 1+fresh*37%passes)
	}
}

// second tries what may follow when the second run is aborted, too: all hosts go back,
// or a third run ends the upgrade, and it is committed. There is one such abort for
// each second run that differs from the others, at another point each: not every point
// of every second run is tried.
func (e *ends) second(b broken, at int) {
	e.again(b, "u2", at, func(b broken, done bool) {
		if b.status.Cluster == upgrade.Normal {
			return
		}
		e.rollback(b, "r1")
		if done {
			e.commit(b)
		} else {
			e.again(b, "u3", 0, func(b broken, _ bool) { e.commit(b) })
		}
	})
}

// String tells how much was tried, of what was to be.
func (e *ends) String() string {
	tried, times := map[string]int{}, map[string]int{}
	for what, n := range e.times {
		kind, _, _ := strings.Cut(what, " at ")
		tried[kind] += e.counts[what]
		times[kind] += n
	}
	var out []string
	for _, kind := range slices.Sorted(maps.Keys(times)) {
		out = append(out, fmt.Sprintf("%s: %d of %d", kind, tried[kind], times[kind]))
	}
	return strings.Join(out, ", ")
}
