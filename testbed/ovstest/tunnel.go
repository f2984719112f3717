package ovstest

import (
	"fmt"
	"net/netip"
	"os"
	"testing"

	"holdfast/testbed/nettest"
	"holdfast/testbed/try"
)

// underlay is the bridge over which a switch sends what it puts into tunnels.
const underlay = "br-phy"

// Endpoint is the address of a switch in tunnels to others.
func Endpoint(n int) netip.Addr { return netip.AddrFrom4([4]byte{192, 0, 2, byte(n + 1)}) }

// Underlay joins two switches by a cable for their tunnels, whose ends are Endpoint(0) and Endpoint(1). The userspace
// datapath looks the way to a tunnel's other end up in the kernel's routes, and goes it only through bridges of its own, on which the
// addresses are therefore (Open vSwitch, Documentation/howto/userspace-tunneling.rst).
func Underlay(t testing.TB, a, b *Switch) {
	t.Helper()
	const card = "phy0"
	nettest.Join(t, a.host, card, b.host, card)
	for i, s := range []*Switch{a, b} {
		// The kernel has a look at what comes out of the cable as well. It shall answer nothing, as its own way back is the bridge.
		try.Must(t, s.Inside(func() error { return os.WriteFile("/proc/sys/net/ipv4/conf/"+card+"/rp_filter", []byte("1"), 0) }))
		s.Run(t, "ovs-vsctl", "--timeout=15", "add-br", underlay, "--", "set", "bridge", underlay,
			"datapath_type=netdev", "--", "add-port", underlay, card)
		s.IP(t, "addr", "add", fmt.Sprintf("%s/24", Endpoint(i)), "dev", underlay)
		s.IP(t, "link", "set", underlay, "up")
	}
}
