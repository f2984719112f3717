package mapping

import (
	"fmt"
	"strings"
	"testing"

	"holdfast/internal/transition/db/column"
)

// TestLooksNeedNoStagedIDs: what is asked before a copy, and of the source only.
func TestLooksNeedNoStagedIDs(t *testing.T) {
	source, target := sides(t)
	target.Tables["nova.instances"].Unique = []Unique{{Name: "uniq", Columns: []string{"project_id", "uuid"}},
		{Name: "generated", Columns: []string{"hidden"}}}
	target.Tables["nova.instances"].Refs = []Ref{{"fk", []string{"project_id"}, "api.flavors", []string{"name"}}}
	p := MakePlan(parse(t, example), source, target, map[string]IDs{"project": {Given: true}, "user": {Given: true, Default: true}})
	i := &p.Tables[1]
	texts := []string{i.Count(), i.Looks(""), i.Lookups[0].Values, i.Others[0].Values}
	for _, c := range i.Checks {
		texts = append(texts, c.Count, c.Keys)
	}
	for _, c := range i.Collisions {
		texts = append(texts, c.List(nil))
	}
	for _, s := range texts {
		if strings.Contains(s, staging) || strings.Contains(s, "ids1") {
			t.Errorf("%s", s)
		}
	}
	if len(i.Checks) != 4 || i.Checks[0].Column != "project_id" ||
		!strings.HasSuffix(i.Checks[0].Count, " WHERE `s`.`project_id` IS NULL") ||
		!strings.HasPrefix(i.Checks[0].Keys, "SELECT `s`.`id` FROM") || i.Others[0].Missing != "" {
		t.Errorf("%+v", i.Checks)
	}
	if want := "SELECT COUNT(*), COALESCE(SUM(CASE WHEN `s`.`project_id` IS NULL THEN 1 ELSE 0 END), 0), COALESCE("; !strings.HasPrefix(i.Looks(""), want) || strings.Count(i.Looks(""), "SUM(") != 4 {
		t.Errorf("%s", i.Looks(""))
	}
	// Only one side of the foreign key is looked up.
	if o := i.Orphans; len(o) != 1 || o[0].Kinds != "project" || o[0].Rows(nil) != "" {
		t.Errorf("%+v", o)
	}
}

// TestKeysThatTheSourceKeeps: only what the source's keys do not promise is looked at.
func TestKeysThatTheSourceKeeps(t *testing.T) {
	for _, c := range []struct {
		what   string
		change func(s, d *Schema)
		want   string
	}{
		{"the same keys", func(s, _ *Schema) { s.Unique = []Unique{{Name: "u", Columns: []string{"name"}}} }, ""},
		{"no key in the source", func(*Schema, *Schema) {}, "uniq"},
		{"a wider key in the source", func(s, _ *Schema) { s.Unique = []Unique{{Name: "u", Columns: []string{"name", "deleted"}}} }, "uniq"},
		{"a narrower key in the source", func(s, d *Schema) {
			s.Unique = []Unique{{Name: "u", Columns: []string{"name"}}}
			d.Unique[0].Columns = []string{"public", "name"}
		}, ""},
		{"another collation", func(s, d *Schema) {
			s.Unique = []Unique{{Name: "u", Columns: []string{"name"}}}
			d.Columns[1].Collation = "utf8mb4_general_ci"
		}, "uniq"},
		{"the same collation of a narrower set", func(s, d *Schema) {
			s.Unique = []Unique{{Name: "u", Columns: []string{"name"}}}
			s.Columns[1].Collation = "utf8_bin"
		}, ""},
		{"another key", func(s, d *Schema) {
			s.Unique = []Unique{{Name: "u", Columns: []string{"name"}}}
			d.Key = []string{"uuid"}
		}, "PRIMARY"},
		{"the beginning of a value", func(s, d *Schema) {
			s.Unique = []Unique{{Name: "u", Columns: []string{"name"}}}
			d.Unique[0].Lengths = []int{3}
		}, "uniq"},
		{"a longer beginning in the source", func(s, d *Schema) {
			s.Unique = []Unique{{Name: "u", Columns: []string{"name"}, Lengths: []int{4}}}
			d.Unique[0].Lengths = []int{3}
		}, "uniq"},
		{"the same beginning in the source", func(s, d *Schema) {
			s.Unique = []Unique{{Name: "u", Columns: []string{"name"}, Lengths: []int{3}}}
			d.Unique[0].Lengths = []int{3}
		}, ""},
		{"a beginning in the source only", func(s, _ *Schema) {
			s.Unique = []Unique{{Name: "u", Columns: []string{"name"}, Lengths: []int{3}}}
		}, ""},
		{"a join", func(s, _ *Schema) { s.Unique = []Unique{{Name: "u", Columns: []string{"name"}}} }, "join"},
		{"a join, and no key", func(*Schema, *Schema) {}, "join uniq"},
	} {
		m := parse(t, example)
		if strings.HasPrefix(c.what, "a join") {
			m = parse(t, strings.Replace(example, "  where: deleted = 0\n",
				"  where: deleted = 0\n  join: [{as: x, table: nova.instance_extra, match: x.id = s.id}]\n", 1))
		}
		source, target := sides(t)
		s, d := source.Tables["nova.instance_types"], target.Tables["api.flavors"]
		d.Key, d.Unique = []string{"id"}, []Unique{{Name: "uniq", Columns: []string{"name"}}}
		c.change(s, d)
		p := MakePlan(m, source, target, nil)
		var got []string
		for _, k := range p.Tables[0].Collisions {
			got = append(got, k.Index)
		}
		if strings.Join(got, " ") != c.want {
			t.Errorf("%s: %v, want %s", c.what, got, c.want)
		}
	}
}

// TestBeginningsOfValuesThatAreLookedUp are not known before.
func TestBeginningsOfValuesThatAreLookedUp(t *testing.T) {
	source, target := sides(t)
	target.Tables["nova.instances"].Unique = []Unique{{Name: "uniq", Columns: []string{"project_id", "uuid"}, Lengths: []int{8, 0}}}
	p := MakePlan(parse(t, example), source, target, map[string]IDs{"project": {Given: true}})
	const want = "unique key uniq (project_id(8), uuid) is not looked at: of project_id only the beginning counts, and it is looked up"
	if w := p.Warnings; len(w) != 1 || w[0].Text != want {
		t.Errorf("%+v, want %s", w, want)
	}
	p = MakePlan(parse(t, example), source, target, nil)
	if len(p.Warnings) != 0 || len(p.Tables[1].Collisions) != 2 ||
		!strings.Contains(p.Tables[1].Collisions[1].List(nil),
			"(SELECT LEFT(CONVERT(`s`.`project_id` USING utf8mb4) COLLATE utf8mb4_bin, 8) AS c1, CONVERT(") {
		t.Errorf("%+v, %+v", p.Warnings, p.Tables[1].Collisions)
	}
}

// TestMergedValues: old values that become one are written as the first of them.
func TestMergedValues(t *testing.T) {
	source, target := sides(t)
	target.Tables["nova.instances"].Unique = []Unique{{Name: "uniq", Columns: []string{"project_id"}}}
	target.Tables["nova.instances"].Columns[2].Collation = "utf8mb4_general_ci"
	p := MakePlan(parse(t, example), source, target, map[string]IDs{"project": {Given: true}})
	list := p.Tables[1].Collisions[1].List(func(kind string, folded bool) [][]string {
		if kind != "project" || !folded {
			t.Errorf("%s, %v", kind, folded)
		}
		return [][]string{{"a", "it's"}, {"c", "d"}}
	})
	v := "CONVERT(`s`.`project_id` USING utf8mb4) COLLATE utf8mb4_bin"
	want := "SELECT c1, COUNT(*) FROM (SELECT (CASE WHEN " + v + " IN ('a', _utf8mb4 X'69742773') THEN 'a' WHEN " +
		v + " IN ('c', 'd') THEN 'c' ELSE " + v + " END) COLLATE utf8mb4_bin AS c1 FROM "
	if !strings.HasPrefix(list, want) || !strings.HasSuffix(list,
		" AS r WHERE c1 IS NOT NULL GROUP BY c1 HAVING COUNT(*) > 1 ORDER BY c1 LIMIT 20") {
		t.Errorf("%s\nwant\n%s", list, want)
	}
}

// TestCollationsThatTheSourceDoesNotKnow are written as one that finds no less equal.
func TestCollationsThatTheSourceDoesNotKnow(t *testing.T) {
	for _, c := range []struct{ set, name, known, want string }{
		{"utf8mb3", "utf8mb3_general_ci", "", "utf8mb3 utf8mb3_general_ci"},
		{"utf8mb3", "utf8mb3_general_ci", "utf8_general_ci", "utf8mb3 utf8_general_ci"},
		{"utf8", "utf8_general_ci", "utf8mb3_general_ci", "utf8 utf8mb3_general_ci"},
		{"utf8mb4", "utf8mb4_0900_ai_ci", "utf8mb4_bin", "utf8mb4 utf8mb4_unicode_ci"},
		{"utf8mb4", "utf8mb4_0900_bin", "utf8mb4_bin", "utf8mb4 utf8mb4_bin"},
	} {
		s := Side{}
		if c.known != "" {
			s.Collations = map[string]bool{c.known: true}
		}
		set, name, known := s.collation(c.set, c.name)
		if set+" "+name != c.want || known == strings.Contains(c.name, "0900") {
			t.Errorf("%s: %s %s, known %v, want %s", c.name, set, name, known, c.want)
		}
	}
}

func TestKeysThatHaveNoOrder(t *testing.T) {
	for typ, bad := range map[string]bool{"int(11)": false, "varchar(36)": false, "datetime": false,
		"varbinary(16)": false, "decimal(10,0)": false, "float": true, "enum('a')": true, "set('a')": true,
		"bit(1)": true, "json": true, "inet6": true} {
		source, target := sides(t)
		c := typed(t, "id", typ, nil)
		source.Tables["nova.instances"].Columns[0], target.Tables["nova.instances"].Columns[0] = c, c
		p := MakePlan(parse(t, example), source, target, nil)
		if got := strings.Contains(fmt.Sprint(p.Errors), "of table nova.instances of the source is "+typ); got != bad {
			t.Errorf("%s: %+v", typ, p.Errors)
		}
	}
}

// TestChunksOnBothSides need a key that both order alike.
func TestChunksOnBothSides(t *testing.T) {
	for _, c := range []struct {
		from, to           string
		collation, becomes string
		want               bool
	}{
		{"int(11)", "bigint(20)", "", "", true},
		{"varchar(36)", "varchar(64)", "utf8_general_ci", "utf8mb4_general_ci", true},
		{"varchar(36)", "varchar(36)", "utf8mb4_bin", "utf8mb4_general_ci", false},
		{"varchar(36)", "varchar(36)", "latin1_swedish_ci", "utf8mb4_general_ci", false},
		{"datetime", "datetime", "", "", true},
		{"datetime", "datetime(6)", "", "", false},
		{"decimal(4,0)", "decimal(6,0)", "", "", true},
		{"decimal(4,0)", "decimal(6,2)", "", "", false},
		{"varbinary(16)", "varbinary(16)", "", "", true},
		{"varbinary(16)", "binary(16)", "", "", false},
		{"int(11)", "varchar(36)", "", "", false},
	} {
		source, target := sides(t)
		s, d := source.Tables["nova.instances"], target.Tables["nova.instances"]
		s.Columns[0], d.Columns[0] = typed(t, "id", c.from, nil), typed(t, "id", c.to, nil)
		s.Columns[0].Collation, d.Columns[0].Collation = c.collation, c.becomes
		d.Key = []string{"id"}
		p := MakePlan(parse(t, example), source, target, nil)
		if x := &p.Tables[1]; x.Chunked() != c.want || len(x.Kept) != 1 || fmt.Sprint(x.KeyKinds()) != "["+string(s.Columns[0].Type.Kind)+"]" {
			t.Errorf("%s into %s: %v, kept %v", c.from, c.to, x.Chunked(), x.Kept)
		}
	}
	source, target := sides(t)
	p := MakePlan(parse(t, example), source, target, nil)
	if p.Tables[1].Chunked() {
		t.Error("a table without a key has chunks")
	}
}

// TestCharactersThatAreLacking are for rows to tell; so are expressions' texts.
func TestCharactersThatAreLacking(t *testing.T) {
	source, target := sides(t)
	for i := range target.Tables["api.flavors"].Columns {
		c := &target.Tables["api.flavors"].Columns[i]
		c.Charset, c.Collation = "utf8mb3", "utf8mb4_bin"
	}
	p := MakePlan(parse(t, example), source, target, nil)
	var got []string
	for _, c := range p.Tables[0].Checks {
		got = append(got, c.Column+": "+c.Have)
	}
	lacking := "characters that utf8mb3 does not have"
	want := []string{"name: " + lacking, "name: NULL, which the target does not allow",
		"uuid: NULL, which the target does not allow", "uuid: a text that is too long for varchar(36)", "uuid: " + lacking,
		"public: NULL, which the target does not allow", "public: a text that is too long for varchar(3)", "public: " + lacking}
	if fmt.Sprint(got) != fmt.Sprint(want) || len(p.Errors) > 0 || len(p.Warnings) != 1 || p.Warnings[0].Column != "name" {
		t.Errorf("%v, want %v; %+v", got, want, p)
	}
}

// TestJoinsThatMayFindNothing make NULL of columns that may not be NULL in their table.
func TestJoinsThatMayFindNothing(t *testing.T) {
	for optional, want := range map[string]int{"true": 2, "false": 1} {
		source, target := sides(t)
		source.Tables["nova.instance_extra"].Columns[2] = typed(t, "flavor", "text", nil)
		target.Tables["nova.instances"].Columns[4] = typed(t, "flavor", "text", nil)
		target.Tables["nova.instances"].Columns[5] = typed(t, "spec", "mediumtext", nullable)
		p := MakePlan(parse(t, strings.Replace(example, "optional: true", "optional: "+optional, 1)), source, target,
			map[string]IDs{"project": {Given: true}})
		n := 0
		for _, c := range p.Tables[1].Checks {
			if strings.HasPrefix(c.Have, "NULL") && (c.Column == "flavor" || c.Column == "user_id") {
				n++
			}
		}
		if n != want {
			t.Errorf("optional %s: %+v", optional, p.Tables[1].Checks)
		}
	}
}

func TestQueriesOfMappingsRead(t *testing.T) {
	for query, ok := range map[string]bool{
		"SELECT 1": true, "\n  select 1": true, "WITH x AS (SELECT 1) SELECT * FROM x": true,
		"": false, "DROP TABLE {nova}.instances": false, "/* SELECT */ DROP TABLE x": false, "SELECTED": false,
		"SET GLOBAL x = 1": false, "COMMIT": false,
	} {
		text := example + fmt.Sprintf("checks: [{name: c, rows: %q}]\n", query)
		if _, err := ParseMapping("m.yaml", []byte(text)); (err == nil) != ok || err != nil && !strings.Contains(err.Error(), "checks[0].rows") {
			t.Errorf("check %q: %v", query, err)
		}
		text = strings.Replace(example, "{kind: user}", fmt.Sprintf("{kind: user, query: %q}", query), 1)
		if _, err := ParseMapping("m.yaml", []byte(text)); query != "" &&
			((err == nil) != ok || err != nil && !strings.Contains(err.Error(), "ids[1].query")) {
			t.Errorf("IDs %q: %v", query, err)
		}
	}
}

func TestOrphansOfASide(t *testing.T) {
	s := Side{Databases: map[string]string{"nova": "new_nova"}, Tables: map[string]*Schema{"nova.child": {Key: []string{"id", "b"}}}}
	got := s.Orphans("nova.child", Ref{"fk", []string{"a", "b"}, "api.parent", []string{"x", "y"}})
	want := "SELECT c.`id`, c.`b`, c.`a` FROM `new_nova`.`child` AS c LEFT JOIN `api`.`parent` AS p ON p.`x` = c.`a` " +
		"AND p.`y` = c.`b` WHERE c.`a` IS NOT NULL AND c.`b` IS NOT NULL AND p.`x` IS NULL"
	if got != want {
		t.Errorf("%s, want %s", got, want)
	}
	if c := (column.Column{Type: column.Type{Kind: column.Char}, Collation: "utf8mb4_0900_as_cs"}); folds(&c) {
		t.Error("a collation that tells cases apart folds them")
	}
}
