package profile

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"holdfast/internal/align/aligntest"
	"holdfast/internal/align/ids"
	"holdfast/internal/align/survey"
)

// TestGeneratedPlatform: a platform with all the odd rows that years of use leave behind
// has nothing that the plan refuses, is copied, and breaks no check.
func TestGeneratedPlatform(t *testing.T) {
	r := aligntest.MariaDB(t)
	old := aligntest.Fill(t, r, 7, 100)
	p := fresh(t, r, "zed_")
	dir := old.IDs(t, map[string]map[string]string{"project": nil, "user": nil, "availability_zone": nil, "pool": nil, "volume_type": nil})
	sets, err := ids.Load(dir, p.mapping.IDs)
	if err != nil {
		t.Fatal(err)
	}
	for _, table := range []string{"volume_id_mappings", "snapshot_id_mappings"} { // which nobody but EC2 fills
		r.SQL("INSERT INTO liberty_nova." + table + " (id, uuid, deleted) VALUES (1, UUID(), 0)")
	}
	for _, kind := range sets["volume_type"].Pairs {
		r.SQL(fmt.Sprintf("INSERT INTO zed_cinder.volume_types (id, name, deleted) VALUES ('%s', '%s', 0)", kind, kind))
	}
	found, _, err := survey.Plan(within(t, 2*time.Minute), p.mapping, p.source, p.target, p.from.Databases, p.to.Databases, sets)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range found.Errors {
		t.Errorf("%s %s: %s", e.Table, e.Column, e.Text)
	}
	files := map[string]string{}
	for kind := range sets {
		if text, err := os.ReadFile(filepath.Join(dir, kind+".csv")); err == nil {
			files[kind] = string(text)
		}
	}
	p.copied(t, files)
	for _, c := range p.mapping.Checks {
		if n := strings.TrimSpace(r.SQL(p.to.Fill(c.Query))); n != "0" {
			t.Errorf("%s: %s rows break it", c.Name, n)
		}
	}
}
