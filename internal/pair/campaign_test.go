package pair

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"holdfast/internal/cluster"
	"holdfast/testbed/need"
)

// calm ends all faults, and lets everything that can go on do so in turn. It
// reports that the group serves on one node and that both copies are complete.
func (w *world) calm() bool {
	w.budget = budget{}
	return w.goOn(func() bool {
		h := w.owner.Holder()
		return w.owner.State == cluster.Running && w.node[index(h)].member == Up && w.sync.Has("a") &&
			w.sync.Has("b") && w.sync.Host == h && w.link(1-index(h)) && w.node[1-index(h)].m.Fit() == ""
	})
}

// goOn lets everything that can go on do so in turn, until it is as wanted. It looks
// after each node has decided, too.
func (w *world) goOn(until func() bool) bool {
	for range 200 {
		for i := range w.node {
			n := &w.node[i]
			if !n.up {
				n.up = true
				w.begin(i)
			}
			n.m.OwnerIs(w.owner, w.ownerMod)
			n.m.SyncIs(w.sync, w.syncMod)
			w.look(i)
			w.decide(i)
			if until() {
				return true
			}
			if n.put != nil {
				p := *n.put
				n.put = nil
				ok := w.write(p)
				n.m.Done(p, Outcome{OK: ok, Mod: w.syncMod}, n.m.Now)
			}
			if a := n.m.Acting; a != nil {
				w.told(i, n.result == 1 || n.result == 0 && w.effect(i, a))
			}
		}
		for i := range w.node {
			switch n, p := &w.node[i], &w.node[1-i]; {
			case w.link(i):
				n.has |= p.has // data flow
			case n.linked && p.up && p.role == RoleActive && n.has&^p.has != 0:
				// A source serves nobody who has more than it: MariaDB ends with error 1236, DRBD finds a split brain.
				n.linked = false
			}
		}
		w.settle()
		if w.broken() != "" {
			return false
		}
	}
	return false
}

// hopeless reports that no copy is sure to have every acknowledged write, also since the agent of one that a person has chosen began anew
// before its driver vouched for it: a person must choose, or choose again.
func (w *world) hopeless() bool {
	for i, h := range names {
		if w.sync.Has(h) && w.vouched(i, w.sync.Proof) {
			return false
		}
	}
	return true
}

// settle is package ha without faults: the holder goes on, or another one is chosen
// of those that are fit.
func (w *world) settle() {
	h := w.owner.Holder()
	if h == "" {
		for i, name := range names {
			if w.node[i].m.Fit() == "" {
				w.own(cluster.Owner{State: cluster.Assigned, Host: name, Epoch: w.owner.Epoch.Next(),
					Proof: cluster.Proof{Kind: cluster.ProofReleased}})
				return
			}
		}
		return
	}
	var next *world
	w.holder(index(h), func(c *world) {
		if c.trace.what != "abort" || !w.sync.Has(names[1-index(h)]) {
			next = c
		}
	})
	if next != nil {
		trace := next.trace
		*w = *next
		w.trace = trace
	}
}

// TestRandomCourses goes deeper than the search of all courses can.
func TestRandomCourses(t *testing.T) {
	need.Seconds(t)
	courses(t, 500)
}

func TestRandomCoursesAtLength(t *testing.T) {
	need.Drill(t, "P1, P2: long random courses of a pair lose no acknowledged write, and calm brings the group up")
	courses(t, 30_000)
}

func courses(t *testing.T, seeds int) {
	for seed := range seeds {
		r := rand.New(rand.NewPCG(uint64(seed), 1))
		w := newWorld(budget{writes: 6, faults: 1 + r.IntN(8), epochs: 5, moves: 2, choices: r.IntN(2)})
		if seed%2 == 0 {
			w.proving()
		}
		for range 50 + r.IntN(150) {
			var all, faults []*world
			here := string(w.key())
			w.successors(func(c *world) {
				c.forget()
				switch {
				case string(c.key()) == here:
				case c.budget.faults < w.budget.faults:
					faults = append(faults, c)
				default:
					all = append(all, c)
				}
			})
			if len(faults) > 0 && (len(all) == 0 || r.IntN(12) == 0) {
				all = faults
			}
			if len(all) == 0 {
				break
			}
			w = all[r.IntN(len(all))]
			if why := w.broken(); why != "" {
				t.Fatalf("seed %d: %s\n%s", seed, why, w.trace)
			}
		}
		last := w.clone("calm")
		up := w.calm()
		if !up && w.hopeless() {
			// A person chooses a copy that can be used, and it is up again.
			i := r.IntN(2)
			if w.node[i].lost {
				i = 1 - i
			}
			if w.node[i].lost {
				continue // neither is left
			}
			last = w.clone("a person chooses " + string(names[i]))
			if up = w.choose(i); up {
				w.keep(i)
				up = w.calm()
			}
		}
		if !up {
			t.Fatalf("seed %d: calm does not bring it up: %s\n%s\nowner %+v sync %+v\n%s\n%s", seed, w.broken(),
				last.trace, w.owner, w.sync, w.text(0), w.text(1))
		}
	}
}

func (w *world) text(i int) string {
	n := &w.node[i]
	return fmt.Sprintf("%s: up %v role %d waits %v linked %v whole %v wrote %v member %d has %b granted %s\n  %+v",
		names[i], n.up, n.role, n.waits, n.linked, n.whole, n.wrote, n.member, n.has, n.granted, n.m)
}
