// Package try is what tests of many packages need: a context with an end, a wait for a
// condition, a short path, the children of a process, and an error that ends the test.
package try

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// unlimited is how long tests wait whose binary has no deadline, or that can not be asked for it.
const unlimited = 15 * time.Minute

// last is how much of a test binary's time is left when a wait ends without its event: the test
// says what it waited for and cleans up, which it does not when the binary itself ends.
const last = 20 * time.Second

// end is when a wait of a test ends: that what is waited for takes longer on a busy machine is no fault.
func end(t testing.TB) time.Time {
	if x, ok := t.(interface{ Deadline() (time.Time, bool) }); ok {
		if at, ok := x.Deadline(); ok {
			return at.Add(-min(last, max(0, time.Until(at)/2)))
		}
	}
	return time.Now().Add(unlimited)
}

// Must ends the test at an error.
func Must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// Context is a context that ends shortly before the test binary does: a call that hangs fails one
// test, not the run. It still holds in the test's clean-ups.
func Context(t testing.TB) context.Context {
	ctx, cancel := context.WithDeadline(context.Background(), end(t))
	t.Cleanup(cancel)
	return ctx
}

// Until waits for a condition, and ends the test when it does not come before the test binary's
// time is nearly over. It looks the less often the longer it has waited: most conditions are asked of servers.
func Until(t testing.TB, what string, ok func() bool) {
	t.Helper()
	by := end(t)
	for begun := time.Now(); !ok(); time.Sleep(min(max(time.Since(begun)/16, 2*time.Millisecond), 50*time.Millisecond)) {
		if time.Now().After(by) {
			t.Fatalf("waited %s for %s", time.Since(begun).Round(time.Second), what)
		}
	}
}

// Module is the directory of this module, from wherever in it the test runs.
func Module(t testing.TB) string {
	t.Helper()
	dir, err := os.Getwd()
	Must(t, err)
	for ; ; dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir
		}
		if dir == filepath.Dir(dir) {
			t.Fatal("no go.mod above the test's folder")
		}
	}
}

// ShortDir is a directory whose paths fit into the address of a unix socket: in the folder for temporary files, unless that
// has a long name itself.
func ShortDir(t testing.TB) string {
	t.Helper()
	parent := os.TempDir()
	if len(parent) > len("/var/tmp/d1234567890") { // what `make drills` gives
		parent = "/tmp"
	}
	dir, err := os.MkdirTemp(parent, "hf")
	Must(t, err)
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// Processes are the command lines that contain a text, by process; a zero byte ends each of their arguments.
func Processes(t testing.TB, text string) map[int]string {
	t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	Must(t, err)
	out := map[int]string{}
	for _, f := range files {
		line, err := os.ReadFile(f)
		if err != nil || !strings.Contains(string(line), text) {
			continue // it has ended, or is another one
		}
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(f)))
		Must(t, err)
		out[pid] = string(line)
	}
	return out
}

// Children are the processes that a process has started, and that have not ended.
func Children(pid int) (out []int) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	if err != nil {
		return nil // it has gone
	}
	for _, f := range strings.Fields(string(text)) {
		if n, err := strconv.Atoi(f); err == nil {
			out = append(out, n)
		}
	}
	return out
}

// Stands waits until all threads of a process stand still, some time after it was sent SIGSTOP.
func Stands(t testing.TB, pid int) {
	t.Helper()
	Until(t, "all threads to stand still", func() bool {
		stats, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
		Must(t, err)
		for _, path := range stats {
			if b, err := os.ReadFile(path); err == nil && !strings.Contains(string(b), ") T ") {
				return false
			}
		}
		return len(stats) > 0
	})
}
