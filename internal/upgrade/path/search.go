package path

import (
	"cmp"
	"fmt"
	"slices"

	"holdfast/internal/cluster/version"
)

// problem is one search. Versions that no rule tells apart are of one kind, a
// class: that bounds the work by versions times classes, where pairs of
// versions would be too many.
type problem struct {
	cat     *Catalogue
	env     Environment
	nodes   []version.Version // ascending: from, listed ones between, to
	of      []int             // class of each node
	classes []class
	through []int // active rules of kind through, as indexes
	work    int   // steps of all searches
}

// class is what the rules say of a version. Bit i is rule i or hop i of the
// catalogue; in passFrom, passTo and pass, rule through[i].
type class struct {
	blockFrom, blockTo     uint64
	rebootFrom, rebootTo   uint64
	edgeFrom, edgeTo       uint64
	passFrom, passTo, pass uint8
	kernel                 string
	reboot, excluded       bool
}

// relax says which rules a search leaves out.
type relax struct {
	block           uint64
	through         uint8
	hops, excluding bool
}

func newProblem(c *Catalogue, start, end version.Version, env Environment) (*problem, error) {
	p := &problem{cat: c, env: env, nodes: []version.Version{start}}
	for i, r := range c.rules {
		if r.Kind == Through && r.active(env) {
			p.through = append(p.through, i)
		}
	}
	for _, k := range c.known {
		if compare(k.v, start) > 0 && compare(k.v, end) < 0 {
			p.nodes = append(p.nodes, k.v)
		}
	}
	p.nodes = append(p.nodes, end)
	index := map[class]int{}
	for _, v := range p.nodes {
		k := p.classify(v)
		i, seen := index[k]
		if !seen {
			i = len(p.classes)
			index[k] = i
			p.classes = append(p.classes, k)
		}
		p.of = append(p.of, i)
	}
	if len(p.classes) > MaxKinds {
		return nil, fmt.Errorf("plan an upgrade: catalogue %s tells %d kinds of versions apart by its rules, kernels "+
			"and components: want at most %d",
			c.spec.Name, len(p.classes), MaxKinds)
	}
	return p, nil
}

func (p *problem) class(node int) class { return p.classes[p.of[node]] }

func (p *problem) classify(v version.Version) class {
	k := class{reboot: p.cat.spec.Reboot}
	if e := p.cat.find(v); e != nil {
		k.kernel = e.Kernel
		if e.Reboot != nil {
			k.reboot = *e.Reboot
		}
		k.excluded = slices.ContainsFunc(e.Excludes, func(c string) bool { return slices.Contains(p.env.Components, c) })
	}
	for i, e := range p.cat.edges {
		set(&k.edgeFrom, i, matches(e.from, v))
		set(&k.edgeTo, i, matches(e.to, v))
	}
	for i, r := range p.cat.rules {
		if !r.active(p.env) {
			continue
		}
		switch r.Kind {
		case Block:
			if !slices.Contains(p.env.Confirmed, r.Name) {
				set(&k.blockFrom, i, matches(r.from, v))
				set(&k.blockTo, i, matches(r.to, v))
			}
		case Reboot:
			set(&k.rebootFrom, i, matches(r.from, v))
			set(&k.rebootTo, i, matches(r.to, v))
		}
	}
	for i, at := range p.through {
		r := p.cat.rules[at]
		set(&k.passFrom, i, matches(r.from, v))
		set(&k.passTo, i, matches(r.to, v))
		set(&k.pass, i, matches(r.through, v))
	}
	return k
}

// set sets bit i if on.
func set[T uint8 | uint64](bits *T, i int, on bool) {
	if on {
		*bits |= 1 << i
	}
}

// changes reports whether two series of kernels are known and differ.
func changes(a, b string) bool { return a != "" && b != "" && a != b }

// reboots reports whether a hop needs a reboot.
func (p *problem) reboots(u, v class) bool {
	return v.reboot || u.rebootFrom&v.rebootTo != 0 || changes(u.kernel, v.kernel)
}

// allowed reports whether rules about single hops allow one.
func (p *problem) allowed(u, v class, r relax) bool {
	return u.blockFrom&v.blockTo&^r.block == 0 &&
		(len(p.cat.edges) == 0 || r.hops || u.edgeFrom&v.edgeTo != 0) &&
		(!v.excluded || r.excluding)
}

// arrive gives the rules of kind through that are open after a version: it, or one
// before it, matched From, and none since matched Through. ok is false when one
// that was open forbids the version.
func arrive(open uint8, v class, r relax) (after uint8, ok bool) {
	if open&v.passTo&^v.pass != 0 {
		return 0, false
	}
	return (open | v.passFrom) &^ v.pass &^ r.through, true
}

// cell is the best way from a version to the end; hops is -1 when there is none.
type cell struct{ hops, reboots, next int }

// before reports whether a is better than b.
func (a cell) before(b cell) bool {
	if b.hops < 0 || a.hops < 0 {
		return a.hops >= 0
	}
	return cmp.Or(cmp.Compare(a.hops, b.hops), cmp.Compare(a.reboots, b.reboots), cmp.Compare(b.next, a.next)) < 0
}

// search returns the nodes of the best way, without the first; nil when there is
// none. It goes from the end to the begin, and keeps of each class, and of each
// set of open rules, the best version so far: those are all that an earlier
// version may hop to.
func (p *problem) search(r relax) []int {
	states := 1 << len(p.through)
	ways := make([]cell, len(p.nodes)*states)
	best := make([]cell, len(p.classes)*states) // next: the version itself
	for i := range best {
		best[i].hops = -1
	}
	end := len(p.nodes) - 1
	for u := end; u >= 0; u-- {
		row := ways[u*states : (u+1)*states]
		if u < end {
			p.row(u, row, best, r)
		}
		for s, w := range row {
			at := &best[p.of[u]*states+s]
			if w.next = u; w.before(*at) {
				*at = w
			}
		}
	}
	return p.follow(ways, states, r)
}

// row finds the best way from u for every set of open rules.
func (p *problem) row(u int, row, best []cell, r relax) {
	from := p.class(u)
	for s := range row {
		row[s].hops = -1
	}
	for c, to := range p.classes {
		p.work++
		if !p.allowed(from, to, r) {
			continue
		}
		more := 0
		if p.reboots(from, to) {
			more = 1
		}
		for s := range row {
			p.work++
			after, ok := arrive(uint8(s), to, r)
			if !ok {
				continue
			}
			b := best[c*len(row)+int(after)]
			if b.hops < 0 {
				continue
			}
			if w := (cell{b.hops + 1, b.reboots + more, b.next}); w.before(row[s]) {
				row[s] = w
			}
		}
	}
}

// follow reads the best way off.
func (p *problem) follow(ways []cell, states int, r relax) []int {
	open, _ := arrive(0, p.class(0), r) // with nothing open nothing is forbidden
	if ways[open].hops < 0 {
		return nil
	}
	var way []int
	for u := 0; u < len(p.nodes)-1; {
		u = ways[u*states+int(open)].next
		open, _ = arrive(open, p.class(u), r) // the search went only where it is allowed
		way = append(way, u)
	}
	return way
}
