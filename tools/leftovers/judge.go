package main

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// kinds are the kinds of things that are compared, in the order of the report.
var kinds = []string{"files", "mounts", "network namespaces", "links", "control groups", "processes"}

// finding is something that was not there before, or is not as it was.
type finding struct {
	Kind string
	What string
	Who  string // whose it is, as far as it can be told
	Ours bool   // it counts
	path string // of files
}

func (f finding) String() string {
	if f.Who == "" {
		return f.What
	}
	return f.What + "; " + f.Who
}

// judge compares two moments.
func (r run) judge(before, now snapshot, made []maker) []finding {
	alone := r.fresh || !before.Company && !now.Company
	found := newFiles(before, now)
	found = append(found, changes(before, now)...)
	for i, list := range [][2][]string{{before.Mounts, now.Mounts}, {before.Networks, now.Networks},
		{before.Links, now.Links}, {before.Groups, now.Groups}} {
		for _, what := range added(list[0], list[1]) {
			found = append(found, finding{Kind: kinds[i+1], What: what, path: strings.Fields(what)[0]})
		}
	}
	for i, f := range found {
		if f.path != "" {
			found[i].Who = whoMakes(made, f.path)
		}
		// The network is the machine's also in a fresh root.
		all := r.fresh && f.Kind != "links"
		found[i].Ours = all || alone && found[i].Who != ""
	}
	return append(found, r.newProcesses(before, now, found, made)...)
}

// added are the values of b that a has fewer of.
func added(a, b []string) (all []string) {
	left := map[string]int{}
	for _, s := range a {
		left[s]++
	}
	for _, s := range b {
		if left[s]--; left[s] < 0 {
			all = append(all, s)
		}
	}
	return all
}

// newFiles are files and folders that were not there, without those in new folders.
func newFiles(before, now snapshot) (all []finding) {
	below := map[string]int{}
	var tops []string
	for _, path := range slices.Sorted(maps.Keys(now.Files)) {
		if _, ok := before.Files[path]; ok {
			continue
		}
		top := path
		for {
			up := filepath.Dir(top)
			_, is := now.Files[up]
			_, was := before.Files[up]
			if !is || was {
				break
			}
			top = up
		}
		if below[top]++; top == path {
			tops = append(tops, top)
		}
	}
	for _, top := range tops {
		e := now.Files[top]
		what := fmt.Sprintf("%s, of user %d, changed at %s", top, e.UID, e.Made.UTC().Format(time.TimeOnly))
		if n := below[top] - 1; n > 0 {
			what += fmt.Sprintf(", with %d files below", n)
		}
		all = append(all, finding{Kind: "files", What: what, path: top})
	}
	return all
}

// changes are files of exact that are not as they were. Only their place says who did
// it, so nobody is blamed.
func changes(before, now snapshot) (all []finding) {
	for _, path := range slices.Sorted(maps.Keys(before.Files)) {
		was := before.Files[path]
		is, there := now.Files[path]
		switch {
		case was.Stamp == "":
		case !there:
			all = append(all, finding{Kind: "files", What: path + " is gone"})
		case is.Stamp != was.Stamp:
			all = append(all, finding{Kind: "files", What: fmt.Sprintf("%s was changed: %s, was %s", path, is.Stamp, was.Stamp)})
		}
	}
	return all
}

// newProcesses are those that did not run, but for the ones that run this comparison.
func (r run) newProcesses(before, now snapshot, left []finding, made []maker) (all []finding) {
	old := map[string]bool{}
	for _, p := range before.Processes {
		old[p.key()] = true
	}
	folders := []string{r.root}
	for _, f := range left {
		if f.Kind == "files" && f.Ours && f.path != "" {
			folders = append(folders, f.path)
		}
	}
	near := family(now.Processes, os.Getpid())
	ours := map[int]bool{}
	for _, p := range now.Processes {
		if !near[p.PID] && !old[p.key()] && (r.fresh || p.Marked || within(p.Exe, folders) || within(p.Dir, folders[1:])) {
			ours[p.PID] = true
		}
	}
	descendants(now.Processes, ours)
	for _, p := range now.Processes {
		if near[p.PID] || old[p.key()] || !ours[p.PID] {
			continue // those of others come and go
		}
		all = append(all, finding{Kind: "processes", Ours: true, Who: r.starter(p, made),
			What: fmt.Sprintf("process %d, child of %d: %.200s", p.PID, p.Parent, p.Line)})
	}
	return all
}

// starter tells by a process's folder, or by a path that it was given, who started it:
// tests run in the folder of their package.
func (r run) starter(p process, made []maker) string {
	if within(p.Dir, []string{r.root}) {
		if rel, err := filepath.Rel(r.root, p.Dir); err == nil && rel != "." {
			return "started by a test in " + rel
		}
	}
	for _, word := range append([]string{p.Exe, p.Dir},
		strings.FieldsFunc(p.Line, func(c rune) bool { return strings.ContainsRune(" =,:'\"", c) })...) {
		for ; strings.HasPrefix(word, "/") && word != "/"; word = filepath.Dir(word) {
			if slices.Contains(places, filepath.Dir(word)) {
				return whoMakes(made, word)
			}
		}
	}
	return ""
}
