package mapping

import (
	"strings"
	"testing"

	"holdfast/internal/transition/db/column"
)

// TestChecksOfTheTargetForTheSource: tables of the target become the rows that the mapping makes
// for them, with the columns that are asked for, under the name that they have; what is not the
// mapping's is not asked.
func TestChecksOfTheTargetForTheSource(t *testing.T) {
	source, target := sides(t)
	p := MakePlan(parse(t, example), source, target, map[string]IDs{"project": {Given: true}, "user": {Given: true, Default: true}})
	merged := func(kind string, _ bool) [][]string {
		if kind == "project" {
			return [][]string{{"a", "b"}}
		}
		return nil
	}
	for query, want := range map[string][2]string{ // what is in it, and what not
		"SELECT id FROM {api}.flavors WHERE description IS NULL": {"SELECT id FROM (SELECT `s`.`id` AS " +
			"`id`, NULL AS `description` FROM `liberty_nova`.`instance_types` AS `s` WHERE ", "`name`"},
		"SELECT f.id FROM {api}.flavors f, {nova}.instances AS i": {" WHERE (`s`.`deleted` = 0)) f, (SELECT ", "AS `flavors`"},
		"SELECT COUNT(*) FROM {api}.flavors JOIN {nova}.instances x ON 1": {") AS `flavors` JOIN (SELECT 1 FROM " +
			"`liberty_nova`.`instances` AS `s` LEFT JOIN ", "`public`"},
		"SELECT * FROM (SELECT id FROM {api}.flavors) AS f":                    {"AS `public`", "LIMIT"},
		"SELECT id FROM {nova}.instances WHERE project_id <> user_id":          {"WHEN CONVERT(", "migrate_ids"},
		"SELECT id FROM {nova}.instances WHERE spec IS NULL OR spec = ''":      {") AS `spec` FROM ", "project_id"},
		"SELECT i.id FROM {nova}.instances i WHERE i.spec IS NULL AND hidden":  {" LIMIT 18446744073709551615) i WHERE ", "`uuid` AS"},
		"SELECT id FROM {api}.cells":                                           {"", " "},
		"SELECT i.id FROM {nova}.instances i, {api}.cell_mappings c WHERE 1=0": {"", " "},
	} {
		if got := p.Made(query, merged); !strings.Contains(got, want[0]) || strings.Contains(got, want[1]) || (got == "") != (want[0] == "") {
			t.Errorf("%s: %s, want %q, without %q", query, got, want[0], want[1])
		}
	}
	for c, want := range map[Check]string{{Rows: "SELECT 1 FROM {api}.flavors f, {nova}.instances i"}: "api.flavors",
		{Target: "SELECT id FROM {nova}.instances"}: "nova.instances", {Rows: "SELECT 1", Table: "x.y"}: "x.y", {Rows: "SELECT 1"}: ""} {
		if got := c.About(); got != want {
			t.Errorf("%+v is about %q, want %q", c, got, want)
		}
	}
}

// TestRowsThatReferToNothing are left out by a condition that is part of each statement, and
// what is looked up is not.
func TestRowsThatReferToNothing(t *testing.T) {
	source, target := sides(t)
	source.Tables["nova.instances"].Columns = append(source.Tables["nova.instances"].Columns, typed(t, "flavor_id", "int(11)", nullable))
	target.Tables["nova.instances"].Columns = append(target.Tables["nova.instances"].Columns, typed(t, "flavor_id", "int(11)", nullable))
	target.Tables["nova.instances"].Refs = []Ref{{Name: "f", Columns: []string{"flavor_id"}, Table: "api.flavors",
		To: []string{"id"}}, {Name: "p", Columns: []string{"project_id"}, Table: "api.flavors", To: []string{"name"}}}
	text := strings.Replace(example, "copy: [id, uuid]", "copy: [id, uuid, flavor_id]", 1)
	given := map[string]IDs{"project": {Given: true}, "user": {Given: true}}
	plain := MakePlan(parse(t, text), source, target, given).Tables[1]
	if len(plain.Left) != 0 || len(plain.Orphans) != 2 || !plain.Orphans[0].MayGo || plain.Orphans[1].MayGo {
		t.Errorf("%+v, %+v", plain.Left, plain.Orphans)
	}
	all := MakePlan(parse(t, text), source, target, given)
	if loose := all.Loose(); len(loose) != 2 || loose[0].Name != "f" || loose[1].Name != "p" || all.LeavesOrphans() {
		t.Errorf("%+v", loose)
	}
	if loose := (&Plan{Tables: []Planned{plain}}).Loose(); loose != nil { // the table that it refers to is not filled
		t.Errorf("%+v", loose)
	}
	m := parse(t, text)
	m.LeaveOrphans()
	left := MakePlan(m, source, target, given)
	i := left.Tables[1]
	if loose := left.Loose(); !left.LeavesOrphans() || len(loose) != 1 || loose[0].Name != "p" ||
		loose[0].On != "nova.instances" || !strings.Contains(loose[0].Rows, "p.`name` = c.`project_id`") {
		t.Errorf("%+v", loose)
	}
	const among = " IN (SELECT `s`.`id` FROM `liberty_nova`.`instance_types` AS `s` WHERE (`s`.`deleted` = 0) AND `s`.`id` IS NOT NULL)"
	for _, s := range []string{i.Select(""), i.Count(), i.SourceSum(""), i.Lookups[0].Missing} {
		if !strings.Contains(s, "(`s`.`flavor_id` IS NULL OR (`s`.`flavor_id`)"+among+")") {
			t.Errorf("%s has them", s)
		}
	}
	if len(i.Left) != 1 || i.Left[0].Parent != "api.flavors" ||
		!strings.Contains(i.Left[0].Rows, "`s`.`flavor_id` IS NOT NULL AND (`s`.`flavor_id`) NOT"+among) {
		t.Errorf("%+v", i.Left)
	}
	touched := i.Touched("nova.instance_types")
	if len(touched) != 1 || touched[0].Columns[0] != "id" || plain.Touched("nova.instance_types") != nil {
		t.Fatalf("%+v", touched)
	}
	if got, err := touched[0].Keys([][]string{{"7"}, {"8"}}); err != nil ||
		!strings.HasSuffix(got, "WHERE (`s`.`flavor_id` = 7) OR (`s`.`flavor_id` = 8)") {
		t.Errorf("%s, %v", got, err)
	}
}

// TestRowsBelowOthersAreTouched: what a parent is made of concerns the rows below it, down to
// the last, and is read for them. A table that is made before its parent has no rows left out.
func TestRowsBelowOthersAreTouched(t *testing.T) {
	const text = `
format: 1
name: a chain
tables:
- {target: nova.a, from: nova.a, columns: [{copy: [id]}]}
- {target: nova.b, from: nova.b, join: [{as: x, table: nova.x, match: "x.id = s.up"}], columns: [{copy: [id, up]}]}
- {target: nova.c, from: nova.c, columns: [{copy: [id, up]}]}
`
	schemas := func(refs map[string]string) Side {
		s := Side{Databases: map[string]string{"nova": "liberty_nova"}, Tables: map[string]*Schema{}}
		for _, name := range []string{"a", "b", "c", "x"} {
			s.Tables["nova."+name] = &Schema{Columns: []column.Column{typed(t, "id", "int(11)", nil)}, Key: []string{"id"}}
			if name == "b" || name == "c" {
				s.Tables["nova."+name].Columns = append(s.Tables["nova."+name].Columns, typed(t, "up", "int(11)", nullable))
			}
			if to := refs[name]; to != "" {
				s.Tables["nova."+name].Refs = []Ref{{Name: "up", Columns: []string{"up"}, Table: "nova." + to, To: []string{"id"}}}
			}
		}
		return s
	}
	m := parse(t, text)
	m.LeaveOrphans()
	p := MakePlan(m, schemas(nil), schemas(map[string]string{"b": "a", "c": "b"}), nil)
	if len(p.Errors) > 0 {
		t.Fatalf("%+v", p.Errors)
	}
	c := &p.Tables[2]
	if got := strings.Join(c.Reads(), " "); got != "nova.c nova.b nova.x nova.a" {
		t.Errorf("it reads %s", got)
	}
	const below = " JOIN `liberty_nova`.`b` AS `parent` ON `parent`.`id` = `concerned`.`id` JOIN `liberty_nova`.`c` " +
		"AS `s` ON `s`.`up` = `parent`.`id`"
	for _, table := range []string{"nova.a", "nova.x"} {
		touched := c.Touched(table)
		if len(touched) != 1 || touched[0].Main {
			t.Fatalf("%s: %+v", table, touched)
		}
		if got, err := touched[0].Keys([][]string{{"7"}}); err != nil ||
			!strings.HasPrefix(got, "SELECT DISTINCT `s`.`id` FROM (SELECT DISTINCT `s`.`id` FROM "+
				"`liberty_nova`.`b` AS `s`") || !strings.HasSuffix(got, below) {
			t.Errorf("%s: %s, %v", table, got, err)
		}
	}
	p = MakePlan(m, schemas(nil), schemas(map[string]string{"b": "c"}), nil)
	if b := p.Tables[1]; len(b.Left) != 0 || len(b.Orphans) != 1 || b.Orphans[0].MayGo || len(p.Loose()) != 1 {
		t.Errorf("%+v, %+v", b.Left, b.Orphans)
	}
}
