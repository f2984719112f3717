package e2e

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// conductorWorks: Nova's own conductor starts on the aligned rows, which it refuses to do
// beside services that are too old, tells that it is there, and works on without a fault.
func (c *newCloud) conductorWorks(t *testing.T) {
	c.conf(t, "nova.conf", "127.0.0.1:0", standIn(t))
	conductor := []string{"nova-conductor", "--config-file", filepath.Join(c.dir, "nova.conf")}
	s := c.start(t, "nova-conductor", conductor...)
	beats := 0
	for end := time.Now().Add(serviceWithin); beats < 3; time.Sleep(100 * time.Millisecond) {
		if s.hasEnded() || time.Now().After(end) {
			t.Fatalf("nova-conductor has told %d times that it works", beats)
		}
		beats = c.number(t, "SELECT COALESCE(MAX(report_count), 0) FROM nova.services WHERE `binary` = "+
			"'nova-conductor' AND host = 'ctl01.new' AND deleted = 0 AND version > 60 AND uuid IS NOT NULL")
	}
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if s.waitEnd(); !s.hasEnded() {
		t.Error("nova-conductor does not end")
	}
	if log := s.text(t); !strings.Contains(log, "Starting conductor node") || strings.Contains(log, "Traceback") ||
		strings.Contains(log, " ERROR ") || strings.Contains(log, " CRITICAL ") {
		t.Errorf("nova-conductor says\n%s", log)
	}
	if t.Failed() {
		return
	}
	c.SQL("UPDATE nova.services SET version = version - 100 WHERE host = 'cmp01'")
	old := c.start(t, "nova-conductor", conductor...)
	if old.waitEnd(); !old.hasEnded() || !strings.Contains(old.text(t), "TooOldComputeService") {
		t.Errorf("a conductor beside a service that is too old says\n%s", old.text(t))
	}
	c.SQL("UPDATE nova.services SET version = version + 100 WHERE host = 'cmp01'")
}

// number asks the server for one.
func (c *newCloud) number(t *testing.T, query string) int {
	t.Helper()
	n, err := strconv.Atoi(c.SQL(query))
	if err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return n
}

var checked = regexp.MustCompile(`(?m)^\| Check: (.*?) *\|\n\| Result: (\w+)`)

// upgradeCheck: what Nova says of its databases before an upgrade. One warning stays: the
// guests' machine types are written by nova-compute when it first starts on a node.
func (c *newCloud) upgradeCheck(t *testing.T) {
	c.conf(t, "nova.conf", "127.0.0.1:0", standIn(t))
	look := func() []string {
		ctx, cancel := context.WithTimeout(t.Context(), serviceWithin)
		defer cancel()
		// It ends with the worst that it has found.
		text, ended := exec.CommandContext(ctx, "nova-status", "--config-file", filepath.Join(c.dir, "nova.conf"),
			"upgrade", "check").CombinedOutput()
		found := checked.FindAllStringSubmatch(string(text), -1)
		if len(found) < 7 {
			t.Fatalf("nova-status: %v: %s", ended, text)
		}
		var faults []string
		for _, x := range found {
			if x[2] != "Success" && (x[1] != "hw_machine_type unset" || x[2] != "Warning") {
				faults = append(faults, fmt.Sprintf("%s: %s: %s", x[1], x[2], text))
			}
		}
		return faults
	}
	if faults := look(); len(faults) > 0 {
		t.Fatalf("nova-status: %s", strings.Join(faults, "\n"))
	}
	c.spoiled(t, []string{"nova_api.host_mappings", "nova.services"}, look, []spoil{
		{"DELETE FROM nova_api.host_mappings", "Cells v2: Failure"},
		{"UPDATE nova.services SET version = 2 WHERE host = 'cmp02'", "Older than N-1 computes: Failure"},
	})
}
