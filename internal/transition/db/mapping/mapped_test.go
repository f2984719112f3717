package mapping

import (
	"fmt"
	"strings"
	"testing"
)

// within is the example with a value that has looked up parts.
const within = "{to: spec, value: \"json_object('p', mapped('project', project_id), 'u', coalesce(mapped('user', user_id), 'none'))\"}"

func mappedExample(t *testing.T, value string) *Mapping {
	t.Helper()
	const old = "{to: spec, value: \"json_object('is_bfv', bool(found('bfv')))\"}"
	if !strings.Contains(example, old) {
		t.Fatal("the example has changed")
	}
	return parse(t, strings.Replace(example, old, value, 1))
}

// TestPartsOfAValueAreLookedUp: as map does it for a whole column.
func TestPartsOfAValueAreLookedUp(t *testing.T) {
	source, target := sides(t)
	p := MakePlan(mappedExample(t, within), source, target, map[string]IDs{"project": {Given: true}, "user": {Given: true, Default: true}})
	if len(p.Errors) > 0 {
		t.Fatalf("%+v", p.Errors)
	}
	i := p.Tables[1]
	for _, want := range []string{
		"JSON_OBJECT('p', `ids3`.`new`, 'u', COALESCE(IF(`s`.`user_id` IS NULL, NULL, COALESCE(`ids4`.`new`, (SELECT " +
			"`new` FROM `migrate_ids`.`ids_default` WHERE `kind` = 'user'))), 'none'))",
		"LEFT JOIN `migrate_ids`.`ids_project` AS `ids3` ON `ids3`.`old` = CONVERT(`s`.`project_id` USING utf8mb4) COLLATE utf8mb4_bin",
		"LEFT JOIN `migrate_ids`.`ids_user` AS `ids4` ON",
	} {
		if got := i.Select(""); !strings.Contains(got, want) {
			t.Errorf("%s\nhas not\n%s", got, want)
		}
	}
	if len(i.Lookups) != 2 || !i.Lookups[1].Within || i.Lookups[1].Kind != "project" || i.Lookups[1].Column != "spec" ||
		i.Lookups[0].Within || len(i.Others) != 2 {
		t.Errorf("lookups %+v, others %+v", i.Lookups, i.Others)
	}
	// What looks at the source's rows needs no staged IDs, also for such a value.
	for _, s := range []string{i.Looks(""), i.Count(), i.Lookups[1].Values} {
		if strings.Contains(s, "migrate_ids") || strings.Contains(s, "`ids") {
			t.Errorf("staged IDs in %s", s)
		}
	}
	// Whether such values collide only the target can tell.
	if v, kind := i.value("spec"); v != "" || kind != "" {
		t.Errorf("value %q of kind %q", v, kind)
	}
}

func TestPartsWithoutAFileStay(t *testing.T) {
	source, target := sides(t)
	p := MakePlan(mappedExample(t, within), source, target, nil)
	if got := p.Tables[1].Select(""); len(p.Errors) > 0 ||
		!strings.Contains(got, "JSON_OBJECT('p', `s`.`project_id`, 'u', COALESCE(`s`.`user_id`, 'none'))") ||
		strings.Contains(got, "migrate_ids") {
		t.Errorf("%+v: %s", p.Errors, got)
	}
}

func TestWhereNothingCanBeLookedUp(t *testing.T) {
	ids := map[string]IDs{"project": {Given: true}, "user": {Given: true}}
	for value, want := range map[string]string{
		"mapped('projects', project_id)":                  "function MAPPED: want one of ids (project, user)",
		"mapped(project_id, 'project')":                   "function MAPPED: want one of ids (project, user)",
		"mapped('project')":                               "function MAPPED: want one of ids (project, user)",
		"mapped('project', mapped('user', user_id))":      "function MAPPED: want a value that is not looked up itself",
		"mapped('project', concat(mapped('user', uuid)))": "function MAPPED: want a value that is not looked up itself",
	} {
		source, target := sides(t)
		p := MakePlan(mappedExample(t, fmt.Sprintf("{to: spec, value: %q}", value)), source, target, ids)
		if len(p.Errors) != 1 || p.Errors[0].Column != "spec" || !strings.Contains(p.Errors[0].Text, want) {
			t.Errorf("%s: %+v, want %s", value, p.Errors, want)
		}
	}
	source, target := sides(t)
	m := parse(t, strings.Replace(example, "where: deleted = 0", "where: deleted = 0 and mapped('project', name) = 'x'", 1))
	if p := MakePlan(m, source, target, ids); len(p.Errors) != 1 || !strings.Contains(p.Errors[0].Text, "not in a condition") {
		t.Errorf("in a condition: %+v", p.Errors)
	}
}

// TestZeroDatesBecomeNULL where the mapping says so and the target allows it.
func TestZeroDatesBecomeNULL(t *testing.T) {
	source, target := sides(t)
	for _, s := range []Side{source, target} {
		for name, x := range s.Tables {
			if name == "nova.instance_types" || name == "api.flavors" {
				x.Columns = append(x.Columns, typed(t, "created_at", "datetime", nullable), typed(t, "made_on", "date", nil))
			}
		}
	}
	text := strings.Replace(example, "- copy: [id, name]", "- copy: [id, name, created_at, made_on]", 1)
	const null = "IF((MONTH(`s`.`created_at`) = 0 OR DAYOFMONTH(`s`.`created_at`) = 0), NULL, `s`.`created_at`), `s`.`made_on`"
	for _, c := range []struct {
		text string
		has  bool
	}{{text, false}, {strings.Replace(text, "format: 1", "format: 1\nno_zero_dates: true", 1), true}} {
		p := MakePlan(parse(t, c.text), source, target, nil)
		if len(p.Errors) > 0 {
			t.Fatalf("%+v", p.Errors)
		}
		f := p.Tables[0]
		if got := f.Select(""); strings.Contains(got, null) != c.has {
			t.Errorf("%v: %s", c.has, got)
		}
		// They are told of all the same.
		if len(f.Zeros) != 2 || !strings.Contains(f.Zeros[0].Count,
			"(MONTH(`s`.`created_at`) = 0 OR DAYOFMONTH(`s`.`created_at`) = 0)") || strings.Contains(f.Zeros[0].Count, "IF(") {
			t.Errorf("zeros %+v", f.Zeros)
		}
	}
}
