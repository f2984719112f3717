package arbiter

import (
	"fmt"
	"testing"

	"holdfast/testbed/need"
	"holdfast/testbed/try"
)

// successors are all states that can follow.
func (w *world) successors(visit func(*world)) {
	for i := range w.node {
		if !w.node[i].up {
			c := w.clone(string(names[i]) + " boots")
			c.boot(i)
			visit(c)
			continue
		}
		if !w.idle(i) && w.node[i].m.Acting == nil {
			c := w.clone(string(names[i]))
			c.agent(i)
			visit(c)
		}
		w.action(i, visit)
		w.faults(i, visit)
	}
	for i := range w.node {
		w.ghost(i, visit)
		w.clients(i, visit)
	}
	switch {
	case w.cut:
		c := w.clone("healed")
		c.cut = false
		visit(c)
	case w.budget.faults > 0 && !(w.prompt && (w.unseen(0) || w.unseen(1))):
		c := w.clone("cut")
		c.budget.faults--
		c.cut = true
		visit(c)
	}
	if !w.prompt || w.idle(0) && w.idle(1) {
		c := w.clone("tick")
		c.tick()
		visit(c)
	}
}

// unseen reports that a look would tell an agent something new.
func (w *world) unseen(i int) bool { return w.node[i].m.Acting == nil && !w.idle(i) }

// action ends what is under way on a node.
func (w *world) action(i int, visit func(*world)) {
	a := w.node[i].m.Acting
	if a == nil {
		return
	}
	c := w.clone(fmt.Sprintf("%s does %T", names[i], a))
	c.told(i, a, c.effect(i, a))
	visit(c)
	if w.budget.faults == 0 {
		return
	}
	for _, done := range []bool{false, true} {
		c := w.clone(fmt.Sprintf("%s fails %T (done: %v)", names[i], a, done))
		c.budget.faults--
		if done {
			c.effect(i, a)
		}
		c.told(i, a, Outcome{})
		visit(c)
	}
	if x, ok := a.(Tiebreak); ok && w.node[i].ghost == 0 && !w.prompt {
		c := w.clone(string(names[i]) + " contests without an answer")
		c.budget.faults--
		c.node[i].ghost = x.Gen
		c.told(i, a, Outcome{})
		visit(c)
	}
}

func (w *world) told(i int, a Action, o Outcome) {
	if n := &w.node[i]; n.up {
		if n.serving && Extends(a, o) {
			n.lease = w.lease
		}
		n.m.Done(a, o, n.m.Now)
	}
}

// ghost is an order that reaches the arbiter late; nobody is told.
func (w *world) ghost(i int, visit func(*world)) {
	if w.node[i].ghost == 0 {
		return
	}
	c := w.clone(string(names[i]) + "'s late contest")
	gen := c.node[i].ghost
	c.node[i].ghost = 0
	owed := c.node[i].owed
	c.contest(i, Tiebreak{Gen: gen})
	c.node[i].owed = owed
	visit(c)
}

func (w *world) faults(i int, visit func(*world)) {
	n := &w.node[i]
	if !n.answers {
		c := w.clone(string(names[i]) + "'s arbiter answers")
		c.node[i].answers = true
		visit(c)
	}
	if n.blind {
		c := w.clone(string(names[i]) + " sees again what it has")
		c.node[i].blind = false
		visit(c)
	}
	if w.budget.faults == 0 {
		return
	}
	if !n.blind {
		c := w.clone(string(names[i]) + " does not see what it has")
		c.budget.faults--
		c.node[i].blind = true
		visit(c)
	}
	if n.answers {
		c := w.clone(string(names[i]) + " loses its arbiter")
		c.budget.faults--
		c.node[i].answers = false
		visit(c)
	}
	c := w.clone(string(names[i]) + " loses power")
	c.budget.faults--
	c.powerOff(i)
	visit(c)
	if a := n.m.Acting; a != nil {
		c := w.clone(fmt.Sprintf("%s loses power after %T", names[i], a))
		c.budget.faults--
		c.effect(i, a)
		c.powerOff(i)
		visit(c)
	}
}

// clients write where the group runs, and are told when the store has it.
func (w *world) clients(i int, visit func(*world)) {
	n, p := &w.node[i], &w.node[1-i]
	if n.serving && w.next < w.budget.writes {
		c := w.clone(string(names[i]) + " is written")
		c.node[i].has |= 1 << w.next
		c.next++
		visit(c)
	}
	if w.linked() && p.has&^n.has != 0 && n.store.Role != Single {
		c := w.clone(string(names[i]) + " receives")
		c.node[i].has |= p.has
		visit(c)
	}
	if told := n.has &^ w.acked; told != 0 && n.serving && (n.store.Role == Single || w.linked() && told&^p.has == 0) {
		c := w.clone(string(names[i]) + " acknowledges")
		c.acked |= told
		visit(c)
	}
}

func (w *world) serving() (n int) {
	for i := range w.node {
		if w.node[i].serving {
			n++
		}
	}
	return n
}

// quiet lets everything that is not a fault happen until the pair is whole. Nodes
// that are off are switched on again.
func (w *world) quiet(on bool) {
	w.trace = &step{"quiet", w.trace}
	w.ha()
	for range 40 {
		for range 2 {
			for i := range w.node {
				n := &w.node[i]
				if !n.up && on {
					w.boot(i)
				}
				if !n.up {
					continue
				}
				if n.m.Acting == nil {
					w.agent(i)
				}
				if a := n.m.Acting; a != nil {
					w.told(i, a, w.effect(i, a))
				}
				w.ha()
			}
		}
		if w.linked() {
			for i := range w.node {
				w.node[i].has |= w.node[1-i].has
			}
		}
		if w.linked() && w.serving() == 1 && w.node[0].store.Role == Two && w.node[1].store.Role == Two {
			return
		}
		w.tick()
	}
}

// stuck says what does not come about when both nodes run and hear each other, "" when
// all does. It takes no arbiter.
func (w *world) stuck() string {
	c := *w
	c.cut, c.prompt = false, false
	for i := range c.node {
		n := &c.node[i]
		n.answers, n.blind, n.ghost = false, false, 0
	}
	c.trace = &step{"all is well", w.trace}
	c.quiet(true)
	if c.manual {
		for i := range c.node {
			c.node[i].m.Resolve("b")
		}
		c.quiet(true)
	}
	if !c.linked() || c.serving() != 1 || c.node[0].store.Role != Two || c.node[1].store.Role != Two {
		return fmt.Sprintf("the pair does not come together again: %s, %s", show(&c.node[0]), show(&c.node[1]))
	}
	for i := range w.node {
		if w.node[i].owed && (w.by != Ping || w.gone[w.node[i].store.Gen]&(2>>i) == 0) {
			if y := w.forsaken(i); y != "" {
				return y
			}
		}
	}
	return ""
}

// forsaken says why a node that has won does not go on when the other never comes back.
func (w *world) forsaken(i int) string {
	c := *w
	c.cut, c.prompt = true, false
	c.powerOff(1 - i)
	c.trace = &step{"alone for ever", w.trace}
	n := &c.node[i]
	n.answers, n.blind = true, false
	if !n.up {
		c.boot(i)
	}
	c.quiet(false)
	if !n.serving {
		return fmt.Sprintf("%s has won and does not go on: %s", names[i], show(n))
	}
	return ""
}

func show(n *node) string {
	return fmt.Sprintf("%s %+v running %v, serving %v, state %d, mark %+v, action %T", n.m.Self, n.store, n.running,
		n.serving, n.m.State(), n.mark, n.m.Acting)
}

// space is all that can follow a state.
func space(limit int, want []string) try.Space[*world] {
	return try.Space[*world]{
		Next: (*world).successors, Goals: goals, Want: want, Limit: limit,
		Key: func(w *world) []byte { w.ha(); return w.key() },
		Broken: func(w *world, number int) string {
			why := w.broken()
			if why == "" && (w.prompt || number%8 == 0) {
				why = w.stuck() // of free agents a sample, as it takes the most time
			}
			return why
		},
	}
}

// goals are what the search must have met, so that it has looked where it matters.
var goals = map[string]func(w *world) bool{
	"the standby goes on alone and is written to": func(w *world) bool {
		return w.node[1].serving && w.node[1].store.Role == Single && w.acked&^w.node[0].has != 0
	},
	"the active goes on alone": func(w *world) bool { return w.node[0].serving && w.node[0].store.Role == Single },
	"both vote again": func(w *world) bool {
		return w.node[0].store == w.node[1].store && w.node[0].store.Gen > 1 && w.node[0].store.Role == Two
	},
	"a late contest meets a new generation": func(w *world) bool {
		return w.node[0].ghost != 0 && w.node[1].store.Gen > w.node[0].ghost
	},
	"both went on alone": func(w *world) bool { return w.gone[1] == 3 },
	"a split brain ends": func(w *world) bool { return w.gone[1] == 3 && w.linked() },
}

// limit is of states, and more than there are.
const limit = 10_000_000

// TestOneGoesOnAlone searches courses with two faults, those of few steps: with agents that are as slow
// as they like (free), and with agents that do at once what they must.
func TestOneGoesOnAlone(t *testing.T) {
	few := 50_000
	if testing.Short() {
		few = 10_000
	}
	alone(t, few, 0)
}

func TestOneGoesOnAloneAtLength(t *testing.T) {
	need.Drill(t, "P1, P2: of all courses of two nodes without a third voter, none runs the group twice or loses a write")
	alone(t, limit, 0)
}

// TestOneGoesOnAloneWithMore: one more write, and for agents that do at once what they must one more fault.
func TestOneGoesOnAloneWithMore(t *testing.T) {
	need.Drill(t, "P1, P2: the same with one more write and one more fault than TestOneGoesOnAloneAtLength has")
	alone(t, limit, 1)
}

// alone searches up to so many states.
func alone(t *testing.T, most, more int) {
	const standby, active, again, late, both, ended = "the standby goes on alone and is written to",
		"the active goes on alone", "both vote again",
		"a late contest meets a new generation", "both went on alone", "a split brain ends"
	for _, c := range []struct {
		name           string
		by             Kind
		prompt, manual bool
		writes, more   int // writes, and faults beside two
		goals          []string
	}{
		{"fence", Fence, true, false, 1, 0, []string{standby, active, again}},
		{"disk", Disk, true, false, 1, 0, []string{standby, active, again}},
		{"ping", Ping, true, false, 1, 0, []string{standby, active, again, both, ended}},
		{"ping-operator", Ping, true, true, 1, 0, []string{both}},
		{"fence-faults", Fence, true, false, 0, 1, []string{active, again}},
		{"disk-faults", Disk, true, false, 0, 1, []string{active, again}}, // with a long lease
		{"fence-free", Fence, false, false, 0, 0, []string{active, again, late}},
		{"disk-free", Disk, false, false, 0, 0, []string{active, again, late}},
		{"ping-free", Ping, false, false, 0, 0, []string{active, again, both, ended}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			b := budget{c.writes + more, 2 + c.more}
			if c.prompt && c.more == 0 {
				b.faults += more
			}
			lease := leaseTicks
			if c.name == "disk-faults" {
				lease = longLease
			}
			start := newWorld(c.by, lease, b)
			start.prompt, start.manual = c.prompt, c.manual
			for i := range start.node {
				start.node[i].m.Manual = c.manual
			}
			n, bad, why, missed := space(most, c.goals).Search(start)
			t.Logf("%d states", n)
			if bad != nil {
				t.Fatalf("%s\n%s", why, bad.trace)
			}
			if n >= limit {
				t.Errorf("more than %d states: the search has not ended", limit)
			}
			if n < most && len(missed) > 0 {
				t.Errorf("not met: %v", missed)
			}
		})
	}
}
