package check

import (
	"slices"
	"strings"
	"testing"

	"holdfast/internal/cluster"
	"holdfast/internal/inventory/fact"
)

// TestBridgesToPin: what each host says of a bridge is told, and that no host has it.
func TestBridgesToPin(t *testing.T) {
	in := well()
	if fs := only(t, "pin", in); len(fs) != 1 || fs[0].Level != OK {
		t.Errorf("without bridges: %v", fs)
	}
	in.Pin, in.Left = []string{"br-int", "br-x"}, []cluster.HostID{"cvm"}
	missing := fact.Bridge{Name: "br-x", Missing: true}
	in.Facts["h1"].Bridges = []fact.Bridge{{Name: "br-int", Ports: 3, Flows: 20, Groups: 1}, missing}
	in.Facts["h2"].Bridges = []fact.Bridge{{Name: "br-int", Why: "it has no flows", Remedy: "wait"}, missing}
	in.Facts["h3"].Bridges = []fact.Bridge{{Name: "br-int", Missing: true}, missing}
	var got []string
	for _, f := range only(t, "pin", in) {
		got = append(got, string(f.Level)+" "+string(f.Host)+": "+f.Text+" ("+f.Remedy+")")
	}
	slices.Sort(got)
	for i, want := range []string{
		"fail : no host has bridge br-x (correct --pin", "fail h2: bridge br-int can not be pinned: it has no flows (wait)",
		"info h1: bridge br-int can be pinned, by a copy of 20 flows and 1 groups for 3 ports",
		"warn h1: has no bridge br-x (correct --pin if it has one of another name: the host is worked on without",
		"warn h2: has no bridge br-x", "warn h3: has no bridge br-int", "warn h3: has no bridge br-x",
	} {
		if i >= len(got) || !strings.HasPrefix(got[i], want) {
			t.Errorf("%d: want %s, got %q", i, want, got)
		}
	}
	in.Facts["h2"].Bridges[0] = fact.Bridge{Name: "br-int", Flows: 1, Notes: []string{"the agent deletes all flows when it starts"}}
	in.Facts["h3"].Bridges = nil // an agent that does not know the question
	for _, f := range only(t, "pin", in) {
		switch {
		case f.Host == "h2" && strings.Contains(f.Text, "br-int") &&
			(f.Level != Warn || !strings.HasSuffix(f.Text, "; the agent deletes all flows when it starts")),
			f.Host == "h3" && (f.Level != Warn || !strings.HasPrefix(f.Text, "does not tell whether")), f.Host == "":
			t.Errorf("%+v", f)
		}
	}
}
