package domainxml

import (
	"slices"
	"strings"
)

// A pattern names places of a domain, below the element domain itself:
//
//	os/kernel|initrd                               the text of these elements
//	devices/*/rom/@file                            an attribute, of any device
//	devices/disk/backingStore+/source/@file        of each of those within one another
//	devices/interface[type=bridge]/source/@bridge  of those with this attribute
//	vcpu[placement=auto]                           "|" between values; an empty one: missing
//	devices/vsock[cid.auto=no|]                    an attribute of an element below
//	.[type=kvm]                                    the domain itself
type pattern []step

type step struct {
	names []string // "*": any; with "@": attributes, as the last step
	chain bool
	conds []cond
}

type cond struct {
	of, attr string // of: an element below, "" for this one
	values   []string
}

func parsePattern(text string) (p pattern) {
	for part := range strings.SplitSeq(text, "/") {
		name, rest, _ := strings.Cut(part, "[")
		s := step{names: strings.Split(strings.TrimSuffix(name, "+"), "|"), chain: strings.HasSuffix(name, "+")}
		for c := range strings.SplitSeq(strings.TrimSuffix(rest, "]"), "][") {
			if attr, values, ok := strings.Cut(c, "="); ok {
				of, below, ok := strings.Cut(attr, ".")
				if !ok {
					of, below = "", attr
				}
				s.conds = append(s.conds, cond{of, below, strings.Split(values, "|")})
			}
		}
		p = append(p, s)
	}
	return p
}

// place is an element, or one of its attributes, also one that is missing.
type place struct {
	n     *node
	attr  string // "" for the element itself
	value string // without white space around
}

func (p place) path() string {
	if p.attr != "" {
		return p.n.path() + "/@" + p.attr
	}
	return p.n.path()
}

// find returns the places that a pattern names.
func (d *Domain) find(p pattern) []place {
	at := []*node{d.root}
	for _, s := range p {
		if strings.HasPrefix(s.names[0], "@") {
			var out []place
			for _, n := range at {
				for _, name := range s.names {
					name = strings.TrimPrefix(name, "@")
					out = append(out, place{n, name, strings.TrimSpace(n.attr(name))})
				}
			}
			return out
		}
		at = s.below(at)
	}
	var out []place
	for _, n := range at {
		out = append(out, place{n, "", n.text})
	}
	return out
}

func (s step) below(at []*node) (out []*node) {
	for _, n := range at {
		kids := n.kids
		if s.names[0] == "." {
			kids = []*node{n}
		}
		for _, k := range kids {
			if (s.names[0] == "." || s.called(k.name)) && s.meets(k) {
				out = append(out, k)
			}
		}
	}
	if s.chain && len(out) > 0 {
		out = append(out, s.below(out)...)
	}
	return out
}

func (s step) called(name string) bool {
	return s.names[0] == "*" || slices.Contains(s.names, name)
}

func (s step) meets(n *node) bool {
	for _, c := range s.conds {
		of := n
		if c.of != "" {
			of = n.first(c.of)
		}
		if !slices.Contains(c.values, of.attr(c.attr)) {
			return false
		}
	}
	return true
}
