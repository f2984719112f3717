package filetree

import (
	"os"
	"path/filepath"
	"testing"

	"holdfast/testbed/earlier"
)

// TestJournalOfAnEarlierVersionIsFound: without it the way back would not know the tree of
// before.
func TestJournalOfAnEarlierVersionIsFound(t *testing.T) {
	// Its name is made of the paths, as they were on that host.
	s := Swap{Target: "/opt/platform/web", Backup: filepath.Join("/srv/host/data/upgrade/backups", earlier.Upgrade, "web")}
	there := filepath.Join(earlier.Files(t, "middle"), "upgrade/backups", earlier.Upgrade, "web")
	text, err := os.ReadFile(filepath.Join(there, filepath.Base(s.journalFile())))
	if err != nil {
		t.Fatal(err)
	}
	j := earlier.Whole[journal](t, "journal", text)
	if j.State != swapped || j.Target != s.Target || j.Old == 0 || j.New == 0 {
		t.Errorf("journal %+v", j)
	}
}
