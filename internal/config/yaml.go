package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v2"
)

var yamlLine = regexp.MustCompile(`line (\d+)`)

// yamlError is a YAML document that can not be read.
type yamlError struct {
	path, value, want string
}

// parseYAML reads one YAML document into a tree. MapSlice keeps the order of
// keys and doubled keys, which a conversion to JSON would lose.
func parseYAML(data []byte) (*tree, *yamlError) {
	if i := invalidUTF8(data); i >= 0 {
		return nil, &yamlError{lineColumn(data, i), fmt.Sprintf("\\x%02x", data[i]), "the file must be UTF-8"}
	}
	// The library drops merge keys silently when it keeps the order.
	if i := bytes.Index(data, []byte("<<")); i >= 0 {
		return nil, &yamlError{lineColumn(data, i), "<<", "YAML merge keys are not supported, write the fields out"}
	}
	dec := yaml.NewDecoder(bytes.NewReader(data))
	var doc yaml.MapSlice
	if err := dec.Decode(&doc); err != nil && !errors.Is(err, io.EOF) {
		return nil, yamlFault(err)
	}
	var more any
	switch err := dec.Decode(&more); {
	case err == nil:
		return nil, &yamlError{wholeDoc, "---", "want one YAML document, not several"}
	case !errors.Is(err, io.EOF):
		return nil, yamlFault(err)
	}
	b := yamlBuilder{}
	return b.build(doc, 0)
}

func yamlFault(err error) *yamlError {
	text := strings.Join(strings.Fields(err.Error()), " ")
	path := wholeDoc
	if m := yamlLine.FindStringSubmatch(text); m != nil {
		path = m[1] + ":1"
	}
	return &yamlError{path, "", "malformed YAML: " + text}
}

// yamlBuilder numbers the values of a YAML document in their order.
type yamlBuilder struct{ n int }

func (b *yamlBuilder) build(v any, depth int) (*tree, *yamlError) {
	b.n++
	t := &tree{off: b.n}
	if depth > maxDepth {
		return nil, &yamlError{wholeDoc, "", fmt.Sprintf("at most %d levels of nesting", maxDepth)}
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
			return nil, &yamlError{wholeDoc, strconv.QuoteToASCII(v), "a string must be UTF-8"}
		}
	case []any:
		t.kind = kindList
		for _, e := range v {
			item, yerr := b.build(e, depth+1)
			if yerr != nil {
				return nil, yerr
			}
			t.items = append(t.items, item)
		}
	case yaml.MapSlice:
		return t, b.object(t, v, depth)
	default:
		return nil, &yamlError{wholeDoc, fmt.Sprint(v), fmt.Sprintf("a YAML value of type %T is not supported, quote it", v)}
	}
	return t, nil
}

func (b *yamlBuilder) object(t *tree, v yaml.MapSlice, depth int) *yamlError {
	t.kind = kindObject
	for _, e := range v {
		key, ok := e.Key.(string)
		if !ok || !utf8.ValidString(key) {
			return &yamlError{wholeDoc, fmt.Sprint(e.Key), "a field name must be a string, quote it"}
		}
		b.n++
		m := member{key: key, off: b.n}
		var yerr *yamlError
		if m.val, yerr = b.build(e.Value, depth+1); yerr != nil {
			return yerr
		}
		t.members = append(t.members, m)
	}
	return nil
}
