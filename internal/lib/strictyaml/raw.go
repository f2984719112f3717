package strictyaml

import (
	"encoding/json"
	"math"
	"strconv"
	"unicode/utf8"
)

// raw is any value as JSON, for fields of type json.RawMessage: what is in it is
// for somebody else to judge. null gives none.
func (d *decoder) raw(path string, n *Node, depth int) json.RawMessage {
	before := len(d.to.Faults)
	v := d.plain(path, n, depth)
	if len(d.to.Faults) > before {
		return nil
	}
	text, err := json.Marshal(v)
	if err != nil {
		d.refuse(path, n, "want what can be written as JSON: "+err.Error())
		return nil
	}
	return text
}

// plain is a value in the types that JSON knows.
func (d *decoder) plain(path string, n *Node, depth int) any {
	if depth > Depth {
		d.deep(path, n)
		return nil
	}
	switch n.Kind {
	case Bool:
		return n.Text == "true"
	case Number:
		f, err := strconv.ParseFloat(n.Text, 64)
		switch {
		case err != nil || math.IsNaN(f) || math.IsInf(f, 0):
			d.refuse(path, n, "want a number")
		case number(f) == n.Text:
			return f
		}
		return json.Number(n.Text)
	case String:
		if !utf8.ValidString(n.Text) {
			d.fault(n.Place, path, "", "want text, not bytes")
		}
		return n.Text
	case List:
		out := make([]any, len(n.Items))
		for i, item := range n.Items {
			out[i] = d.plain(Index(path, i), item, depth+1)
		}
		return out
	case Object:
		out := make(map[string]any, len(n.Members))
		for _, m := range d.members(path, n) {
			out[m.Key.Text] = d.plain(Field(path, m.Key.Text), m.Value, depth+1)
		}
		return out
	}
	return nil
}
