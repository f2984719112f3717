package mapping

import (
	"strings"
	"testing"

	"holdfast/internal/transition/db/column"
)

// TestJoinsThatDouble: the source's own key is looked at, whatever keys the target has.
func TestJoinsThatDouble(t *testing.T) {
	source, target := sides(t)
	source.Tables["nova.instances"].Key = []string{"uuid", "id"}
	p := MakePlan(parse(t, example), source, target, map[string]IDs{"project": {Given: true}})
	if len(p.Tables[0].Collisions) != 0 || len(p.Tables[1].Collisions) != 1 {
		t.Fatalf("%+v", p.Tables)
	}
	c := p.Tables[1].Collisions[0]
	const want = "SELECT c1, c2, COUNT(*) FROM (SELECT `s`.`uuid` AS c1, `s`.`id` AS c2 FROM " +
		"`liberty_nova`.`instances` AS `s` LEFT JOIN `liberty_nova`.`instance_extra` AS `x`" +
		" ON ((`x`.`uuid` = `s`.`uuid`) AND (`x`.`deleted` = 0))) AS r GROUP BY c1, c2 HAVING COUNT(*) > 1 ORDER BY c1, c2 LIMIT 20"
	if got := c.List(nil); got != want || c.Index != "join" || strings.Join(c.Joins, "; ") != "x (nova.instance_extra)" {
		t.Errorf("%+v:\n%s\nwant\n%s", c, got, want)
	}
}

// TestZeroDatesOfAnyName become NULL, too: renamed ones, and those of a join.
func TestZeroDatesOfAnyName(t *testing.T) {
	source, target := sides(t)
	x := source.Tables["nova.instance_extra"]
	x.Columns = append(x.Columns, typed(t, "made", "datetime", nullable))
	s, d := source.Tables["nova.instances"], target.Tables["nova.instances"]
	s.Columns = append(s.Columns, typed(t, "day", "date", nullable))
	d.Columns = append(d.Columns, typed(t, "made_at", "datetime", nullable), typed(t, "on_day", "date", nullable),
		typed(t, "must", "date", func(c *column.Column) { c.Default = new(string) }))
	text := strings.Replace(example, "  - {to: flavor, value: x.flavor}\n",
		"  - {to: flavor, value: x.flavor}\n  - {to: made_at, value: x.made}\n  - {to: on_day, value: day}\n  - {to: must, value: s.day}\n", 1)
	for yes, want := range map[string]string{
		"false": "`x`.`flavor`, `x`.`made`, `s`.`day`, `s`.`day`, ",
		"true": "`x`.`flavor`, IF((MONTH(`x`.`made`) = 0 OR DAYOFMONTH(`x`.`made`) = 0), NULL, `x`.`made`), " +
			"IF((MONTH(`s`.`day`) = 0 OR DAYOFMONTH(`s`.`day`) = 0), NULL, `s`.`day`), `s`.`day`, ",
	} {
		p := MakePlan(parse(t, strings.Replace(text, "format: 1", "format: 1\nno_zero_dates: "+yes, 1)), source, target, nil)
		if got := p.Tables[1].Select(""); len(p.Errors) > 0 || !strings.Contains(got, want) {
			t.Errorf("%s: %+v\n%s\nwant\n%s", yes, p.Errors, got, want)
		}
	}
}

// TestKeysThatAreNotLookedAt are told, but for those that nothing breaks.
func TestKeysThatAreNotLookedAt(t *testing.T) {
	for _, c := range []struct {
		what, typ, fallback string // of the column hidden, which the mapping leaves out
		more                func(*column.Column)
		columns             []string
		list, warning       string
	}{
		{"NULL", "int(11)", "", nullable, []string{"project_id", "hidden"}, "", ""},
		{"counted", "int(11)", "", automatic, []string{"hidden"}, "", ""},
		{"a number", "int(11)", "0", nil, []string{"project_id", "hidden"}, "0 AS c2", ""},
		{"a text", "varchar(9)", "it", nil, []string{"hidden", "project_id"}, "CONVERT('it' USING utf8mb4) COLLATE utf8mb4_bin AS c1", ""},
		{"a moment", "datetime", "1970-01-01 00:00:00", nil, []string{"hidden", "project_id"}, "'1970-01-01 00:00:00' AS c1", ""},
		{"the clock", "datetime", "current_timestamp()", nil, []string{"hidden", "project_id"}, "", "the default of hidden is an expression"},
		{"chance", "varchar(36)", "uuid()", nil, []string{"hidden", "project_id"}, "", "the default of hidden is an expression"},
		{"generated", "int(11)", "", func(c *column.Column) { c.Generated = true }, []string{"hidden", "project_id"},
			"", "the server makes the values of hidden"},
		{"within", "int(11)", "", nullable, []string{"spec", "project_id"}, "", "a part of the value of spec is looked up"},
	} {
		source, target := sides(t)
		d := target.Tables["nova.instances"]
		d.Columns[6] = typed(t, "hidden", c.typ, c.more)
		if c.fallback != "" {
			d.Columns[6].Default = &c.fallback
		}
		d.Unique = []Unique{{Name: "uniq", Columns: c.columns}}
		p := MakePlan(mappedExample(t, within), source, target, map[string]IDs{"project": {Given: true}})
		list, warning := "", ""
		for _, k := range p.Tables[1].Collisions {
			if k.Index == "uniq" {
				list = k.List(nil)
			}
		}
		for _, w := range p.Warnings {
			if strings.HasPrefix(w.Text, "unique key") {
				warning = w.Text
			}
		}
		if c.warning != "" {
			c.warning = "unique key uniq (" + strings.Join(c.columns, ", ") + ") is not looked at: " + c.warning
		}
		if len(p.Errors) > 0 || warning != c.warning || (list == "") != (c.list == "") || !strings.Contains(list, c.list) {
			t.Errorf("%s: %+v, %q, %q", c.what, p.Errors, warning, list)
		}
	}
}

// TestPartsAreNotMeasured: with the IDs it is another value than what was measured.
func TestPartsAreNotMeasured(t *testing.T) {
	for _, c := range []struct {
		typ  string
		null bool
		ids  map[string]IDs
		want int
	}{
		{"varchar(40)", true, map[string]IDs{"project": {Given: true}}, 1},
		{"int(11)", false, map[string]IDs{"user": {Given: true, Default: true}}, 1},
		{"int(11)", true, map[string]IDs{"project": {Given: true}}, 0},
		{"varchar(40)", false, nil, 0},
	} {
		source, target := sides(t)
		target.Tables["nova.instances"].Columns[5] = typed(t, "spec", c.typ, func(x *column.Column) { x.Nullable = c.null })
		p := MakePlan(mappedExample(t, within), source, target, c.ids)
		if len(p.Errors) > 0 || len(p.Warnings) != c.want || c.want > 0 &&
			(p.Warnings[0].Column != "spec" || !strings.Contains(p.Warnings[0].Text, "is not looked at before the run")) {
			t.Errorf("%s: %+v, %+v", c.typ, p.Errors, p.Warnings)
		}
	}
}

// TestKeysOfUnknownCollations say that they may be wrong.
func TestKeysOfUnknownCollations(t *testing.T) {
	for known, want := range map[string]string{"utf8mb4_0900_ai_ci": "", "utf8mb4_bin": "utf8mb4_0900_ai_ci"} {
		source, target := sides(t)
		source.Collations = map[string]bool{known: true}
		d := target.Tables["api.flavors"]
		d.Unique, d.Columns[1].Collation = []Unique{{Name: "uniq", Columns: []string{"public", "name"}}}, "utf8mb4_0900_ai_ci"
		d.Columns[3].Type, d.Columns[3].Charset, d.Columns[3].Collation = typed(t, "", "int(11)", nil).Type, "", ""
		p := MakePlan(parse(t, example), source, target, nil)
		if c := p.Tables[0].Collisions; len(c) != 1 || c[0].Rough != want {
			t.Errorf("%s: %+v", known, c)
		}
	}
}

// TestParentsThatAreNotFilled are for the target to tell, of one column.
func TestParentsThatAreNotFilled(t *testing.T) {
	for _, c := range []struct {
		columns               []string
		to, values, there     string
		kind, unknown, parent string
	}{
		{[]string{"project_id"}, "varchar(9)", "SELECT DISTINCT CONVERT(`s`.`project_id` USING utf8mb4) COLLATE " +
			"utf8mb4_bin FROM ", "SELECT EXISTS (SELECT 1 FROM `api`.`others` WHERE `id` = 'a'), EXISTS (SELECT 1 " +
			"FROM `api`.`others` WHERE `id` = _utf8mb4 X'2762')", "project", "", "api.others"},
		{[]string{"user_id"}, "varbinary(9)", "SELECT DISTINCT `s`.`user_id` FROM ",
			"SELECT EXISTS (SELECT 1 FROM `api`.`others` WHERE `id` = X'61'), EXISTS (SELECT 1 FROM `api`.`others` " +
				"WHERE `id` = X'2762')", "", "", "api.others"},
		{[]string{"hidden"}, "int(11)", "", "", "", "none", "api.others"},
		{[]string{"spec"}, "int(11)", "", "", "", "a part of the value of spec is looked up", "api.others"},
		{[]string{"spec"}, "int(11)", "", "", "", "a part of the value of spec is looked up", "api.flavors"},
		{[]string{"project_id", "user_id"}, "int(11)", "", "", "", "it has several columns", "api.others"},
	} {
		source, target := sides(t)
		target.Tables["api.others"] = &Schema{Columns: []column.Column{typed(t, "id", c.to, nil)}}
		target.Tables["nova.instances"].Refs = []Ref{{"fk", c.columns, c.parent, []string{"id", "id"}[:len(c.columns)]}}
		p := MakePlan(mappedExample(t, within), source, target, map[string]IDs{"project": {Given: true}})
		got := p.Tables[1].Orphans
		if c.unknown == "none" {
			if len(got) != 0 {
				t.Errorf("%v: %+v", c.columns, got)
			}
			continue
		}
		if len(got) != 1 || got[0].Unknown != c.unknown || (got[0].Outside == nil) != (c.values == "") || got[0].Rows(nil) != "" {
			t.Errorf("%v: %+v", c.columns, got)
			continue
		}
		if o := got[0].Outside; o != nil && (o.Kind != c.kind || !strings.HasPrefix(o.Values, c.values) ||
			strings.Contains(o.Values, staging) || o.There([]string{"a", "'b"}) != c.there) {
			t.Errorf("%v: %+v, %s", c.columns, o, o.There([]string{"a", "'b"}))
		}
	}
}

// TestNamesOfThePlanner are none for a mapping.
func TestNamesOfThePlanner(t *testing.T) {
	for _, c := range []struct{ old, with, want string }{
		{"{as: x,", "{as: ids1,", `tables[1].join[0].as: value "ids1": want another word than ids`},
		{"{as: bfv,", "{as: ids12,", `tables[1].find[0].as: value "ids12": want another word than ids`},
		{"{as: bfv,", "{as: ids_1,", ""},
	} {
		text := strings.Replace(example, c.old, c.with, 1)
		if _, err := ParseMapping("m.yaml", []byte(text)); (err == nil) != (c.want == "") || err != nil &&
			!strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", c.with, err)
		}
	}
}

// TestQueriesWriteNoFiles, however INTO is hidden.
func TestQueriesWriteNoFiles(t *testing.T) {
	for query, ok := range map[string]bool{
		"SELECT 1 INTO OUTFILE '/tmp/x'":                 false,
		"select 1 into\n@x":                              false,
		"SELECT 1.0INTO OUTFILE '/tmp/x'":                false,
		"SELECT 'it''s'INTO OUTFILE '/tmp/x'":            false,
		`SELECT \NINTO OUTFILE '/tmp/x'`:                 false,
		`SELECT '\'', 1 INTO OUTFILE '/tmp/x'`:           false,
		"SELECT 1 -- it's\n INTO OUTFILE '/tmp/x'":       false,
		"SELECT 1 # it's\n INTO OUTFILE '/tmp/x'":        false,
		"SELECT 1 /* ' */ INTO OUTFILE '/tmp/x' -- '":    false,
		"SELECT 1 /*! INTO OUTFILE '/tmp/x' */":          false,
		"SELECT `a\\`, 1 INTO OUTFILE '/tmp/x' FROM `b`": false,
		"SELECT 'a": false,
		"SELECT 1 FROM t WHERE a = 'going into it'":      true,
		"SELECT `into`, intol, _into, xinto FROM t":      true,
		`SELECT "INTO \" INTO", 'it''s INTO', '\' INTO'`: true,
		"SELECT a--1, '-- x', '#', '/*' FROM t":          true,
	} {
		m := &Mapping{}
		r := &reader{m: m}
		r.query("q", query)
		if (len(r.faults.List) == 0) != ok {
			t.Errorf("%s: %+v", query, r.faults.List)
		}
	}
}
