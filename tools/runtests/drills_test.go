package main

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func day(n int) time.Time { return time.Date(2026, 11, n, 3, 0, 0, 0, time.UTC) }

func names(all []drill) string {
	var out []string
	for _, d := range all {
		out = append(out, d.Name)
	}
	return strings.Join(out, " ")
}

// TestOrder: what never passed or has changed goes first, then what passed longest ago.
func TestOrder(t *testing.T) {
	book := ledger{
		{Drill: "old", At: day(1), Commit: "c1", Result: passedResult},
		{Drill: "new", At: day(9), Commit: "c9", Result: passedResult},
		{Drill: "changed", At: day(8), Commit: "c8", Result: passedResult},
		{Drill: "failed", At: day(7), Commit: "c7", Result: failedResult},
		{Drill: "again", At: day(2), Commit: "c2", Result: passedResult},
		{Drill: "again", At: day(8), Commit: "c8", Result: failedResult},
	}
	all := func() []drill {
		return []drill{{Name: "again"}, {Name: "changed"}, {Name: "failed"}, {Name: "never"}, {Name: "new"}, {Name: "old"}}
	}
	changed := func(_ string, d drill) bool { return d.Name == "changed" }
	got := all()
	order(got, book, changed, "")
	if want := "failed never changed old again new"; names(got) != want {
		t.Errorf("%s, want %s", names(got), want)
	}
	one, same, other := all(), all(), all()
	order(one, book, changed, "s")
	order(same, book, changed, "s")
	order(other, book, changed, "another seed")
	if names(one) != names(same) || names(one) == names(other) {
		t.Errorf("by the same seed %s and %s, by another %s", names(one), names(same), names(other))
	}
	for _, d := range one[:3] {
		if !strings.Contains("changed failed never", d.Name) {
			t.Errorf("by a seed: %s: want what has changed first", names(one))
		}
	}
}

func TestLedger(t *testing.T) {
	file := filepath.Join(t.TempDir(), "drills.jsonl")
	if l, err := readLedger(file); err != nil || len(l) != 0 {
		t.Fatalf("none yet: %v, %v", l, err)
	}
	a := entry{Drill: "a", At: day(1), Commit: "c1", Result: passedResult, Try: 1, Seconds: 90}
	b := entry{Drill: "a", At: day(2), Commit: "c2", Result: failedResult, Try: 1, Seconds: 12, Logs: "out/drills/x"}
	c := entry{Drill: "a", At: day(2), Commit: "c2", Result: passedResult, Try: 2, Seconds: 80}
	for _, e := range []entry{a, b} {
		if err := appendLedger(file, e); err != nil {
			t.Fatal(err)
		}
	}
	// A crash in the middle of a line.
	f, err := os.OpenFile(file, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString(`{"drill":"a","at":"2026-`); err != nil {
		t.Fatal(err)
	}
	f.Close()
	if l, err := readLedger(file); err != nil || len(l) != 2 || l[1] != b {
		t.Fatalf("with a line that was cut off: %v, %v", l, err)
	}
	if err := appendLedger(file, c); err != nil {
		t.Fatal(err)
	}
	l, err := readLedger(file)
	if err != nil || len(l) != 3 || l[2] != c {
		t.Fatalf("after it: %v, %v", l, err)
	}
	if got := l.cells("a"); got != "*unstable* | 2026-11-02 c2 | 80" {
		t.Errorf("cells %q", got)
	}
	if got := l.cells("b"); got != "not run | never | " {
		t.Errorf("cells %q", got)
	}
	if l.length("a") != 80*time.Second || l.length("b") != unknownLength {
		t.Errorf("lengths %s, %s", l.length("a"), l.length("b"))
	}
	if err := os.WriteFile(file, []byte("{}\nnonsense\n{}\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := readLedger(file); err == nil || !strings.Contains(err.Error(), "drills.jsonl:2:") {
		t.Errorf("a line in the middle that is none: %v", err)
	}
}

// TestDrillsAreFoundInSources: by the statement of a test's own body.
func TestDrillsAreFoundInSources(t *testing.T) {
	file := filepath.Join(t.TempDir(), "x_test.go")
	text := `// Package x is about x. And more.
package x

func TestPlain(t *testing.T) {}
func TestBig(t *testing.T) {
	need.Drill(t, "P1: big", need.Root)
}
func TestMany(t *testing.T) { need.More(t) }
func FuzzIt(f *testing.F) {}
func rig(t *testing.T) { need.Real(t) }
`
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	p := &pkg{ImportPath: "holdfast/internal/x"}
	if err := p.look(file); err != nil {
		t.Fatal(err)
	}
	if names(p.drills) != "x/TestBig" || p.drills[0].Proves != "P1: big" || names(p.fuzz) != "x/FuzzIt" || !realOnes([]*pkg{p})[p.ImportPath] {
		t.Errorf("%+v", p)
	}
	if d := p.rest(); d.Name != "x" || d.Proves != "Package x is about x." || !strings.Contains(strings.Join(d.args, " "), "-skip=^(TestBig)$") {
		t.Errorf("%+v", d)
	}
	bad := strings.Replace(text, `"P1: big"`, "what", 1)
	if err := os.WriteFile(file, []byte(bad), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := new(pkg).look(file); err == nil || !strings.Contains(err.Error(), "TestBig: need.Drill: want a string constant") {
		t.Errorf("%v", err)
	}
}

func TestPage(t *testing.T) {
	all := []drill{{Name: "e2e/TestA", Proves: "P1: a", args: []string{"test"}}, {Name: "x/FuzzB", Proves: "P7: b", args: []string{"test"}}, {Name: "staticcheck", Proves: "c", args: []string{"run"}}}
	got := page(all, ledger{{Drill: "e2e/TestA", At: day(3), Commit: "abc", Result: passedResult, Try: 1, Seconds: 61.4}, {Drill: "staticcheck", At: day(3), Commit: "abc", Result: failedResult, Try: 2}})
	for _, want := range []string{"3 drills: 1 passed when they ran last, 1 failed, 1 were never run", "| e2e/TestA | P1: a | passed | 2026-11-03 abc | 61 |",
		"| x/FuzzB | P7: b | not run | never |  |", "| staticcheck | c | failed | never | 0 |"} {
		if !strings.Contains(got, want) {
			t.Errorf("%q is not in\n%s", want, got)
		}
	}
}

// TestWrongCalls: one sentence, and nothing is run.
func TestWrongCalls(t *testing.T) {
	for call, want := range map[string]string{
		"":                    "want fast, test, drills, list or report",
		"all":                 `"all": want fast, test, drills, list or report`,
		"test x":              `test: "x": no arguments are taken`,
		"test -budget 1h":     "test takes no flags",
		"drills -budget -1h":  "-budget -1h0m0s: want a time above 0, as 25m or 2h",
		"drills -budget soon": "invalid value",
		"drills -only [":      `-only "[": want a regular expression`,
	} {
		err := run(context.Background(), strings.Fields(call), io.Discard)
		if !errors.As(err, &wrong{}) || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", call, err, want)
		}
	}
}
