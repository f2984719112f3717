package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
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
	dirs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return nil, err
	}
	var all []process
	for _, dir := range dirs {
		p, ok := readProcess(dir, mark)
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
func readProcess(dir, mark string) (p process, ok bool) {
	stat, err := os.ReadFile(filepath.Join(dir, "stat"))
	line, lerr := os.ReadFile(filepath.Join(dir, "cmdline"))
	end := bytes.LastIndexByte(stat, ')') // a name may hold spaces and parentheses
	if err != nil || lerr != nil || len(line) == 0 || end < 0 {
		return p, false
	}
	f := strings.Fields(string(stat[end+1:])) // from the third field on
	if len(f) < 20 || f[0] == "Z" || f[0] == "X" {
		return p, false
	}
	p.PID, _ = strconv.Atoi(filepath.Base(dir)) // the pattern has found digits
	p.Parent, _ = strconv.Atoi(f[1])
	p.Start = f[19]
	p.Line = strings.TrimSpace(strings.ReplaceAll(string(line), "\x00", " "))
	// These need rights, and may be gone.
	p.Exe, _ = os.Readlink(filepath.Join(dir, "exe"))
	p.Exe = strings.TrimSuffix(p.Exe, " (deleted)")
	p.Dir, _ = os.Readlink(filepath.Join(dir, "cwd"))
	if env, err := os.ReadFile(filepath.Join(dir, "environ")); err == nil && mark != "" {
		p.Marked = bytes.Contains(append([]byte{0}, env...), []byte("\x00"+markVar+"="+mark+"\x00"))
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
		if !p.Marked && !within(p.Exe, []string{r.root}) && (name == "holdfast" || strings.HasSuffix(name, ".test")) {
			return true
		}
	}
	return false
}
