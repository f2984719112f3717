package mapping

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
)

// fuzzSQL bounds the statements of a table that fuzzing makes, in bytes.
const fuzzSQL = 64 << 20

// tags is a mapping with one expression.
const tags = "format: 1\nname: x\ntables: [{target: nova.tags, from: nova.services, columns: [{to: tag, value: %s}]}]"

// platforms are the real schemas of Liberty and Zed.
func platforms(t testing.TB) (source, target Side) {
	return Side{Tables: readSchema(t, "testdata/liberty-schema.sql", "liberty_")},
		Side{Tables: readSchema(t, "testdata/zed-schema.sql", "zed_")}
}

// FuzzMapping: a text is a mapping, or has faults of a line each; a mapping is a plan, or
// has errors. Nothing takes long or much.
func FuzzMapping(f *testing.F) {
	source, target := platforms(f)
	for _, text := range []string{
		example, openstack, "", "format: 1\nname: x\ntables: []", "format: 1\nname: &a x\ntables: [*a]",
		fmt.Sprintf(tags, nested("named_uuid", 20)), fmt.Sprintf(tags, nested("bool", 30)),
		"format: 1\nname: x\nids: [{kind: k}]\ntables: [{target: nova.tags, from: nova.services, columns: [{to: tag, " +
			"value: \"mapped('k', mapped('k', host))\"}]}]",
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		m, err := ParseMapping("m.yaml", text)
		if err != nil {
			if faults := (*Faults)(nil); len(text) <= maxMapping && !errors.As(err, &faults) {
				t.Errorf("%T: %v", err, err)
			}
			return
		}
		plans(t, m, source, target)
	})
}

// nested is a function within itself.
func nested(name string, deep int) string {
	return strings.Repeat(name+"(", deep) + "id" + strings.Repeat(")", deep)
}

// TestUUIDsWithinEachOther: each level writes what is in it six times.
func TestUUIDsWithinEachOther(t *testing.T) {
	source, target := platforms(t)
	for deep, want := range map[int]bool{1: false, 4: false, 7: true} {
		p := MakePlan(parse(t, fmt.Sprintf(tags, nested("named_uuid", deep))), source, target, nil)
		if got := slices.ContainsFunc(p.Errors, func(e Finding) bool {
			return e.Column == "tag" && strings.Contains(e.Text, "bytes of SQL: want at most")
		}); got != want {
			t.Errorf("%d: %v, want %v: %+v", deep, got, want, p.Errors)
		}
	}
}

// plans makes the plans of a mapping, and writes each statement of it.
func plans(t *testing.T, m *Mapping, source, target Side) {
	t.Helper()
	for _, given := range []IDs{{}, {Given: true}, {Given: true, Default: true}} {
		ids := map[string]IDs{}
		for _, k := range m.IDs {
			ids[k.Kind] = given
		}
		p := MakePlan(m, source, target, ids)
		for _, x := range slices.Concat(p.Errors, p.Warnings) {
			if strings.TrimSpace(x.Text) == "" {
				t.Errorf("a finding says nothing: %+v", x)
			}
		}
		if len(p.Errors) > 0 {
			continue
		}
		for i := range p.Tables {
			statements(t, &p.Tables[i])
		}
	}
}

// statements looks at what a table's statements are.
func statements(t *testing.T, p *Planned) {
	t.Helper()
	key := make([]string, len(p.Key))
	for i := range key {
		key[i] = "'x'"
	}
	list := []string{p.Select(""), p.Statement(""), p.Count(), p.Looks(""), p.SourceSum(""), p.TargetSum(""),
		p.SourceRows(""), p.TargetRows(""), p.Bound(nil, 9), p.Bound(key, 9), p.TargetCount(), p.Export("").Select}
	if p.Kept != nil {
		list = append(list, p.Delete([][]string{key}))
	}
	for _, c := range slices.Concat(p.Checks, p.Zeros) {
		list = append(list, c.Count, c.Keys)
	}
	for _, x := range p.MissingIn("") {
		list = append(list, x.First)
	}
	if len(p.Columns) == 0 || len(p.Columns) != len(p.Values) {
		t.Errorf("%s: %d columns, %d values", p.Target, len(p.Columns), len(p.Values))
	}
	all := 0
	for _, s := range list {
		if all += len(s); open(s) {
			t.Errorf("%s: quotes or brackets are not closed: %s", p.Target, s)
		}
	}
	if all > fuzzSQL {
		t.Errorf("%s: statements of %d bytes", p.Target, all)
	}
}

// open reports whether a quote or a bracket of a statement is open at its end, or a
// statement ends before it.
func open(s string) bool {
	deep, quote := 0, byte(0)
	for i := range len(s) {
		switch c := s[i]; {
		case quote != 0:
			if c == quote { // one that is written twice closes and opens
				quote = 0
			}
		case c == '\'' || c == '`':
			quote = c
		case c == '(':
			deep++
		case c == ')':
			if deep--; deep < 0 {
				return true
			}
		case c == ';':
			return true
		}
	}
	return quote != 0 || deep != 0
}
