package agent

import (
	"fmt"
	"testing"

	"holdfast/internal/config"
	"holdfast/internal/ha/loop"
)

// TestAddressOfTheManagementVM is that of the configuration on this host.
func TestAddressOfTheManagementVM(t *testing.T) {
	nd := node{}
	nd.n.Cluster, nd.n.Host = "east", "node-2"
	nd.cfg = config.Cluster{
		Node:    []string{"192.0.2.11 node-1", "192.0.2.12 node-2"},
		Network: []config.Network{{Ipaddr: "198.51.100.3@node-1, 198.51.101.3@node-2"}, {Ipaddr: "203.0.113.9"}},
	}
	got, err := nd.addresses(nil)(t.Context(), loop.GuestUUID("east"))
	if err != nil || fmt.Sprint(got) != "[198.51.101.3 203.0.113.9]" {
		t.Errorf("%v, %v", got, err)
	}
}
