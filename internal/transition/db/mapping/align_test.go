package mapping

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"holdfast/internal/transition/db/column"
)

const example = `
format: 1
name: example
ids: [{kind: project}, {kind: user}]
tables:
- target: api.flavors
  from: nova.instance_types
  where: deleted = 0
  columns:
  - copy: [id, name]
  - {to: uuid, value: named_uuid(id)}
  - {to: public, value: "IF(is_public, 'yes', 'no')"}
  drop: [vcpu_weight]
- target: nova.instances
  from: nova.instances
  after: [api.flavors]
  join:
  - {as: x, table: nova.instance_extra, match: x.uuid = s.uuid and x.deleted = 0, optional: true}
  find:
  - {as: bfv, table: nova.bdm, match: bfv.uuid = s.uuid and bfv.boot_index = 0}
  columns:
  - copy: [id, uuid]
  - {to: project_id, value: project_id, map: project}
  - {to: user_id, value: user_id, map: user}
  - {to: flavor, value: x.flavor}
  - {to: spec, value: "json_object('is_bfv', bool(found('bfv')))"}
advice: [restart the scheduler]
`

func typed(t testing.TB, name, text string, more func(*column.Column)) column.Column {
	t.Helper()
	typ, err := column.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	c := column.Column{Name: name, Type: typ, Charset: "utf8mb4", Collation: "utf8mb4_bin"}
	if more != nil {
		more(&c)
	}
	return c
}

func nullable(c *column.Column)  { c.Nullable = true }
func automatic(c *column.Column) { c.Auto = true }

// sides are databases that fit the example.
func sides(t testing.TB) (source, target Side) {
	col := func(name, text string, more func(*column.Column)) column.Column { return typed(t, name, text, more) }
	source = Side{Databases: map[string]string{"nova": "liberty_nova"}, Tables: map[string]*Schema{
		"nova.instance_types": {Key: []string{"id"}, Columns: []column.Column{
			col("id", "int(11)", automatic), col("name", "varchar(255)", nullable),
			col("is_public", "tinyint(1)", nullable), col("deleted", "int(11)", nullable), col("vcpu_weight", "int(11)", nullable),
		}},
		"nova.instances": {Key: []string{"id"}, Columns: []column.Column{
			col("id", "int(11)", automatic), col("uuid", "varchar(36)", nil),
			col("project_id", "varchar(255)", nullable), col("user_id", "varchar(255)", nullable),
		}},
		"nova.instance_extra": {Key: []string{"id"}, Columns: []column.Column{col("id", "int(11)", automatic),
			col("uuid", "varchar(36)", nil), col("flavor", "text", nullable), col("deleted", "int(11)", nullable)}},
		"nova.bdm": {Key: []string{"id"}, Columns: []column.Column{col("uuid", "varchar(36)", nil), col("boot_index", "int(11)", nullable)}},
	}}
	target = Side{Tables: map[string]*Schema{
		"api.flavors": {Columns: []column.Column{
			col("id", "bigint(20)", automatic), col("name", "varchar(255)", nil), col("uuid", "varchar(36)", nil),
			col("public", "varchar(3)", nil), col("description", "text", nullable),
		}},
		"nova.instances": {Columns: []column.Column{
			col("id", "int(11)", automatic), col("uuid", "varchar(36)", nil), col("project_id", "varchar(255)", nil),
			col("user_id", "varchar(255)", nil),
			col("flavor", "text", nullable), col("spec", "mediumtext", nil), col("hidden", "tinyint(1)", nullable),
		}},
	}}
	return source, target
}

func parse(t testing.TB, text string) *Mapping {
	t.Helper()
	m, err := ParseMapping("m.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestPlanOfAMapping(t *testing.T) {
	source, target := sides(t)
	p := MakePlan(parse(t, example), source, target, map[string]IDs{"project": {Given: true}, "user": {Given: true, Default: true}})
	if len(p.Errors) > 0 || len(p.Warnings) > 0 || len(p.Tables) != 2 {
		t.Fatalf("%+v", p)
	}
	f, i := p.Tables[0], p.Tables[1]
	h := "MD5(CONCAT_WS(':', 'holdfast api.flavors', `s`.`id`))"
	wants := map[string]string{
		f.Statement("`s`.`id` < 9"): "INSERT INTO `api`.`flavors` (`id`, `name`, `uuid`, `public`) SELECT `s`.`id`, `s`.`name`, " +
			"CONCAT(SUBSTRING(" + h + ", 1, 8), '-', SUBSTRING(" + h + ", 9, 4), '-3', SUBSTRING(" + h + ", 14, 3), '-', " +
			"SUBSTRING('89ab', 1 + (INSTR('0123456789abcdef', SUBSTRING(" + h + ", 17, 1)) - 1) % 4, 1), SUBSTRING(" +
			h + ", 18, 3), '-', SUBSTRING(" + h + ", 21, 12)), " +
			"IF(`s`.`is_public`, 'yes', 'no') FROM `liberty_nova`.`instance_types` AS `s` WHERE (`s`.`deleted` = 0) AND `s`.`id` < 9",
		f.Count():         "SELECT COUNT(*) FROM `liberty_nova`.`instance_types` AS `s` WHERE (`s`.`deleted` = 0)",
		f.Checks[0].Count: "SELECT COUNT(*) FROM `liberty_nova`.`instance_types` AS `s` WHERE (`s`.`deleted` = 0) AND `s`.`name` IS NULL",
		i.Select(""): "SELECT `s`.`id`, `s`.`uuid`, `ids1`.`new`, IF(`s`.`user_id` IS NULL, NULL, " +
			"COALESCE(`ids2`.`new`, (SELECT `new` FROM `migrate_ids`.`ids_default` WHERE `kind` = 'user'))), `x`.`flavor`, " +
			"JSON_OBJECT('is_bfv', JSON_EXTRACT(IF(EXISTS (SELECT 1 FROM `liberty_nova`.`bdm` AS `bfv` WHERE " +
			"((`bfv`.`uuid` = `s`.`uuid`) AND (`bfv`.`boot_index` = 0))), 'true', 'false'), '$')) " +
			"FROM `liberty_nova`.`instances` AS `s` LEFT JOIN `liberty_nova`.`instance_extra` AS `x` ON ((`x`.`uuid` " +
			"= `s`.`uuid`) AND (`x`.`deleted` = 0)) " +
			"LEFT JOIN `migrate_ids`.`ids_project` AS `ids1` ON `ids1`.`old` = CONVERT(`s`.`project_id` USING utf8mb4) COLLATE utf8mb4_bin " +
			"LEFT JOIN `migrate_ids`.`ids_user` AS `ids2` ON `ids2`.`old` = CONVERT(`s`.`user_id` USING utf8mb4) COLLATE utf8mb4_bin",
		i.Lookups[0].Missing[:strings.Index(i.Lookups[0].Missing, " FROM")]:  "SELECT DISTINCT `s`.`project_id`",
		i.Lookups[0].Missing[strings.Index(i.Lookups[0].Missing, " WHERE"):]: " WHERE `s`.`project_id` IS NOT NULL AND `ids1`.`new` IS NULL",
	}
	for got, want := range wants {
		if got != want {
			t.Errorf("got\n%s\nwant\n%s", got, want)
		}
	}
	if f.Target != "api.flavors" || len(f.Checks) != 5 || f.Checks[0].Column != "name" || len(i.Lookups) != 1 ||
		i.Lookups[0].Kind != "project" || fmt.Sprint(i.Key) != "[id]" {
		t.Errorf("%+v, %+v", f, i)
	}
}

// TestIDsWithoutAFileStay: the value itself is written, and must fit.
func TestIDsWithoutAFileStay(t *testing.T) {
	source, target := sides(t)
	p := MakePlan(parse(t, example), source, target, nil)
	if len(p.Errors) > 0 || len(p.Tables[1].Lookups) > 0 || !strings.Contains(p.Tables[1].Select(""), "`s`.`project_id`, `s`.`user_id`") {
		t.Errorf("%+v", p)
	}
}

func TestAllThatIsWrongIsToldAtOnce(t *testing.T) {
	for what, c := range map[string]struct {
		change func(m *Mapping, source, target Side)
		want   []string
	}{
		"tables that are not there": {func(_ *Mapping, s, d Side) {
			delete(s.Tables, "nova.instances")
			delete(s.Tables, "nova.instance_types")
		},
			[]string{"api.flavors: the source has no table nova.instance_types", "nova.instances: the source has no table nova.instances"}},
		"a join's table": {func(_ *Mapping, s, _ Side) { delete(s.Tables, "nova.bdm") },
			[]string{"nova.instances: the source has no table nova.bdm"}},
		"no key": {func(_ *Mapping, s, _ Side) { s.Tables["nova.instances"].Key = nil }, []string{"has no primary key"}},
		"a column that must have a value": {func(_ *Mapping, _, d Side) {
			c := &d.Tables["nova.instances"].Columns[6]
			c.Nullable = false
		}, []string{"nova.instances hidden: may not be NULL, has no default"}},
		"a column that goes nowhere": {func(m *Mapping, _, _ Side) { m.Tables[0].Drop = nil },
			[]string{"api.flavors: column vcpu_weight of table nova.instance_types of the source goes nowhere"}},
		"dropped and used": {func(m *Mapping, _, _ Side) {
			m.Tables[0].Drop = []string{"vcpu_weight", "deleted",
				"gone"}
		}, []string{"column deleted of table nova.instance_types of the source is used", "has no column gone to be dropped"}},
		"twice": {func(m *Mapping, _, _ Side) { m.Tables[0].Columns[0].Copy = []string{"id", "name", "name"} },
			[]string{"api.flavors name: is given twice"}},
		"columns that are not there": {func(m *Mapping, _, _ Side) { m.Tables[0].Columns[0].Copy = []string{"id", "name", "is_public", "gone"} },
			[]string{"api.flavors is_public: the target has no such column",
				"api.flavors gone: table nova.instance_types of the source has no such column"}},
		"too narrow": {func(_ *Mapping, _, d Side) {
			d.Tables["api.flavors"].Columns[1].Type.Length = 9
			d.Tables["api.flavors"].Columns[1].Type.Text = "varchar(9)"
		},
			[]string{"api.flavors name: varchar(255) does not fit into varchar(9): up to 255 instead of 9"}},
		"made by the server": {func(_ *Mapping, _, d Side) { d.Tables["api.flavors"].Columns[1].Generated = true },
			[]string{"the server makes the values"}},
	} {
		m := parse(t, example)
		source, target := sides(t)
		c.change(m, source, target)
		var got []string
		for _, e := range MakePlan(m, source, target, nil).Errors {
			got = append(got, strings.TrimSpace(e.Table+" "+e.Column)+": "+e.Text)
		}
		all := strings.Join(got, "\n")
		for _, w := range c.want {
			if !strings.Contains(all, w) {
				t.Errorf("%s: %s\nwant %s", what, all, w)
			}
		}
		if len(got) != len(c.want) {
			t.Errorf("%s: %d errors, want %d:\n%s", what, len(got), len(c.want), all)
		}
	}
}

func TestExpressionsThatNameWhatIsNotThere(t *testing.T) {
	for value, want := range map[string]string{
		"gone":         "gone: there is no such column",
		"x.gone":       "x.gone: there is no such column",
		"y.uuid":       "y.uuid: y is no table of this mapping's",
		"bfv.uuid":     "bfv.uuid: bfv is no table of this mapping's",
		"found('x')":   "function FOUND: want one of find",
		"found()":      "function FOUND: want one of find",
		"found(uuid)":  "function FOUND: want one of find",
		"bool()":       "function BOOL: want one condition",
		"named_uuid()": "function NAMED_UUID: want what it is made of",
		"version()":    "function VERSION: not known",
	} {
		m, err := ParseMapping("m.yaml", []byte(strings.Replace(example, "value: x.flavor", fmt.Sprintf("value: %q", value), 1)))
		if err != nil {
			t.Errorf("%s: %v", value, err)
			continue
		}
		source, target := sides(t)
		p := MakePlan(m, source, target, nil)
		if len(p.Errors) != 1 || !strings.Contains(p.Errors[0].Text, want) || p.Errors[0].Column != "flavor" {
			t.Errorf("%s: %+v, want %s", value, p.Errors, want)
		}
	}
}

func TestCollationsThatChangeAreWarnedOf(t *testing.T) {
	source, target := sides(t)
	target.Tables["nova.instances"].Columns[1].Collation = "utf8mb4_general_ci"
	p := MakePlan(parse(t, example), source, target, nil)
	if len(p.Errors) != 0 || len(p.Warnings) != 1 || p.Warnings[0].Column != "uuid" {
		t.Errorf("%+v", p)
	}
}

func TestMappingsAreReadStrictly(t *testing.T) {
	for _, c := range []struct{ old, with, want string }{
		{"format: 1", "format: 2", `m.yaml:2:9: format: value "2": want 1`},
		{"name: example", "name: ''", "name: value \"\": want the mapping's name"},
		{"ids: [{kind: project}, {kind: user}]", "ids: [{kind: project}, {kind: project}]", "ids[1].kind: value \"project\": is given twice"},
		{"{kind: user}]", "{kind: default}]", "ids[1].kind: value \"default\": want another word"},
		{"{kind: user}]", "{kind: " + strings.Repeat("k", 57) + "}]", "want another word than default, of at most 56 letters"},
		{"ids: [{kind: project}, {kind: user}]", "ids: [{kind: project}, {kind: a b}]", "ids[1].kind: value \"a b\": want a word"},
		{"map: user", "map: users", "tables[1].columns[2].map: value \"users\": want one of ids: project, user"},
		{"target: api.flavors", "target: flavors", "tables[0].target: value \"flavors\": want DATABASE.TABLE"},
		{"target: api.flavors", "target: api.a`b", "tables[0].target"},
		{"target: api.flavors", "target: nova.instances", "tables[1].target: value \"nova.instances\": is given twice"},
		{"where: deleted = 0", "where: deleted = 0; DROP TABLE x",
			`tables[0].where: value "deleted = 0; DROP TABLE x": byte 12 of the expression`},
		{"{as: x,", "{as: s,", "tables[1].join[0].as: value \"s\": is given twice"},
		{"{as: bfv,", "{as: x,", "tables[1].find[0].as: value \"x\": is given twice"},
		{"boot_index = 0}", "boot_index = 0, optional: true}", "tables[1].find[0].optional"},
		{"- copy: [id, name]", "- {copy: [id], to: id}", "tables[0].columns[0]: value \"id\": want copy alone"},
		{"{to: flavor, value: x.flavor}", "{value: x.flavor}", "tables[1].columns[3].to: value \"\": want the column"},
		{"{to: flavor, value: x.flavor}", "{to: flavor}", "tables[1].columns[3].value: value \"\": byte 1 of the expression, at its end"},
		{"after: [api.flavors]", "after: [api.gone]", "tables[1].after[0]: value \"api.gone\": want a target"},
		{"after: [api.flavors]", "after: [nova.instances]", "need it themselves"},
		{"where: deleted = 0", "where: deleted = 0\n  after: [nova.instances]", "need it themselves"},
		{"drop: [vcpu_weight]", "drob: [vcpu_weight]", "drob"},
	} {
		text := strings.Replace(example, c.old, c.with, 1)
		if text == example {
			t.Fatalf("%s is not in the example", c.old)
		}
		_, err := ParseMapping("m.yaml", []byte(text))
		var f *Faults
		if err == nil || !strings.Contains(err.Error(), c.want) || !errors.As(err, &f) {
			t.Errorf("%s: %v, want %s", c.with, err, c.want)
		}
	}
	if _, err := ParseMapping("m.yaml", make([]byte, maxMapping+1)); err == nil {
		t.Error("a huge mapping is read")
	}
	m := parse(t, strings.Replace(strings.Replace(example, "  after: [api.flavors]\n", "", 1), "where: deleted = 0",
		"where: deleted = 0\n  after: [nova.instances]", 1))
	if order, err := m.order(); err != nil || order[0].Target != "nova.instances" || len(order) != 2 {
		t.Errorf("order %v, %v", order, err)
	}
}
