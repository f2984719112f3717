// Package strictyaml reads YAML into structs and says of everything that does
// not fit where it is: unknown and doubled fields, wrong types, malformed text.
// It also writes structs as YAML, fields in their order. Field names are those
// of the json tags.
package strictyaml

import (
	"encoding"
	"encoding/json"
	"fmt"
	"reflect"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v2"
)

// Fault is one thing that does not fit.
type Fault struct {
	Path  string // field, such as modules[2].name; LINE:COLUMN for malformed text; Whole
	Value string // what was found, shortened
	Want  string // what is allowed there
}

// TextForm is implemented by structs that have a short form: a string.
type TextForm interface {
	FromText(s string) error
}

// maxDepth is how many levels of nesting are read.
const maxDepth = 32

// maxFaults is how many faults are told of one document: more help nobody.
const maxFaults = 100

// Decode reads one document into v, a pointer to a struct. What fits is filled
// in, also when something else does not. Whoever calls limits the size of data.
// It tells at most 100 faults.
func Decode(data []byte, v any) []Fault {
	d := &decoder{}
	doc, fault := Document(data)
	if fault != nil {
		return []Fault{*fault}
	}
	d.value("", doc, reflect.ValueOf(v).Elem(), 0)
	return d.faults
}

type decoder struct{ faults []Fault }

func (d *decoder) fault(path string, value any, want string) {
	if path == "" {
		path = Whole
	}
	if len(d.faults) < maxFaults {
		d.faults = append(d.faults, Fault{path, Shorten(show(value)), want})
	}
}

// value fills v from y. null leaves the zero value, like a missing field.
func (d *decoder) value(path string, y any, v reflect.Value, depth int) {
	if y == nil {
		return
	}
	if depth > maxDepth {
		d.fault(path, "", fmt.Sprintf("at most %d levels of nesting", maxDepth))
		return
	}
	s, isText := y.(string)
	switch t := v.Addr().Interface().(type) {
	case *json.RawMessage:
		*t = d.raw(path, y, depth)
		return
	case TextForm:
		if isText {
			d.text(path, s, t.FromText(s))
			return
		}
		if _, long := y.(yaml.MapSlice); !long {
			d.wrong(path, y, aString+" or an object")
			return
		}
	case encoding.TextUnmarshaler:
		if !isText {
			d.wrong(path, y, aString)
			return
		}
		d.text(path, s, t.UnmarshalText([]byte(s)))
		return
	}
	switch v.Kind() {
	case reflect.Pointer:
		p := reflect.New(v.Type().Elem())
		d.value(path, y, p.Elem(), depth)
		v.Set(p)
	case reflect.Struct:
		d.object(path, y, v, depth)
	case reflect.Slice:
		d.list(path, y, v, depth)
	default:
		d.scalar(path, y, v)
	}
}

func (d *decoder) text(path, s string, err error) {
	if err != nil {
		d.fault(path, s, err.Error())
	}
}

func (d *decoder) scalar(path string, y any, v reflect.Value) {
	switch v.Kind() {
	case reflect.String:
		s, ok := y.(string)
		if !ok {
			d.wrong(path, y, aString)
			return
		}
		v.SetString(s)
	case reflect.Bool:
		b, ok := y.(bool)
		if !ok {
			d.wrong(path, y, "true or false")
			return
		}
		v.SetBool(b)
	case reflect.Int, reflect.Int64:
		n, err := strconv.ParseInt(fmt.Sprint(y), 10, v.Type().Bits())
		if _, isText := y.(string); isText || err != nil {
			d.wrong(path, y, "a whole number")
			return
		}
		v.SetInt(n)
	default:
		// A field type that this file does not know is a mistake in the program;
		// it shows in the first test that loads anything.
		panic("strictyaml: no decoder for " + v.Type().String())
	}
}

func (d *decoder) list(path string, y any, v reflect.Value, depth int) {
	items, ok := y.([]any)
	if !ok {
		d.wrong(path, y, "a list")
		return
	}
	s := reflect.MakeSlice(v.Type(), len(items), len(items))
	for i, item := range items {
		d.value(fmt.Sprintf("%s[%d]", path, i), item, s.Index(i), depth+1)
	}
	v.Set(s)
}

func (d *decoder) object(path string, y any, v reflect.Value, depth int) {
	members, ok := y.(yaml.MapSlice)
	if !ok {
		d.wrong(path, y, "an object")
		return
	}
	fields, names := fieldsOf(v.Type())
	seen := map[string]bool{}
	for _, m := range members {
		key, ok := m.Key.(string)
		if !ok {
			d.fault(path, m.Key, "a field name must be a string, quote it")
			continue
		}
		at := Field(path, key)
		i, known := fields[key]
		switch {
		case !known:
			// The value is not shown: it may be a secret under a wrong name.
			d.fault(at, key, "unknown field; want one of "+strings.Join(names, ", "))
		case seen[key]:
			d.fault(at, m.Value, "duplicate key: each field may be given only once")
		default:
			d.value(at, m.Value, v.Field(i), depth+1)
		}
		seen[key] = true
	}
}

// fieldsOf returns the fields of a struct by their names, and the names in order.
func fieldsOf(t reflect.Type) (index map[string]int, names []string) {
	index = map[string]int{}
	for i := range t.NumField() {
		if !t.Field(i).IsExported() {
			continue // no field of a document
		}
		name, _, _ := strings.Cut(t.Field(i).Tag.Get("json"), ",")
		index[name] = i
		names = append(names, name)
	}
	return index, names
}

// aString is how a text is called in faults.
const aString = "a string"

// wrong notes a value of another type. A version such as 2.0 is a number to YAML.
func (d *decoder) wrong(path string, y any, want string) {
	text := "want " + want + ", not " + kind(y)
	switch y.(type) {
	case []any, yaml.MapSlice:
	default:
		if strings.HasPrefix(want, aString) {
			text += ": put it in quotes"
		}
	}
	d.fault(path, y, text)
}

// kind names the type of a YAML value.
func kind(y any) string {
	switch y.(type) {
	case string:
		return aString
	case bool:
		return "true or false"
	case []any:
		return "a list"
	case yaml.MapSlice:
		return "an object"
	}
	return "a number"
}

// show is a value as a fault shows it.
func show(y any) string {
	switch y.(type) {
	case []any, yaml.MapSlice:
		return kind(y)
	}
	return fmt.Sprint(y)
}
