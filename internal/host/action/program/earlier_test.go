package program

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"holdfast/testbed/earlier"
)

// TestAttemptsOfAnEarlierVersionAreRead: what the helper of another version has left in its
// state directories is read as a whole. One whose helper was at work when the host went down
// is not taken for one that was never begun.
func TestAttemptsOfAnEarlierVersionAreRead(t *testing.T) {
	dirs, err := filepath.Glob(filepath.Join(earlier.Files(t, "prepared"), "upgrade/runs", earlier.Upgrade, "*", "1", "1"))
	if err != nil || len(dirs) != 12 {
		t.Fatalf("state directories: %v, %v", dirs, err)
	}
	for _, dir := range dirs {
		whole[Spec](t, dir, fileSpec)
		whole[begun](t, dir, fileBegun)
		whole[Process](t, dir, fileMain)
		want := whole[Result](t, dir, fileExit)
		if r, err := Probe(dir); err != nil || !r.OK() || !r.Ended.Equal(want.Ended) {
			t.Errorf("%s: %+v, %v", dir, r, err)
		}
	}
	dir := filepath.Join(earlier.Files(t, "middle"), "upgrade/runs", earlier.Upgrade, "h2_install_agentd", "1", "1")
	b := whole[begun](t, dir, fileBegun)
	f, err := openLock(dir)
	if err != nil {
		t.Fatal(err)
	}
	if ok, err := takeLock(f); err != nil || !ok {
		t.Fatalf("play the helper: %t, %v", ok, err)
	}
	if r, err := Probe(dir); err != nil || r.State != Running || !r.Began.Equal(b.Began) || b.Began.IsZero() {
		t.Errorf("while it runs: %+v, %v", r, err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if r, err := Probe(dir); err != nil || r.State != Unknown || !strings.Contains(r.Why, "the host went down") {
		t.Errorf("after the host went down: %+v, %v", r, err)
	}
}

// whole reads a file of a state directory.
func whole[T any](t *testing.T, dir, name string) (v T) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		t.Error(err)
		return v
	}
	return earlier.Whole[T](t, name, text)
}
