package hostports

import (
	"encoding/json"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"

	network "holdfast/internal/transition/net"
	neutron "holdfast/internal/transition/net/nettest"
	"holdfast/testbed/need"
	"holdfast/testbed/nettest"
	"holdfast/testbed/ovstest"
	"holdfast/testbed/try"
)

// client is a DHCP client of a guest, busybox's udhcpc.
type client struct{ log, pid string }

// newClient starts a client, which asks for an address that the guest had.
func newClient(t *testing.T, guest nettest.End, had netip.Addr) *client {
	t.Helper()
	c := &client{filepath.Join(t.TempDir(), "udhcpc"), filepath.Join(t.TempDir(), "pid")}
	// The guest has its address already: the script that would set it does nothing.
	ovstest.Start(t, guest, c.log, "busybox", "udhcpc", "-f", "-i", "eth0", "-r", had.String(), "-s", "/bin/true", "-p",
		c.pid, "-t", "100000", "-T", "1")
	return c
}

// renew has it renew its lease now.
func (c *client) renew(t *testing.T) {
	t.Helper()
	text, err := os.ReadFile(c.pid)
	try.Must(t, err)
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	try.Must(t, err)
	try.Must(t, syscall.Kill(pid, syscall.SIGUSR1))
}

func (c *client) said(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(c.log)
	try.Must(t, err)
	return string(text)
}

var obtained = regexp.MustCompile(`lease of (\S+) obtained from ([^ ,]+)`)

// leases are those that it was given: the address, and the server's.
func (c *client) leases(t *testing.T) (out [][2]string) {
	t.Helper()
	for _, m := range obtained.FindAllStringSubmatch(c.said(t), -1) {
		out = append(out, [2]string{m[1], m[2]})
	}
	return out
}

// TestDHCPAgent: the port of an old platform's DHCP agent waits in the new Neutron, a real neutron-dhcp-agent takes it, and its
// dnsmasq gives a guest the address that it had, and renews that lease, with the address of the old server.
func TestDHCPAgent(t *testing.T) {
	need.Drill(t, "360, network: a real DHCP agent takes the old platform's port, and a guest keeps its address",
		need.Root, need.Programs("busybox-static", "busybox"))
	d := neutron.Guests(1)
	d.Subnets[0].EnableDHCP = true
	server := netip.MustParseAddr("10.9.0.77")
	d.Agents = append(d.Agents, network.Agent{ID: "1f000000-0000-4000-8000-000000000001", AgentType: "DHCP agent",
		Binary: "neutron-dhcp-agent", Topic: "dhcp_agent", Host: "cmp00", AdminStateUp: true, Configurations: json.RawMessage("{}")})
	p := d.Ports[0]
	p.ID, p.Name, p.MACAddress, p.DeviceOwner, p.DeviceID, p.Groups,
		p.PortSecurity = "6f000001-0000-4000-8000-000000000001", "", "fa:16:3e:ff:00:01", "network:dhcp",
		"dhcp11111111-1111-5111-8111-111111111111-"+p.NetworkID, nil, false
	p.FixedIPs = []network.FixedIP{{SubnetID: d.Subnets[0].ID, IPAddress: server.String()}}
	p.VIFDetails = network.VIFDetails{}
	s := newSite(t, d)
	d.Ports = append(d.Ports, p)
	d.Normalize()
	s.reserve = true
	neutron.NewAgent(t, s.Switch, s.bus).Start(t)
	s.apply(t, d, s.now)
	// An agent asks for its networks when it starts, and gets those that Neutron gives to agents which have reported before:
	// the first time it may be told of none.
	dhcp := neutron.NewDHCPAgent(t, s.Switch, s.bus)
	dhcp.Start(t)
	try.Until(t, "the agent's first report", func() bool {
		return s.db.SQL("SELECT COUNT(*) FROM neutron_new.agents WHERE agent_type = 'DHCP agent'") == "1"
	})
	dhcp.Kill()
	dhcp.Start(t)
	c := newClient(t, s.guests[0], ovstest.Addr(1))
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("client:\n%s\nagent:\n%s", c.said(t), dhcp.Log())
		}
	})
	try.Until(t, "a lease", func() bool { return len(c.leases(t)) > 0 })
	c.renew(t)
	try.Until(t, "the lease to be renewed", func() bool { return len(c.leases(t)) > 1 })
	for i, l := range c.leases(t) {
		if want := [2]string{ovstest.Addr(1).String(), server.String()}; l != want {
			t.Errorf("lease %d is of %s by %s: want %s by %s", i, l[0], l[1], want[0], want[1])
		}
	}
	if n := s.db.SQL("SELECT GROUP_CONCAT(id) FROM neutron_new.ports WHERE device_owner = 'network:dhcp'"); n != p.ID {
		t.Errorf("ports of DHCP are %s, want %s", n, p.ID)
	}
	s.active(t)
	s.equal(t)
}
