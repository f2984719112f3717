package engine

import (
	"fmt"
	"maps"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/job"
	"holdfast/internal/store/storetest"
	"holdfast/internal/upgrade"
)

// What many courses have in common is carried out once. A course that differs from the
// undisturbed one from a point on begins with the world as it was in that one some time
// before: at a moment at which no step was granted or running, nothing was on its way,
// and the agents were there and had seen all. What an agent knows then is what the store
// has, so that one that begins then is as good as one that goes on;
// TestUpgradeCrashAnywhere, whose courses are whole, ends each agent at each point.
// Agents pass some points before the one at which the course differs.

// moment is a world at rest in the middle of a job.
type moment struct {
	pass    int // the next one
	at      time.Time
	plan    *upgrade.Plan
	job     string
	plant   plantState
	kids    map[string]kid
	effects map[string]int
	mem     *storetest.Mem
	boots   map[cluster.HostID]int
	leader  cluster.HostID
	term    int64
	serial  int
}

// momentLead is how many points lie between a moment and the point at which a course
// differs, at least, and between two moments.
const momentLead = 12

// moments are those of an undisturbed course, in order.
type moments []*moment

// before is the last moment that is long enough before a point. nil: the begin.
func (m moments) before(at int) (last *moment) {
	for _, x := range m {
		if x.pass+momentLead <= at {
			last = x
		}
	}
	return last
}

// remember keeps the moments of a course.
func (w *upWorld) remember(out *moments) {
	var mu sync.Mutex
	next := momentLead
	w.passing = func(pass int) {
		mu.Lock()
		defer mu.Unlock()
		if pass < next {
			return
		}
		if m := w.moment(pass); m != nil {
			*out, next = append(*out, m), pass+momentLead
		}
	}
}

// moment is the world as it is, nil when it is not at rest.
func (w *upWorld) moment(pass int) *moment {
	w.plant.mu.Lock()
	defer w.plant.mu.Unlock()
	w.mu.Lock()
	defer w.mu.Unlock()
	p := w.plant
	if p.plan == nil || len(p.moving) > 0 || time.Since(w.touched) < calm {
		return nil
	}
	mem := w.mem.Copy()
	kvs, _, err := mem.NewClient("moment").List(w.t.Context(), "")
	if err != nil {
		w.t.Error(err)
	}
	for _, kv := range kvs {
		switch state := field(kv.Value, "state"); {
		case strings.HasPrefix(kv.Key, keyStep) && isOpen(job.StepState(state)), strings.HasPrefix(kv.Key, keyRun) && state != string(job.Active):
			return nil
		}
	}
	m := &moment{
		pass: pass, at: time.Now(), plan: p.plan, job: p.job, plant: plantOf(p.plantState).plantState,
		kids: map[string]kid{}, effects: maps.Clone(p.effects),
		mem: mem, boots: map[cluster.HostID]int{}, leader: w.leader, term: w.term, serial: w.serial,
	}
	for id, k := range p.kids {
		if m.kids[id] = *k; k.state == "runs" {
			return nil
		}
	}
	for h, x := range w.machine {
		if m.boots[h] = x.boot; x.proc == nil {
			return nil
		}
	}
	return m
}

// world goes on from a moment. The caller starts its agents.
func (m *moment) world(t *testing.T, dir string) *upWorld {
	time.Sleep(time.Until(m.at)) // a bubble's clock begins anew
	p := plantOf(m.plant)
	p.begin(m.plan, m.job)
	for id, k := range m.kids {
		k.over = make(chan struct{})
		close(k.over)
		p.kids[id] = &k
	}
	maps.Copy(p.effects, m.effects)
	w := upWorldOn(t, m.mem.Copy(), p, dir)
	w.passes, w.leader, w.term, w.serial = m.pass-1, m.leader, m.term, m.serial
	for h, x := range w.machine {
		x.boot = m.boots[h]
	}
	return w
}

// TestUpgradeGoesOnFromEachMoment: an upgrade that goes on from a moment passes as many
// points as the undisturbed one, and leaves the same.
func TestUpgradeGoesOnFromEachMoment(t *testing.T) {
	for _, m := range upModes(!all) {
		e := newEnds(t, m.Options)
		passes, left := 0, broken{}
		synctest.Test(t, func(t *testing.T) { passes, left, _ = abortAt(t, e, m.Options, 0, 0) })
		past := e.past
		for i, x := range past {
			if i%16 != 0 && testing.Short() {
				continue
			}
			e.past = moments{x}
			bubble(t, func() string { return fmt.Sprintf("%s from point %d", m.Mode, x.pass) }, func(t *testing.T) {
				n, b, ended := abortAt(t, e, m.Options, 2*passes, 0)
				// What is written for people, of what happens at the same moment, differs by some points.
				if !ended || max(n-passes, passes-n) > passes/50 || key(b.plant, b.recs, b.status) != key(left.plant, left.recs, left.status) {
					t.Errorf("it has ended (%v) after %d points, want %d", ended, n, passes)
				}
			})
		}
		if len(past) < passes/(4*momentLead) {
			t.Errorf("%d moments in %d points", len(past), passes)
		}
		t.Logf("%s: %d moments in %d points", m.Mode, len(past), passes)
	}
}
