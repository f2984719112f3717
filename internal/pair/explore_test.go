package pair

import (
	"fmt"
	"testing"

	"holdfast/internal/cluster"
	"holdfast/testbed/need"
	"holdfast/testbed/try"
)

// successors are all states that can follow.
func (w *world) successors(visit func(*world)) {
	for i := range w.node {
		if w.node[i].up && w.node[i].chosen {
			c := w.clone(string(names[i]) + "'s copy is kept")
			c.keep(i)
			visit(c)
		} else if w.node[i].up {
			w.agent(i, visit)
			w.actions(i, visit)
		}
		w.transactions(i, visit)
		w.faults(i, visit)
		w.person(i, visit)
	}
	w.clients(visit)
	w.core(visit)
}

// person chooses a copy.
func (w *world) person(i int, visit func(*world)) {
	if w.budget.choices == 0 {
		return
	}
	c := w.clone("a person chooses " + string(names[i]))
	c.budget.choices--
	if c.choose(i) {
		visit(c)
	}
}

// agent is what an agent does by itself. It decides after everything that it learns.
func (w *world) agent(i int, visit func(*world)) {
	n := &w.node[i]
	if n.m.Owner.Mod != w.ownerMod || n.m.Sync.Mod != w.syncMod {
		c := w.clone("news " + string(names[i]))
		c.node[i].m.OwnerIs(c.owner, c.ownerMod)
		c.node[i].m.SyncIs(c.sync, c.syncMod)
		c.decide(i)
		visit(c)
	}
	c := w.clone("look " + string(names[i]))
	c.look(i)
	c.decide(i)
	visit(c)
}

// decide lets the agent begin what it must begin.
func (w *world) decide(i int) {
	m := &w.node[i].m
	was := m.Phase
	for _, a := range m.Decide(m.Now + 1 + cluster.Instant(followMost)) {
		w.trace.what += fmt.Sprintf(" %T%v", a, a)
		if p, ok := a.(Put); ok {
			w.node[i].put = &p
		}
	}
	if m.Phase != was {
		w.trace.what += fmt.Sprintf(" phase %d", m.Phase)
	}
}

// actions end well or fail, and their caller is told so later, or told that they failed.
func (w *world) actions(i int, visit func(*world)) {
	n := &w.node[i]
	a := n.m.Acting
	if a == nil {
		return
	}
	if n.result != 0 {
		c := w.clone(fmt.Sprintf("%s: %T ended (%d)", names[i], a, n.result))
		c.told(i, n.result == 1)
		visit(c)
		return
	}
	c := w.clone(fmt.Sprintf("%s does %T", names[i], a))
	c.node[i].result = 2
	if c.effect(i, a) {
		c.node[i].result = 1
	}
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
		c.told(i, false)
		visit(c)
	}
}

// told tells the machine how its action ended.
func (w *world) told(i int, ok bool) {
	n := &w.node[i]
	n.result = 0
	n.m.Now++
	n.m.Done(n.m.Acting, Outcome{OK: ok, Why: "it can not be", Proof: string(names[1-i])}, n.m.Now)
}

func (w *world) transactions(i int, visit func(*world)) {
	n := &w.node[i]
	if n.put != nil && n.up {
		c := w.clone(string(names[i]) + " put")
		c.node[i].put = nil
		ok := c.write(*n.put)
		c.node[i].m.Done(*n.put, Outcome{OK: ok, Mod: c.syncMod}, n.m.Now)
		visit(c)
		if w.budget.faults > 0 && len(n.ghosts) < 2 {
			c = w.clone(string(names[i]) + " put without an answer")
			c.budget.faults--
			c.node[i].put = nil
			c.node[i].ghosts = append(c.node[i].ghosts, *n.put)
			c.node[i].m.Done(*n.put, Outcome{Why: "no answer"}, n.m.Now)
			visit(c)
		}
	}
	for g := range n.ghosts {
		c := w.clone(string(names[i]) + " late put")
		c.write(n.ghosts[g])
		visit(c)
	}
}

func (w *world) faults(i int, visit func(*world)) {
	n := &w.node[i]
	if !n.up {
		c := w.clone(string(names[i]) + " boots")
		c.node[i].up = true
		c.begin(i)
		visit(c)
		return
	}
	if w.budget.faults == 0 {
		return
	}
	off := func(c *world, effect bool) {
		c.budget.faults--
		n := &c.node[i]
		if effect && n.m.Acting != nil && n.result == 0 {
			c.effect(i, n.m.Acting)
		}
		if n.put != nil {
			n.ghosts = append(n.ghosts, *n.put)
			n.put = nil
		}
	}
	c := w.clone(string(names[i]) + " loses power")
	off(c, false)
	d := &c.node[i]
	d.result, d.m.Acting = 0, nil
	d.up, d.role, d.linked, d.waits, d.member, d.epoch = false, RoleOff, false, false, Down, cluster.Epoch{}
	visit(c)
	for _, effect := range []bool{false, true} {
		c = w.clone(fmt.Sprintf("%s's agent begins anew (done: %v)", names[i], effect))
		off(c, effect)
		c.begin(i)
		visit(c)
	}
	if n.role == RoleStandby || n.role == RoleActive {
		c = w.clone(string(names[i]) + "'s database dies")
		c.budget.faults--
		c.node[i].role, c.node[i].linked = RoleOff, false
		visit(c)
	}
	if n.role == RoleActive {
		c = w.clone("somebody makes " + string(names[i]) + "'s database read-only")
		c.budget.faults--
		c.node[i].role = RoleStandby
		visit(c)
	}
	if n.linked {
		c = w.clone(string(names[i]) + " loses its link")
		c.budget.faults--
		c.node[i].linked = false
		visit(c)
		c = w.clone(string(names[i]) + " may have lost something")
		c.budget.faults--
		c.node[i].whole = false
		visit(c)
		c = w.clone(string(names[i]) + " comes on no more")
		c.budget.faults--
		c.node[i].stuck = true
		visit(c)
	}
	if n.role == RoleStandby && w.owner.Host != names[i] {
		c = w.clone(string(names[i]) + " loses what was not applied")
		c.budget.faults--
		c.node[i].role, c.node[i].linked, c.node[i].whole, c.node[i].has = RoleOff, false, false, 0
		c.node[i].lost = !c.proofs // MariaDB's has what it had applied
		visit(c)
	}
}

// clients write through the address, and are told when a commit ends.
func (w *world) clients(visit func(*world)) {
	for i := range w.node {
		n, p := &w.node[i], &w.node[1-i]
		if !n.up || n.role != RoleActive {
			continue
		}
		if w.next < w.budget.writes {
			c := w.clone(string(names[i]) + " is written")
			c.node[i].has |= 1 << w.next
			c.node[i].own |= 1 << w.next
			c.next++
			visit(c)
		}
		if w.link(1-i) && n.has != p.has {
			c := w.clone(string(names[i]) + " sends")
			c.node[1-i].has |= n.has
			visit(c)
		}
		if told := n.has &^ w.acked; told != 0 && (!n.waits || w.link(1-i) && told&^p.has == 0) {
			c := w.clone(string(names[i]) + " acknowledges")
			c.acked |= told
			visit(c)
		}
	}
}

// core is package ha: one node at a time, and a new epoch only with a proof.
func (w *world) core(visit func(*world)) {
	o := w.owner
	if h := o.Holder(); h != "" {
		w.holder(index(h), visit)
	} else if w.budget.epochs > 0 {
		w.assign(cluster.ProofReleased, visit)
	}
}

// assign gives the group to either node.
func (w *world) assign(proof cluster.ProofKind, visit func(*world)) {
	for _, h := range names {
		c := w.clone("assigned to " + string(h))
		c.budget.epochs--
		c.own(cluster.Owner{State: cluster.Assigned, Host: h, Epoch: w.owner.Epoch.Next(), Proof: cluster.Proof{Kind: proof}})
		visit(c)
	}
}

func (w *world) holder(i int, visit func(*world)) {
	n, o := &w.node[i], w.owner
	m := &n.m
	if !n.up {
		if w.budget.epochs > 0 && (o.State != cluster.Migrating || w.node[index(o.To)].m.Phase == Ended) {
			w.assign(cluster.ProofFenced, visit)
		}
		return
	}
	knows := m.Owner.Mod == w.ownerMod
	once := n.granted != o.Epoch || n.at != o.Host
	switch {
	case !knows:
	case o.State == cluster.Assigned && once && m.Empty():
		c := w.clone("start " + string(o.Host))
		c.grant(i)
		visit(c)
	case o.State == cluster.Settling && once && o.Ready && m.Arrived():
		c := w.clone("resume " + string(o.Host))
		c.grant(i)
		visit(c)
	case (o.State == cluster.Assigned || o.State == cluster.Settling) && m.Phase == Serving:
		c := w.clone("running on " + string(o.Host))
		o.State, o.Ready = cluster.Running, false
		c.own(o)
		visit(c)
	case o.State == cluster.Running && w.budget.moves > 0:
		c := w.clone("migrate to " + string(names[1-i]))
		c.budget.moves--
		o.State, o.To = cluster.Migrating, names[1-i]
		c.own(o)
		visit(c)
	case o.State == cluster.Migrating && m.Phase == Serving && n.tried != w.ownerMod:
		c := w.clone("hand over")
		c.node[i].tried = w.ownerMod
		c.node[i].m.HandOver()
		visit(c)
	case o.State == cluster.Migrating && m.Phase == HandingOver:
		c := w.clone("abort")
		c.node[i].m.CancelHandover()
		visit(c)
	case o.State == cluster.Migrating && m.Empty():
		c := w.clone("settling")
		o.State, o.Host, o.To, o.Ready = cluster.Settling, o.To, "", m.Moved()
		o.Proof = cluster.Proof{Kind: cluster.ProofReleased}
		c.own(o)
		visit(c)
	}
	if o.State == cluster.Migrating && knows && m.Phase != Ended && m.Moved() && m.fresh() && m.Seen.empty() {
		c := w.clone("left")
		c.node[i].m.Revoke()
		visit(c)
	}
	if o.State == cluster.Migrating && m.Phase == Serving && m.Seen.Replica.Role == RoleActive && knows {
		c := w.clone("goes on here")
		o.State, o.To = cluster.Running, ""
		c.own(o)
		visit(c)
	}
	if w.budget.faults > 0 && m.Phase != Ended {
		c := w.clone("revoke " + string(names[i]))
		c.budget.faults--
		c.node[i].m.Revoke()
		visit(c)
	}
	if m.Empty() && o.State != cluster.Migrating && (!once || o.State == cluster.Running ||
		o.State == cluster.Settling && !(o.Ready && m.Arrived())) {
		c := w.clone("released")
		o.State = cluster.Released
		c.own(o)
		visit(c)
	}
}

// grant is Start or Resume, once for each epoch and node.
func (w *world) grant(i int) {
	n := &w.node[i]
	n.granted, n.at, n.epoch = w.owner.Epoch, w.owner.Host, w.owner.Epoch
	n.m.Grant(w.owner.Epoch)
}

// space is all that can follow a state.
func space(limit int, want []string) try.Space[*world] {
	return try.Space[*world]{
		Next: (*world).successors, Goals: goals, Want: want, Limit: limit,
		Key:    func(w *world) []byte { w.forget(); return w.key() },
		Broken: func(w *world, _ int) string { return w.broken() },
	}
}

// goals are what the search must have met, so that it has looked where it matters.
var goals = map[string]func(w *world) bool{
	"the peer is active and has an acknowledged write": func(w *world) bool { return w.node[1].role == RoleActive && w.acked != 0 },
	"a write was acknowledged by one node alone": func(w *world) bool {
		return w.acked&^(w.node[0].has&w.node[1].has) != 0 && w.node[0].role == RoleActive
	},
	"both are complete again": func(w *world) bool {
		return w.owner.Epoch.Seq > 1 && w.sync.Has("a") && w.sync.Has("b") && w.sync.Host == "b" && w.node[1].waits && w.link(0)
	},
	"the peer is active by a person's choice": func(w *world) bool {
		return w.node[1].role == RoleActive && w.node[1].member == Up && !w.sync.Has("a") && w.budget.choices == 0
	},
	"an old license comes too late": func(w *world) bool { return len(w.node[0].ghosts) > 0 && w.sync.Host == "b" },
}

// limit is of states, and more than there are.
const limit = 1_000_000

// TestNoCourseLosesAWrite looks at the courses of few steps.
func TestNoCourseLosesAWrite(t *testing.T) {
	need.Seconds(t)
	losesNoWrite(t, 60_000)
}

func TestNoCourseLosesAWriteAtLength(t *testing.T) {
	need.Drill(t, "P1, P2: of all courses of a pair with one fault, none loses an acknowledged write")
	losesNoWrite(t, limit)
}

func losesNoWrite(t *testing.T, limit int) {
	// The agent of a ended when it had offered b to be complete, and the offer is on its way.
	offering := func(w *world) {
		w.sync.InSync = []cluster.HostID{"a"}
		w.syncMod++
		if !w.goOn(func() bool { p := w.node[0].put; return p != nil && p.Sync.Has("b") }) {
			t.Fatal("a never offers b to be complete")
		}
		n := &w.node[0]
		n.ghosts, n.put = append(n.ghosts, *n.put), nil
		w.begin(0)
	}
	// a went on alone, and has lost power.
	lost := func(w *world) {
		w.proving()
		a := &w.node[0]
		a.up, a.role, a.has, a.own = false, RoleOff, 1, 1
		w.acked, w.next = 1, 1
		w.sync.InSync, w.sync.Epoch, w.sync.Proof = []cluster.HostID{"a"}, w.owner.Epoch, ""
		w.syncMod++
		w.owner.State = cluster.Running
		w.own(w.owner)
		w.begin(1)
	}
	for _, c := range []struct {
		name   string
		begin  func(*world)
		budget budget
		goals  []string
	}{
		{"an offer", offering, budget{writes: 1, faults: 1}, []string{"a write was acknowledged by one node alone"}},
		{"a takeover", nil, budget{writes: 1, faults: 1, epochs: 1},
			[]string{"the peer is active and has an acknowledged write", "a write was acknowledged by one node alone", "both are complete again"}},
		{"a choice", lost, budget{writes: 2, epochs: 1, choices: 1}, []string{"the peer is active by a person's choice"}},
		{"a move", nil, budget{writes: 1, moves: 1}, []string{"the peer is active and has an acknowledged write"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			start := newWorld(budget{})
			if c.begin != nil {
				start.trace = &step{what: c.name}
				c.begin(start)
			}
			start.budget = c.budget
			n, bad, why, missed := space(limit, c.goals).Search(start)
			t.Logf("%d states", n)
			if n < limit && len(missed) > 0 {
				t.Errorf("not met: %v", missed)
			}
			if bad != nil {
				t.Errorf("%s\n%s", why, bad.trace)
			}
		})
	}
}
