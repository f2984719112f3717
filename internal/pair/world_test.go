package pair

import (
	"fmt"
	"slices"
	"strings"

	"holdfast/internal/cluster"
)

// world is two nodes, their store, clients and package ha, which gives the group
// to one node at a time. Everything that takes time can be overtaken, fail, or
// end well without its caller being told.
type world struct {
	owner    cluster.Owner
	ownerMod int64
	sync     Sync
	syncMod  int64
	node     [2]node
	acked    uint8 // writes that clients were told of, a bit each
	next     int   // the write that comes next
	budget   budget
	// a copy that follows anew is whole only once it was proved, and promoted by that proof, as with MariaDB; else at
	// once, as with DRBD
	proofs bool
	wrong  string // what was done out of order
	trace  *step
}

// budget bounds a course.
type budget struct{ writes, faults, epochs, moves, choices int }

// node is one of the two, as it truly is.
type node struct {
	up      bool
	m       Machine
	has     uint8 // writes of its copy
	own     uint8 // of them, those made here since it last followed: a cut removes what the peer does not have
	role    Role
	waits   bool
	linked  bool // it follows the other node
	stuck   bool // it does not come on
	whole   bool
	lost    bool // what it has can not be used, and is not kept by a person's word: an inconsistent disk of DRBD
	wrote   bool
	member  State
	epoch   cluster.Epoch // which the driver noted before the first start
	granted cluster.Epoch // for which package ha has called Start or Resume, once
	at      cluster.HostID
	tried   int64 // revision of the owner record for which it was asked to hand over
	result  int8  // of the action under way: 0 not done yet, 1 done, 2 failed; its caller is told later
	put     *Put
	chosen  bool  // a person has chosen its copy: the record says so, the driver not yet
	ghosts  []Put // whose callers have gone; each may still be applied
}

// step is how a state was reached.
type step struct {
	what   string
	before *step
}

func (s *step) String() string {
	var all []string
	for ; s != nil; s = s.before {
		all = append(all, s.what)
	}
	slices.Reverse(all)
	return strings.Join(all, "\n")
}

var names = [2]cluster.HostID{"a", "b"}

func index(h cluster.HostID) int { return slices.Index(names[:], h) }

func newWorld(b budget) *world {
	e := cluster.Epoch{Gen: 1, Seq: 1}
	w := &world{
		owner: cluster.Owner{State: cluster.Assigned, Host: "a", Epoch: e, Proof: cluster.Proof{Kind: cluster.ProofFirst}}, ownerMod: 2,
		sync: Sync{InSync: []cluster.HostID{"a", "b"}, Host: "a"}, syncMod: 1, budget: b,
	}
	for i := range w.node {
		w.node[i] = node{up: true, role: RoleStandby, whole: true, member: Down}
		w.begin(i)
	}
	return w
}

// proving makes the copies need proofs. That of a has been active before.
func (w *world) proving() {
	w.proofs, w.node[0].wrote, w.sync.Proof = true, true, "b"
	w.syncMod++
	for i := range w.node {
		w.begin(i)
	}
}

// vouched reports that a proof says of a node's copy that it is whole; its own driver needs
// none when it was the last that was promoted.
func (w *world) vouched(i int, proof string) bool {
	n := &w.node[i]
	return n.whole && (!w.proofs || n.wrote || proof == string(names[i]))
}

// begin is a new agent process on a node.
func (w *world) begin(i int) {
	n := &w.node[i]
	n.result, n.chosen = 0, false
	n.m = *New(names[i], names[1-i], []Member{{"vip", 1}}, 0)
	n.m.OwnerIs(w.owner, w.ownerMod)
	n.m.SyncIs(w.sync, w.syncMod)
	w.look(i)
	if !n.m.Seen.empty() && n.epoch != (cluster.Epoch{}) {
		n.m.Adopt(n.epoch)
		w.look(i)
	}
}

// shut reports that the copy runs since it was promoted, and lets no client write.
func (n *node) shut() bool { return n.role == RoleStandby && n.wrote && !n.linked }

// link reports that node i acknowledges what its peer writes.
func (w *world) link(i int) bool {
	n, p := &w.node[i], &w.node[1-i]
	return n.up && p.up && n.linked && !n.stuck && n.role == RoleStandby && p.role == RoleActive && n.has&^p.has == 0
}

// look lets the agent see its node.
func (w *world) look(i int) {
	n := &w.node[i]
	linked := n.role == RoleStandby && n.linked || n.role == RoleActive && w.link(1-i)
	n.m.Now++
	n.m.Observed(Seen{Replica{n.role, n.waits, linked, n.stuck && n.linked, w.vouched(i, n.m.Sync.Proof), n.wrote,
		n.shut()}, []State{n.member}, n.m.Sync.Mod}, n.m.Now)
}

func (w *world) clone(what string) *world {
	c := *w
	c.trace = &step{what, w.trace}
	for i := range c.node {
		n := &c.node[i]
		n.ghosts = slices.Clip(n.ghosts)
		n.m.Failures = slices.Clone(n.m.Failures)
	}
	return &c
}

// forget leaves out what can not be applied any more.
func (w *world) forget() {
	for i := range w.node {
		n := &w.node[i]
		n.ghosts = slices.DeleteFunc(slices.Clone(n.ghosts), func(p Put) bool {
			return p.SyncMod != w.syncMod || p.OwnerMod != 0 && p.OwnerMod != w.ownerMod
		})
	}
}

// write applies a transaction on Sync, if its conditions hold.
func (w *world) write(p Put) bool {
	if p.SyncMod != w.syncMod || p.OwnerMod != 0 && p.OwnerMod != w.ownerMod {
		return false
	}
	for i, h := range names {
		if was := w.sync; was.Has(h) && p.Sync.Has(h) && w.vouched(i, was.Proof) && !w.vouched(i, p.Sync.Proof) {
			w.wrong = fmt.Sprintf("%s is complete, and nothing vouches for it after %q", h, p.Why)
		}
	}
	w.sync = p.Sync
	w.syncMod++
	return true
}

// choose has a person choose a node's copy. What the other one has beside it is given up.
func (w *world) choose(i int) bool {
	n, p := &w.node[i], &w.node[1-i]
	h := w.owner.Holder()
	if !n.up || n.m.Owner.Mod != w.ownerMod || n.m.Sync.Mod != w.syncMod || n.m.Acting != nil ||
		h != "" && w.node[index(h)].up || p.up && w.sync.Has(names[1-i]) && w.vouched(1-i, w.sync.Proof) {
		return false
	}
	put, why := n.m.Resolve()
	if why != "" || !w.write(put) {
		return false
	}
	n.chosen = true
	w.acked &= n.has
	return true
}

// keep has the driver vouch for the copy that was chosen, with what it has then: it may have lost what it had not applied since.
// It refuses one that is lost, and the person chooses again.
func (w *world) keep(i int) {
	n := &w.node[i]
	n.chosen = false
	n.m.Now++
	n.m.Touched, n.m.Risked = n.m.Now, n.m.Now
	if n.lost {
		return
	}
	w.acked &= n.has
	n.whole, n.wrote, n.linked, n.stuck = true, true, false, false
}

// own writes the owner record.
func (w *world) own(o cluster.Owner) {
	w.owner = o
	w.ownerMod++
}

// effect does what an action does when it ends well; it reports that it can.
func (w *world) effect(i int, a Action) bool {
	n, p := &w.node[i], &w.node[1-i]
	switch a := a.(type) {
	case Promote:
		if !a.Shut {
			w.early(i)
		} else if !n.shut() {
			return false
		}
		if !w.vouched(i, a.Proof) && n.role != RoleActive {
			return false
		}
		n.epoch = a.Epoch
		n.role, n.waits, n.linked, n.wrote = RoleActive, true, false, true
	case Demote:
		w.early(i)
		n.role, n.linked = RoleOff, false
	case Drain:
		w.early(i)
		if !w.link(1 - i) {
			return false
		}
		p.has |= n.has
		n.role, n.linked = RoleStandby, false
	case Alone:
		n.waits = false
	case Join:
		if n.role != RoleActive || !w.link(1-i) {
			return false
		}
		n.waits = true
		p.has |= n.has
		p.whole = true // as long as it goes on following
	case Unfollow:
		n.linked, n.stuck = false, false
	case Follow:
		n.stuck = false
		switch {
		case !p.up || p.role != RoleActive:
			return false
		case a.Cut:
			n.has &^= n.own &^ p.has
			n.has &= p.has
			n.own, n.wrote, n.whole, n.lost = 0, false, !w.proofs, false
			// What it had of the peer's may be lost as well, and comes again by and by.
			n.has = 0
		case n.has&^p.has != 0:
			return false
		}
		n.role, n.linked = RoleStandby, true
	case StartMember:
		if n.role != RoleActive {
			return false
		}
		n.member = Up
	case StopMember:
		n.member = Down
	}
	return true
}

// early notes that the address is there while what it leads to begins or ends.
func (w *world) early(i int) {
	if w.node[i].member == Up && (w.node[i].role != RoleActive || w.node[i].m.Phase != Serving) {
		w.wrong = "clients reach " + string(names[i]) + " while its writes begin or end"
	}
}

// broken says which invariant does not hold, "" when all do.
func (w *world) broken() string {
	a, b := &w.node[0], &w.node[1]
	if a.up && b.up && a.role == RoleActive && b.role == RoleActive {
		return "two nodes are active"
	}
	for i := range w.node {
		n := &w.node[i]
		if n.up && n.role == RoleActive && w.acked&^n.has != 0 {
			return fmt.Sprintf("%s is active without an acknowledged write", names[i])
		}
		if w.sync.Has(names[i]) && n.whole && w.acked&^n.has != 0 {
			return fmt.Sprintf("%s is called complete and is not", names[i])
		}
	}
	if len(w.sync.InSync) == 0 {
		return "no copy is complete"
	}
	return w.wrong
}

// key tells states apart: what the future does not depend on is left out.
func (w *world) key() []byte {
	b := make([]byte, 0, 160)
	flag := func(fs ...bool) {
		var v byte
		for i, f := range fs {
			if f {
				v |= 1 << i
			}
		}
		b = append(b, v)
	}
	num := func(ns ...int64) {
		for _, n := range ns {
			b = append(b, byte(n))
		}
	}
	text := func(s cluster.HostID) { b = append(b, (string(s) + "-")[0]) }
	owner := func(o cluster.Owner, mod int64) {
		b = append(b, o.State[0], o.State[len(o.State)-1])
		text(o.Host)
		text(o.To)
		num(int64(o.Epoch.Seq), min(w.ownerMod-mod, 1))
		flag(o.Ready, o.Proof.Kind == cluster.ProofReleased)
	}
	record := func(s Sync) {
		flag(s.Has("a"), s.Has("b"))
		text(s.Host)
		text(s.To)
		num(int64(s.Epoch.Seq))
		text(cluster.HostID(s.Proof))
	}
	put := func(p *Put) {
		if p == nil {
			b = append(b, 0)
			return
		}
		b = append(b, 1)
		num(min(w.syncMod-p.SyncMod, 1), min(w.ownerMod-p.OwnerMod, 1))
		flag(p.OwnerMod == 0)
		record(p.Sync)
	}
	owner(w.owner, w.ownerMod)
	record(w.sync)
	num(int64(w.acked), int64(w.next), int64(w.budget.faults), int64(w.budget.epochs), int64(w.budget.moves), int64(w.budget.choices))
	for i := range w.node {
		n := &w.node[i]
		m := &n.m
		flag(n.tried == w.ownerMod, n.chosen, n.lost)
		flag(n.up, n.waits, n.linked, n.whole, n.wrote, n.stuck)
		num(int64(n.has), int64(n.own), int64(n.role), int64(n.member), int64(n.epoch.Seq), int64(n.granted.Seq), int64(n.result))
		text(n.at)
		put(n.put)
		num(int64(len(n.ghosts)))
		for _, g := range n.ghosts {
			put(&g)
		}
		owner(m.Owner.Owner, m.Owner.Mod)
		record(m.Sync.Sync)
		num(min(w.syncMod-m.Sync.Mod, 1), int64(m.Phase), int64(m.Granted.Seq), int64(m.Seen.Replica.Role),
			int64(m.Seen.Members[0]), int64(len(m.Failures)))
		r := m.Seen.Replica
		flag(r.Stuck, m.Seen.SyncMod == m.Sync.Mod, r.Shut, m.WasActive, m.Closed)
		flag(r.Waits, r.Linked, r.Whole, r.Wrote, m.SeenAt > m.Touched, m.SeenAt > m.Risked, m.Dirty, m.LinkAt == 0)
		flag(m.Writing, m.Joined == m.Sync.Mod, m.Joined == 0, m.Own == m.Sync.Mod, m.Drained, m.Promoted, m.Left, m.Short)
		b = append(b, fmt.Sprintf("%T%v", m.Acting, m.Acting)...)
		if j, ok := m.Acting.(Join); ok {
			b = b[:len(b)-2]
			flag(j.SyncMod == m.Sync.Mod)
		}
	}
	return b
}
