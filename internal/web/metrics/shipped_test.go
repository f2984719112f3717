package metrics

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"holdfast/testbed/need"
	"holdfast/testbed/try"
)

// What is shipped beside the program.
const (
	rulesFile     = "../../../packaging/prometheus/holdfast.rules.yml"
	testsFile     = "../../../packaging/prometheus/holdfast.rules.test.yml"
	dashboardFile = "../../../packaging/grafana/holdfast.json"
	documentFile  = "../../../docs/metrics.md"
)

var update = flag.Bool("update", false, "write the table of docs/metrics.md anew")

// rule is an alert.
type rule struct {
	Alert, Expr, For    string
	Labels, Annotations map[string]string
}

func read[T any](t *testing.T, file string, decode func([]byte, any) error) (v T) {
	t.Helper()
	b, err := os.ReadFile(file)
	try.Must(t, err)
	if err := decode(b, &v); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	return v
}

func rules(t *testing.T) (out []rule) {
	t.Helper()
	for _, g := range read[struct{ Groups []struct{ Rules []rule } }](t, rulesFile, yaml.Unmarshal).Groups {
		out = append(out, g.Rules...)
	}
	if len(out) < 10 {
		t.Fatalf("%d rules", len(out))
	}
	return out
}

// TestEachAlertIsTestedAndExplained: it has a case in which it fires and one in which it does not, what an operator reads, and
// a section of the page that says what to do.
func TestEachAlertIsTestedAndExplained(t *testing.T) {
	fires, quiet := map[string]bool{}, map[string]bool{}
	for _, c := range read[struct {
		Tests []struct {
			AlertRuleTest []struct {
				Alertname string
				ExpAlerts []any `yaml:"exp_alerts"`
			} `yaml:"alert_rule_test"`
		}
	}](t, testsFile, yaml.Unmarshal).Tests {
		for _, x := range c.AlertRuleTest {
			if len(x.ExpAlerts) > 0 {
				fires[x.Alertname] = true
			} else {
				quiet[x.Alertname] = true
			}
		}
	}
	doc, err := os.ReadFile(documentFile)
	try.Must(t, err)
	for _, r := range rules(t) {
		if !fires[r.Alert] || !quiet[r.Alert] {
			t.Errorf("%s: a case in which it fires: %v, one in which it does not: %v", r.Alert, fires[r.Alert], quiet[r.Alert])
		}
		if !strings.Contains(string(doc), "\n### "+r.Alert+"\n") {
			t.Errorf("%s has no section in docs/metrics.md", r.Alert)
		}
		if want := "docs/metrics.md#" + strings.ToLower(r.Alert); r.Annotations["runbook"] != want {
			t.Errorf("%s: runbook %q, want %q", r.Alert, r.Annotations["runbook"], want)
		}
		if r.Annotations["summary"] == "" || r.Annotations["description"] == "" ||
			!slices.Contains([]string{"critical", "warning"}, r.Labels["severity"]) {
			t.Errorf("%s: want a summary, a description and a severity: %+v", r.Alert, r)
		}
	}
	for _, m := range regexp.MustCompile(`(?m)^### (Holdfast\w+)$`).FindAllStringSubmatch(string(doc), -1) {
		if !slices.ContainsFunc(rules(t), func(r rule) bool { return r.Alert == m[1] }) {
			t.Errorf("docs/metrics.md has a section of %s, which is no alert", m[1])
		}
	}
}

// queries are those of the dashboard, whose panels have a title and a place.
func queries(t *testing.T) (out []string) {
	t.Helper()
	for _, p := range read[struct {
		Panels []struct {
			Title   string
			Type    string
			GridPos struct{ X, Y, W, H int }
			Targets []struct{ Expr string }
		}
	}](t, dashboardFile, json.Unmarshal).Panels {
		if p.GridPos.W < 1 || p.GridPos.X+p.GridPos.W > 24 || p.Title == "" || (len(p.Targets) == 0) != (p.Type == "row") {
			t.Errorf("panel %+v", p)
		}
		for _, x := range p.Targets {
			out = append(out, x.Expr)
		}
	}
	return out
}

var metricName = regexp.MustCompile(`\b(?:holdfast|etcd)_\w+`)

// histogramSuffix is what Prometheus adds to the name of a histogram.
var histogramSuffix = regexp.MustCompile(`_(bucket|sum|count)$`)

// TestRulesAndDashboardNameWhatIsThere: metrics of ours exist, and those of etcd are ones that etcd's own documents name.
func TestRulesAndDashboardNameWhatIsThere(t *testing.T) {
	known := []string{"etcd_mvcc_db_total_size_in_bytes", "etcd_server_quota_backend_bytes", "etcd_server_is_leader",
		"etcd_disk_wal_fsync_duration_seconds"}
	for _, m := range Names() {
		known = append(known, m.Name)
	}
	shown := queries(t)
	for _, r := range rules(t) {
		shown = append(shown, r.Expr)
	}
	for _, q := range shown {
		names := metricName.FindAllString(q, -1)
		if len(names) == 0 && !strings.HasPrefix(q, "up{") {
			t.Errorf("%s: no metric", q)
		}
		for _, n := range names {
			if !slices.Contains(known, n) && !slices.Contains(known, histogramSuffix.ReplaceAllString(n, "")) {
				t.Errorf("%s: there is no metric %s", q, n)
			}
		}
	}
}

// TestTheTableIsTrue: docs/metrics.md has each metric with its labels and its help.
func TestTheTableIsTrue(t *testing.T) {
	const begin, end = "| metric | labels | what it tells |\n|---|---|---|\n", "\n\n"
	var b strings.Builder
	for _, m := range Names() {
		fmt.Fprintf(&b, "| `%s` | %s | %s |\n", m.Name, strings.Join(m.Labels, ", "), m.Help)
	}
	raw, err := os.ReadFile(documentFile)
	try.Must(t, err)
	before, rest, is := strings.Cut(string(raw), begin)
	table, after, ends := strings.Cut(rest, end)
	if !is || !ends {
		t.Fatal("docs/metrics.md has no table of metrics")
	}
	if *update {
		try.Must(t, os.WriteFile(documentFile, []byte(before+begin+strings.TrimSuffix(b.String(), "\n")+end+after), 0o644))
		return
	}
	if table+"\n" != b.String() {
		t.Error("the table of docs/metrics.md is not what is told: go test ./internal/web/metrics -run TestTheTableIsTrue -update")
	}
}

// TestAlertsFire has promtool judge the rules, and try each on made-up series.
func TestAlertsFire(t *testing.T) {
	need.Real(t, need.Programs("prometheus", "promtool"))
	for _, args := range [][]string{{"check", "rules", rulesFile}, {"test", "rules", testsFile}} {
		if out, err := exec.CommandContext(t.Context(), "promtool", args...).CombinedOutput(); err != nil {
			t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
}
