package ids

import (
	"bytes"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"os"

	"go.yaml.in/yaml/v2"

	"holdfast/internal/strictyaml"
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
		c.unit = "map: entry"
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
			c.faults.add("%s: line %d: %v: want OLD,NEW", c.path, bad.Line, bad.Err)
			return
		case err != nil:
			c.faults.add("%s: %v", c.path, err)
			return
		}
		line, _ := r.FieldPos(0)
		switch {
		case len(record) != 2:
			c.faults.add("%s: line %d: has %d fields: want two, OLD,NEW", c.path, line, len(record))
		case first && record[0] == "old" && record[1] == "new":
		case !c.pair(line, record[0], record[1]):
			return
		}
	}
}

// yaml reads map and default. A map with keys of any name has no fields: it is taken
// from the document, in its order.
func (c *collector) yaml(data []byte) {
	doc, fault := strictyaml.Document(data)
	if fault != nil {
		c.fault(*fault)
		return
	}
	seen := map[any]bool{}
	for _, item := range doc {
		name, ok := item.Key.(string)
		switch at := strictyaml.Field("", fmt.Sprint(item.Key)); {
		case !ok || name != "map" && name != "default":
			c.fault(strictyaml.Fault{Path: at, Want: "unknown field; want one of map, default"})
		case seen[name]:
			c.fault(strictyaml.Fault{Path: at, Want: "duplicate key: each field may be given only once"})
		case name == "map":
			c.entries(item.Value)
		default:
			c.fallback(item.Value)
		}
		if ok {
			seen[name] = true
		}
	}
	if len(doc) == 0 {
		c.fault(strictyaml.Fault{Path: strictyaml.Whole, Want: "want map, default, or both"})
	}
}

func (c *collector) fault(f strictyaml.Fault) {
	c.faults.add("%s: %s: value %q: %s", c.path, f.Path, f.Value, f.Want)
}

func (c *collector) entries(y any) {
	m, ok := y.(yaml.MapSlice)
	if !ok {
		c.fault(strictyaml.Fault{Path: "map", Value: short(fmt.Sprint(y)), Want: "want old: new for each value"})
		return
	}
	for i, item := range m {
		old, isText := scalar(item.Key)
		with, too := scalar(item.Value)
		at := i + 1
		switch {
		case !isText || !too:
			c.faults.add("%s: map: entry %d: %q: want a text each, in quotes where YAML reads something else", c.path, at, short(fmt.Sprint(item.Key, ": ", item.Value)))
		case bad(old) != "":
			c.add(at, old, with, "the old value "+bad(old))
		case c.fit(at, old, with) && !c.put(at, old, with):
			return
		}
	}
}

func (c *collector) fallback(y any) {
	with, ok := scalar(y)
	switch why := bad(with); {
	case !ok:
		c.fault(strictyaml.Fault{Path: "default", Value: short(fmt.Sprint(y)), Want: "want a text"})
	case with == "" || why != "":
		c.fault(strictyaml.Fault{Path: "default", Value: short(with), Want: "want a text of 1 to 255 characters, no blanks at its ends"})
	default:
		c.set.Default = &with
	}
}

// scalar is a text. Numbers are not taken for one: YAML has read 007 as 7 already.
func scalar(y any) (string, bool) {
	s, ok := y.(string)
	return s, ok
}
