package config

import (
	"fmt"
	"strconv"
	"unicode/utf8"

	"go.yaml.in/yaml/v2"

	"holdfast/internal/strictyaml"
)

// parseYAML reads one YAML document into a tree.
func parseYAML(data []byte) (*tree, *strictyaml.Fault) {
	doc, fault := strictyaml.Document(data)
	if fault != nil {
		return nil, fault
	}
	b := yamlBuilder{}
	return b.build(doc, 0)
}

// yamlBuilder numbers the values of a YAML document in their order.
type yamlBuilder struct{ n int }

func (b *yamlBuilder) build(v any, depth int) (*tree, *strictyaml.Fault) {
	b.n++
	t := &tree{off: b.n}
	if depth > maxDepth {
		return nil, &strictyaml.Fault{Path: wholeDoc, Want: fmt.Sprintf("at most %d levels of nesting", maxDepth)}
	}
	switch v := v.(type) {
	case nil:
	case bool:
		t.kind, t.text = kindBool, strconv.FormatBool(v)
	case int, int64, uint64:
		t.kind, t.text = kindNumber, fmt.Sprint(v)
	case float64:
		t.kind, t.text = kindNumber, strconv.FormatFloat(v, 'g', -1, 64)
	case string:
		t.kind, t.text = kindString, v
		if !utf8.ValidString(v) {
			return nil, &strictyaml.Fault{Path: wholeDoc, Value: strconv.QuoteToASCII(v), Want: "a string must be UTF-8"}
		}
	case []any:
		t.kind = kindList
		for _, e := range v {
			item, fault := b.build(e, depth+1)
			if fault != nil {
				return nil, fault
			}
			t.items = append(t.items, item)
		}
	case yaml.MapSlice:
		return t, b.object(t, v, depth)
	default:
		return nil, &strictyaml.Fault{Path: wholeDoc, Value: fmt.Sprint(v), Want: fmt.Sprintf("a YAML value of type %T is not supported, quote it", v)}
	}
	return t, nil
}

func (b *yamlBuilder) object(t *tree, v yaml.MapSlice, depth int) *strictyaml.Fault {
	t.kind = kindObject
	for _, e := range v {
		key, ok := e.Key.(string)
		if !ok || !utf8.ValidString(key) {
			return &strictyaml.Fault{Path: wholeDoc, Value: fmt.Sprint(e.Key), Want: "a field name must be a string, quote it"}
		}
		b.n++
		m := member{key: key, off: b.n}
		var fault *strictyaml.Fault
		if m.val, fault = b.build(e.Value, depth+1); fault != nil {
			return fault
		}
		t.members = append(t.members, m)
	}
	return nil
}
