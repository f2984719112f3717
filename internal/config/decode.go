package config

import (
	"fmt"
	"path"
	"reflect"
	"strconv"
	"strings"
	"unicode"

	"holdfast/internal/strictyaml"
)

// treeDecoder is a type that reads itself from a tree, because its form is not
// that of its Go type.
type treeDecoder interface {
	decodeTree(c *checker, t *tree, path string)
}

// document parses data into v, a pointer to a struct with json tags, and
// records what is wrong. It reports whether v was filled, be it in part. strict
// refuses a missing comma also where the source tool's sample has none.
func (c *checker) document(data []byte, v any, strict bool) bool {
	if len(data) > maxFile {
		c.faultAt(0, wholeDoc, fmt.Sprintf("%d bytes", len(data)), fmt.Sprintf("at most %d bytes", maxFile))
		return false
	}
	root := c.parse(data, strict)
	if root == nil {
		return false
	}
	if root.kind != kindObject {
		c.faultAt(0, wholeDoc, root.shown(), "want an object with the fields of the configuration")
		return false
	}
	c.doubles(root, "")
	c.decode(root, reflect.ValueOf(v).Elem(), "")
	return true
}

// parse reads the text by the file's suffix: .yaml and .yml are YAML, all else JSON.
func (c *checker) parse(data []byte, strict bool) *tree {
	if ext := strings.ToLower(path.Ext(c.file)); ext == ".yaml" || ext == ".yml" {
		root, fault := parseYAML(data)
		if fault != nil {
			c.faultAt(0, fault.Path, fault.Value, fault.Want)
			return nil
		}
		return root
	}
	root, missing, serr := parseJSON(data)
	if serr != nil {
		c.faultAt(serr.off, strictyaml.LineColumn(data, serr.off), serr.value, serr.want)
		return nil
	}
	for _, off := range missing {
		if strict {
			c.faultAt(off, strictyaml.LineColumn(data, off), "", "want ',' or '}' after a value")
		} else {
			c.warn(strictyaml.LineColumn(data, off), "a comma is missing after this value; accepted because the line ends with a comment")
		}
	}
	return root
}

// doubles records keys that occur twice in one object, at any level.
func (c *checker) doubles(t *tree, path string) {
	seen := map[string]bool{}
	for _, m := range t.members {
		p := field(path, m.key)
		if seen[m.key] {
			c.faultAt(m.off, p, m.val.shown(), "duplicate key: each field may be given only once")
		}
		seen[m.key] = true
		c.doubles(m.val, p)
	}
	for i, item := range t.items {
		c.doubles(item, index(path, i))
	}
}

// refuse records that t is not what the field at path takes.
func (c *checker) refuse(t *tree, path, want string) {
	c.bad[path] = true
	c.faultAt(t.off, path, t.shown(), want)
}

// expect refuses t when it is not of the kind.
func (c *checker) expect(t *tree, path string, k kind) bool {
	if t.kind != k {
		c.refuse(t, path, "want "+k.String()+", not "+t.kind.String())
	}
	return t.kind == k
}

// decode fills v from t. null leaves the zero value, like a missing field.
func (c *checker) decode(t *tree, v reflect.Value, path string) {
	c.pos[path] = t.off
	if t.kind == kindNull {
		return
	}
	c.set[path] = true
	if d, ok := v.Addr().Interface().(treeDecoder); ok {
		d.decodeTree(c, t, path)
		return
	}
	switch v.Kind() {
	case reflect.Pointer:
		p := reflect.New(v.Type().Elem())
		c.decode(t, p.Elem(), path)
		v.Set(p)
	case reflect.Struct:
		c.decodeStruct(t, v, path)
	case reflect.Slice:
		c.decodeSlice(t, v, path)
	case reflect.Map:
		c.decodeMap(t, v, path)
	case reflect.String:
		if c.expect(t, path, kindString) {
			v.SetString(c.line(t, path))
		}
	case reflect.Bool:
		if c.expect(t, path, kindBool) {
			v.SetBool(t.text == "true")
		}
	case reflect.Int:
		c.decodeInt(t, v, path)
	case reflect.Float64:
		c.decodeFloat(t, v, path)
	default:
		// A field type that this file does not know is a mistake in the program;
		// it shows in the first test that loads anything.
		panic("config: no decoder for " + v.Type().String())
	}
}

// line returns the text of t, and refuses control characters: no field is meant
// to have them, and values end up in one-line messages and in command lines.
func (c *checker) line(t *tree, path string) string {
	if strings.ContainsFunc(t.text, unicode.IsControl) {
		c.refuse(t, path, "want text without control characters")
		return ""
	}
	return t.text
}

func (c *checker) decodeInt(t *tree, v reflect.Value, path string) {
	if !c.expect(t, path, kindNumber) {
		return
	}
	n, err := strconv.ParseInt(t.text, 10, strconv.IntSize)
	if err != nil {
		c.refuse(t, path, "want a whole number, written in digits")
		return
	}
	v.SetInt(n)
}

func (c *checker) decodeFloat(t *tree, v reflect.Value, path string) {
	if !c.expect(t, path, kindNumber) {
		return
	}
	f, err := strconv.ParseFloat(t.text, 64)
	if err != nil || f != f || f-f != 0 { // NaN, infinity
		c.refuse(t, path, "want a finite number")
		return
	}
	v.SetFloat(f)
}

func (c *checker) decodeSlice(t *tree, v reflect.Value, path string) {
	if !c.expect(t, path, kindList) || len(t.items) == 0 {
		return
	}
	s := reflect.MakeSlice(v.Type(), len(t.items), len(t.items))
	for i, item := range t.items {
		c.decode(item, s.Index(i), index(path, i))
	}
	v.Set(s)
}

func (c *checker) decodeMap(t *tree, v reflect.Value, path string) {
	if !c.expect(t, path, kindObject) || len(t.members) == 0 {
		return
	}
	m := reflect.MakeMap(v.Type())
	for _, e := range t.members {
		if strings.ContainsFunc(e.key, unicode.IsControl) {
			c.refuse(&tree{kind: kindString, off: e.off, text: e.key}, field(path, e.key), "want a name without control characters")
			continue
		}
		key := reflect.ValueOf(e.key).Convert(v.Type().Key())
		if m.MapIndex(key).IsValid() {
			continue // doubles has reported it
		}
		val := reflect.New(v.Type().Elem()).Elem()
		c.decode(e.val, val, field(path, e.key))
		m.SetMapIndex(key, val)
	}
	if m.Len() > 0 {
		v.Set(m)
	}
}

func (c *checker) decodeStruct(t *tree, v reflect.Value, path string) {
	if !c.expect(t, path, kindObject) {
		return
	}
	fields := map[string]int{}
	var names []string
	for i := range v.NumField() {
		name, _, _ := strings.Cut(v.Type().Field(i).Tag.Get("json"), ",")
		fields[name] = i
		names = append(names, name)
	}
	seen := map[string]bool{}
	var meant []string
	for _, m := range t.members {
		i, known := fields[m.key]
		switch {
		case seen[m.key]: // doubles has reported it
		case !known:
			near := nearest(m.key, names)
			meant = append(meant, near)
			// The value is not shown: it may be a password under a wrong name.
			c.faultAt(m.off, field(path, m.key), m.key, fmt.Sprintf("unknown field; the nearest known one is %q", near))
		default:
			c.decode(m.val, v.Field(i), field(path, m.key))
		}
		seen[m.key] = true
	}
	for _, near := range meant {
		if !seen[near] {
			c.bad[field(path, near)] = true // do not say as well that it is missing
		}
	}
}

// nearest returns the name with the smallest edit distance to key; upper and
// lower case count as equal, the first of equals wins. names is not empty.
func nearest(key string, names []string) string {
	const enough = 64 // no known name is longer
	k := strings.ToLower(key)
	k = k[:min(len(k), enough)]
	best, least := "", -1
	for _, n := range names {
		if d := distance(k, strings.ToLower(n)); least < 0 || d < least {
			best, least = n, d
		}
	}
	return best
}

// distance is the Levenshtein distance of two strings, in bytes.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		diag := row[0]
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			diag, row[j] = row[j], min(row[j]+1, row[j-1]+1, diag+cost)
		}
	}
	return row[len(b)]
}
