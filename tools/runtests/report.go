package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"
)

// pageFile is what report writes.
const pageFile = "docs/drills.md"

// report makes the page of all drills.
func report(ctx context.Context, out io.Writer) error {
	all, err := packages(ctx)
	if err != nil {
		return err
	}
	book, err := readLedger(ledgerFile)
	if err != nil {
		return err
	}
	if err := os.WriteFile(pageFile, []byte(page(drillsOf(all), book)), 0o644); err != nil {
		return err
	}
	fmt.Fprintln(out, pageFile)
	return nil
}

// kinds are the parts of the page, in its order.
var kinds = []struct {
	title, about string
	is           func(d drill) bool
}{
	{"On whole hosts", "Faults, upgrades, pairs, transitions and installations, with the real program.",
		func(d drill) bool { return strings.HasPrefix(d.Name, "e2e/") }},
	{"Parts", "A port on its real component for longer, a search to its end, a campaign of many seeds.",
		func(d drill) bool { return d.isTest() && !d.fuzzes() && !strings.HasPrefix(d.Name, "race/") }},
	{"Fuzzing", "Each target for 30 seconds.", drill.fuzzes},
	{"Race detector and linters", "", func(drill) bool { return true }},
}

// page is the page as Markdown.
func page(all []drill, book ledger) string {
	var b strings.Builder
	passed, never := 0, 0
	for _, d := range all {
		switch e, ok := book.last(d.Name); {
		case !ok:
			never++
		case e.Result == passedResult:
			passed++
		}
	}
	fmt.Fprintf(&b, "# Drills\n\nMade by `make drills-report` from [drills.jsonl](drills.jsonl); `make drills` runs them.\n\n")
	fmt.Fprintf(&b, "%d drills: %d passed when they ran last, %d failed, %d were never run in this ledger.\n", len(all),
		passed, len(all)-passed-never, never)
	fmt.Fprintf(&b, "A commit with `+` had changes that were not committed. *Unstable* is one that failed and passed "+
		"when it was\nrun again at once.\n")
	done := map[string]bool{}
	for _, k := range kinds {
		fmt.Fprintf(&b, "\n## %s\n\n", k.title)
		if k.about != "" {
			fmt.Fprintf(&b, "%s\n\n", k.about)
		}
		fmt.Fprintf(&b, "| drill | proves | last run | passed last | seconds |\n|---|---|---|---|---|\n")
		for _, d := range all {
			if !k.is(d) || done[d.Name] {
				continue
			}
			done[d.Name] = true
			fmt.Fprintf(&b, "| %s | %s | %s |\n", d.Name, d.Proves, book.cells(d.Name))
		}
	}
	return b.String()
}

// cells are a drill's last run, when it passed last, and how long it takes.
func (l ledger) cells(name string) string {
	last, ok := l.last(name)
	if !ok {
		return "not run | never | "
	}
	how := last.Result
	if last.Try == 2 && last.Result == passedResult {
		how = "*unstable*"
	}
	when := "never"
	if p, ok := l.passed(name); ok {
		when = p.At.Format("2006-01-02") + " " + p.Commit
	}
	return fmt.Sprintf("%s | %s | %.0f", how, when, last.Seconds)
}
