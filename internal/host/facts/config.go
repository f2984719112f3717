package facts

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"holdfast/internal/inventory/fact"
	"holdfast/internal/lib/strictyaml"
)

// compare reads the parameter names of two configuration files.
func compare(c fact.ConfigFile) fact.Config {
	out := fact.Config{Installed: c.Installed, NotStaged: c.Bundle == ""}
	format := c.Format
	if format == "" {
		format = formatOf(c.Installed)
	}
	var err error
	out.Names, err = paramsOf(c.Installed, format)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		out.NotThere = true
	case err != nil:
		out.Why = shorten(err.Error())
	}
	if c.Bundle == "" {
		return out
	}
	out.Bundle, err = paramsOf(c.Bundle, format)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		out.NotStaged = true
	case err != nil && out.Why == "":
		out.Why = shorten(err.Error())
	}
	return out
}

func formatOf(name string) string {
	switch filepath.Ext(name) {
	case ".json":
		return "json"
	case ".yaml", ".yml":
		return "yaml"
	case ".properties":
		return "properties"
	default:
		return "ini"
	}
}

func paramsOf(name, format string) ([]string, error) {
	b, err := read(name)
	if err != nil {
		return nil, fmt.Errorf("read the configuration: %w", err)
	}
	names, err := params(format, b)
	if err != nil {
		return nil, fmt.Errorf("read the configuration %s: %w", name, err)
	}
	return names, nil
}

const (
	maxDepth  = 32    // levels of nesting
	maxParams = 10000 // names of a file
)

// params returns the names of the parameters, sorted: of nested ones with dots
// between, those in a list with []. Values are not looked at.
func params(format string, b []byte) ([]string, error) {
	n := &nameSet{set: map[string]bool{}}
	var err error
	switch format {
	case "json":
		err = n.json(b)
	case "yaml":
		err = n.yaml(b)
	case "ini":
		n.lines(b, true)
	case "properties":
		n.lines(b, false)
	default:
		return nil, fmt.Errorf("format %q: want json, yaml, ini or properties", format)
	}
	if err == nil && len(n.set) > maxParams {
		err = fmt.Errorf("want at most %d parameters", maxParams)
	}
	if err != nil {
		return nil, err
	}
	return slices.Sorted(maps.Keys(n.set)), nil
}

type nameSet struct{ set map[string]bool }

func (n *nameSet) add(name string) {
	if len(n.set) <= maxParams {
		n.set[name] = true
	}
}

func (n *nameSet) json(b []byte) error {
	var v any
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	if err := d.Decode(&v); err != nil {
		return fmt.Errorf("malformed JSON: %w", err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("malformed JSON: more than one value")
	}
	if _, ok := v.(map[string]any); !ok {
		return errors.New("want a JSON object")
	}
	return n.walk("", v, 0)
}

func (n *nameSet) yaml(b []byte) error {
	root, fault := strictyaml.ParseForeign(b)
	if fault != nil {
		return fault
	}
	return n.walk("", plain(root), 0)
}

// member is a parameter in YAML, where a name may come twice.
type member struct {
	name  string
	value any
}

// plain is a value of YAML as walk takes it.
func plain(n *strictyaml.Node) any {
	switch n.Kind {
	case strictyaml.Object:
		out := make([]member, 0, len(n.Members))
		for _, m := range n.Members {
			out = append(out, member{m.Key.Shown(), plain(m.Value)})
		}
		return out
	case strictyaml.List:
		out := make([]any, 0, len(n.Items))
		for _, item := range n.Items {
			out = append(out, plain(item))
		}
		return out
	}
	return nil
}

// walk names what has a value of its own, and maps that are empty.
func (n *nameSet) walk(at string, v any, depth int) error {
	if depth > maxDepth {
		return fmt.Errorf("want at most %d levels of nesting", maxDepth)
	}
	join := func(key string) string {
		if at == "" {
			return key
		}
		return at + "." + key
	}
	switch x := v.(type) {
	case map[string]any:
		if len(x) > 0 {
			for k, y := range x {
				if err := n.walk(join(k), y, depth+1); err != nil {
					return err
				}
			}
			return nil
		}
	case []member:
		if len(x) > 0 {
			for _, m := range x {
				if err := n.walk(join(m.name), m.value, depth+1); err != nil {
					return err
				}
			}
			return nil
		}
	case []any:
		for _, y := range x {
			switch y.(type) {
			case map[string]any, []member:
				if err := n.walk(at+"[]", y, depth+1); err != nil {
					return err
				}
			}
		}
	}
	if at != "" {
		n.add(at)
	}
	return nil
}

// lines reads NAME=value and NAME: value; with sections, [section] goes in front.
func (n *nameSet) lines(b []byte, sections bool) {
	section := ""
	s := bufio.NewScanner(bytes.NewReader(b))
	s.Buffer(nil, maxFile+1)
	more := false // the line before is continued by this one
	for s.Scan() {
		line := strings.TrimSpace(strings.TrimPrefix(s.Text(), "\ufeff"))
		inValue := more
		more = !sections && oddBackslashes(line)
		switch {
		case inValue || line == "" || strings.ContainsRune("#;!", rune(line[0])):
			if !inValue {
				more = false
			}
		case sections && line[0] == '[':
			name, _, _ := strings.Cut(line[1:], "]")
			section = strings.TrimSpace(name)
		default:
			name := line
			if i := strings.IndexAny(line, "=:"); i >= 0 {
				name = line[:i]
			}
			name = strings.TrimSpace(name)
			if section != "" {
				name = section + "." + name
			}
			if name != "" {
				n.add(name)
			}
		}
	}
}

func oddBackslashes(line string) bool {
	return (len(line)-len(strings.TrimRight(line, `\`)))%2 == 1
}
