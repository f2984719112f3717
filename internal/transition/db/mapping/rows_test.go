package mapping

import (
	"slices"
	"strings"
	"testing"
)

// planned is the example's plan, with keys on the target's tables.
func planned(t *testing.T, change func(source, target Side)) Plan {
	t.Helper()
	source, target := sides(t)
	target.Tables["api.flavors"].Key = []string{"id"}
	target.Tables["nova.instances"].Key = []string{"id"}
	if change != nil {
		change(source, target)
	}
	p := MakePlan(parse(t, example), source, target, map[string]IDs{"project": {Given: true}})
	if len(p.Errors) > 0 || len(p.Tables) != 2 {
		t.Fatalf("%+v", p)
	}
	return p
}

func TestKeptKeys(t *testing.T) {
	for what, c := range map[string]struct {
		change func(source, target Side)
		want   []string
	}{
		"the same":       {nil, []string{"id"}},
		"another column": {func(_, d Side) { d.Tables["nova.instances"].Key = []string{"uuid"} }, nil},
		"more than one":  {func(_, d Side) { d.Tables["nova.instances"].Key = []string{"id", "uuid"} }, nil},
		"both of several": {func(s, d Side) {
			s.Tables["nova.instances"].Key, d.Tables["nova.instances"].Key = []string{"uuid", "id"}, []string{"id", "uuid"}
		}, []string{"uuid", "id"}},
		"a mapped column": {func(s, d Side) {
			s.Tables["nova.instances"].Key, d.Tables["nova.instances"].Key = []string{"project_id"}, []string{"project_id"}
		}, nil},
		"no key": {func(_, d Side) { d.Tables["nova.instances"].Key = nil }, nil},
	} {
		if p := planned(t, c.change); !slices.Equal(p.Tables[1].Kept, c.want) {
			t.Errorf("%s: %v, want %v", what, p.Tables[1].Kept, c.want)
		}
	}
}

func TestComparisonsOfKeys(t *testing.T) {
	for _, c := range []struct{ got, want string }{
		{After("s", []string{"id"}, []string{"5"}), "`s`.`id` > 5"},
		{UpTo("", []string{"id"}, []string{"5"}), "`id` <= 5"},
		{After("s", []string{"a", "b"}, []string{"1", "'x'"}), "((`s`.`a` > 1) OR (`s`.`a` = 1 AND `s`.`b` > 'x'))"},
		{UpTo("s", []string{"a", "b", "c"}, []string{"1", "2", "3"}),
			"((`s`.`a` < 1) OR (`s`.`a` = 1 AND `s`.`b` < 2) OR (`s`.`a` = 1 AND `s`.`b` = 2 AND `s`.`c` <= 3))"},
	} {
		if c.got != c.want {
			t.Errorf("got %s, want %s", c.got, c.want)
		}
	}
	f := planned(t, nil).Tables[0]
	if got, want := f.Bound([]string{"7"}, 100), "SELECT `id` FROM (SELECT `id` FROM `liberty_nova`.`instance_types` "+
		"WHERE `id` > 7 ORDER BY `id` LIMIT 100) AS r ORDER BY `id` DESC LIMIT 1"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if got := f.Bound(nil, 1); strings.Contains(got, "WHERE") {
		t.Error(got)
	}
}

// TestChangedRows: a row of the source itself tells its key, one that is brought in tells it
// by what it is brought in for.
func TestChangedRows(t *testing.T) {
	p := planned(t, nil)
	i := p.Tables[1]
	if got := i.Touched("nova.instances"); len(got) != 1 || !got[0].Main || !slices.Equal(got[0].Columns, []string{"id"}) {
		t.Errorf("%+v", got)
	}
	if got := i.Touched("nova.instance_types"); got != nil {
		t.Errorf("%+v", got)
	}
	for table, want := range map[string]string{
		"nova.instance_extra": "SELECT DISTINCT `s`.`id` FROM `liberty_nova`.`instances` AS `s` JOIN (SELECT " +
			"CONVERT('u' USING utf8mb4) COLLATE utf8mb4_bin AS `uuid`, 0 AS `deleted` UNION ALL SELECT CONVERT(NULL " +
			"USING utf8mb4) COLLATE utf8mb4_bin AS `uuid`, 7 AS `deleted`) AS `x` ON ((`x`.`uuid` = `s`.`uuid`) AND (`x`.`deleted` = 0))",
		"nova.bdm": "SELECT DISTINCT `s`.`id` FROM `liberty_nova`.`instances` AS `s` LEFT JOIN " +
			"`liberty_nova`.`instance_extra` AS `x` ON ((`x`.`uuid` = `s`.`uuid`) AND (`x`.`deleted` = 0)) JOIN " +
			"(SELECT CONVERT('u' USING utf8mb4) COLLATE utf8mb4_bin AS `uuid`, 0 AS `boot_index` UNION ALL SELECT " +
			"CONVERT(NULL USING utf8mb4) COLLATE utf8mb4_bin AS `uuid`, 7 AS `boot_index`) AS `bfv` ON " +
			"((`bfv`.`uuid` = `s`.`uuid`) AND (`bfv`.`boot_index` = 0))",
	} {
		got := i.Touched(table)
		if len(got) != 1 || got[0].Main || len(got[0].Columns) != 2 || got[0].Columns[0] != "uuid" {
			t.Fatalf("%s: %+v", table, got)
		}
		if keys, err := got[0].Keys([][]string{{"'u'", "0"}, {"NULL", "7"}}); err != nil || keys != want {
			t.Errorf("%s:\n%s, %v\nwant\n%s", table, keys, err, want)
		}
		if _, err := got[0].Keys([][]string{{"1"}}); err == nil {
			t.Errorf("%s: one value for two columns", table)
		}
	}
}

func TestDatabasesInStatementsOfAMapping(t *testing.T) {
	s, _ := sides(t)
	if got, want := s.Fill(`SELECT '{"a": {nova}}' FROM {nova}.x, {gone}.y, {}`),
		"SELECT '{\"a\": `liberty_nova`}' FROM `liberty_nova`.x, {gone}.y, {}"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}
