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
		for _, long := range []string{strings.Repeat("x", 5000), strings.Repeat("/y", 2500),
			"<domain>" + strings.Repeat("<z>", 2000), strings.Repeat("10.0.0.1,", 600)} {
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
	if said := many.Error(); len(said) > 4000 || !strings.Contains(said, "want an IPv4 address") ||
		!strings.HasSuffix(said, "and 4980 more faults") {
		t.Errorf("%d characters, ending in %q", len(said), said[max(0, len(said)-80):])
	}
}

// TestNumbersHaveBounds: a number that no field can hold is told with what is allowed, and nothing is said of its size.
func TestNumbersHaveBounds(t *testing.T) {
	const huge = "1000000000000000000000000000000" // 10^30
	for path, want := range map[string]string{
		"MemorySizeInMB": "want 16 to 16777216", "MemorySizeInGB": "want 1 to 16384", "CPU": "want 1 to 1024",
		"HealthCheck.Port": "want 1 to 65535", "HealthCheck.Failures": "want 1 to 100",
		"Restart.InPlace": "want 0 to 100", "Restart.Limit": "want 0 (never give up) to 1000",
	} {
		for _, number := range []string{huge, "-" + huge, "1e30", "-1", "16777217"} {
			outer, inner, nested := strings.Cut(path, ".")
			value := number
			if nested {
				value = `{"Type": "tcp", "Port": 80, "` + inner + `": ` + number + `}`
				if outer == "Restart" {
					value = `{"` + inner + `": ` + number + `}`
				} else if inner == "Port" {
					value = `{"Type": "tcp", "Port": ` + number + `}`
				}
			}
			text := fixture(t, "base.json")
			switch outer {
			case "MemorySizeInGB":
				text = change(t, text, `"MemorySizeInGB": 8`, `"MemorySizeInGB": `+value)
			case "CPU":
				text = change(t, text, `"CPU": 4`, `"CPU": `+value)
			default:
				text = change(t, text, `"CPU": 4`, `"CPU": 4, "`+outer+`": `+value)
			}
			_, faults, warnings := Parse("c.json", []byte(text), Options{AllowUndersized: true})
			wants := want
			if number == "1e30" { // none that is written in digits, whatever is allowed
				wants = "want a whole number, written in digits"
			}
			if len(faults) != 1 || faults[0].Where() != path || !strings.Contains(faults[0].Want, wants) ||
				!strings.HasPrefix(faults[0].Error(), "c.json:") {
				t.Errorf("%s %s: faults %v, want %q", path, number, Faults(faults), wants)
			}
			for _, w := range warnings {
				if strings.Contains(w.Text, "9223372036854775807") || strings.HasPrefix(path, "Memory") {
					t.Errorf("%s %s: warning %v", path, number, w)
				}
			}
		}
	}
}
