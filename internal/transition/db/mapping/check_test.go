package mapping

import (
	"strings"
	"testing"
)

// TestChecks: what a check may say, and what not, with the field that is wrong.
func TestChecks(t *testing.T) {
	for check, want := range map[string]string{
		"{name: c, rows: SELECT 1}":                                                       "",
		"{name: c, rows: SELECT 1, asks: target}":                                         "",
		"{name: c, rows: SELECT 1, asks: both, table: nova.instances, remedy: mend them}": "",
		"{name: c, rows: SELECT 1, asks: source, table: nova.instances}":                  "",
		"{name: c, rows: SELECT 1, remedy: mend them}":                                    "",
		"{name: c, rows: SELECT 1, table: nova.instances, asks: target}":                  "",
		"{name: c, source: SELECT 1, target: SELECT 1}":                                   "",
		"{name: c, source: SELECT 1}":                                                     "checks[0].target",
		"{name: c, source: SELECT 1, target: SELECT 1, rows: SELECT 1}":                   "checks[0].rows",
		"{name: c}":                                                   "checks[0].rows",
		"{name: c, query: SELECT 1}":                                  "query",
		"{name: c, rows: DELETE}":                                     "checks[0].rows",
		"{name: c, rows: SELECT 1, asks: neither}":                    "checks[0].asks",
		"{name: c, rows: SELECT 1, asks: source}":                     "checks[0].table",
		"{name: c, rows: SELECT 1, asks: source, table: nova.others}": "checks[0].table",
		"{name: c, rows: SELECT 1, table: nova.others}":               "checks[0].table",
		"{name: c, source: SELECT 1, target: SELECT 1, asks: both, table: nova.instances}": "checks[0].rows",
		"{name: c, rows: SELECT 1}, {name: c, rows: SELECT 2}":                             "checks[1].name",
		"{name: c, rows: SELECT 1 INTO OUTFILE 'x', asks: source, table: api.flavors}":     "checks[0].rows",
	} {
		_, err := ParseMapping("m.yaml", []byte(example+"checks: ["+check+"]\n"))
		if got := ""; err != nil {
			if got = err.Error(); want == "" || !strings.Contains(got, want) {
				t.Errorf("%s: %v, want %q", check, err, want)
			}
		} else if want != "" {
			t.Errorf("%s is taken, want %q", check, want)
		}
	}
}

// TestChecksOfTheSource: those of tables that are left out are not asked.
func TestChecksOfTheSource(t *testing.T) {
	m := parse(t, example+"checks: [{name: a, rows: SELECT 1}, {name: b, rows: SELECT 1, asks: source, table: "+
		"nova.instances}, {name: c, rows: SELECT 1, asks: both, table: api.flavors}]\n")
	names := func() (out string) {
		for _, c := range m.OfSource() {
			out += c.Name
		}
		return out
	}
	if got := names(); got != "bc" {
		t.Errorf("asked: %s", got)
	}
	if err := m.Skip([]string{"nova.instances"}); err != nil {
		t.Fatal(err)
	}
	if got := names(); got != "c" {
		t.Errorf("without the instances: %s", got)
	}
	if m.Checks[1].OfTarget() || !m.Checks[2].OfTarget() || !m.Checks[0].OfTarget() {
		t.Errorf("%+v", m.Checks)
	}
}
