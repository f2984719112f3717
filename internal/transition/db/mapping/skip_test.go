package mapping

import (
	"slices"
	"strings"
	"testing"
)

// TestSkip: tables are left out with all that they would have used, and those that need
// their rows are told.
func TestSkip(t *testing.T) {
	source, target := sides(t)
	m := parse(t, example)
	if err := m.Skip([]string{"api.flavors"}); err != nil {
		t.Fatal(err)
	}
	p := MakePlan(m, source, target, nil)
	if len(p.Errors) > 0 || len(p.Tables) != 1 || p.Tables[0].Target != "nova.instances" {
		t.Errorf("%+v", p)
	}
	const after = "is to come after api.flavors, which is skipped: its rows are to be there by then"
	if !slices.Contains(p.Warnings, Finding{Table: "nova.instances", Text: after}) {
		t.Errorf("warnings %+v", p.Warnings)
	}

	// A foreign key is looked at, which tells more.
	target.Tables["nova.instances"].Refs = []Ref{{Name: "f", Columns: []string{"id"}, Table: "api.flavors", To: []string{"id"}}}
	p = MakePlan(m, source, target, nil)
	if o := p.Tables[0].Orphans; len(o) != 1 || !o[0].Skipped || o[0].Outside == nil {
		t.Errorf("orphans %+v", o)
	}
	if slices.ContainsFunc(p.Warnings, func(f Finding) bool { return f.Text == after }) {
		t.Errorf("warnings %+v", p.Warnings)
	}
	if p = MakePlan(parse(t, example), source, target, nil); p.Tables[1].Orphans[0].Skipped {
		t.Error("a table counts as skipped that is not")
	}

	// What was made of the same table as well may have used its columns.
	text := example + "\nchecks: []\n"
	text = strings.Replace(text, "advice:", "- {target: api.more, from: nova.instances, columns: [{copy: [id, "+
		"project_id]}, {to: who, value: user_id}]}\nadvice:", 1)
	text = strings.Replace(text, "  - {to: user_id, value: user_id, map: user}\n", "", 1)
	m = parse(t, text)
	if err := m.Skip([]string{"api.more"}); err != nil {
		t.Fatal(err)
	}
	for _, f := range MakePlan(m, source, target, nil).Errors {
		if strings.Contains(f.Text, "goes nowhere") {
			t.Errorf("%+v", f)
		}
	}
}

// TestSkipWhatIsNotThere changes nothing, and tells what is written nearly so.
func TestSkipWhatIsNotThere(t *testing.T) {
	text := strings.Replace(example, "advice:", "- {target: nova.flavors, from: nova.instance_types, columns: [{copy: [id]}]}\nadvice:", 1)
	for _, c := range []struct{ skip, want string }{
		{"flavors", `the mapping fills no table "flavors": want api.flavors or nova.flavors`},
		{"nvoa.instances", `"nvoa.instances": want nova.instances`},
		{"nova.instance_types", `"nova.instance_types": want nova.instances`}, // the source's name
		{"nova.flavor", `want nova.flavors`},
		{"", `no table "": want api.flavors or nova.instances or nova.flavors`},
		{"api.flavors nova.instances nova.flavors", "all 3 tables of the mapping would be left out"},
	} {
		m := parse(t, text)
		list := strings.Fields(c.skip)
		if len(list) == 0 {
			list = []string{c.skip}
		}
		if err := m.Skip(list); err == nil || !strings.Contains(err.Error(), c.want) || len(m.Tables) != 3 || len(m.skipped) != 0 {
			t.Errorf("%q: %v, %d tables: want %q", c.skip, err, len(m.Tables), c.want)
		}
	}
}

// TestFieldWithoutName is a fault like any other name that is not known.
func TestFieldWithoutName(t *testing.T) {
	_, err := ParseMapping("x.yaml", []byte(`{format: 1, name: x, "": 1, tables: [{target: a.b, from: a.b, "": 3}]}`))
	if err == nil || strings.Count(err.Error(), "\n") != 1 || !strings.Contains(err.Error(), "unknown field") ||
		strings.Contains(err.Error(), ", ,") || strings.HasSuffix(err.Error(), ", ") {
		t.Errorf("%v", err)
	}
}

// TestPartsAreNotSkippedAlone: a part goes with its table. What is to come after it is warned
// of then.
func TestPartsAreNotSkippedAlone(t *testing.T) {
	source, target := sides(t)
	text := strings.Replace(example, "advice:", "- {target: api.flavors, part: old, shift: 1000000, from: "+
		"nova.instance_types, columns: [{copy: [id]}]}\nadvice:", 1)
	m := parse(t, strings.Replace(text, "after: [api.flavors]", "after: [api.flavors#old]", 1))
	if err := m.Skip([]string{"api.flavors#old"}); err == nil ||
		!strings.Contains(err.Error(), `no table "api.flavors#old": want api.flavors`) || len(m.Tables) != 3 {
		t.Errorf("%v, %d tables", err, len(m.Tables))
	}
	if err := m.Skip([]string{"api.flavors"}); err != nil || len(m.Tables) != 1 {
		t.Fatalf("%v, %d tables", err, len(m.Tables))
	}
	if p := MakePlan(m, source, target, nil); !slices.ContainsFunc(p.Warnings, func(f Finding) bool {
		return strings.HasPrefix(f.Text, "is to come after api.flavors#old, which is skipped")
	}) {
		t.Errorf("warnings %+v", p.Warnings)
	}
}
