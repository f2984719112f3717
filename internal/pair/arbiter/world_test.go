package arbiter

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"holdfast/internal/cluster"
)

// world is two nodes, what links them, their arbiter, and package ha with clients
// that write. Everything that takes time can be overtaken or fail, or its answer is lost.
type world struct {
	by     Kind
	lease  int  // ticks: leaseTicks or longLease
	prompt bool // agents look before the link changes, and act before time passes
	manual bool
	node   [2]node
	cut    bool
	reg    [maxGen]int8  // of the disk: 1 + the node that has the generation
	gone   [maxGen]uint8 // nodes that went alone from a generation, a bit each
	owner  [maxGen]int8  // node that package ha lets run the group, of a generation
	gens   uint64        // the next generation
	acked  uint8         // writes that clients were told of, a bit each
	next   int
	budget budget
	off    uint8 // nodes that are off by a fence, a bit each
	wrong  string
	trace  *step
}

const maxGen = 12

// budget bounds a course.
type budget struct{ writes, faults int }

// node is one of the two, as it truly is.
type node struct {
	up, running, serving bool
	license              uint64 // generation by which it serves
	lease                int    // ticks until the group ends without a quorum
	answers              bool
	blind                bool // looks at the group fail: it may be here
	store                Store
	has                  uint8
	mark                 Ballot
	m                    Machine
	ghost                uint64 // a generation for which an order of before may still reach the arbiter; 0: none
	owed                 bool   // it has won durably, and must go on whatever happens
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

// Times of the world are in ticks of a second.
var times = Times{Detect: time.Second, Serving: 0, HeadStart: 2 * time.Second, Silence: (leaseTicks + 1) * time.Second}

// leaseTicks is how long the group runs on without a quorum.
const leaseTicks = 2

// longLease is longer than what a standby waits before it contests: guards of watchdogs can be long.
const longLease = 4

// times are those of this world.
func (w *world) times() Times {
	t := times
	t.Silence = time.Duration(w.lease+1) * time.Second
	return t
}

func newWorld(by Kind, lease int, b budget) *world {
	w := &world{by: by, lease: lease, gens: 2, budget: b}
	for i := range w.node {
		w.node[i] = node{answers: true, store: Store{Gen: 1, Role: Two}}
		w.boot(i)
	}
	w.quiet(false)
	if !w.node[0].serving || w.serving() != 1 {
		panic("the pair does not begin")
	}
	return w
}

func (w *world) clone(what string) *world {
	c := *w
	c.trace = &step{what, w.trace}
	return &c
}

func (w *world) boot(i int) {
	n := &w.node[i]
	n.up = true
	w.off &^= 1 << i
	n.m = *New(names[i], names[1-i], w.by, w.times(), n.mark)
	n.m.Manual = w.manual
	n.m.Now = cluster.Instant(time.Hour)
}

// linked reports that the members of both nodes serve one store together.
func (w *world) linked() bool {
	a, b := &w.node[0], &w.node[1]
	return !w.cut && a.up && b.up && a.running && b.running && a.store.Gen == b.store.Gen
}

func (w *world) quorum(i int) bool {
	n, p := &w.node[i], &w.node[1-i]
	switch n.store.Role {
	case Single:
		return n.up && n.running
	case Two:
		return w.linked()
	case Joining:
		return w.linked() && p.store.Role != Joining
	}
	return false
}

// ha is package ha: it starts the group as soon as it may, and ends what is not the owner's.
func (w *world) ha() {
	for i := range w.node {
		n := &w.node[i]
		switch mine := w.owner[n.store.Gen] == int8(i); {
		case !w.quorum(i):
		case !mine:
			n.serving = false
		case !n.serving && n.store.Role != Joining:
			n.serving, n.license, n.lease = true, n.store.Gen, w.lease
		}
	}
}

// hear and look bring the agent up to date; it decides at once.
func (w *world) agent(i int) {
	n, p := &w.node[i], &w.node[1-i]
	if p.up && !w.cut {
		n.m.Hears(p.m.Tells(), p.m.Seen.Store.Role != Empty || p.m.Fresh)
	} else {
		n.m.Hears(PeerStatus{}, false)
	}
	seen := Seen{Store: n.store, Running: n.running, Quorum: w.quorum(i), Holds: n.serving || n.blind,
		Reaches: n.answers, Off: w.by == Fence && n.answers && !p.up}
	if n.serving && !n.blind {
		seen.HoldsBy = n.license
	}
	n.m.Observed(seen, n.m.Now)
	if a := n.m.Decide(n.m.Now); a != nil {
		w.trace.what += fmt.Sprintf(" %T%+v", a, a)
		if f, ok := a.(Form); ok && f.From == n.store.Gen {
			n.owed = true
		}
	}
}

// idle reports that a look at a node as it is leads to nothing.
func (w *world) idle(i int) bool {
	n := &w.node[i]
	if !n.up {
		return true
	}
	if n.m.Acting != nil {
		return false
	}
	c := *w
	c.trace = &step{}
	before := n.m.Tells()
	c.agent(i)
	return c.node[i].m.Acting == nil && c.node[i].m.Tells() == before && n.m.Fresh && c.node[i].m == n.m
}

// effect carries an action out.
func (w *world) effect(i int, a Action) Outcome {
	n, p := &w.node[i], &w.node[1-i]
	switch a := a.(type) {
	case SetBallot:
		n.mark = a.Mark
	case StopMember:
		n.running = false
	case StartMember:
		if n.store.Role == Empty {
			return Outcome{}
		}
		n.running = true
	case Tiebreak:
		return w.contest(i, a)
	case Form:
		if n.running || n.store.Gen != a.From || n.store.Role != Two {
			w.wrong = fmt.Sprintf("%s forms %+v from %+v (running: %v)", names[i], a, n.store, n.running)
			return Outcome{}
		}
		w.gone[a.From] |= 1 << i
		n.store = Store{Gen: a.Gen, From: a.From, Role: Single, WasActive: a.WasActive}
		n.serving, n.owed = n.serving && a.Carry, false
		if n.serving {
			n.license = a.Gen
		}
		w.owner[a.Gen] = int8(i)
	case Wipe:
		if n.running || n.serving || !a.Save && w.acked&n.has&^p.has != 0 {
			w.wrong = fmt.Sprintf("%s is wiped and something of it runs (%v), or acknowledged writes go", names[i], n.running || n.serving)
		}
		n.store, n.has, n.owed = Store{}, 0, false
	case Join:
		if n.store.Role != Empty {
			w.wrong = string(names[i]) + " joins with its old store"
		}
		if w.cut || !p.up || !p.running || p.store.Role != Single {
			return Outcome{}
		}
		n.store = Store{Gen: p.store.Gen, From: p.store.From, Role: Joining, WasActive: p.store.WasActive}
	case Promote:
		if !w.linked() || p.store.Role != Joining || n.has&^p.has != 0 {
			return Outcome{}
		}
		n.store.Role = Two
	case Barrier:
		if !w.linked() || p.store.Role != Joining {
			return Outcome{}
		}
		p.store.Role = Two
	}
	return Outcome{OK: true}
}

// contest reaches the arbiter of a node, and is answered.
func (w *world) contest(i int, a Tiebreak) Outcome {
	n, gen := &w.node[i], a.Gen
	if !n.answers {
		return Outcome{}
	}
	switch w.by {
	case Fence:
		if p := &w.node[1-i]; a.Look && p.up {
			return Outcome{}
		} else if p.up {
			if x, ok := p.m.Acting.(Tiebreak); ok && w.prompt {
				p.ghost = x.Gen // both have ordered
			}
			w.powerOff(1 - i)
			w.off |= 1 << (1 - i)
		}
	case Disk:
		if w.reg[gen] == 0 {
			w.reg[gen] = int8(i) + 1
		}
		if w.reg[gen] != int8(i)+1 {
			return Outcome{Lost: true}
		}
		n.owed = true
	}
	w.gens++
	return Outcome{Won: true, Gen: w.gens - 1}
}

func (w *world) powerOff(i int) {
	n := &w.node[i]
	n.up, n.running, n.serving = false, false, false
	n.m = Machine{}
}

// tick lets time pass for both.
func (w *world) tick() {
	for i := range w.node {
		n := &w.node[i]
		n.m.Now = n.m.Now.Add(time.Second)
		switch {
		case !n.serving:
		case w.quorum(i):
			n.lease = w.lease
		default:
			n.lease--
			n.serving = n.lease > 0
		}
	}
}

// broken says which invariant does not hold, "" when all do.
func (w *world) broken() string {
	a, b := &w.node[0], &w.node[1]
	parted := false // both went on alone, which ping can not exclude
	for g, who := range w.gone {
		if who == 3 && w.by != Ping {
			return fmt.Sprintf("both went on alone from generation %d", g)
		}
		parted = parted || who == 3
	}
	if a.serving && b.serving && !(parted && a.store.Role == Single && b.store.Role == Single) {
		return "the group runs on both nodes"
	}
	for i := range w.node {
		if n := &w.node[i]; !parted && w.acked&^n.has != 0 && (n.serving || n.store.Role == Single) {
			return fmt.Sprintf("%s goes on without an acknowledged write", names[i])
		}
	}
	if w.prompt && w.off == 3 {
		return "both nodes are off by each other"
	}
	return w.wrong
}

// key tells states apart: what the future does not depend on is left out.
func (w *world) key() []byte {
	b := make([]byte, 0, 256)
	flag := func(fs ...bool) {
		var v byte
		for i, f := range fs {
			if f {
				v |= 1 << i
			}
		}
		b = append(b, v)
	}
	store := func(s Store) {
		b = append(b, byte(s.Gen), byte(s.From), byte(s.Role))
		flag(s.WasActive)
	}
	mark := func(m Ballot) {
		b = append(b, byte(m.State), byte(m.From), byte(m.Gen), byte(m.By))
		flag(m.WasActive)
	}
	flag(w.cut)
	for g := range w.gens {
		b = append(b, byte(w.reg[g]), w.gone[g], byte(w.owner[g]))
	}
	b = append(b, byte(w.gens), w.acked, byte(w.next), byte(w.budget.faults), w.off)
	for i := range w.node {
		n := &w.node[i]
		m := &n.m
		flag(n.up, n.running, n.serving, n.answers, n.owed, n.blind)
		b = append(b, byte(n.license), byte(n.lease), n.has, byte(n.ghost))
		store(n.store)
		mark(n.mark)
		if !n.up {
			continue
		}
		mark(m.Ballot)
		mark(m.Winning)
		store(m.Seen.Store)
		store(m.PeerStatus.Store)
		flag(m.Seen.Running, m.Seen.Quorum, m.Seen.Holds, m.Seen.Off, m.Fresh, m.Heard, m.PeerStatus.Won, m.HadQuorum,
			m.MayBeActive && m.LostAt != 0)
		flag(m.WasActive && m.LostAt != 0, m.Seen.serves())
		flag(m.ActiveAtStop && m.StoppedAt != 0, m.Out, m.LostAt == 0, m.StoppedAt == 0, m.Keep == "", m.Keep == "a", m.RetryAt > m.Now)
		age := func(at cluster.Instant, most time.Duration) {
			if at != 0 {
				b = append(b, byte(min(m.Now.Sub(at), most)/time.Second))
			}
		}
		lost, most := m.LostAt, times.Detect+2*times.HeadStart
		if w.by == Fence && lost != 0 { // its turns come again and again
			most += 3 * times.HeadStart
			for m.Now.Sub(lost) > most {
				lost = lost.Add(3 * times.HeadStart)
			}
		}
		age(lost, most)
		age(m.StoppedAt, w.times().Silence)
		b = append(b, fmt.Sprintf("%T%+v", m.Acting, m.Acting)...)
	}
	return b
}
