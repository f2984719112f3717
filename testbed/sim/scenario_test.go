package sim

import (
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "rewrite the goldens of the scenarios")

// TestScenarios runs every folder of scenarios/ and compares its events with the
// golden. A golden that is missing fails.
func TestScenarios(t *testing.T) {
	dirs, err := Folders("../../scenarios")
	if err != nil {
		t.Fatal(err)
	}
	for _, dir := range dirs {
		t.Run(filepath.Base(dir), func(t *testing.T) {
			s, err := Load(dir)
			if err != nil {
				t.Fatal(err)
			}
			var r Report
			lines, err := r.add(s, filepath.Base(dir))
			if err != nil {
				t.Fatal(err)
			}
			for _, f := range r.Failed {
				t.Error(f)
			}
			golden(t, filepath.Join(dir, goldenFile), Golden(lines))
		})
	}
}

func golden(t *testing.T, file, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatalf("golden (make it with -update, then read it): %v", err)
	}
	a, b := strings.Split(got, "\n"), strings.Split(string(want), "\n")
	for i := range max(len(a), len(b)) {
		switch {
		case i >= len(a):
			t.Fatalf("line %d: want %q, got no more", i+1, b[i])
		case i >= len(b):
			t.Fatalf("line %d: want no more, got %q", i+1, a[i])
		case a[i] != b[i]:
			t.Fatalf("line %d:\nwant %s\n got %s", i+1, b[i], a[i])
		}
	}
}

// TestScenarioText checks that the text of a scenario means the scenario.
func TestScenarioText(t *testing.T) {
	for seed := uint64(1); seed < 200; seed++ {
		s, err := Parse(Random(seed))
		if err != nil {
			t.Fatal(err)
		}
		again, err := Parse(s.String())
		if err != nil {
			t.Fatalf("seed %d: %v\n%s", seed, err, s)
		}
		if again.String() != s.String() || len(again.Steps) != len(s.Steps) {
			t.Fatalf("seed %d: %s\nbecame\n%s", seed, s, again)
		}
	}
}

func TestParseErrors(t *testing.T) {
	for text, want := range map[string]string{
		"":                                   "missing",
		"hosts h1\nend 10":                   "line 2",
		"hosts h1\nend 10s\njump h1":         `"jump" is no command`,
		"hosts h1\nend 10s\nat 5s power h1":  "want power HOST on|off|cycle",
		"hosts h1\nend 10s\nat x power h1 a": "line 3",
		"hosts h1\nend 10s\nat 5s":           "want at TIME COMMAND",
		"hosts\nend 10s":                     "1 to 9 hosts",
	} {
		if _, err := Parse(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want an error with %q", text, err, want)
		}
	}
}

func TestRunErrors(t *testing.T) {
	for cmd, want := range map[string]string{
		"power h9 off":    `"h9" is no host`,
		"power h1 maybe":  "want one of cycle, off, on",
		"want maybe":      "want run or stop",
		"slow h1 reply x": "invalid duration",
		"clock h1 9":      "want a number from 0.5 to 2",
		"fence h1 maybe":  "want one of dead, foreign, late, lies-on, none, ok, slow",
		"lossy h1 101":    "want a percentage",
		"mute h1 h9":      `"h9" is no host`,
		"restore -1s":     "want none below 0",
		"restore x":       "invalid duration",
		"timings fast":    "before the hosts get their power",
		"restart 1 1 1m":  "before the hosts get their power",
	} {
		s, err := Parse("hosts h1 h2 h3\nend 10s\nat 5s " + cmd)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Run(s, false); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want an error with %q", cmd, err, want)
		}
	}
}

func TestSettingErrors(t *testing.T) {
	for cmd, want := range map[string]string{
		"timings slow":                "want default or fast",
		"timings fast leese=1s":       `"leese" is no timing`,
		"timings lease=1s":            "Keepalive",
		"timings detection=300ms":     "4 x Heartbeat",
		"restart 1 -1 1m":             "none below 0",
		"restart 1 1 x":               "invalid duration",
		"timings watchdog=1m grace=x": "invalid duration",
	} {
		s, err := Parse("hosts h1 h2 h3\n" + cmd + "\nend 10s")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Run(s, false); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want an error with %q", cmd, err, want)
		}
	}
}

// TestManual runs the example of docs/simulator.md, and checks that the page
// tells of every command and rule.
func TestManual(t *testing.T) {
	b, err := os.ReadFile("../../docs/simulator.md")
	if err != nil {
		t.Fatal(err)
	}
	page := string(b)
	block := func(kind string) string {
		_, after, found := strings.Cut(page, "```"+kind+"\n")
		text, _, closed := strings.Cut(after, "```")
		if !found || !closed {
			t.Fatalf("no block %q", kind)
		}
		return text
	}
	s, err := Parse(block("scenario"))
	if err != nil {
		t.Fatal(err)
	}
	r, err := Run(s, false)
	if err != nil {
		t.Fatal(err)
	}
	if got := Golden(r.Lines); got != block("events") || len(r.Violations) > 0 {
		t.Errorf("the example gives\n%s", got)
	}
	var names []string
	for name := range commands() {
		names = append(names, name)
	}
	for _, n := range slices.Concat(names, Rules()) {
		if !strings.Contains(page, "`"+n+"`") && !strings.Contains(page, "`"+n+" ") {
			t.Errorf("it does not tell of %q", n)
		}
	}
}

func writeFile(t *testing.T, file, text string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}
