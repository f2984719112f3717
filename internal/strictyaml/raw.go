package strictyaml

import (
	"encoding/json"
	"fmt"
	"math"
	"unicode/utf8"

	"go.yaml.in/yaml/v2"
)

// raw is any value as JSON, for fields of type json.RawMessage: what is in it is
// for somebody else to judge. null gives none.
func (d *decoder) raw(path string, y any, depth int) json.RawMessage {
	before := len(d.faults)
	v := d.plain(path, y, depth)
	if len(d.faults) > before {
		return nil
	}
	text, err := json.Marshal(v)
	if err != nil {
		d.fault(path, y, "want what can be written as JSON: "+err.Error())
		return nil
	}
	return text
}

// plain is a value of YAML in the types that JSON knows.
func (d *decoder) plain(path string, y any, depth int) any {
	if depth > maxDepth {
		d.fault(path, "", fmt.Sprintf("at most %d levels of nesting", maxDepth))
		return nil
	}
	switch v := y.(type) {
	case []any:
		out := make([]any, len(v))
		for i, item := range v {
			out[i] = d.plain(fmt.Sprintf("%s[%d]", path, i), item, depth+1)
		}
		return out
	case yaml.MapSlice:
		return d.plainObject(path, v, depth)
	case string:
		if !utf8.ValidString(v) {
			d.fault(path, "", "want text, not bytes")
		}
	case float64:
		if math.IsNaN(v) || math.IsInf(v, 0) {
			d.fault(path, v, "want a number")
		}
	}
	return y
}

func (d *decoder) plainObject(path string, members yaml.MapSlice, depth int) map[string]any {
	out := make(map[string]any, len(members))
	for _, m := range members {
		key, ok := m.Key.(string)
		if !ok {
			d.fault(path, m.Key, "a field name must be a string, quote it")
			continue
		}
		at := Field(path, key)
		if _, twice := out[key]; twice {
			d.fault(at, m.Value, "duplicate key: each field may be given only once")
			continue
		}
		out[key] = d.plain(at, m.Value, depth+1)
	}
	return out
}
