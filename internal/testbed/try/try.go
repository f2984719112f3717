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

	"holdfast/internal/testbed/slack"
)

// patience is how long a condition may take, for which a healthy machine needs a moment.
const patience = 20 * time.Second

// Must ends the test at an error.
func Must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// Context is a context that ends after 3 minutes: a call that hangs fails one test, not the
// run. It still holds in the test's clean-ups.
func Context(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// Until waits for a condition, and ends the test when it does not come. It looks the less
// often the longer it has waited: most conditions are asked of servers.
func Until(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for begun := time.Now(); !ok(); time.Sleep(min(max(time.Since(begun)/16, 2*time.Millisecond), 50*time.Millisecond)) {
		if time.Since(begun) > patience && time.Since(begun) > slack.For(patience) {
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

// ShortDir is a directory whose paths fit into the address of a unix socket.
func ShortDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "hf")
	Must(t, err)
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
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
