package holdfast_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestTheLastTagsStateIsKept: what a version leaves is read by the next one (docs/adr/0070).
func TestTheLastTagsStateIsKept(t *testing.T) {
	if _, err := os.Stat(".git"); err != nil {
		t.Skip("no repository: its tags are not known")
	}
	out, err := exec.CommandContext(t.Context(), "git", "tag", "--list", "v*", "--sort=-version:refname").Output()
	if err != nil {
		t.Fatal(err)
	}
	if tag, _, any := strings.Cut(string(out), "\n"); any {
		if _, err := os.Stat(filepath.Join("testbed", "tagged", tag)); err != nil {
			t.Errorf("the state that %s leaves is not kept: %v", tag, err)
		}
	}
}
