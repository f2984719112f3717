// Package strictyaml reads YAML into structs and says of everything that does
// not fit where it is: unknown and doubled fields, wrong types, malformed text.
// It also writes structs as YAML, fields in their order. Field names are those
// of the json tags.
package strictyaml

import (
	"bytes"
	"encoding"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v2"
)

// Fault is one thing that does not fit.
type Fault struct {
	Path  string // field, such as modules[2].name; LINE:1 for malformed text; (file) for the whole
	Value string // what was found
	Want  string // what is allowed there
}

// TextForm is implemented by structs that have a short form: a string.
type TextForm interface {
	FromText(s string) error
}

const (
	wholeDoc = "(file)"
	maxDepth = 32 // levels of nesting
)

// Decode reads one document into v, a pointer to a struct. What fits is filled
// in, also when something else does not. Whoever calls limits the size of data.
func Decode(data []byte, v any) []Fault {
	d := &decoder{}
	if doc, ok := d.parse(data); ok {
		d.value("", doc, reflect.ValueOf(v).Elem(), 0)
	}
	return d.faults
}

type decoder struct{ faults []Fault }

func (d *decoder) fault(path string, value any, want string) {
	if path == "" {
		path = wholeDoc
	}
	d.faults = append(d.faults, Fault{path, show(value), want})
}

// parse reads the text. MapSlice keeps doubled keys, which a map would lose.
func (d *decoder) parse(data []byte) (yaml.MapSlice, bool) {
	if !utf8.Valid(data) {
		d.fault("", "", "the file must be UTF-8")
		return nil, false
	}
	// The library drops merge keys silently when it keeps the order.
	if i := bytes.Index(data, []byte("<<")); i >= 0 {
		d.fault(line(data[:i]), "<<", "YAML merge keys are not supported, write the fields out")
		return nil, false
	}
	dec := yaml.NewDecoder(bytes.NewReader(data))
	var doc yaml.MapSlice
	if err := dec.Decode(&doc); err != nil && !errors.Is(err, io.EOF) {
		d.malformed(err)
		return nil, false
	}
	var more any
	switch err := dec.Decode(&more); {
	case err == nil:
		d.fault("", "---", "want one YAML document, not several")
		return nil, false
	case !errors.Is(err, io.EOF):
		d.malformed(err)
		return nil, false
	}
	return doc, true
}

func line(before []byte) string { return fmt.Sprintf("%d:1", bytes.Count(before, []byte("\n"))+1) }

// malformed reports an error of the library, at its line if it names one.
func (d *decoder) malformed(err error) {
	text := strings.Join(strings.Fields(err.Error()), " ")
	path := wholeDoc
	if m := regexp.MustCompile(`line (\d+)`).FindStringSubmatch(text); m != nil {
		path = m[1] + ":1"
	}
	d.fault(path, "", "malformed YAML: "+text)
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
	case encoding.TextUnmarshaler:
		if !isText {
			d.wrong(path, y, "a string")
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
			d.wrong(path, y, "a string")
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
		if isText := kind(y) == "a string"; isText || err != nil {
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
		at := join(path, key)
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
		name, _, _ := strings.Cut(t.Field(i).Tag.Get("json"), ",")
		index[name] = i
		names = append(names, name)
	}
	return index, names
}

func (d *decoder) wrong(path string, y any, want string) {
	d.fault(path, y, "want "+want+", not "+kind(y))
}

// kind names the type of a YAML value.
func kind(y any) string {
	switch y.(type) {
	case string:
		return "a string"
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

// join returns the path of a key below path.
func join(path, key string) string {
	const shown = 80
	if r := []rune(key); len(r) > shown {
		key = string(r[:shown]) + "..."
	}
	if strings.Trim(strings.ToLower(key), "abcdefghijklmnopqrstuvwxyz0123456789_-") != "" || key == "" {
		return path + "[" + strconv.Quote(key) + "]"
	}
	if path == "" {
		return key
	}
	return path + "." + key
}
