package catalogue

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"go.yaml.in/yaml/v2"

	"holdfast/internal/upgrade/path"
)

const (
	wholeFile = "(file)"
	maxFaults = 100    // more help nobody
	maxValues = 200000 // of a document, with those that aliases repeat
)

// decoder fills a Spec from a YAML document and notes what does not fit.
type decoder struct {
	faults []path.Fault
	values int
}

// decode reads one YAML document.
func decode(data []byte) (path.Spec, []path.Fault) {
	d := &decoder{}
	var spec path.Spec
	if doc, ok := d.document(data); ok {
		d.value(doc, reflect.ValueOf(&spec).Elem(), "")
	}
	return spec, d.faults
}

func (d *decoder) fault(at, value, want string) {
	const shown = 80
	if r := []rune(value); len(r) > shown {
		value = string(r[:shown]) + "..."
	}
	if at == "" {
		at = wholeFile
	}
	if len(d.faults) < maxFaults {
		d.faults = append(d.faults, path.Fault{Path: at, Value: value, Want: want})
	}
}

// document parses the text. MapSlice keeps keys that are given twice, which a
// map would lose.
func (d *decoder) document(data []byte) (doc yaml.MapSlice, ok bool) {
	switch {
	case len(data) > maxFile:
		d.fault("", "", fmt.Sprintf("want at most %d bytes", maxFile))
		return nil, false
	case !utf8.Valid(data):
		d.fault("", "", "the file must be UTF-8")
		return nil, false
	case bytes.Contains(data, []byte("<<")):
		d.fault("", "<<", "YAML merge keys are not supported, write the fields out")
		return nil, false
	}
	dec := yaml.NewDecoder(bytes.NewReader(data))
	err := dec.Decode(&doc)
	if errors.Is(err, io.EOF) {
		d.fault("", "", "the file is empty: want a catalogue")
		return nil, false
	}
	var more any
	if err == nil {
		if err = dec.Decode(&more); err == nil {
			d.fault("", "---", "want one YAML document, not several")
			return nil, false
		}
	}
	if !errors.Is(err, io.EOF) {
		d.fault("", "", "malformed YAML: "+strings.Join(strings.Fields(err.Error()), " "))
		return nil, false
	}
	return doc, true
}

// value fills v, a field of a Spec or the Spec itself. null counts as missing.
func (d *decoder) value(in any, v reflect.Value, at string) {
	d.values++
	if d.values == maxValues+1 {
		d.fault("", "", fmt.Sprintf("want at most %d values", maxValues))
	}
	if in == nil || d.values > maxValues {
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		d.object(in, v, at)
	case reflect.Slice:
		d.list(in, v, at)
	case reflect.Pointer:
		p := reflect.New(v.Type().Elem())
		d.value(in, p.Elem(), at)
		v.Set(p)
	case reflect.String:
		d.text(in, v, at)
	case reflect.Bool:
		if b, ok := in.(bool); ok {
			v.SetBool(b)
		} else {
			d.fault(at, show(in), "want true or false")
		}
	case reflect.Int:
		if n, ok := in.(int); ok {
			v.SetInt(int64(n))
		} else {
			d.fault(at, show(in), "want a whole number")
		}
	default:
		// A field of a type that is not known here is a mistake in the program; it
		// shows in the first test that loads anything.
		panic("catalogue: no decoder for " + v.Type().String())
	}
}

// show is a value as a fault shows it.
func show(in any) string {
	switch in := in.(type) {
	case yaml.MapSlice:
		return "an object"
	case []any:
		return "a list"
	case float64:
		return strconv.FormatFloat(in, 'g', -1, 64)
	}
	return fmt.Sprint(in)
}

// text takes strings only: 2.0 without quotes is a number, and 24.10 would come
// out as 24.1.
func (d *decoder) text(in any, v reflect.Value, at string) {
	s, ok := in.(string)
	switch {
	case !ok:
		want := "want a text"
		switch in.(type) {
		case yaml.MapSlice, []any:
		default:
			want += ": put it in quotes"
		}
		d.fault(at, show(in), want)
	case !utf8.ValidString(s) || strings.ContainsFunc(s, func(r rune) bool { return unicode.IsControl(r) && r != '\n' }):
		d.fault(at, s, "want text without control characters")
	default:
		v.SetString(strings.Join(strings.Fields(s), " "))
	}
}

func (d *decoder) list(in any, v reflect.Value, at string) {
	items, ok := in.([]any)
	if !ok {
		d.fault(at, show(in), "want a list")
		return
	}
	out := reflect.MakeSlice(v.Type(), len(items), len(items))
	for i, item := range items {
		p := fmt.Sprintf("%s[%d]", at, i)
		if item == nil {
			d.fault(p, "null", "want a value")
		}
		d.value(item, out.Index(i), p)
	}
	v.Set(out)
}

// object fills a struct by its json tags. A version without attributes may be
// written as a text alone.
func (d *decoder) object(in any, v reflect.Value, at string) {
	if known, ok := v.Addr().Interface().(*path.Known); ok {
		if _, whole := in.(yaml.MapSlice); !whole {
			d.text(in, reflect.ValueOf(&known.Version).Elem(), at)
			return
		}
	}
	members, ok := in.(yaml.MapSlice)
	if !ok {
		d.fault(at, show(in), "want an object")
		return
	}
	fields := map[string]int{}
	var names []string
	for i := range v.NumField() {
		name := v.Type().Field(i).Tag.Get("json")
		fields[name] = i
		names = append(names, name)
	}
	seen := map[string]bool{}
	for _, m := range members {
		key := show(m.Key)
		p := below(at, key)
		i, known := fields[key]
		switch {
		case !known:
			d.fault(p, show(m.Key), "unknown field: want one of "+strings.Join(names, ", "))
		case seen[key]:
			d.fault(p, show(m.Value), "is given twice")
		default:
			d.value(m.Value, v.Field(i), p)
		}
		seen[key] = true
	}
}

// below is the path of a field; one with an odd name is quoted.
func below(at, key string) string {
	if key == "" || len(key) > 64 || strings.Trim(key, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-") != "" {
		return at + "[" + strconv.QuoteToASCII(key[:min(len(key), 64)]) + "]"
	}
	if at == "" {
		return key
	}
	return at + "." + key
}
