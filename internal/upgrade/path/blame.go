package path

import (
	"fmt"
	"strings"
)

// obstacle is a rule that a search can leave out.
type obstacle struct {
	name, reason string
	relax        relax
}

func (r *relax) add(o relax) {
	r.block |= o.block
	r.through |= o.through
	r.hops = r.hops || o.hops
	r.excluding = r.excluding || o.excluding
}

// obstacles lists all of them, in the order of the catalogue.
func (p *problem) obstacles() []obstacle {
	var out []obstacle
	through := 0
	for i, r := range p.cat.rules {
		if !r.active(p.env) {
			continue
		}
		o := obstacle{name: r.Name, reason: r.Text + " What to do: " + r.Remedy}
		switch r.Kind {
		case Block:
			o.relax.block = 1 << i
			if r.Confirm {
				o.reason += " Then confirm it: --confirmed " + r.Name
			}
		case Through:
			o.relax.through = 1 << through
			through++
		default:
			continue
		}
		out = append(out, o)
	}
	from, to := p.nodes[0], p.nodes[len(p.nodes)-1]
	if len(p.cat.edges) > 0 {
		out = append(out, obstacle{RuleHops, fmt.Sprintf("the hops that catalogue %s lists do not lead from %s to %s. "+
			"What to do: look for a catalogue that knows both", p.cat.spec.Name, from, to), relax{hops: true}})
	}
	if comps := strings.Join(p.env.Components, ", "); comps != "" {
		out = append(out, obstacle{RuleExcludes, fmt.Sprintf("from %s to %s there are only versions that do not run "+
			"with what is installed (%s). "+
			"What to do: remove the component, or choose another version", from, to, comps), relax{excluding: true}})
	}
	return out
}

// blame says what is in the way: the first rule without which there would be a
// path, or else the first of a smallest set of them, with the others named.
func (p *problem) blame() Result {
	all := p.obstacles()
	for _, o := range all {
		if p.search(o.relax) != nil {
			return blocked(o.name, o.reason)
		}
	}
	// Without all of them there is a path, the direct one. Each is put back in turn,
	// the last ones first, unless that closes it again.
	need := all
	for i := len(all) - 1; i >= 0; i-- {
		var r relax
		var rest []obstacle
		for _, o := range need {
			if o.name != all[i].name {
				r.add(o.relax)
				rest = append(rest, o)
			}
		}
		if p.search(r) != nil {
			need = rest
		}
	}
	var others []string
	for _, o := range need[1:] {
		others = append(others, o.name)
	}
	return blocked(need[0].name, need[0].reason+" Also in the way: "+strings.Join(others, ", "))
}
