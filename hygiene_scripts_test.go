package holdfast_test

import (
	"os"
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
