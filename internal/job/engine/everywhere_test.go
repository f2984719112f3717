package engine

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/store"
	"holdfast/testbed/try"
)

// A trial gives every point of every agent every fate. Not each has a course of its
// own: when the world has come back, after one fate, to a state that an undisturbed
// course is in, too, then what follows is what follows in the undisturbed course, and
// the next point on its way gets its fate in the same course. A course in which the
// world does not come back to such a state has no more fates, and is judged at its
// end. So is what all fates of a course have left: effects are counted, and what must
// not happen is kept.
//
// The points are those that courses pass before their first fate: these are undisturbed
// until then. The first course has no fates. The trial is over with a course that has
// none although it might: it has met no point with a fate that was not tried. What
// happens at the same moment may come in another order, so some points are met in some
// courses only; of these, which are few, not all fates may be tried.
type trial struct {
	mu     sync.Mutex
	tried  map[string][fates]bool // by point
	writes map[string]bool        // points that write to the store
	led    map[string]bool        // points of a host that coordinated
	given  [fates]int
	from   fate // which comes first
	normal normal
}

// course is one course of a trial.
type course struct {
	*trial
	w      *upWorld
	first  bool                   // without fates
	times  map[string]int         // points met, by name
	dirty  bool                   // a fate has left traces, as far as is known
	unsure bool                   // a scheduler does not know the outcome of a write
	second map[cluster.HostID]int // points until the host's agent ends once more
	recs   map[string]stepTrace   // of the store, by key
	state  map[string]string      // of jobs, by key
	trail  []string
	met    int
	parts  map[string][]part // by job
}

// calm is how long a host has to coordinate before the world can be as it was: longer
// than it takes all to see it, and the new one to read all jobs.
const calm = 250 * time.Millisecond

// attach lets a course decide on the fates in a world.
func (c *course) attach(w *upWorld) {
	c.w, w.course = w, c
	open := w.open
	w.open = func(name string) store.Store { return traced{open(name), c} }
	w.admin = traced{w.admin, c}
	for _, m := range w.machine {
		m.bomb.choose = c.choose
	}
}

// choose is the fate at a point.
func (c *course) choose(p *process, name string, write bool) (fate, func() bool) {
	h := p.m.name
	c.mu.Lock()
	c.met++
	if c.second[h] > 0 {
		if c.second[h]--; c.second[h] == 0 {
			c.mu.Unlock()
			return endsAfter, func() bool { c.note(string(h)+" "+name, "ends once more"); return true }
		}
	}
	dirty := c.dirty
	c.mu.Unlock()
	leads := c.w.leads(h)
	if c.first {
		c.normal.learn(c)
	}
	if dirty && !c.normal.is(c) {
		return passes, nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if dirty {
		c.dirty = false
	}
	id := string(h) + " " + name
	if c.times[id]++; c.times[id] > 1 {
		id = fmt.Sprintf("%s (%d)", id, c.times[id])
	}
	switch tried, known := c.tried[id]; {
	case len(c.trail) == 0:
		c.tried[id], c.writes[id], c.led[id] = tried, write, c.led[id] || leads
	case !known:
		return passes, nil // no undisturbed course has come here
	}
	if c.first {
		return passes, nil
	}
	f := c.next(id, write, leads)
	return f, func() bool {
		took := c.take(id, f)
		if took && !f.happens() {
			c.again(string(h) + " " + name)
		}
		return took
	}
}

// again: a point at which nothing has happened comes once more.
func (c *course) again(name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.times[name]--
}

// next is a fate of a point that was not tried.
func (t *trial) next(id string, write, leads bool) fate {
	tried := t.tried[id]
	for i := range fates - 1 {
		if f := passes + 1 + (t.from+i)%(fates-1); !tried[f] && possible(f, write, leads) {
			return f
		}
	}
	return passes
}

func possible(f fate, write, leads bool) bool {
	switch f {
	case endsBeforeStays, endsAfterStays:
		return leads
	case replyLost, requestLost:
		return write
	}
	return true
}

// take gives a point its fate, unless another has got one.
func (c *course) take(id string, f fate) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	tried := c.tried[id]
	if c.dirty || tried[f] {
		return false
	}
	tried[f] = true
	c.tried[id] = tried
	c.given[f]++
	c.dirty = true
	if f == endsBeforeTwice || f == endsAfterTwice {
		h, _, _ := strings.Cut(id, " ")
		c.second[cluster.HostID(h)] = 1 + c.given[f]%7
	}
	c.trail = append(c.trail, fmt.Sprintf("%s %s: %s", time.Now().Format("04:05.000"), id, f))
	// After a write whose outcome it does not know, the scheduler rewrites the job.
	c.unsure = !f.ends() && !strings.Contains(id, "=running") && !strings.Contains(id, "=done")
	return true
}

func (c *course) note(id, what string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.trail = append(c.trail, fmt.Sprintf("%s %s: %s", time.Now().Format("04:05.000"), id, what))
}

// left are the fates that were not tried.
func (t *trial) left() (out []string) {
	for _, id := range slices.Sorted(maps.Keys(t.tried)) {
		for f := passes + 1; f < fates; f++ {
			if tried := t.tried[id]; !tried[f] && possible(f, t.writes[id], t.led[id]) {
				out = append(out, fmt.Sprintf("%s: %s", id, f))
			}
		}
	}
	return out
}

// maxCourses is a bound of a trial. More courses mean that it does not come to an end.
const maxCourses = 2000

// Samples of the courses of a trial.
const (
	sampleCourses = 16
	shortCourses  = 3 // also under the race detector, which makes all slow
)

// everywhere gives every point every fate, or takes a sample of fates, other ones in each run.
func everywhere(t *testing.T, all bool, one func(t *testing.T, c *course)) {
	sample := 0
	switch {
	case !all && (try.Race || testing.Short()):
		sample = shortCourses
	case !all:
		sample = sampleCourses
	}
	tr := &trial{from: fate(rand.IntN(int(fates - 1))), tried: map[string][fates]bool{}, writes: map[string]bool{},
		led: map[string]bool{}, normal: newNormal()}
	courses := 0
	for over := false; !over; courses++ {
		c := &course{
			trial: tr, first: courses == 0, times: map[string]int{}, second: map[cluster.HostID]int{}, recs: map[string]stepTrace{},
			state: map[string]string{}, parts: map[string][]part{},
		}
		bubble(t, func() string { return fmt.Sprintf("course %d:\n%s", courses, strings.Join(c.trail, "\n")) }, func(t *testing.T) { one(t, c) })
		switch {
		case c.met == 0:
			t.Fatalf("course %d meets no points", courses)
		case sample > 0 && courses == sample:
			t.Logf("%v: a sample of %d courses", tr.given, courses)
			return
		case courses > maxCourses:
			t.Fatalf("cut short after %d courses; fates: %v", courses, tr.given)
		}
		over = courses > 0 && len(c.trail) == 0
	}
	given := 0
	for _, n := range tr.given {
		given += n
	}
	left := tr.left()
	if len(left) > 0 {
		t.Logf("not tried:\n%s", strings.Join(left, "\n"))
	}
	if given == 0 || len(left) > given/50 {
		t.Errorf("%d fates, %d not tried", given, len(left))
	}
	t.Logf("%d points, %d fates %v in %d courses, %d not tried", len(tr.tried), given, tr.given[1:], courses, len(left))
}

// bubble runs a test in virtual time, and says of one that fails what it was.
func bubble(t *testing.T, what func() string, f func(t *testing.T)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		defer func() {
			if t.Failed() {
				t.Log(what())
			}
		}()
		f(t)
	})
}
