package agent

import (
	"slices"
	"strings"
	"testing"

	"holdfast/internal/config"
)

// TestMemberIsToldOfTheSecondPath: what the agent gives the store's member is what that reads.
func TestMemberIsToldOfTheSecondPath(t *testing.T) {
	nd := &node{n: config.Node{Host: "b"}, cfg: config.Cluster{
		Node: []string{"192.0.2.1 a", "192.0.2.2 b", "192.0.2.3 voter"}, Type: config.PairConf,
		Pair: &config.Pair{Nodes: []string{"a", "b"}, SecondPath: []string{"10.0.1.1", "10.0.1.2"}},
	}}
	args := nd.storeSpec().Args
	i := slices.Index(args, "--second-path")
	if i < 0 {
		t.Fatalf("the member is started with %q", args)
	}
	p, err := SecondPath(strings.Split(args[i+1], ","))
	if err != nil || p.Own.String() != "10.0.1.2" || p.Peer.String() != "192.0.2.1" || p.There.String() != "10.0.1.1" {
		t.Errorf("read as %+v, %v", p, err)
	}
	nd.n.Host = "voter"
	if args := nd.storeSpec().Args; slices.Contains(args, "--second-path") {
		t.Errorf("the member of a host that only votes is started with %q", args)
	}
	for _, bad := range []string{"10.0.1.2", "10.0.1.2,192.0.2.1,a"} {
		if _, err := SecondPath(strings.Split(bad, ",")); err == nil {
			t.Errorf("%s was taken", bad)
		}
	}
	if p, err := SecondPath(nil); p != nil || err != nil {
		t.Errorf("none: %v, %v", p, err)
	}
}
