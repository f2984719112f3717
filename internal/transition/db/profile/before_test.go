package profile

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"holdfast/internal/transition/db/survey"
	"holdfast/testbed/need"
)

// before are rows of the old platform that break a check of the new one, by that check: the
// plan names them, before anything is copied.
var before = []struct{ statement, check, key string }{
	{"DELETE FROM liberty_nova.instance_info_caches WHERE instance_uuid = " + web,
		"live guests have an info cache that is a JSON list", "101, " + bare(web) + ", NULL"},
	{"UPDATE liberty_nova.instances SET host = 'vanished', node = 'vanished.example' WHERE uuid = " + db,
		"hosts of live guests have a mapping", bare(db) + ", vanished"},
	{"", "live guests are on a compute node that is known", bare(db) + ", vanished, vanished.example"},
	{"INSERT INTO liberty_nova.instance_group_policy (policy, group_id, deleted) VALUES ('soft-affinity', 1, 0)",
		"groups of guests have one policy", "1, 2"},
	{"UPDATE liberty_nova.instance_type_extra_specs SET value = NULL WHERE deleted = 0 AND instance_type_id = 4 LIMIT 1",
		"extra specs of flavors have values, and aggregates names", "flavor_extra_specs, "},
	{"UPDATE liberty_nova.aggregates SET name = NULL WHERE deleted = 0 LIMIT 1",
		"extra specs of flavors have values, and aggregates names", "aggregates, "},
	{"UPDATE liberty_nova.instance_types SET is_public = NULL WHERE id = 3",
		"flavors say whether they are disabled and public", "3, m1.small"},
	{"UPDATE liberty_cinder.backups SET parent_id = 'gone' WHERE parent_id IS NOT NULL",
		"backups have a time, and parents that there are", ", gone, "},
	{"UPDATE liberty_cinder.volumes SET status = 'available' WHERE status = 'awaiting-transfer'",
		"transfers are of volumes that wait for them", ", available"},
	{"DELETE FROM liberty_nova.instance_extra WHERE instance_uuid = " + win,
		"live guests have one row of extra data, with a flavor", bare(win) + ", 0"},
}

// TestPlanFindsWhatVerifyWouldFind: what the source's rows alone break of the checks of the
// target is an error of the plan, with the table, the columns and the keys of the rows.
func TestPlanFindsWhatVerifyWouldFind(t *testing.T) {
	need.Real(t)
	r := start(t)
	r.SQL(mended)
	p := fresh(t, r, "zed_")
	if found := p.planned(t); len(found) > 0 {
		t.Fatalf("of good rows: %+v", found)
	}
	for _, b := range before {
		r.SQL("SET foreign_key_checks = 0; " + b.statement)
	}
	found := p.planned(t)
	for _, b := range before {
		if !slices.ContainsFunc(found, func(f survey.Finding) bool {
			return f.Table != "" && len(f.Columns) > 1 && strings.HasPrefix(f.Text, b.check+": ") &&
				slices.ContainsFunc(f.Keys, func(k string) bool { return strings.Contains(k, b.key) })
		}) {
			t.Errorf("%s: the plan has no %q with %q", b.statement, b.check, b.key)
		}
	}
}

// planned are the findings of a plan, with all IDs, about rows that break a check.
func (p *platforms) planned(t *testing.T) (out []survey.Finding) {
	t.Helper()
	found := p.survey(t)
	for _, w := range found.Warnings {
		if strings.Contains(w.Text, "of this check") {
			t.Errorf("%s: %s", w.Table, w.Text)
		}
	}
	for _, f := range found.Errors {
		if strings.Contains(f.Text, "of the source break it") {
			out = append(out, f)
		}
	}
	return out
}

// idsDir has the files of all kinds of IDs.
func (p *platforms) idsDir(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for kind, lines := range kinds {
		if err := os.WriteFile(filepath.Join(dir, kind+".csv"), []byte(lines), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}
