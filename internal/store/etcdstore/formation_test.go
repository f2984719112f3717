package etcdstore

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"holdfast/internal/store"
)

func TestFormation(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "store")
	if _, found, err := ReadFormation(dir); found || err != nil {
		t.Errorf("nothing: %v, %v", found, err)
	}
	want := Formation{Gen: 1 << 60, From: 3, Role: "two", WasActive: true}
	if err := SaveFormation(dir, want); err != nil {
		t.Fatal(err)
	}
	if got, found, err := ReadFormation(dir); got != want || !found || err != nil {
		t.Errorf("read back as %+v, %v, %v", got, found, err)
	}
	if err := os.WriteFile(filepath.Join(dir, formationFile), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err := ReadFormation(dir); err == nil {
		t.Error("half a file is read")
	}
	// Data of which nobody knows whose they are.
	if err := os.Remove(filepath.Join(dir, formationFile)); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(walDir(dir), 0o700); err != nil {
		t.Fatal(err)
	}
	if _, _, err := ReadFormation(dir); !errors.Is(err, store.ErrDefinite) {
		t.Errorf("data without a formation: %v", err)
	}
}

func TestPutAside(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "store")
	var last string
	for range 2 { // the second time the first copy goes
		if err := SaveFormation(dir, Formation{Gen: 1, Role: "two"}); err != nil {
			t.Fatal(err)
		}
		to, err := PutAside(dir)
		if err != nil || to == last {
			t.Fatal(to, err)
		}
		last = to
	}
	left, err := os.ReadDir(filepath.Dir(dir))
	if err != nil || len(left) != 1 || left[0].Name() != filepath.Base(last) {
		t.Errorf("%v, %v; want %s alone", left, err, last)
	}
	release, err := claim(dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := PutAside(dir); !errors.Is(err, ErrDataInUse) {
		t.Errorf("under a member: %v", err)
	}
	if err := release(); err != nil {
		t.Error(err)
	}
}
