package report

import (
	"testing"
	"time"

	"holdfast/internal/cluster"
)

// TestLinkOfANetwork: the network that guests move over decides how fast they do.
func TestLinkOfANetwork(t *testing.T) {
	r := Record{Addr: "192.0.2.1", Addrs: []string{"192.0.2.1", "198.51.100.1"},
		Links: map[string]int64{"192.0.2.1": 110, "198.51.100.1": 1100}}
	for network, want := range map[string]int64{"": 110, "198.51.100.0/24": 1100, "203.0.113.0/24": 110} {
		if got := r.Link(network); got != want {
			t.Errorf("over %q: %d MiB/s, want %d", network, got, want)
		}
	}
	inv := Inventory("c", "v", "198.51.100.0/24", map[cluster.HostID]Seen{"h1": {Record: r, SeenAt: time.Now()}}, time.Now())
	if inv.Hosts[0].LinkMiBps != 1100 {
		t.Errorf("%+v", inv.Hosts[0])
	}
}
