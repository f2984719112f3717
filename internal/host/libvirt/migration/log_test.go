package migration

import (
	"os"
	"path/filepath"
	"testing"
)

// TestEndedByMigration: what a domain's log says of its last process.
func TestEndedByMigration(t *testing.T) {
	const (
		start    = "2026-01-02 03:04:05.678+0000: starting up libvirt version: 11.3.0, package: 1\nLC_ALL=C \\\n"
		migrated = "2026-01-02 03:05:05.678+0000: shutting down, reason=migrated\n"
		crashed  = "2026-01-02 03:06:05.678+0000: shutting down, reason=crashed\n"
		daemon   = "2026-01-02 03:06:05.678+0000: shutting down, reason=daemon\n"
	)
	for name, c := range map[string]struct {
		log          string
		moved, again bool
	}{
		"nothing":                         {},
		"it runs":                         {log: start},
		"it has left":                     {log: start + migrated, moved: true},
		"libvirtd died before it ended":   {log: start + migrated + daemon, moved: true, again: true},
		"and says so by another name":     {log: start + migrated + crashed + crashed, moved: true, again: true},
		"it crashed":                      {log: start + crashed},
		"it has left after a crash":       {log: start + crashed + migrated, moved: true},
		"it has come back":                {log: start + migrated + start},
		"come back, and crashed":          {log: start + migrated + daemon + start + crashed},
		"come back, and has left":         {log: start + migrated + crashed + start + migrated, moved: true},
		"told twice":                      {log: start + migrated + migrated, moved: true},
		"a line of the guest's own words": {log: start + "x shutting down, reason=migrated\n"},
	} {
		path := filepath.Join(t.TempDir(), "a.log")
		if err := os.WriteFile(path, []byte(c.log), 0o600); err != nil {
			t.Fatal(err)
		}
		moved, again, err := Ended(path)
		if moved != c.moved || again != c.again || err != nil {
			t.Errorf("%s: %t, %t, %v", name, moved, again, err)
		}
	}
	if moved, again, err := Ended(filepath.Join(t.TempDir(), "none")); moved || again || err != nil {
		t.Errorf("no log: %t, %t, %v", moved, again, err)
	}
}
