package agent

import (
	"slices"
	"strings"
	"testing"
	"time"

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

// TestMembersOfSlowHostsElectSlowly: by the lease; with that of the defaults nothing is said.
func TestMembersOfSlowHostsElectSlowly(t *testing.T) {
	for lease, want := range map[string]string{"": "", "6s": "", "12s": "200ms", "45s": "300ms", "1h": "300ms"} {
		nd := &node{n: config.Node{Host: "a"}}
		if lease != "" {
			d, err := time.ParseDuration(lease)
			if err != nil {
				t.Fatal(err)
			}
			nd.cfg.TimingConf.Lease = config.Duration(d)
		}
		args, got := nd.storeSpec().Args, ""
		if i := slices.Index(args, "--heartbeat"); i >= 0 {
			got = args[i+1]
		}
		if got != want {
			t.Errorf("lease %q: heartbeat %q, want %q", lease, got, want)
		}
	}
}
