package bridge

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"holdfast/internal/lib/fail"
	"holdfast/testbed/try"
)

// TestDropFlowsOnStart: a bridge of a host whose agent deletes all flows when it starts is refused, and the file is named.
func TestDropFlowsOnStart(t *testing.T) {
	for _, c := range []struct {
		text    string
		refused bool
	}{
		{"", false},
		{"[agent]\n# drop_flows_on_start = true\n", false},
		{"[agent]\ndrop_flows_on_start = False\n", false},
		{"[agent]\ndrop_flows_on_start = true\ndrop_flows_on_start = false\n", false},
		{"[agent]\ndrop_flows_on_start = true\n", true},
		{"[agent]\ndrop_flows_on_start=Yes", true},
		{"[DEFAULT]\nhost = drop_flows_on_start\n[agent]\n drop_flows_on_start = 1\n", true},
	} {
		dir := t.TempDir()
		file := filepath.Join(dir, "agent.conf")
		try.Must(t, os.WriteFile(file, []byte(c.text), 0o600))
		err := keepsFlows("br-int", []string{filepath.Join(dir, "none.ini"), filepath.Join(dir, "*.conf")})
		switch {
		case !c.refused && err != nil:
			t.Errorf("%q: %v", c.text, err)
		case c.refused && (fail.ExitCode(err) != fail.ExitRefused || !strings.Contains(err.Error(), "br-int") ||
			!strings.Contains(err.Error(), file)):
			t.Errorf("%q: %v: want it refused, with bridge and file", c.text, err)
		}
	}
}
