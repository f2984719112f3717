package explore

import (
	"slices"
	"testing"

	"holdfast/testbed/need"
	"holdfast/testbed/try"
)

// reached walks through all states of a scope and collects what was met there.
type reached struct {
	ops    [256]bool
	owners map[string]bool
	guests map[string]bool
}

func newReached() *reached {
	return &reached{owners: map[string]bool{}, guests: map[string]bool{}}
}

// walk adds what is met within a depth, or until there are limit states.
func (r *reached) walk(t *testing.T, spend world, only []string, depth, limit int) {
	t.Helper()
	m := newMover(newNames(false))
	begins, err := m.begins(nil, spend)
	if err != nil {
		t.Fatal(err)
	}
	ok, err := allow(only)
	if err != nil {
		t.Fatal(err)
	}
	met := newSet()
	var level []world
	for _, b := range begins {
		level = append(level, b.world)
	}
	for n := 0; depth > 0 && len(level) > 0 && n < limit; depth-- {
		var next []world
		for i := range level {
			m.w = level[i]
			for _, s := range m.next(false, nil) {
				if !ok[s.op] {
					continue
				}
				m.w = level[i]
				m.apply(s)
				r.note(m, s)
				if met.add(digestOf(pack(&m.w, nil))) {
					next = append(next, m.w)
					n++
				}
			}
		}
		level = next
	}
}

func (r *reached) note(m *mover, s step) {
	r.ops[s.op] = true
	o := &m.w.store.owner
	r.owners[string(m.names.owners[o.state])+" "+string(m.names.proofs[o.proof])] = true
	for i := range m.w.host {
		r.guests[string(m.names.guests[m.w.host[i].proc.state])] = true
	}
}

// What the search does not reach, no rule protects.
func TestScopeReachesWhatMatters(t *testing.T) {
	need.Seconds(t)
	if try.Race {
		t.Skip("one goroutine, and too slow with the race detector")
	}
	r := newReached()
	r.walk(t, world{faults: 1}, nil, 200, 40_000)
	r.walk(t, world{faults: 1, delays: 1}, nil, 5, 20_000)
	r.walk(t, world{faults: 2}, []string{"cut", "freeze", "kill-fails", "fence-fails"}, 20, 40_000)
	r.walk(t, world{faults: 1, orders: 1}, []string{"power"}, 60, 40_000)
	r.walk(t, world{orders: 2}, nil, 20, 40_000)
	r.walk(t, world{orders: 1, delays: 1}, []string{"hold-move"}, 20, 40_000)
	r.walk(t, world{faults: 1, backup: backup{want: wantRow{mod: 1}}}, []string{"stall"}, 60, 40_000)
	for o := opTick; o <= opRestore; o++ {
		if !r.ops[o] {
			t.Errorf("step %d (%s) was never taken", o, (&mover{}).plainName(o))
		}
	}
	for _, want := range []string{
		"assigned first", "running first", "assigned deadline", "running deadline", "assigned fenced", "running fenced", "assigned released",
		"running released", "migrating first", "settling released", "stopping first", "released released", "assigned operator",
	} {
		if !r.owners[want] {
			t.Errorf("owner record %q was never met", want)
		}
	}
	for _, want := range []string{"absent", "incoming", "running", "paused"} {
		if !r.guests[want] {
			t.Errorf("guest %q was never met", want)
		}
	}
	var all []string
	for o := range r.owners {
		all = append(all, o)
	}
	slices.Sort(all)
	t.Log(all)
}
