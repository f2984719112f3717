package action

import (
	"os"
	"path/filepath"
	"testing"

	"holdfast/testbed/earlier"
)

// TestPackagesOfAnEarlierVersionAreKnown: what was installed before an upgrade that began
// with another version is what the way back needs.
func TestPackagesOfAnEarlierVersionAreKnown(t *testing.T) {
	dir := filepath.Join(earlier.Files(t, "middle"), "upgrade/backups", earlier.Upgrade, "base")
	p := packageStep{step: &Step{Values: Values{Backup: dir}}}
	files := []string{"base/platform-base_1.1_all.deb"}
	text, err := os.ReadFile(p.recordFile(files))
	if err != nil {
		t.Fatal(err)
	}
	earlier.Whole[[]pkg](t, "record of packages", text)
	ps, err := p.recorded(files)
	if err != nil || len(ps) != 1 || ps[0].Name != "platform-base" || ps[0].Was != "1.0" || ps[0].Version != "1.1" {
		t.Fatalf("installed before: %+v, %v", ps, err)
	}
	if _, err := os.Stat(filepath.Join(dir, "packages", filepath.Base(ps[0].Kept))); err != nil {
		t.Error(err)
	}
}
