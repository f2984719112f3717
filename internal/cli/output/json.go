package output

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"reflect"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"

	"holdfast/internal/lib/lang"
)

// JSON writes one value: indented, or as one line of a stream. Durations are
// nanoseconds and say so in their names: a field d, as records have it, is told as d_ns.
func JSON(w io.Writer, v any, line bool) error {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	if !line {
		enc.SetIndent("", "  ")
	}
	err := enc.Encode(v)
	if err == nil {
		w, _ = lang.Raw(w)
		_, err = w.Write(escaped(withUnits(buf.Bytes(), reflect.TypeOf(v))))
	}
	if err != nil {
		return fmt.Errorf("write JSON: %w", err)
	}
	return nil
}

// escaped is JSON with \u for what a terminal would act on or not show, such as U+009B (begins an order as ESC [ does) and
// U+202E (turns what follows): names of guests are their owners' words. JSON has that in its strings only.
func escaped(text []byte) []byte {
	if !bytes.ContainsFunc(text, hidden) {
		return text
	}
	var out []byte
	for _, r := range string(text) {
		if !hidden(r) {
			out = utf8.AppendRune(out, r)
			continue
		}
		for _, unit := range utf16.Encode([]rune{r}) {
			out = fmt.Appendf(out, `\u%04x`, unit)
		}
	}
	return out
}

func hidden(r rune) bool { return r != '\n' && !unicode.IsPrint(r) }

// unit is appended to the names of durations.
const unit = "_ns"

// withUnits appends the unit to the names of durations in JSON that was made of a value of
// type t.
func withUnits(text []byte, t reflect.Type) []byte {
	u := units{dec: json.NewDecoder(bytes.NewReader(text)), fields: map[reflect.Type]map[string]reflect.Type{}}
	u.value(t)
	var out []byte
	copied := 0
	for _, at := range u.ends {
		out = append(append(out, text[copied:at]...), unit...)
		copied = at
	}
	return append(out, text[copied:]...)
}

// units reads JSON along with the type that it was made of.
type units struct {
	dec    *json.Decoder
	ends   []int                                    // of the names of durations, in order
	fields map[reflect.Type]map[string]reflect.Type // of structs, by their names in JSON
}

// value reads one value of type t; nil: of one that is not known.
func (u *units) value(t reflect.Type) {
	for t != nil && t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if t != nil && reflect.PointerTo(t).Implements(reflect.TypeFor[json.Marshaler]()) {
		t = nil
	}
	switch u.token() {
	case json.Delim('{'):
		for u.dec.More() {
			name, _ := u.token().(string)
			of := u.inside(t, name)
			if isDuration(of) && !strings.HasSuffix(name, unit) {
				u.ends = append(u.ends, int(u.dec.InputOffset())-1)
			}
			u.value(of)
		}
		u.token()
	case json.Delim('['):
		for u.dec.More() {
			u.value(u.inside(t, ""))
		}
		u.token()
	}
}

// token reads the next token of JSON that was just made.
func (u *units) token() json.Token {
	t, err := u.dec.Token()
	if err != nil {
		panic("cli: read JSON that was just made: " + err.Error())
	}
	return t
}

// inside is the type of what a value of type t has under a name, or in a list; nil when it
// is not known.
func (u *units) inside(t reflect.Type, name string) reflect.Type {
	switch {
	case t == nil:
		return nil
	case t.Kind() == reflect.Map || t.Kind() == reflect.Slice || t.Kind() == reflect.Array:
		return t.Elem()
	case t.Kind() != reflect.Struct:
		return nil
	case u.fields[t] == nil:
		u.fields[t] = jsonFields(t)
	}
	return u.fields[t][name]
}

// jsonFields are the types of a struct's fields by their names in JSON.
func jsonFields(t reflect.Type) map[string]reflect.Type {
	out := map[string]reflect.Type{}
	all := reflect.VisibleFields(t)
	slices.SortStableFunc(all, func(a, b reflect.StructField) int { return len(b.Index) - len(a.Index) }) // the outer ones count
	for _, f := range all {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if f.IsExported() && (name != "" || !f.Anonymous) {
			if name == "" {
				name = f.Name
			}
			out[name] = f.Type
		}
	}
	return out
}

// isDuration reports whether a field of type t holds durations.
func isDuration(t reflect.Type) bool {
	for t != nil && slices.Contains([]reflect.Kind{reflect.Pointer, reflect.Slice, reflect.Array}, t.Kind()) {
		t = t.Elem()
	}
	return t == reflect.TypeFor[time.Duration]()
}
