package cli

import (
	"path/filepath"
	"strings"
	"testing"
)

// TestNobodyIsAskedInVain: where no agent answers, no command asks for a yes before it says so.
func TestNobodyIsAskedInVain(t *testing.T) {
	t.Chdir(t.TempDir())
	write(t, "site.yaml", "format: 1\nname: a\nhost: h\nstages: {collect: {before: [{name: x, run: [/bin/true]}]}}\n")
	socket := filepath.Join(t.TempDir(), "none.sock")
	for _, args := range [][]string{{"transition", "run", "site.yaml"}, {"transition", "config", "back", "config-1"},
		{"pair", "partition", "remove", "data"}} {
		s := commandLine(t, "yes\n", append(args, "--socket", socket)...)
		if s.code != 4 || strings.Contains(strings.ToLower(s.out+s.err), "type yes") ||
			strings.Contains(s.out+s.err, "confirm") || !strings.Contains(s.err, socket) {
			t.Errorf("%v ended with %d: %s%s", args, s.code, s.out, s.err)
		}
	}
}
