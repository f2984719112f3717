package strictyaml

import (
	"reflect"
	"strings"
)

// fields are those of a struct.
type fields struct {
	index  map[string][]int
	names  []string // in order
	others []int    // a map for all other names, by the tag yaml:",inline"
}

// fieldsOf returns the fields of a struct by the names in their json tags. Those of a
// struct that is embedded without a name are its own.
func fieldsOf(t reflect.Type) fields {
	f := fields{index: map[string][]int{}}
	for _, field := range reflect.VisibleFields(t) {
		name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
		switch {
		case !field.IsExported():
		case field.Tag.Get("yaml") == ",inline":
			f.others = field.Index
		case field.Anonymous && name == "":
		case len(field.Index) > 1 && !embedded(t, field.Index):
		default:
			f.index[name] = field.Index
			f.names = append(f.names, name)
		}
	}
	return f
}

// embedded reports whether what holds a field has no name of its own.
func embedded(t reflect.Type, index []int) bool {
	name, _, _ := strings.Cut(t.FieldByIndex(index[:len(index)-1]).Tag.Get("json"), ",")
	return name == ""
}

// Nearest returns the name with the smallest edit distance to key; upper and
// lower case count as equal, the first of equals wins. It is "" without names.
func Nearest(key string, names []string) string {
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
