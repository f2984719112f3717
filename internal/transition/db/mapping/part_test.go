package mapping

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"holdfast/internal/transition/db/column"
)

const partsMapping = `
format: 1
name: parts
tables:
- target: nova.meta
  from: nova.meta
  columns:
  - copy: [id, uuid]
  - {to: word, value: "'old'"}
- target: nova.meta
  part: windows
  shift: 1000
  from: nova.instances
  where: os = 'windows'
  columns:
  - copy: [uuid]
  - {to: word, value: "'virtio'"}
- target: nova.meta
  part: linux
  shift: 5000
  from: nova.instances
  where: os = 'linux'
  columns:
  - copy: [uuid]
  - {to: word, value: "'e1000'"}
`

func partSides(t testing.TB) (source, target Side) {
	id, uuid, word := typed(t, "id", "int(11)", automatic), typed(t, "uuid", "varchar(36)", nil), typed(t, "word", "varchar(10)", nil)
	source = Side{Tables: map[string]*Schema{
		"nova.meta":      {Key: []string{"id"}, Columns: []column.Column{id, uuid}},
		"nova.instances": {Key: []string{"id"}, Columns: []column.Column{id, uuid, typed(t, "os", "varchar(10)", nullable)}},
	}}
	target = Side{Tables: map[string]*Schema{"nova.meta": {Key: []string{"id"}, Columns: []column.Column{id, uuid, word}}}}
	return source, target
}

// TestParts: each part of a table has keys of its own, and sees no rows but its own.
func TestParts(t *testing.T) {
	source, target := partSides(t)
	p := MakePlan(parse(t, partsMapping), source, target, nil)
	if len(p.Errors) > 0 || len(p.Tables) != 3 {
		t.Fatalf("%+v", p.Errors)
	}
	for i, want := range []struct{ name, count, del, rows, limits string }{
		{"nova.meta", "`id` <= 1000", "`id` <= 1000 AND `id` IN (7)", "SELECT `id`, ", "`s`.`id` > 1000"},
		{"nova.meta#windows", "`id` > 1000 AND `id` <= 5000", "`id` > 1000 AND `id` <= 5000 AND `id` IN ((7 + 1000))",
			"SELECT (`id` - 1000), ", "`s`.`id` > 4000|`s`.`id` < 1"},
		{"nova.meta#linux", "`id` > 5000", "`id` > 5000 AND `id` IN ((7 + 5000))", "SELECT (`id` - 5000), ",
			"`s`.`id` > 2147478647|`s`.`id` < 1"},
	} {
		x := &p.Tables[i]
		if x.Target != want.name || x.Table != "nova.meta" || !slices.Equal(x.Kept, []string{"id"}) || !x.Chunked() {
			t.Errorf("%s of %s, kept %q, chunked %v: want %s", x.Target, x.Table, x.Kept, x.Chunked(), want.name)
		}
		if got := x.TargetCount(); got != "SELECT COUNT(*) FROM `nova`.`meta` WHERE "+want.count {
			t.Error(got)
		}
		if got := x.Delete([][]string{{"7"}}); got != "DELETE FROM `nova`.`meta` WHERE "+want.del {
			t.Error(got)
		}
		if got := x.TargetRows(""); !strings.HasPrefix(got, want.rows) {
			t.Error(got)
		}
		for _, cond := range strings.Split(want.limits, "|") {
			if !slices.ContainsFunc(x.Checks, func(c RowCheck) bool { return c.cond == cond }) {
				t.Errorf("%s: no check that %s: %+v", x.Target, cond, x.Checks)
			}
		}
		if db, name := x.OnTarget(); db != "nova" || name != "meta" {
			t.Error(db, name)
		}
	}
	if got := p.Tables[1].Statement(""); got != "INSERT INTO `nova`.`meta` (`uuid`, `word`, `id`) SELECT `s`.`uuid`, "+
		"'virtio', (`s`.`id` + 1000) FROM `nova`.`instances` AS `s` WHERE (`s`.`os` = 'windows')" &&
		got != "INSERT INTO `nova`.`meta` (`uuid`, `word`, `id`) SELECT `s`.`uuid`, 'virtio', (`s`.`id` + 1000) FROM "+
			"`nova`.`instances` AS `s` WHERE `s`.`os` = 'windows'" {
		t.Error(got)
	}
}

func TestPartsThatCanNotBe(t *testing.T) {
	for _, c := range []struct{ from, to, want string }{
		{"  shift: 1000\n", "", `tables[1].shift: value "": want a number from 1`},
		{"shift: 1000\n", "shift: -5\n", `tables[1].shift: value "-5": want a number from 1`},
		{"shift: 5000", "shift: 1000", `tables[2].shift: value "1000": is that of another part of nova.meta`},
		{"part: linux", "part: windows", `tables[2].target: value "nova.meta#windows": is given twice`},
		{"part: linux", "part: Li", `tables[2].part: value "Li": want a word of small letters, digits and _, of at most 21`},
		{"part: windows\n  ", "", `tables[1].target: value "nova.meta": is given twice`},
		{"- target: nova.meta\n  from: nova.meta", "- target: nova.other\n  from: nova.meta",
			`tables[1].part: value "windows": want a table nova.meta without part, too`},
	} {
		text := strings.Replace(partsMapping, c.from, c.to, 1)
		if text == partsMapping {
			t.Fatalf("%q is not there", c.from)
		}
		if _, err := ParseMapping("m.yaml", []byte(text)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q: %v, want %s", c.to, err, c.want)
		}
	}
	for _, c := range []struct{ from, to, want string }{
		{"copy: [uuid]", "copy: [id, uuid]", "want no value for column id of a part"},
		{"- copy: [id, uuid]", "- copy: [uuid]\n  - {to: id, value: id + 1}", "want column id copied from the source's key"},
	} {
		source, target := partSides(t)
		p := MakePlan(parse(t, strings.Replace(partsMapping, c.from, c.to, 1)), source, target, nil)
		if !strings.Contains(fmt.Sprint(p.Errors), c.want) {
			t.Errorf("%q: %+v, want %s", c.to, p.Errors, c.want)
		}
	}
	source, target := partSides(t)
	source.Tables["nova.instances"].Key = []string{"id", "uuid"}
	if p := MakePlan(parse(t, partsMapping), source, target, nil); !strings.Contains(fmt.Sprint(p.Errors),
		"want a primary key of one column on both sides") {
		t.Errorf("%+v", p.Errors)
	}
}

// TestKeysAmongParts: what no part has twice, two of them may have.
func TestKeysAmongParts(t *testing.T) {
	source, target := partSides(t)
	target.Tables["nova.meta"].Unique = []Unique{{Name: "one", Columns: []string{"uuid"}}}
	source.Tables["nova.meta"].Unique = []Unique{{Name: "here", Columns: []string{"uuid"}}}
	p := MakePlan(parse(t, partsMapping), source, target, nil)
	c := p.Tables[0].Collisions
	own := func(c Collision) bool { return c.Index == "one" }
	if len(c) != 1 || c[0].Index != "one" || slices.ContainsFunc(p.Tables[1].Collisions, own) ||
		slices.ContainsFunc(p.Tables[2].Collisions, own) {
		t.Fatalf("%+v, %+v", c, p.Tables[1].Collisions)
	}
	got := c[0].List(nil)
	if strings.Count(got, " UNION ALL ") != 2 || !strings.Contains(got, "`meta`") ||
		!strings.Contains(got, "= 'windows'") || !strings.Contains(got, "= 'linux'") ||
		!strings.HasSuffix(got, "GROUP BY c1 HAVING COUNT(*) > 1 ORDER BY c1 LIMIT 20") {
		t.Error(got)
	}
	// One that is looked up, the other not.
	m := parse(t, strings.Replace(strings.Replace(partsMapping, "tables:", "ids: [{kind: id}]\ntables:", 1),
		"where: os = 'linux'\n  columns:\n  - copy: [uuid]", "where: os = 'linux'\n  columns:\n  - {to: uuid, value: uuid, map: id}", 1))
	p = MakePlan(m, source, target, map[string]IDs{"id": {Given: true}})
	if !strings.Contains(fmt.Sprint(p.Warnings), "unique key one (uuid) is not looked at among the parts of the "+
		"table: the values of uuid are looked up") {
		t.Errorf("%+v", p.Warnings)
	}
}

// TestParentsOfSeveralParts: which of them a row refers to, the target tells.
func TestParentsOfSeveralParts(t *testing.T) {
	source, target := partSides(t)
	source.Tables["nova.child"] = &Schema{Key: []string{"id"},
		Columns: []column.Column{typed(t, "id", "int(11)", automatic), typed(t, "meta", "int(11)", nil)}}
	target.Tables["nova.child"] = &Schema{Key: []string{"id"}, Columns: source.Tables["nova.child"].Columns,
		Refs: []Ref{{Name: "r", Columns: []string{"meta"}, Table: "nova.meta", To: []string{"id"}}}}
	p := MakePlan(parse(t, partsMapping+"- target: nova.child\n  from: nova.child\n  columns:\n  - copy: [id, meta]\n"), source, target, nil)
	if o := p.Tables[3].Orphans; len(p.Errors) > 0 || len(o) != 1 || o[0].Unknown != "they come of several parts: verify tells" {
		t.Errorf("%+v, %+v", p.Errors, o)
	}
}
