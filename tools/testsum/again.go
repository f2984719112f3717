package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
)

// mostAgain is how many tests may be run again. When more have failed, it is not the
// machine that was busy.
const mostAgain = 12

// list prints the tests that failed and may be run again: none, when a failure is final or
// more than mostAgain have failed.
//
// Final are broken promises, which a test tells by the attribute "final" and a sentence, data
// races, panics, and packages that failed without a test. What is left are mostly waits that
// ran out on busy processors.
//
// It is asked when something went wrong: ok is false when no test has failed.
func list(out io.Writer, file string) (ok bool, err error) {
	runs, err := read(file)
	if err != nil {
		return false, err
	}
	tests, final := map[string]bool{}, false
	for _, c := range runs {
		for _, f := range c.Failed {
			final = final || f.Final != "" || !strings.Contains(f.Name, " ")
			tests[top(f.Name)] = true
		}
	}
	if final || len(tests) > mostAgain {
		return true, nil
	}
	for _, name := range slices.Sorted(maps.Keys(tests)) {
		fmt.Fprintln(out, name)
	}
	return len(tests) > 0, nil
}

// forgive makes what failed in one run and passed in a later one repeated.
func forgive(runs []*counts) {
	for i, c := range runs {
		var failed []failure
		for _, f := range c.Failed {
			name := top(f.Name)
			passed := slices.ContainsFunc(runs[i+1:], func(later *counts) bool { return slices.Contains(later.Done, name) })
			if f.Final != "" || !passed {
				failed = append(failed, f)
				continue
			}
			if name == f.Name {
				c.Repeated = append(c.Repeated, f.Name+": failed beside others, passed alone; it said:\n  "+
					strings.ReplaceAll(strings.TrimSpace(f.Said), "\n", "\n  "))
			}
		}
		c.Failed = failed
	}
}

// top is the name of the test of which one is a subtest: "PACKAGE TEST".
func top(name string) string {
	pkg, test, _ := strings.Cut(name, " ")
	test, _, _ = strings.Cut(test, "/")
	return strings.TrimSpace(pkg + " " + test)
}

// dead says why a line of a test's output makes its failure final.
func dead(line string) string {
	switch {
	case strings.Contains(line, "WARNING: DATA RACE"):
		return "data race"
	case strings.HasPrefix(line, "panic: "), strings.HasPrefix(line, "fatal error: "):
		return "panic"
	}
	return ""
}
