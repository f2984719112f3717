package upgrade_test

import (
	"strings"
	"testing"

	"holdfast/internal/inventory/manifest"
	"holdfast/internal/upgrade"
	"holdfast/internal/upgrade/catalogue"
)

// TestThePlanKeepsToTheRulesOfPaths: a bundle that skips a version on the way is refused
// by the rules that plan the way.
func TestThePlanKeepsToTheRulesOfPaths(t *testing.T) {
	for _, c := range []struct {
		from, to  string
		mode      manifest.Mode
		confirmed string
		component string
		want      string // "" for no finding
	}{
		{from: "E0513H01", to: "E0525"},
		{from: "E0513H01", to: "E0525", component: "s1020v", want: "s1020v-kernel-4.14: "},
		{from: "E0513H01", to: "E0525", component: "s1020v", confirmed: "s1020v-kernel-4.14"},
		{from: "E0513H01", to: "E0525", component: "s1020",
			want: `path: The rules of upgrade paths can not be applied: component "s1020": catalogue cas knows s1020v`},
		{from: "E0209H11", to: "E0710", want: "path: From E0209H11 the way to E0710 is E0209H11 -> E0705 -> E0710., upgrade to E0705 first"},
		{from: "E0306", to: "E0535"},
		{from: "E0705", to: "E0710"},
		{from: "E0208", to: "E0306", want: "minimum-source: Versions before E0209H11"},
		{from: "E0208", to: "E0306", mode: manifest.Offline},
		{from: "2.0.0.B1", to: "2.0.0.B2"}, // of another product
		{from: "nonsense", to: "E0306", want: "path: The rules of upgrade paths can not be applied"},
	} {
		p := upgrade.Plan{
			Purpose: upgrade.ForUpgrade, To: c.to, Options: upgrade.Options{Mode: c.mode, Confirmed: []string{c.confirmed}},
			Hosts: []upgrade.PlannedHost{{Name: "h1", Version: c.from}, {Name: "h2", Version: c.from}},
		}
		var components, got []string
		if c.component != "" {
			components = []string{c.component}
		}
		for _, f := range upgrade.PathFindings(catalogue.For(c.to), &p, components) {
			got = append(got, f.Rule+": "+f.Text+", "+f.Remedy)
			if f.Level != upgrade.Block || f.Host != "h1" {
				t.Errorf("%+v: %+v", c, f)
			}
		}
		if all := strings.Join(got, "\n"); len(got) > 1 || (all == "") != (c.want == "") || !strings.HasPrefix(all, c.want) {
			t.Errorf("%+v: %q", c, all)
		}
		p.Purpose = upgrade.ForRollback
		if fs := upgrade.PathFindings(catalogue.For(c.to), &p, components); len(fs) > 0 {
			t.Errorf("a rollback: %+v", fs)
		}
	}
}
