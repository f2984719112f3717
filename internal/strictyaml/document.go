package strictyaml

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

// Whole is the path of a fault that is not of one field.
const Whole = "(file)"

// Document reads the text of one document; the fault is the first malformed place.
// MapSlice keeps the order of keys and doubled keys, which a map would lose. Values
// are nil, bool, int, int64, uint64, float64, string, []any and yaml.MapSlice; a
// text may hold bytes that are not UTF-8, by !!binary. An empty text has no keys.
func Document(data []byte) (yaml.MapSlice, *Fault) {
	if i := NotUTF8(data); i >= 0 {
		return nil, &Fault{LineColumn(data, i), fmt.Sprintf("\\x%02x", data[i]), "the file must be UTF-8"}
	}
	// The library drops merge keys silently when it keeps the order.
	if i := bytes.Index(data, []byte("<<")); i >= 0 {
		return nil, &Fault{LineColumn(data, i), "<<", "YAML merge keys are not supported, write the fields out"}
	}
	dec := yaml.NewDecoder(bytes.NewReader(data))
	var doc yaml.MapSlice
	if err := dec.Decode(&doc); err != nil && !errors.Is(err, io.EOF) {
		return nil, malformed(err)
	}
	var more any
	switch err := dec.Decode(&more); {
	case err == nil:
		return nil, &Fault{Whole, "---", "want one YAML document, not several"}
	case !errors.Is(err, io.EOF):
		return nil, malformed(err)
	}
	return doc, nil
}

var lineOf = regexp.MustCompile(`line (\d+)`)

// malformed is an error of the library, at its line if it names one.
func malformed(err error) *Fault {
	text := strings.Join(strings.Fields(err.Error()), " ")
	path := Whole
	if m := lineOf.FindStringSubmatch(text); m != nil {
		path = m[1] + ":1"
	}
	return &Fault{path, "", "malformed YAML: " + text}
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

// LineColumn is LINE:COLUMN of a byte offset, both from 1, columns in characters.
func LineColumn(data []byte, off int) string {
	before := data[:min(off, len(data))]
	line := bytes.Count(before, []byte("\n")) + 1
	col := utf8.RuneCount(before[bytes.LastIndexByte(before, '\n')+1:]) + 1
	return fmt.Sprintf("%d:%d", line, col)
}

// Field is the path of a key below path. A key that is no plain word is quoted, a
// long one shortened.
func Field(path, key string) string {
	plain := key != ""
	for _, r := range key {
		plain = plain && IsWord(r)
	}
	switch {
	case !plain:
		return path + "[" + strconv.Quote(Shorten(key)) + "]"
	case path == "":
		return Shorten(key)
	}
	return path + "." + Shorten(key)
}

// IsWord reports whether r needs no quotes in a path.
func IsWord(r rune) bool {
	return r == '_' || r == '-' || '0' <= r && r <= '9' || 'A' <= r && r <= 'Z' || 'a' <= r && r <= 'z'
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
