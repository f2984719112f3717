package config

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestFaultsAreBounded: a long value is quoted in part, and of many faults the first are told with how many there are.
func TestFaultsAreBounded(t *testing.T) {
	files, err := filepath.Glob("testdata/*.json")
	if err != nil || len(files) == 0 {
		t.Fatal(err, files)
	}
	text := regexp.MustCompile(`: ?("(?:[^"\\]|\\.)*")`)
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, long := range []string{strings.Repeat("x", 5000), strings.Repeat("/y", 2500), "<domain>" + strings.Repeat("<z>", 2000), strings.Repeat("10.0.0.1,", 600)} {
			quoted, err := json.Marshal(long)
			if err != nil {
				t.Fatal(err)
			}
			for _, m := range text.FindAllSubmatchIndex(b, -1) {
				_, faults, warnings := Parse("c.json", []byte(string(b[:m[2]])+string(quoted)+string(b[m[3]:])), Options{})
				for _, f := range faults {
					if n := len(f.Error()); n > 600 {
						t.Errorf("%s: %s is told in %d characters: %.300s", file, f.Path, n, f.Error())
					}
				}
				for _, w := range warnings {
					if n := len(w.String()); n > 600 {
						t.Errorf("%s: %s is told in %d characters: %.300s", file, w.Path, n, w)
					}
				}
			}
		}
	}
	many := make(Faults, 5000)
	for i := range many {
		many[i].Path, many[i].Want = "Network[0].Ipaddr", "want an IPv4 address"
	}
	if said := many.Error(); len(said) > 4000 || !strings.Contains(said, "want an IPv4 address") || !strings.HasSuffix(said, "and 4980 more faults") {
		t.Errorf("%d characters, ending in %q", len(said), said[max(0, len(said)-80):])
	}
}
