package holdfast_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// upward finds a path from a script's own directory to a file of another one.
var upward = regexp.MustCompile(`dirname "\$0"\)"?(/\.\.[^"\s$)]*)`)

// TestScriptsFindEachOther: a path that a moved directory breaks is found before somebody runs the script.
func TestScriptsFindEachOther(t *testing.T) {
	found := 0
	walk(t, func(path, text string) {
		if filepath.Ext(path) != ".sh" {
			return
		}
		for _, m := range upward.FindAllStringSubmatch(text, -1) {
			found++
			if _, err := os.Stat(filepath.Join(filepath.Dir(path), strings.TrimSpace(m[1]))); err != nil {
				t.Errorf("%s: %s: %v", path, m[0], err)
			}
		}
	})
	if found == 0 {
		t.Error("no script names another one: want the pattern to find those")
	}
}

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
