package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

func at(day int) time.Time { return time.Date(2026, 1, day, 12, 0, 0, 0, time.UTC) }

// book is a ledger on disk.
func writeBook(t *testing.T, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "drills.jsonl")
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return file
}

const oneLine = `{"drill":"a/TestX","at":"2026-01-02T12:00:00Z","commit":"c1","machine":"m","result":"passed","try":1,"seconds":3}` + "\n"

func TestALedgerIsRead(t *testing.T) {
	if book, err := readLedger(filepath.Join(t.TempDir(), "none")); book != nil || err != nil {
		t.Errorf("none: %v, %v", book, err)
	}
	for name, c := range map[string]struct {
		text string
		n    int
		bad  string
	}{
		"whole":                       {oneLine + oneLine, 2, ""},
		"fields of a later version":   {strings.Replace(oneLine, `"try"`, `"later":1,"try"`, 1), 1, ""},
		"the last line was cut off":   {oneLine + oneLine[:40], 1, ""},
		"a line in the middle is bad": {oneLine + "{\n" + oneLine, 0, ":2: "},
		"the last line is bad":        {oneLine + "{\n", 0, ":2: "},
		"empty":                       {"", 0, ""},
	} {
		book, err := readLedger(writeBook(t, c.text))
		if len(book) != c.n || (err != nil) != (c.bad != "") || err != nil && !strings.Contains(err.Error(), c.bad) {
			t.Errorf("%s: %d entries, %v", name, len(book), err)
		}
	}
}

// TestALineIsAppended also after one that was cut off, which goes.
func TestALineIsAppended(t *testing.T) {
	for name, text := range map[string]string{"": "", "whole": oneLine, "cut off": oneLine + oneLine[:40], "only a part": oneLine[:40]} {
		file := writeBook(t, text)
		e := entry{Drill: "b/TestY", At: at(3), Commit: "c2", Result: failedResult, Try: 1, Seconds: 4, Logs: "out/drills/b"}
		if err := appendLedger(file, e); err != nil {
			t.Fatal(err)
		}
		book, err := readLedger(file)
		if err != nil || len(book) != 1+strings.Count(text, "\n") || book[len(book)-1] != e {
			t.Errorf("%s: %+v, %v", name, book, err)
		}
	}
	file := filepath.Join(t.TempDir(), "new")
	if err := appendLedger(file, entry{Drill: "a"}); err != nil {
		t.Fatal(err)
	}
	if book, err := readLedger(file); err != nil || len(book) != 1 {
		t.Errorf("%v, %v", book, err)
	}
}

// TestWhatALedgerSays: a run that says nothing of a drill hides none that does.
func TestWhatALedgerSays(t *testing.T) {
	book := ledger{
		{Drill: "a", At: at(1), Result: passedResult, Try: 1, Seconds: 60}, {Drill: "a", At: at(2), Result: failedResult, Try: 1, Seconds: 90},
		{Drill: "a", At: at(3), Result: skippedResult, Try: 1, Seconds: 1}, {Drill: "b", At: at(4), Result: damagedResult, Try: 1, Seconds: 7},
	}
	if e, ok := book.passed("a"); !ok || !e.At.Equal(at(1)) {
		t.Errorf("a has passed: %+v, %v", e, ok)
	}
	if e, ok := book.last("a"); !ok || e.Result != failedResult {
		t.Errorf("a was last: %+v, %v", e, ok)
	}
	if _, ok := book.last("b"); ok {
		t.Error("a run that does not count says something")
	}
	if got := book.length("a"); got != 90*time.Second {
		t.Errorf("a takes %s", got)
	}
	if got := book.length("none"); got != unknownLength {
		t.Errorf("one that was never run takes %s", got)
	}
}

func TestTheOrderOfDrills(t *testing.T) {
	book := ledger{
		{Drill: "old", At: at(1), Result: passedResult, Commit: "c1"}, {Drill: "new", At: at(9), Result: passedResult, Commit: "c9"},
		{Drill: "middle", At: at(5), Result: passedResult, Commit: "c5"}, {Drill: "middle", At: at(10), Result: failedResult, Commit: "c9"},
		{Drill: "changed", At: at(9), Result: passedResult, Commit: "c9"}, {Drill: "failed", At: at(9), Result: failedResult, Commit: "c9"},
	}
	all := []drill{{Name: "new"}, {Name: "changed"}, {Name: "middle"}, {Name: "never"}, {Name: "old"}, {Name: "failed"}}
	changed := func(since string, d drill) bool {
		if since == "" {
			t.Errorf("asked what of %s changed since no commit", d.Name)
		}
		return d.Name == "changed"
	}
	names := func(seed string) string {
		var out []string
		todo := append([]drill{}, all...)
		order(todo, book, changed, seed)
		for _, d := range todo {
			out = append(out, d.Name)
		}
		return strings.Join(out, " ")
	}
	if got := names(""); got != "failed never changed old middle new" {
		t.Errorf("the order is %s", got)
	}
	seen := map[string]bool{}
	for _, seed := range []string{"a", "b", "c", "d", "e", "f"} {
		got := names(seed)
		if got != names(seed) {
			t.Errorf("seed %s gives several orders", seed)
		}
		seen[got] = true
		// What may have got worse still comes first.
		if f := strings.Fields(got); len(f) != 6 || strings.Contains(strings.Join(f[:3], " "), "old") ||
			!strings.Contains(strings.Join(f[:3], " "), "changed") {
			t.Errorf("seed %s: %s", seed, got)
		}
	}
	if len(seen) < 2 {
		t.Errorf("six seeds give one order: %v", seen)
	}
}

func TestThePage(t *testing.T) {
	all := []drill{
		{Name: "arm64/build", Proves: "it builds", args: []string{"build"}},
		{Name: "config/FuzzLoad", Proves: "P7: no panic", args: []string{"test"}},
		{Name: "e2e/TestLoss", Proves: "P1: no two copies", args: []string{"test"}},
		{Name: "pair/TestAtLength", Proves: "P2: a proof", args: []string{"test"}},
		{Name: "race/pair", Proves: "no race", args: []string{"test"}},
	}
	book := ledger{
		{Drill: "e2e/TestLoss", At: at(2), Commit: "c1", Result: passedResult, Try: 1, Seconds: 61.4},
		{Drill: "pair/TestAtLength", At: at(2), Commit: "c1", Result: passedResult, Try: 1, Seconds: 10},
		{Drill: "pair/TestAtLength", At: at(3), Commit: "c2+", Result: failedResult, Try: 1, Seconds: 11},
		{Drill: "race/pair", At: at(4), Commit: "c2", Result: failedResult, Try: 1, Seconds: 20},
		{Drill: "race/pair", At: at(4), Commit: "c2", Result: passedResult, Try: 2, Seconds: 21},
	}
	const want = `# Drills

Made by ` + "`make drills-report`" + ` from [drills.jsonl](drills.jsonl); ` + "`make drills`" + ` runs them.

5 drills: 2 passed when they ran last, 1 failed, 2 were never run in this ledger.
A commit with ` + "`+`" + ` had changes that were not committed. *Unstable* is one that failed and passed when it was
run again at once.

## On whole hosts

Faults, upgrades, pairs, transitions and installations, with the real program.

| drill | proves | last run | passed last | seconds |
|---|---|---|---|---|
| e2e/TestLoss | P1: no two copies | passed | 2026-01-02 c1 | 61 |

## Parts

A port on its real component for longer, a search to its end, a campaign of many seeds.

| drill | proves | last run | passed last | seconds |
|---|---|---|---|---|
| pair/TestAtLength | P2: a proof | failed | 2026-01-02 c1 | 11 |

## Fuzzing

Each target for 30 seconds.

| drill | proves | last run | passed last | seconds |
|---|---|---|---|---|
| config/FuzzLoad | P7: no panic | not run | never |  |

## Race detector and linters

| drill | proves | last run | passed last | seconds |
|---|---|---|---|---|
| arm64/build | it builds | not run | never |  |
| race/pair | no race | *unstable* | 2026-01-04 c2 | 21 |
`
	if got := page(all, book); got != want {
		t.Errorf("the page is\n%s\nwant\n%s", got, want)
	}
}

// TestWhichDrillsAreChosen: with -known those that passed when they ran last; one that was not run since says nothing.
func TestWhichDrillsAreChosen(t *testing.T) {
	book := ledger{
		{Drill: "good", Result: failedResult}, {Drill: "good", Result: passedResult}, {Drill: "good", Result: skippedResult},
		{Drill: "bad", Result: passedResult}, {Drill: "bad", Result: failedResult},
	}
	for _, c := range []struct {
		known bool
		want  string
	}{{false, "[good bad never]"}, {true, "[good]"}} {
		var got []string
		for _, name := range []string{"good", "bad", "never", "another"} {
			if (choice{only: regexp.MustCompile("^(good|bad|never)$"), known: c.known}).wants(drill{Name: name}, book) {
				got = append(got, name)
			}
		}
		if fmt.Sprint(got) != c.want {
			t.Errorf("known %t: %v, want %s", c.known, got, c.want)
		}
	}
}
