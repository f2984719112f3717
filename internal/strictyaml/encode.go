package strictyaml

import (
	"encoding"
	"fmt"
	"reflect"
	"strings"

	"go.yaml.in/yaml/v2"
)

// Encode writes a struct as YAML. Fields come in their order; fields with
// omitempty or omitzero are left out when they are zero. The same value gives
// the same bytes.
func Encode(v any) ([]byte, error) {
	y, err := toYAML(reflect.ValueOf(v))
	if err != nil {
		return nil, err
	}
	out, err := yaml.Marshal(y)
	if err != nil {
		return nil, fmt.Errorf("write YAML: %w", err)
	}
	return out, nil
}

func toYAML(v reflect.Value) (any, error) {
	if m, ok := v.Interface().(encoding.TextMarshaler); ok {
		text, err := m.MarshalText()
		if err != nil {
			return nil, fmt.Errorf("write %s: %w", v.Type(), err)
		}
		return string(text), nil
	}
	switch v.Kind() {
	case reflect.Pointer:
		if v.IsNil() {
			return nil, nil
		}
		return toYAML(v.Elem())
	case reflect.Struct:
		return structToYAML(v)
	case reflect.Slice:
		list := []any{}
		for i := range v.Len() {
			y, err := toYAML(v.Index(i))
			if err != nil {
				return nil, err
			}
			list = append(list, y)
		}
		return list, nil
	case reflect.String:
		return v.String(), nil
	case reflect.Bool, reflect.Int, reflect.Int64:
		return v.Interface(), nil
	}
	return nil, fmt.Errorf("write YAML: no form for %s", v.Type())
}

func structToYAML(v reflect.Value) (any, error) {
	out := yaml.MapSlice{}
	for i := range v.NumField() {
		name, options, _ := strings.Cut(v.Type().Field(i).Tag.Get("json"), ",")
		if options != "" && (v.Field(i).IsZero() || v.Field(i).Kind() == reflect.Slice && v.Field(i).Len() == 0) {
			continue
		}
		y, err := toYAML(v.Field(i))
		if err != nil {
			return nil, err
		}
		out = append(out, yaml.MapItem{Key: name, Value: y})
	}
	return out, nil
}
