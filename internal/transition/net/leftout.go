package net

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"holdfast/internal/lib/strictyaml"
	"holdfast/internal/lib/text"
)

// LeftOut is what a platform has and a document does not carry over: an object of a kind, or with Field an attribute of an object
// that is carried over, with its value.
type LeftOut struct {
	Kind  string          `json:"kind"`
	ID    string          `json:"id"`
	Field string          `json:"field,omitempty"`
	Value json.RawMessage `json:"value,omitempty"`
}

// Name is that by which it may be left out: the kind, or KIND.FIELD.
func (l LeftOut) Name() string {
	if l.Field == "" {
		return l.Kind
	}
	return l.Kind + "." + l.Field
}

// opens reports whether a rule would let in others than it did: it is what may be sent because of all that it says.
func (l LeftOut) opens() bool { return l.Kind == "security_group_rule" && l.Field != "" }

// leftOut refuses rules that would be wider than they were.
func (c *checker) leftOut() {
	for _, l := range c.d.LeftOut {
		if l.opens() {
			c.lines = append(c.lines, l.line(c.file)+": the rule would not mean what it did")
		}
	}
}

func (l LeftOut) line(file string) string {
	return fmt.Sprintf("%s: %s %s: %s: value %s: it is not carried over", file, l.Kind, l.ID, l.Field, l.Value)
}

// LeftOutKind is what is left out under a name.
type LeftOutKind struct {
	Name  string   `json:"kind"` // or KIND.FIELD
	Count int      `json:"count"`
	IDs   []string `json:"ids"`
}

// String is the name, how many there are, and the first of their IDs.
func (k LeftOutKind) String() string {
	return fmt.Sprintf("%s %d: %s", k.Name, k.Count, text.Some(k.IDs, 20))
}

// KindsLeftOut are all names of what is left out, in order.
func (d *Document) KindsLeftOut() []LeftOutKind {
	out := []LeftOutKind{}
	for _, l := range d.LeftOut {
		at := slices.IndexFunc(out, func(k LeftOutKind) bool { return k.Name == l.Name() })
		if at < 0 {
			at = len(out)
			out = append(out, LeftOutKind{Name: l.Name()})
		}
		out[at].Count++
		out[at].IDs = append(out[at].IDs, l.ID)
	}
	return out
}

// UnknownNames tells which names nothing can be left out by: neither what the document leaves out, nor a kind, nor an attribute
// of a kind that is carried over. With a slip of the pen the right one would not be allowed. kinds are those of whole objects
// that are not carried over.
func (d *Document) UnknownNames(names, kinds []string) error {
	carried := d.Counts()
	whole := slices.Concat(kinds, []string{"floatingip", HANetwork, "rbac_policy", "router"}) // some of them are not carried over
	slices.Sort(whole)
	whole = slices.Compact(whole)
	want := fmt.Sprintf("what the document leaves out, a kind (%s), or KIND.FIELD with one of %s",
		strings.Join(whole, ", "), strings.Join(slices.Sorted(maps.Keys(carried)), ", "))
	var lines []string
	for _, name := range names {
		kind, field, attribute := strings.Cut(name, ".")
		_, has := carried[kind]
		switch {
		case attribute && has && field != "", !attribute && slices.Contains(whole, name):
		case slices.ContainsFunc(d.LeftOut, func(l LeftOut) bool { return l.Name() == name }):
		default:
			lines = append(lines, fmt.Sprintf("--leave-out %q: want %s", strictyaml.Shorten(name), want))
			want = "the same"
		}
	}
	if len(lines) > 0 {
		return &Faults{lines}
	}
	return nil
}

// NotAllowed are the names of what a document leaves out that nobody has allowed.
func (d *Document) NotAllowed(allowed []string) (out []LeftOutKind) {
	return slices.DeleteFunc(d.KindsLeftOut(), func(k LeftOutKind) bool { return slices.Contains(allowed, k.Name) })
}

// CheckAttributes is an error of type *Faults where an attribute of an object is left out that nobody has allowed.
func (d *Document) CheckAttributes(file string, allowed []string) error {
	var lines []string
	for _, l := range d.LeftOut {
		if l.Field != "" && !l.opens() && !slices.Contains(allowed, l.Name()) {
			lines = append(lines, l.line(file)+fmt.Sprintf("; --leave-out %s goes on without it", l.Name()))
		}
	}
	if len(lines) > 0 {
		return &Faults{lines}
	}
	return nil
}
