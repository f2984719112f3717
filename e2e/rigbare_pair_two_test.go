package e2e

import (
	"strings"
	"testing"

	"holdfast/internal/install"
)

// TestPairSetupOfTwo takes two hosts with fence devices to a pair without a third voter by one
// command, and makes the node again that was lost.
func TestPairSetupOfTwo(t *testing.T) {
	b := newPairNodes(t, 2)
	args := append(b.setupArgs(t), "--yes", "CONFIRM")
	files := b.files(t, "h1", b.pairCluster())
	out, err := b.setup(t, args...)
	if err != nil || !strings.Contains(out, "webip  : ["+b.lab.FloatingAddr().String()+"] Started h1") {
		t.Fatalf("the set-up: %v: %s", err, out)
	}
	t.Log(out)
	b.exe = install.Command
	b.pairHealthy(t)
	out = b.command(t, "h1", "pair", "switch")
	if !strings.Contains(out, "h2 serves in place of h1 after ") {
		t.Errorf("the switch said %s", out)
	}
	b.pairHealthy(t)
	b.recovered(t)
	b.uninstall(t, "h2", files...)
	for _, h := range b.lab.Hosts() {
		if left := b.pairLeft(t, h); left != "" {
			t.Errorf("%s: left are %s", h, left)
		}
	}
}
