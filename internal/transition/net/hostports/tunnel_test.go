package hostports

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	neutron "holdfast/internal/transition/net/nettest"
	"holdfast/testbed/need"
	"holdfast/testbed/ovstest"
	"holdfast/testbed/try"
)

// TestAgentTunnels: two hosts with a real agent each, and networks of two tenants in tunnels of VXLAN between them, both with the same
// addresses. The agent of one host ends and begins again while br-int and br-tun are pinned there: no packet is lost between guests of
// one tenant, and no frame of theirs comes to a guest of the other.
func TestAgentTunnels(t *testing.T) {
	need.Drill(t, "360, pinned flows: no packet is lost in tunnels, and none crosses tenants, while a real agent begins again", need.Root)
	s := newSite(t, neutron.Tenants())
	ovstest.Underlay(t, s.hosts[0], s.hosts[1])
	var agents []*neutron.Agent
	for i, sw := range s.hosts {
		a := neutron.NewAgent(t, sw, s.bus)
		a.Host, a.Endpoint = fmt.Sprintf("cmp%02d", i), ovstest.Endpoint(i)
		a.Start(t)
		agents = append(agents, a)
	}
	s.apply(t, s.d, s.now)
	s.active(t)
	s.know(t, 0, 1)
	s.know(t, 2, 3)
	for _, ends := range [][2]int{{0, 1}, {2, 3}} {
		try.Until(t, "packets through the tunnel", func() bool {
			x := s.send(t, ends[0], ends[1])
			time.Sleep(300 * time.Millisecond)
			x.Stop()
			return x.Got > 0
		})
	}
	s.equal(t)

	var seen []*ovstest.Frames
	for _, g := range s.guests {
		seen = append(seen, ovstest.Watch(t, g))
	}
	ovstest.Ask(t, s.guests[0], 1, netip.MustParseAddr("10.9.0.99"))
	bridges := []string{integration, "br-tun"}
	for _, w := range []way{{"killed and cleaned up, pinned", true, true, false, "none"},
		{"killed and cleaned up", false, true, false, "some"}, {"restarted, pinned", true, false, false, "none"}} {
		t.Run(w.name, func(t *testing.T) {
			s.restart(t, agents[0], w, bridges, s.send(t, 0, 1), s.send(t, 1, 0), s.send(t, 2, 3))
		})
	}

	// What all may see comes to the other guest of the tenant, and neither that nor anything else to the other tenant.
	question := ovstest.Frame{From: ovstest.MAC(1), To: ovstest.Broadcast}
	if seen[1].Seen()[question] == 0 {
		t.Error("what a guest asks all does not come to the other guest of its tenant")
	}
	for i, f := range seen {
		for j := range seen {
			if n := f.From(ovstest.MAC(j + 1)); i/2 != j/2 && n > 0 {
				t.Errorf("guest %d got %d frames of guest %d, of another tenant", i+1, n, j+1)
			}
		}
	}
	// A leak would be seen.
	s.hosts[1].Here(t)
	tag := s.hosts[1].Run(t, "ovs-vsctl", "--timeout=15", "get", "port", "tap"+s.d.Ports[1].ID[:11], "tag")
	s.hosts[1].Run(t, "ovs-vsctl", "--timeout=15", "set", "port", "tap"+s.d.Ports[3].ID[:11], "tag="+tag[:len(tag)-1])
	try.Until(t, "a frame that leaks", func() bool { return seen[3].From(ovstest.MAC(1)) > 0 })
	if t.Failed() {
		for _, a := range agents {
			t.Logf("agent of %s:\n%s", a.Host, a.Log())
		}
	}
}
