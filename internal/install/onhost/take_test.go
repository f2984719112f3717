package onhost

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"holdfast/internal/install"
	"holdfast/testbed/try"
)

// TestOnlyOurLinksGo: what somebody else has put where an installation makes a link stays, when ours is placed and when it is
// removed.
func TestOnlyOurLinksGo(t *testing.T) {
	root := t.TempDir()
	at := func(name string) string { return filepath.Join(root, "usr/sbin", name) }
	try.Must(t, os.MkdirAll(filepath.Join(root, "usr/sbin"), 0o755))
	try.Must(t, os.WriteFile(at("crm"), []byte("theirs"), 0o755))
	try.Must(t, os.Symlink("/opt/theirs", at("drbd-overview")))
	var files []install.File
	for _, name := range []string{"crm", "drbd-overview", "ms_recovery.sh"} {
		files = append(files, install.File{Path: "/usr/sbin/" + name, Link: install.Program, Once: true})
	}
	changed, err := placer{root: root, dir: filepath.Join(root, "work")}.place(files)
	if err != nil || len(changed) != 1 || changed[0] != "/usr/sbin/ms_recovery.sh" {
		t.Errorf("placed %q, %v", changed, err)
	}
	if to, err := os.Readlink(at("ms_recovery.sh")); to != install.Program {
		t.Errorf("our link leads to %q, %v", to, err)
	}
	for name, want := range map[string]string{"crm": "it is no link of ours",
		"drbd-overview": "it leads to /opt/theirs", "ms_recovery.sh": "", "none": nothing} {
		if why, err := take(at(name), "", true); err != nil || why != want {
			t.Errorf("%s: %q, %v; want %q", name, why, err, want)
		}
	}
	left, err := os.ReadDir(filepath.Join(root, "usr/sbin"))
	var names []string
	for _, e := range left {
		names = append(names, e.Name())
	}
	if text := strings.Join(names, " "); err != nil || text != "crm drbd-overview" {
		t.Errorf("left: %s, %v", text, err)
	}
}
