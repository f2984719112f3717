package onhost

import (
	"path/filepath"
	"strings"
	"testing"
)

func TestOneInstallationAtATime(t *testing.T) {
	file := filepath.Join(t.TempDir(), "lock")
	unlock, err := lock(file)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := lock(file); err == nil || !strings.Contains(err.Error(), "another installation works on this host (pid ") {
		t.Errorf("a second one: %v", err)
	}
	unlock()
	unlock, err = lock(file)
	if err != nil {
		t.Fatalf("after the first has ended: %v", err)
	}
	unlock()
}

func TestOnlyFoldersOfInstallationsAreRemoved(t *testing.T) {
	for _, dir := range []string{t.TempDir(), "/var/lib/holdfast-install.x/../../etc", "/var/lib/holdfast-install", "/"} {
		if err := removeOwn(dir); err == nil {
			t.Errorf("%s: not refused", dir)
		}
	}
}
