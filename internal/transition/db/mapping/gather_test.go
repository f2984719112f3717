package mapping

import (
	"strings"
	"testing"
)

// TestGathered: the values of several rows come in the order of their key, without those
// that are NULL.
func TestGathered(t *testing.T) {
	gathers := strings.NewReplacer("bfv.boot_index = 0}", "bfv.boot_index = 0, value: concat(bfv.boot_index)}",
		"value: x.flavor", "value: gathered('bfv')").Replace(example)
	source, target := sides(t)
	p := MakePlan(parse(t, gathers), source, target, nil)
	const want = "(SELECT GROUP_CONCAT(CONCAT(`bfv`.`boot_index`) ORDER BY `bfv`.`id` SEPARATOR ', ') FROM " +
		"`liberty_nova`.`bdm` AS `bfv` WHERE ((`bfv`.`uuid` = `s`.`uuid`) AND (`bfv`.`boot_index` = 0)))"
	if len(p.Errors) != 0 || len(p.Tables) != 2 || !strings.Contains(p.Tables[1].Select(""), want) {
		t.Fatalf("errors %+v, want %s", p.Errors, want)
	}
	touched := p.Tables[1].Touched("nova.bdm")
	if len(touched) != 1 || strings.Join(touched[0].Columns, ",") != "uuid,boot_index" {
		t.Errorf("touched by %+v", touched)
	}
	source.Tables["nova.bdm"].Key = nil
	if p = MakePlan(parse(t, gathers), source, target, nil); len(p.Errors) != 1 ||
		!strings.Contains(p.Errors[0].Text, "table nova.bdm of the source has no primary key") {
		t.Errorf("without a key: %+v", p.Errors)
	}
}

func TestWhatCanNotBeGathered(t *testing.T) {
	const withValue = "bfv.boot_index = 0, value: bfv.uuid}"
	for _, c := range []struct{ old, with, match, want string }{
		{"value: x.flavor", "value: gathered('bfv')", "bfv.boot_index = 0}", "function GATHERED: want one of find that has a value"},
		{"value: x.flavor", "value: gathered('x')", withValue, "function GATHERED: want one of find that has a value"},
		{"value: x.flavor", "value: gathered(uuid)", withValue, "function GATHERED: want one of find that has a value"},
		{"value: x.flavor", "value: gathered('bfv')", "bfv.boot_index = 0, value: gathered('bfv')}",
			"function GATHERED: want one of find that has a value"},
		{"value: x.flavor", "value: gathered('bfv')", "bfv.boot_index = 0, value: bfv.gone}", "bfv.gone: there is no such column"},
		{"value: x.flavor", "value: gathered('bfv')", `bfv.boot_index = 0, value: "mapped('user', bfv.uuid)"}`,
			"function MAPPED: want it in the value of a column"},
		{"  join:\n", "  where: gathered('bfv') is null\n  join:\n", withValue, "function GATHERED: want one of find that has a value"},
	} {
		source, target := sides(t)
		text := strings.Replace(strings.Replace(example, "bfv.boot_index = 0}", c.match, 1), c.old, c.with, 1)
		p := MakePlan(parse(t, text), source, target, nil)
		if len(p.Errors) == 0 || !strings.Contains(p.Errors[0].Text, c.want) {
			t.Errorf("%s, %s: %+v, want %s", c.with, c.match, p.Errors, c.want)
		}
	}
	_, err := ParseMapping("m.yaml", []byte(strings.Replace(example, "optional: true}", "optional: true, value: x.flavor}", 1)))
	if err == nil || !strings.Contains(err.Error(), `tables[1].join[0].value: value "x.flavor": want it for find only`) {
		t.Errorf("a value of a join: %v", err)
	}
}
