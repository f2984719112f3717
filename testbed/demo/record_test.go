package demo

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"holdfast/internal/lib/fail"
)

// TestRecordIsCheckedFirst, before a host is made.
func TestRecordIsCheckedFirst(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "d.svg"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{"", "demo.gif", "demo", filepath.Join(dir, "none", "x.svg"), filepath.Join(dir, "d.svg")} {
		c := Command()
		c.SetArgs([]string{"--record", file})
		c.SilenceErrors, c.SilenceUsage = true, true
		err := c.Execute()
		if err == nil || fail.ExitCode(err) != fail.ExitInvalid || !strings.HasPrefix(err.Error(), "--record: value") ||
			!strings.Contains(err.Error(), ": want ") {
			t.Errorf("%q: %v", file, err)
		}
	}
	if got := (flags{fault: "isolate", auto: true, record: "x.svg"}).typed(); got != "holdfast-lab demo --fault isolate --auto" {
		t.Errorf("the command is shown as %q", got)
	}
}
