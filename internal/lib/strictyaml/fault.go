package strictyaml

import (
	"bytes"
	"cmp"
	"fmt"
	"strings"
	"unicode/utf8"
)

// Place is where something stands in a text, line and column from 1, the column in
// characters. The zero Place is none.
type Place struct{ Line, Column int }

// String is LINE:COLUMN.
func (p Place) String() string { return fmt.Sprintf("%d:%d", p.Line, p.Column) }

// Compare is negative when p comes first, positive when q does.
func (p Place) Compare(q Place) int {
	return cmp.Or(cmp.Compare(p.Line, q.Line), cmp.Compare(p.Column, q.Column))
}

// PlaceOf is the place of a byte offset.
func PlaceOf(data []byte, off int) Place {
	before := data[:min(off, len(data))]
	return Place{
		Line:   bytes.Count(before, []byte("\n")) + 1,
		Column: utf8.RuneCount(before[bytes.LastIndexByte(before, '\n')+1:]) + 1,
	}
}

// Whole is the path of a fault that is not of one field.
const Whole = "(file)"

// Fault is one thing that does not fit.
type Fault struct {
	Place Place  // none when the value came from no text
	Path  string // field, such as modules[2].name; Whole; nothing for malformed text
	Value string // what was found, shortened
	Want  string // what is allowed there
}

// Error gives the fault in one line.
func (f Fault) Error() string { return f.In("") }

// In gives the fault in one line, with the name of its file in front:
// FILE:LINE:COLUMN: FIELD: value "FOUND": what is allowed.
func (f Fault) In(file string) string {
	text := At(file, f.Place, f.Path)
	if f.Path != "" || f.Value != "" {
		text += fmt.Sprintf("value %q: ", f.Value)
	}
	return text + f.Want
}

// Where is the field, or the place of malformed text.
func (f Fault) Where() string {
	if f.Path == "" {
		return f.Place.String()
	}
	return f.Path
}

// At is what a message about a place in a file begins with; each part may be missing.
func At(file string, p Place, path string) string {
	var parts []string
	if file != "" {
		parts = append(parts, file)
	}
	if p != (Place{}) {
		parts = append(parts, p.String())
	}
	head := strings.Join(parts, ":")
	if head != "" {
		head += ": "
	}
	if path != "" {
		head += path + ": "
	}
	return head
}

// Lines gives faults of one file, a line each.
func Lines(file string, faults []Fault) string {
	lines := make([]string, len(faults))
	for i, f := range faults {
		lines[i] = f.In(file)
	}
	return strings.Join(lines, "\n")
}

// MaxShown is how many characters of a value a fault shows.
const MaxShown = 80

// Shorten cuts long values, so that a fault stays readable.
func Shorten(s string) string {
	n := 0
	for i := range s {
		if n == MaxShown {
			return s[:i] + "..."
		}
		n++
	}
	return s
}

// NotUTF8 is the offset of the first byte that is not UTF-8, -1 without one.
func NotUTF8(data []byte) int {
	for i := 0; i < len(data); {
		r, n := utf8.DecodeRune(data[i:])
		if r == utf8.RuneError && n <= 1 {
			return i
		}
		i += n
	}
	return -1
}
