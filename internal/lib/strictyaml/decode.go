// Package strictyaml reads YAML into structs and says of everything that does
// not fit where it is: unknown and doubled fields, wrong types, malformed text.
// It also writes structs as YAML, fields in their order. Field names are those
// of the json tags. It is the only reader of YAML.
package strictyaml

import (
	"encoding"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// TextForm is implemented by structs that have a short form: a string.
type TextForm interface {
	FromText(s string) error
}

// Style is how a kind of file is read. The zero Style is that of documents.
type Style struct {
	// Settings: texts and names have one line without control characters, an empty
	// list is none, and an unknown field is told with the nearest known one instead
	// of all of them.
	Settings bool
	// Loose: a number, true and false stand for a text, too, where they are written
	// as they would be shown. 007 is not, which is 7.
	Loose bool
}

// Depth is how many levels of nesting are read.
const Depth = 32

// maxFaults is how many faults are told of one document: more help nobody.
const maxFaults = 100

// Decoded is what became of a document.
type Decoded struct {
	Faults []Fault // in document order

	root    *Node // nil: malformed
	refused map[string]bool
}

// Decode reads one document into v, a pointer to a struct. What fits is filled
// in, also when something else does not. null leaves the zero value, like a missing
// field. Whoever calls limits the size of data. It tells at most 100 faults.
func Decode(data []byte, v any) *Decoded { return Style{}.Decode(data, v) }

// Decode is the function of that name, in another style.
func (s Style) Decode(data []byte, v any) *Decoded {
	root, fault := Parse(data)
	if fault != nil {
		return &Decoded{Faults: []Fault{*fault}}
	}
	return s.DecodeNode(root, v)
}

// DecodeNode does it with a document that has been parsed already.
func (s Style) DecodeNode(root *Node, v any) *Decoded {
	d := &decoder{style: s, to: &Decoded{root: root, refused: map[string]bool{}}}
	d.value("", root, reflect.ValueOf(v).Elem(), 0)
	slices.SortStableFunc(d.to.Faults, func(a, b Fault) int { return a.Place.Compare(b.Place) })
	return d.to
}

// Place is where the value at path stands; for a missing one, what would hold it.
func (d *Decoded) Place(path string) Place {
	if d.root == nil {
		return Place{}
	}
	n, _ := d.root.find("", path)
	return n.Place
}

// Given reports whether there is a value at path, other than null.
func (d *Decoded) Given(path string) bool {
	if d.root == nil {
		return false
	}
	n, exact := d.root.find("", path)
	return exact && n.Kind != Null
}

// Refused reports whether the value at path, or one that holds it, is among the
// faults; also that of a field that was given under a wrong name.
func (d *Decoded) Refused(path string) bool {
	for p := range d.refused {
		if within(path, p) {
			return true
		}
	}
	return false
}

// Locate gives faults that later checks found their places. One whose path is in
// parentheses is of no field. What an empty document lacks is one fault.
func (d *Decoded) Locate(faults []Fault) []Fault {
	if d.Empty() && len(faults) > 1 {
		return []Fault{d.empty(faults)}
	}
	for i := range faults {
		if f := &faults[i]; f.Place == (Place{}) && f.Path != "" && f.Path[0] != '(' {
			f.Place = d.Place(f.Path)
			if f.Value == "0" && !d.Given(f.Path) {
				f.Value = ""
			}
		}
	}
	return faults
}

// Empty reports whether the document is there and has no field.
func (d *Decoded) Empty() bool { return d.root != nil && len(d.root.Members) == 0 }

// empty is the fault of a document without a field.
func (d *Decoded) empty(faults []Fault) Fault {
	var names []string
	for _, f := range faults {
		if f.Path != "" && f.Path[0] != '(' && !slices.Contains(names, f.Path) {
			names = append(names, f.Path)
		}
	}
	return Fault{Place: d.root.Place, Path: Whole, Want: "want fields such as " + strings.Join(names, ", ") + ": there are none in the file"}
}

type decoder struct {
	style Style
	to    *Decoded
}

func (d *decoder) fault(at Place, path, value, want string) {
	if path == "" {
		path = Whole
	}
	if len(d.to.Faults) < maxFaults {
		d.to.Faults = append(d.to.Faults, Fault{at, path, Shorten(value), want})
	}
}

// refuse notes a value that is not what the field at path takes.
func (d *decoder) refuse(path string, n *Node, want string) {
	d.to.refused[path] = true
	d.fault(n.Place, path, n.Shown(), want)
}

// expect refuses a value of another type. A version such as 2.0 is a number to YAML.
func (d *decoder) expect(path string, n *Node, kind Kind, want string) bool {
	if n.Kind == kind {
		return true
	}
	text := "want " + want + ", not " + n.Kind.String()
	if kind == String && n.Kind != List && n.Kind != Object {
		text += ": put it in quotes"
	}
	d.refuse(path, n, text)
	return false
}

// value fills v from n.
func (d *decoder) value(path string, n *Node, v reflect.Value, depth int) {
	if n.Kind == Null {
		return
	}
	if depth > Depth {
		d.deep(path, n)
		return
	}
	switch t := v.Addr().Interface().(type) {
	case *json.RawMessage:
		*t = d.raw(path, n, depth)
		return
	case TextForm:
		if n.Kind != Object {
			if d.expect(path, n, String, String.String()+" or an object") {
				d.text(path, n, t.FromText(n.Text))
			}
			return
		}
	case encoding.TextUnmarshaler:
		if err := t.UnmarshalText([]byte(n.written())); err != nil && (n.Kind == Number || n.Kind == Bool) {
			d.text(path, n, err) // quotes alone would not help
		} else if d.expect(path, n, String, String.String()) {
			d.text(path, n, err)
		}
		return
	}
	switch v.Kind() {
	case reflect.Pointer:
		p := reflect.New(v.Type().Elem())
		d.value(path, n, p.Elem(), depth)
		v.Set(p)
	case reflect.Struct:
		d.object(path, n, v, depth)
	case reflect.Map:
		d.table(path, n, v, depth)
	case reflect.Slice:
		d.list(path, n, v, depth)
	default:
		d.scalar(path, n, v)
	}
}

func (d *decoder) deep(path string, n *Node) {
	d.fault(n.Place, path, "", fmt.Sprintf("at most %d levels of nesting", Depth))
}

func (d *decoder) text(path string, n *Node, err error) {
	if err != nil {
		d.refuse(path, n, err.Error())
	}
}

// WantWhole is what is wanted in place of a number that is not whole, or that no field can hold.
const WantWhole = "want a whole number, written in digits"

func (d *decoder) scalar(path string, n *Node, v reflect.Value) {
	switch v.Kind() {
	case reflect.String:
		d.line(path, n, v)
	case reflect.Bool:
		if d.expect(path, n, Bool, Bool.String()) {
			v.SetBool(n.Text == "true")
		}
	case reflect.Int, reflect.Int64:
		i, err := strconv.ParseInt(n.Text, 10, v.Type().Bits())
		switch {
		case n.Kind != Number:
			d.expect(path, n, Number, "a whole number")
		case err != nil:
			d.refuse(path, n, WantWhole)
		}
		v.SetInt(i)
	case reflect.Float64:
		if !d.expect(path, n, Number, Number.String()) {
			return
		}
		f, err := strconv.ParseFloat(n.Text, 64)
		if err != nil || f-f != 0 { // NaN, infinity
			d.refuse(path, n, "want a finite number")
			return
		}
		v.SetFloat(f)
	default:
		// A field type that this file does not know is a mistake in the program;
		// it shows in the first test that loads anything.
		panic("strictyaml: no decoder for " + v.Type().String())
	}
}

// isText reports whether a value stands for a text.
func (s Style) isText(n *Node) bool {
	return n.Kind == String || s.Loose && n.Exact && (n.Kind == Number || n.Kind == Bool)
}

// line fills in a string. Settings have no control characters: they end up in messages
// of one line and in command lines.
func (d *decoder) line(path string, n *Node, v reflect.Value) {
	switch {
	case !d.style.isText(n) && !d.expect(path, n, String, String.String()):
	case d.style.Settings && !utf8.ValidString(n.Text):
		d.refuse(path, n, "a string must be UTF-8")
	case d.style.Settings && strings.ContainsFunc(n.Text, unicode.IsControl):
		d.refuse(path, n, "want text without control characters")
	default:
		v.SetString(n.Text)
	}
}

func (d *decoder) list(path string, n *Node, v reflect.Value, depth int) {
	if !d.expect(path, n, List, List.String()) || d.style.Settings && len(n.Items) == 0 {
		return
	}
	s := reflect.MakeSlice(v.Type(), len(n.Items), len(n.Items))
	for i, item := range n.Items {
		d.value(Index(path, i), item, s.Index(i), depth+1)
	}
	v.Set(s)
}

// table fills a map, whose keys are strings.
func (d *decoder) table(path string, n *Node, v reflect.Value, depth int) {
	if !d.expect(path, n, Object, Object.String()) {
		return
	}
	m := reflect.MakeMap(v.Type())
	for _, e := range d.members(path, n) {
		d.entry(path, e, m, depth)
	}
	if m.Len() > 0 {
		v.Set(m)
	}
}

func (d *decoder) entry(path string, e Member, m reflect.Value, depth int) {
	at := Field(path, e.Key.Text)
	if d.style.Settings && (!utf8.ValidString(e.Key.Text) || strings.ContainsFunc(e.Key.Text, unicode.IsControl)) {
		d.refuse(at, e.Key, "want a name without control characters")
		return
	}
	val := reflect.New(m.Type().Elem()).Elem()
	d.value(at, e.Value, val, depth+1)
	m.SetMapIndex(reflect.ValueOf(e.Key.Text).Convert(m.Type().Key()), val)
}

// members are those of an object whose names are texts, each once.
func (d *decoder) members(path string, n *Node) []Member {
	out := make([]Member, 0, len(n.Members))
	seen := make(map[string]bool, len(n.Members))
	for _, m := range n.Members {
		switch {
		case !d.style.isText(m.Key):
			d.fault(m.Key.Place, path, m.Key.Shown(), "a field name must be a string, quote it")
			continue
		case seen[m.Key.Text]:
			d.fault(m.Key.Place, Field(path, m.Key.Text), m.Value.Shown(), "duplicate key: each field may be given only once")
			continue
		}
		seen[m.Key.Text] = true
		out = append(out, m)
	}
	return out
}

func (d *decoder) object(path string, n *Node, v reflect.Value, depth int) {
	if !d.expect(path, n, Object, Object.String()) {
		return
	}
	f := fieldsOf(v.Type())
	members := d.members(path, n)
	others := reflect.Value{}
	if f.others != nil {
		others = reflect.MakeMap(v.FieldByIndex(f.others).Type())
	}
	for _, m := range members {
		name := m.Key.Text
		at := Field(path, name)
		switch i, known := f.index[name]; {
		case known:
			d.value(at, m.Value, v.FieldByIndex(i), depth+1)
		case f.others != nil:
			d.entry(path, m, others, depth)
		default:
			// The value is not shown: it may be a secret under a wrong name.
			d.fault(m.Key.Place, at, name, "unknown field; "+d.meant(path, name, f.names, members))
		}
	}
	if f.others != nil && others.Len() > 0 {
		v.FieldByIndex(f.others).Set(others)
	}
}

// meant tells what may have been meant by a field that is not known. It is not said as
// well that the nearest one is missing.
func (d *decoder) meant(path, name string, names []string, members []Member) string {
	near := Nearest(name, names)
	if !slices.ContainsFunc(members, func(m Member) bool { return m.Key.Text == near }) {
		d.to.refused[Field(path, near)] = true
	}
	if d.style.Settings {
		return fmt.Sprintf("the nearest known one is %q", near)
	}
	return "want one of " + strings.Join(names, ", ")
}
