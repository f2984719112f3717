package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"holdfast/internal/lib/proc"
)

// process is one that runs. Threads of the kernel, and what has ended and was not
// waited for, are none.
type process struct {
	PID    int
	Start  string // in ticks since the machine's start: with PID, its name
	Parent int
	Exe    string `json:",omitempty"`
	Dir    string `json:",omitempty"`
	Line   string
	Marked bool `json:",omitempty"` // it descends from this run
}

func (p process) key() string { return fmt.Sprint(p.PID, " ", p.Start) }

// processes lists those of /proc.
func processes(mark string) ([]process, error) {
	pids, err := proc.Here.PIDs()
	if err != nil {
		return nil, err
	}
	var all []process
	for _, pid := range pids {
		p, ok := readProcess(pid, mark)
		if ok {
			all = append(all, p)
		}
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("list processes: /proc has none")
	}
	return all, nil
}

// readProcess reads one; false: it has gone, or is none.
func readProcess(pid int, mark string) (p process, ok bool) {
	st, err := proc.Here.Read(pid)
	args, aerr := proc.Here.Args(pid)
	if err != nil || aerr != nil || len(args) == 0 || st.Dead() {
		return p, false
	}
	dir := fmt.Sprintf("/proc/%d", pid)
	p.PID, p.Parent, p.Start = pid, st.PPID, strconv.FormatUint(st.Started, 10)
	p.Line = strings.TrimSpace(strings.Join(args, " "))
	// These need rights, and may be gone.
	p.Exe, _ = os.Readlink(filepath.Join(dir, "exe"))
	p.Exe = strings.TrimSuffix(p.Exe, " (deleted)")
	p.Dir, _ = os.Readlink(filepath.Join(dir, "cwd"))
	if env, err := proc.Here.Env(pid); err == nil && mark != "" {
		p.Marked = slices.Contains(env, markVar+"="+mark)
	}
	return p, true
}

// family are this process, its ancestors, and what its parent started beside it: the
// shell that runs the comparison, and who reads it.
func family(all []process, self int) map[int]bool {
	parents := map[int]int{}
	for _, p := range all {
		parents[p.PID] = p.Parent
	}
	in := map[int]bool{}
	for pid := self; pid > 0 && !in[pid]; pid = parents[pid] {
		in[pid] = true
	}
	if near := parents[self]; near > 1 {
		for pid, parent := range parents {
			if parent == near {
				in[pid] = true
			}
		}
	}
	return in
}

// descendants completes a set of processes by their children.
func descendants(all []process, in map[int]bool) {
	for grown := true; grown; {
		grown = false
		for _, p := range all {
			if in[p.Parent] && !in[p.PID] {
				in[p.PID], grown = true, true
			}
		}
	}
}

// company tells whether others run tests like these, or have a laboratory.
func (r run) company(all []process) bool {
	if r.fresh {
		return false
	}
	for _, p := range all {
		name := filepath.Base(p.Exe)
		if !p.Marked && !within(p.Exe, []string{r.root}) && (name == "holdfast" || name == "holdfast-lab" || strings.HasSuffix(name, ".test")) {
			return true
		}
	}
	return false
}
