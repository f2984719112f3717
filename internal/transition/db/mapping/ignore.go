package mapping

import (
	"fmt"
	"path"
	"slices"

	"holdfast/internal/lib/text"
)

// This file is about tables of the source that the mapping leaves behind.

// DATABASE.TABLE of ignore
var ignorable = text.Pattern(`^[a-z][a-z0-9_]{0,62}\.[A-Za-z0-9_$*]{1,64}$`)

// ignored checks the list of a mapping: what is read can not be ignored.
func (r *reader) ignored() {
	for i, pattern := range r.m.Ignore {
		at := fmt.Sprintf("ignore[%d]", i)
		if !ignorable().MatchString(pattern) {
			r.fault(at, pattern, "want DATABASE.TABLE, with * for any letters in TABLE")
			continue
		}
		for _, t := range r.m.Reads() {
			if matches(pattern, t) {
				r.fault(at, pattern, "want no table that the mapping reads: "+t)
				break
			}
		}
	}
}

// matches reports whether a pattern of ignore, which is well formed, means a table.
func matches(pattern, table string) bool {
	ok, err := path.Match(pattern, table)
	return ok && err == nil
}

// Reads are the tables of the source that the mapping names, also those that Skip left out.
func (m *Mapping) Reads() (out []string) {
	for _, t := range slices.Concat(m.Tables, m.skipped) {
		out = append(out, t.From)
		for _, j := range slices.Concat(t.Join, t.Find) {
			out = append(out, j.Table)
		}
	}
	return out
}

// Names reports whether the mapping reads a table of the source (as in the mapping), or
// ignores it.
func (m *Mapping) Names(table string) bool {
	return slices.Contains(m.Reads(), table) ||
		slices.ContainsFunc(m.Ignore, func(pattern string) bool { return matches(pattern, table) })
}
