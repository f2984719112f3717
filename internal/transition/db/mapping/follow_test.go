package mapping

import (
	"slices"
	"strings"
	"testing"
)

func TestRowsByTheirKeys(t *testing.T) {
	for _, c := range []struct {
		as   string
		key  []string
		keys [][]string
		want string
	}{
		{"s", []string{"id"}, [][]string{{"1"}, {"2"}}, "`s`.`id` IN (1, 2)"},
		{"", []string{"a`b"}, [][]string{{"'x'"}}, "`a``b` IN ('x')"},
		{"s", []string{"a", "b"}, [][]string{{"1", "'x'"}, {"2", "NULL"}},
			"((`s`.`a` = 1 AND `s`.`b` = 'x') OR (`s`.`a` = 2 AND `s`.`b` = NULL))"},
		{"s", []string{"id"}, nil, "FALSE"},
	} {
		if got := AnyOf(c.as, c.key, c.keys); got != c.want {
			t.Errorf("%+v: %s", c, got)
		}
	}
}

func TestWhatATableIsFollowedBy(t *testing.T) {
	source, target := sides(t)
	p := MakePlan(parse(t, example), source, target, map[string]IDs{"project": {Given: true}, "user": {Given: true, Default: true}})
	if len(p.Tables) != 2 {
		t.Fatalf("%+v", p.Errors)
	}
	i := &p.Tables[1]
	if got := i.Reads(); !slices.Equal(got, []string{"nova.instances", "nova.instance_extra", "nova.bdm"}) {
		t.Error("reads", got)
	}
	if db, name := i.SourceName("nova.bdm"); db != "liberty_nova" || name != "bdm" {
		t.Error(db, name)
	}
	if s := i.SourceSchema("nova.bdm"); s == nil || len(s.Columns) != 2 {
		t.Errorf("%+v", s)
	}
	i.Kept = i.Key
	if got := i.Delete([][]string{{"1"}}); got != "DELETE FROM `nova`.`instances` WHERE `id` IN (1)" {
		t.Error(got)
	}
	m := i.MissingIn("`s`.`id` IN (7)")
	if len(m) != 1 || m[0].Kind != "project" || m[0].Column != "project_id" ||
		!strings.HasPrefix(m[0].First, "SELECT `s`.`project_id`, `s`.`id` FROM `liberty_nova`.`instances` AS `s`") ||
		!strings.HasSuffix(m[0].First, "WHERE `s`.`project_id` IS NOT NULL AND `ids1`.`new` IS NULL AND `s`.`id` IN (7) LIMIT 1") {
		t.Errorf("%+v", m)
	}
}
