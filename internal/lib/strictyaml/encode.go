package strictyaml

import (
	"bytes"
	"cmp"
	"encoding"
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

// Encode writes a struct as YAML. Fields come in their order; fields with
// omitempty or omitzero are left out when they are zero. The same value gives
// the same bytes.
func Encode(v any) ([]byte, error) {
	y, err := toYAML(reflect.ValueOf(v))
	if err != nil {
		return nil, err
	}
	return write(y)
}

func write(y *yaml.Node) ([]byte, error) {
	var out bytes.Buffer
	enc := yaml.NewEncoder(&out)
	enc.SetIndent(2)
	enc.CompactSeqIndent()
	if err := enc.Encode(y); err != nil {
		return nil, fmt.Errorf("write YAML: %w", err)
	}
	if err := enc.Close(); err != nil {
		return nil, fmt.Errorf("write YAML: %w", err)
	}
	return out.Bytes(), nil
}

func toYAML(v reflect.Value) (*yaml.Node, error) {
	if m, ok := v.Interface().(encoding.TextMarshaler); ok {
		text, err := m.MarshalText()
		if err != nil {
			return nil, fmt.Errorf("write %s: %w", v.Type(), err)
		}
		return textNode(string(text)), nil
	}
	switch v.Kind() {
	case reflect.Pointer:
		if v.IsNil() {
			return &yaml.Node{Kind: yaml.ScalarNode, Tag: tagNull, Value: "null"}, nil
		}
		return toYAML(v.Elem())
	case reflect.Struct:
		return structToYAML(v)
	case reflect.Slice:
		list := &yaml.Node{Kind: yaml.SequenceNode}
		if v.Len() == 0 {
			list.Style = yaml.FlowStyle
		}
		for i := range v.Len() {
			y, err := toYAML(v.Index(i))
			if err != nil {
				return nil, err
			}
			list.Content = append(list.Content, y)
		}
		return list, nil
	case reflect.Map:
		return mapToYAML(v)
	case reflect.String:
		return textNode(v.String()), nil
	case reflect.Bool, reflect.Int, reflect.Int64:
		return &yaml.Node{Kind: yaml.ScalarNode, Value: fmt.Sprint(v.Interface())}, nil
	}
	return nil, fmt.Errorf("write YAML: no form for %s", v.Type())
}

// mapToYAML writes texts by names, in the order of these.
func mapToYAML(v reflect.Value) (*yaml.Node, error) {
	if v.Type().Key().Kind() != reflect.String {
		return nil, fmt.Errorf("write YAML: no form for %s", v.Type())
	}
	out := &yaml.Node{Kind: yaml.MappingNode}
	if v.Len() == 0 {
		out.Style = yaml.FlowStyle
	}
	byName := func(a, b reflect.Value) int { return cmp.Compare(a.String(), b.String()) }
	for _, k := range slices.SortedFunc(slices.Values(v.MapKeys()), byName) {
		y, err := toYAML(v.MapIndex(k))
		if err != nil {
			return nil, err
		}
		out.Content = append(out.Content, textNode(k.String()), y)
	}
	return out, nil
}

func structToYAML(v reflect.Value) (*yaml.Node, error) {
	out := &yaml.Node{Kind: yaml.MappingNode}
	for i := range v.NumField() {
		name, options, _ := strings.Cut(v.Type().Field(i).Tag.Get("json"), ",")
		if options != "" && (v.Field(i).IsZero() || v.Field(i).Kind() == reflect.Slice && v.Field(i).Len() == 0) {
			continue
		}
		y, err := toYAML(v.Field(i))
		if err != nil {
			return nil, err
		}
		out.Content = append(out.Content, textNode(name), y)
	}
	if len(out.Content) == 0 {
		out.Style = yaml.FlowStyle
	}
	return out, nil
}

// sexagesimal are texts that some readers of YAML 1.1 take for numbers.
var sexagesimal = regexp.MustCompile(`^[-+]?[0-9][0-9_]*(:[0-5]?[0-9])+(\.[0-9_]*)?$`)

// textNode is a string, in quotes where YAML would read something else. The library
// writes what is not UTF-8 as !!binary.
func textNode(s string) *yaml.Node {
	if !utf8.ValidString(s) {
		return &yaml.Node{Kind: yaml.ScalarNode, Value: s}
	}
	n := &yaml.Node{Kind: yaml.ScalarNode, Tag: tagString, Value: s}
	if kind, _, _ := resolve("", s); kind != String || isTime(s) || sexagesimal.MatchString(s) {
		n.Style = yaml.DoubleQuotedStyle
	}
	return n
}
