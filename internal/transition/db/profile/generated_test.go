package profile

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"holdfast/internal/transition/db/aligntest"
	"holdfast/internal/transition/db/ids"
	"holdfast/internal/transition/db/survey"
	"holdfast/testbed/need"
)

// TestGeneratedPlatform: a platform with all the odd rows that years of use leave behind
// has nothing that the plan refuses, is copied, and breaks no check.
func TestGeneratedPlatform(t *testing.T) {
	need.More(t)
	r := aligntest.MariaDB(t)
	old := aligntest.Fill(t, r, 7, 100)
	p := fresh(t, r, "zed_")
	dir := old.IDs(t, map[string]map[string]string{"project": nil, "user": nil, "availability_zone": nil, "pool": nil,
		"volume_type": nil, "service": nil})
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
	for host, service := range sets["service"].Pairs {
		r.SQL("INSERT INTO zed_cinder.services (host, `binary`, report_count, deleted, uuid) VALUES ('" +
			host + "', 'cinder-volume', 0, 0, '" + service + "')")
	}
	if err := ids.Ask(within(t, time.Minute), p.mapping, sets, p.target, p.to); err != nil {
		t.Fatal(err)
	}
	found, _, err := survey.Plan(within(t, 2*time.Minute), p.mapping, p.source, p.target, p.from.Databases, p.to.Databases, sets)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range found.Errors {
		t.Errorf("%s %s: %s", e.Table, e.Column, e.Text)
	}
	for _, w := range found.Warnings {
		if strings.Contains(w.Text, "neither reads nor ignores") {
			t.Errorf("%s %s: %s", w.Table, w.Column, w.Text)
		}
	}
	files := map[string]string{}
	for kind := range sets {
		if text, err := os.ReadFile(filepath.Join(dir, kind+".csv")); err == nil {
			files[kind] = string(text)
		}
	}
	p.copied(t, files)
	for _, c := range p.mapping.Checks {
		if n := p.breaks(t, p.target.DB, c); n != 0 {
			t.Errorf("%s: %d rows break it", c.Name, n)
		}
	}
	p.imagesAreRead(t)
}

// TestBackEndsWithoutAService: volumes on a back end that the new platform calls otherwise,
// or has not, are told by the plan unless a file says what they become.
func TestBackEndsWithoutAService(t *testing.T) {
	need.More(t)
	r := start(t)
	p := fresh(t, r, "zed_")
	for files, want := range map[string]bool{"": true, "ctl01@ceph,-\n": false, "ctl01@ceph,service-of-ceph\n": false} {
		sets := map[string]ids.Set{}
		if files != "" {
			dir := t.TempDir()
			if err := os.WriteFile(filepath.Join(dir, "service.csv"), []byte(files), 0o600); err != nil {
				t.Fatal(err)
			}
			var err error
			if sets, err = ids.Load(dir, p.mapping.IDs); err != nil {
				t.Fatal(err)
			}
		}
		if err := ids.Ask(within(t, time.Minute), p.mapping, sets, p.target, p.to); err != nil {
			t.Fatal(err)
		}
		found, _, err := survey.Plan(within(t, time.Minute), p.mapping, p.source, p.target, p.from.Databases, p.to.Databases, sets)
		if err != nil {
			t.Fatal(err)
		}
		told := false
		for _, e := range found.Errors {
			told = told || e.Column == "service_uuid" && strings.Contains(e.Text, `IDs of service`) && strings.Contains(e.Text, `"ctl01@ceph"`)
		}
		if told != want {
			t.Errorf("with %q: told %v, want %v: %+v", files, told, want, found.Errors)
		}
	}
}
