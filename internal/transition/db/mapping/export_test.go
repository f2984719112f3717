package mapping

import (
	"fmt"
	"testing"

	"holdfast/internal/transition/db/column"
)

// TestExport: what would change as a text travels otherwise.
func TestExport(t *testing.T) {
	source, target := Side{Databases: map[string]string{"a": "old"}, Tables: map[string]*Schema{}}, Side{Tables: map[string]*Schema{}}
	s := &Schema{Key: []string{"id"}, Refs: []Ref{{Columns: []string{"id"}, Table: "a.u", To: []string{"id"}},
		{Columns: []string{"f"}, Table: "a.u", To: []string{"id"}}}}
	for name, text := range map[string]string{"id": "int(11)", "f": "float", "b": "bit(3)", "v": "varbinary(9)", "y": "year(4)", "x": "text"} {
		s.Columns = append(s.Columns, typed(t, name, text, func(c *column.Column) { c.Auto, c.Nullable = name == "id", name != "id" }))
	}
	source.Tables["a.t"], target.Tables["a.t"] = s, s
	p := MakePlan(parse(t, "{format: 1, name: x, tables: [{target: a.t, from: a.t, columns: [{copy: [id, f, b, v, "+
		"\"y\", x]}]}]}"), source, target, nil)
	if len(p.Errors) > 0 {
		t.Fatal(p.Errors)
	}
	e := p.Tables[0].Export("`s`.`id` < 9")
	for got, want := range map[string]string{
		e.Select: "SELECT `s`.`id`, (`s`.`f`) + 0e0, (`s`.`b`) + 0, CAST(`s`.`v` AS " +
			"BINARY), (`s`.`y`) + 0, `s`.`x` FROM `old`.`t` AS `s` WHERE `s`.`id` < 9",
		e.Load: "(@v0, `f`, @v2, @v3, @v4, `x`) SET `id` = @v0, `b` = CAST(@v2 AS " +
			"UNSIGNED), `v` = UNHEX(@v3), `y` = CAST(@v4 AS UNSIGNED)",
		e.Into:                            "`a`.`t`",
		e.Charset:                         "binary",
		p.Tables[0].Unknown("x"):          "",
		fmt.Sprint(p.Tables[0].Counts()):  "true",
		fmt.Sprint(e.Forms):               "[text text number hex number text]",
		fmt.Sprint(p.Tables[0].Parents()): "[a.u]",
		p.Tables[0].KeyColumns()[0].Name:  "id",
	} {
		if got != want {
			t.Errorf("got\n%s\nwant\n%s", got, want)
		}
	}
	p = MakePlan(parse(t, "{format: 1, name: x, ids: [{kind: host}], tables: [{target: a.t, from: a.t, drop: [b, v, "+
		"\"y\"], columns: [{copy: [id]}, {to: f, value: f, map: host}, {to: x, value: x, map: host}]}]}"), source,
		target, map[string]IDs{"host": {Given: true}})
	if len(p.Errors) > 0 {
		t.Fatal(p.Errors)
	}
	want := "SELECT 1 FROM `old`.`t` AS `s` LEFT JOIN `migrate_ids`.`ids_host` AS `ids1` ON `ids1`.`old` = " +
		"CONVERT(`s`.`f` USING utf8mb4) COLLATE utf8mb4_bin LEFT JOIN `migrate_ids`.`ids_host` AS `ids2` ON " +
		"`ids2`.`old` = CONVERT(`s`.`x` USING utf8mb4) COLLATE utf8mb4_bin" +
		" WHERE (`s`.`f` IS NOT NULL AND `ids1`.`new` IS NULL OR `s`.`x` IS NOT NULL AND `ids2`.`new` IS NULL) AND `s`.`id` < 9 LIMIT 1"
	if got := p.Tables[0].Unknown("`s`.`id` < 9"); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if got := p.Tables[0].Export("").Charset; got != "binary" {
		t.Errorf("lines are read as %s", got)
	}
	if db, table := p.Tables[0].OnSource(); db != "old" || table != "t" {
		t.Errorf("on the source: %s.%s", db, table)
	}
	if db, table := p.Tables[0].OnTarget(); db != "a" || table != "t" {
		t.Errorf("on the target: %s.%s", db, table)
	}
}
