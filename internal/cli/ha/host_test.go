package ha

import (
	"strings"
	"testing"
	"time"

	"holdfast/internal/cli/clitest"
	"holdfast/internal/cli/output"
	"holdfast/internal/cluster"
	"holdfast/internal/inventory"
	"holdfast/internal/server/servertest"
)

// TestSilentHosts are listed with how long they have been silent, whether they are members or run guests only, and not as
// absent: that is said of a guest which a takeover has proved to be gone.
func TestSilentHosts(t *testing.T) {
	s := servertest.Three(clitest.Time())
	h := &s.Hosts[2]
	h.Alive, h.Silent, h.Guest, h.Fit = false, 75*time.Second, cluster.GuestAbsent, false
	rows := hostLines(s, []inventory.Summary{{Name: "zz", Addr: "10.0.0.99", Silent: 2 * time.Hour}})
	text := hostsText(rows, false, output.Painter{})
	for _, name := range []string{string(h.Name), "zz"} {
		for line := range strings.Lines(text) {
			if strings.HasPrefix(line, name) && (!strings.Contains(line, "silent ") || strings.Contains(line, "absent")) {
				t.Errorf("%s: %s", name, line)
			}
		}
	}
	if n := strings.Count(text, "silent "); n != 2 {
		t.Errorf("%d silent hosts, want 2:\n%s", n, text)
	}
}
