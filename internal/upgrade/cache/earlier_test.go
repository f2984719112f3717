package cache

import (
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"holdfast/testbed/earlier"
)

// TestBundlesOfAnEarlierVersionAreThere: its file, what is known of it, and the bundle
// unpacked are found as they were left.
func TestBundlesOfAnEarlierVersionAreThere(t *testing.T) {
	d := New(filepath.Join(earlier.Files(t, "middle"), "upgrade/bundles"), slog.New(slog.DiscardHandler))
	all, err := d.List()
	if err != nil || len(all) != 1 || all[0].Name != "platform" || all[0].Version != "1.1" || all[0].Files != 6 {
		t.Fatalf("bundles: %+v, %v", all, err)
	}
	text, err := os.ReadFile(filepath.Join(d.Dir, all[0].SHA256+noteSuffix))
	if err != nil {
		t.Fatal(err)
	}
	earlier.Whole[record](t, "note of the bundle", text)
	s, err := d.Find(all[0].SHA256)
	if err != nil || len(s.Manifest.Modules) != 3 || s.Dir != filepath.Join(d.Dir, all[0].SHA256) {
		t.Errorf("unpacked: %+v, %v", s, err)
	}
}
