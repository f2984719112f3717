package ids

import (
	"bytes"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"holdfast/internal/lib/strictyaml"
)

// load reads one file of IDs.
func load(path, ending string, f *faults) Set {
	c := &collector{set: Set{From: path, Pairs: map[string]string{}}, path: path, unit: "line", faults: f}
	data, err := read(path)
	switch {
	case err != nil:
		f.add("%v", err)
	case ending == endYAML && len(data) > maxYAML:
		f.add("%s: want at most %d bytes, or a CSV file", path, maxYAML)
	case ending == endYAML:
		c.unit = ""
		c.yaml(data)
	default:
		c.csv(data)
	}
	return c.set
}

func read(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, err
	}
	if len(data) > maxFile {
		return nil, fmt.Errorf("%s: want at most %d bytes", path, maxFile)
	}
	return bytes.TrimPrefix(data, []byte("\ufeff")), nil
}

func (c *collector) csv(data []byte) {
	r := csv.NewReader(bytes.NewReader(data))
	r.FieldsPerRecord = -1 // counted here, so that each line is told
	r.ReuseRecord = true
	for first := true; ; first = false {
		record, err := r.Read()
		var bad *csv.ParseError
		switch {
		case errors.Is(err, io.EOF):
			return
		case errors.As(err, &bad):
			// What follows a quote that does not end is not known to be lines.
			c.faults.add("%s: line %d: want OLD,NEW; a value with a quotation mark stands in quotes, with the mark twice", c.path, bad.Line)
			return
		case err != nil:
			c.faults.add("%s: %v", c.path, err)
			return
		}
		line, _ := r.FieldPos(0)
		switch {
		case len(record) != 2:
			c.faults.add("%s: line %d: value %q: want two fields with a comma between, OLD,NEW", c.path, line,
				strictyaml.Shorten(strings.Join(record, ",")))
		case first && record[0] == "old" && record[1] == "new":
		case !c.pair(strictyaml.Place{Line: line}, record[0], record[1]):
			return
		}
	}
}

// yaml reads map and default.
func (c *collector) yaml(data []byte) {
	root, fault := strictyaml.Parse(data)
	if fault != nil {
		c.fault(*fault)
		return
	}
	// A map has up to a million keys of any name, and each is told by its own place: it
	// is taken from the document.
	seen := map[string]bool{}
	for _, m := range root.Members {
		name, at := m.Key.Shown(), strictyaml.Field("", m.Key.Shown())
		switch isText := m.Key.Kind == strictyaml.String; {
		case !isText || name != "map" && name != "default":
			c.fault(strictyaml.Fault{Place: m.Key.Place, Path: at, Want: "unknown field; want one of map, default"})
			continue
		case seen[name]:
			c.fault(strictyaml.Fault{Place: m.Key.Place, Path: at, Want: "duplicate key: each field may be given only once"})
		case name == "map":
			c.entries(m.Value)
		default:
			c.fallback(m.Value)
		}
		seen[name] = true
	}
	if len(root.Members) == 0 {
		c.fault(strictyaml.Fault{Place: root.Place, Path: strictyaml.Whole, Want: "want map, default, or both"})
	}
}

func (c *collector) fault(f strictyaml.Fault) { c.faults.add("%s", f.In(c.path)) }

func (c *collector) entries(n *strictyaml.Node) {
	if n.Kind != strictyaml.Object {
		c.fault(strictyaml.Fault{Place: n.Place, Path: "map", Value: short(n.Shown()), Want: "want old: new for each value"})
		return
	}
	for _, m := range n.Members {
		old, with := m.Key.Text, m.Value.Text
		at := m.Key.Place
		switch {
		// Numbers are not taken for texts: YAML has read 007 as 7 already.
		case m.Key.Kind != strictyaml.String || m.Value.Kind != strictyaml.String:
			c.fault(strictyaml.Fault{Place: at, Path: "map", Value: short(m.Key.Shown() + ": " + m.Value.Shown()),
				Want: "want a text each, in quotes where YAML reads something else"})
		case bad(old) != "":
			c.add(at, old, with, "the old value "+bad(old))
		case c.fit(at, old, with) && !c.put(at, old, with):
			return
		}
	}
}

func (c *collector) fallback(n *strictyaml.Node) {
	with := n.Text
	switch why := bad(with); {
	case n.Kind != strictyaml.String:
		c.fault(strictyaml.Fault{Place: n.Place, Path: "default", Value: short(n.Shown()), Want: "want a text"})
	case with == "" || why != "":
		c.fault(strictyaml.Fault{Place: n.Place, Path: "default", Value: short(with),
			Want: "want a text of 1 to 255 characters, no blanks at its ends"})
	default:
		c.set.Default = &with
	}
}
