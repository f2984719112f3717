package hostports

import (
	"encoding/binary"
	"encoding/json"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"holdfast/internal/testbed/nettest"
	"holdfast/internal/testbed/ovstest"
	"holdfast/internal/testbed/try"
	network "holdfast/internal/transition/net"
	neutron "holdfast/internal/transition/net/nettest"
)

// renew asks a DHCP server, from a guest, to renew a lease as a client does that still has it (RFC 2131, 4.3.2: the state
// RENEWING), and returns what is acknowledged: the address and the server's identifier. ok is false where nobody answers.
func renew(t *testing.T, guest nettest.End, mac string, has, server netip.Addr) (address, by netip.Addr, ok bool) {
	t.Helper()
	var c *net.UDPConn
	try.Must(t, guest.Do(func() (err error) {
		c, err = net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.AddrPortFrom(has, 68)))
		return err
	}))
	defer c.Close()
	raw, err := c.SyscallConn()
	try.Must(t, err)
	var set error
	try.Must(t, raw.Control(func(fd uintptr) { set = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_NO_CHECK, 1) }))
	try.Must(t, set)
	hw, err := net.ParseMAC(mac)
	try.Must(t, err)
	const request, transaction = 3, 0x686f6c64
	m := make([]byte, 240, 300)
	m[0], m[1], m[2] = 1, 1, 6 // BOOTREQUEST, Ethernet
	binary.BigEndian.PutUint32(m[4:], transaction)
	copy(m[12:], has.AsSlice()) // ciaddr
	copy(m[28:], hw)
	binary.BigEndian.PutUint32(m[236:], 0x63825363) // RFC 1497
	m = append(m, 53, 1, request, 255)
	m = append(m, make([]byte, 300-len(m))...)
	_, err = c.WriteToUDPAddrPort(m, netip.AddrPortFrom(server, 67))
	try.Must(t, err)
	try.Must(t, c.SetReadDeadline(time.Now().Add(2*time.Second)))
	b := make([]byte, 1500)
	n, err := c.Read(b)
	if err != nil {
		return address, by, false
	}
	const ack = 5
	if n < 244 || binary.BigEndian.Uint32(b[4:]) != transaction {
		t.Fatalf("%x is no answer of DHCP", b[:n])
	}
	kind := byte(0)
	for o := b[240:n]; len(o) > 2 && o[0] != 255; {
		if o[0] == 0 {
			o = o[1:]
			continue
		}
		end := min(len(o), 2+int(o[1]))
		switch o[0] {
		case 53:
			kind = o[2]
		case 54:
			by, _ = netip.AddrFromSlice(o[2:end])
		}
		o = o[end:]
	}
	if kind != ack {
		t.Fatalf("the server answers with a message of kind %d, want %d", kind, ack)
	}
	address, _ = netip.AddrFromSlice(b[16:20])
	return address, by, true
}

// TestDHCPAgent: a guest that has a lease of the old platform's server renews it with a real neutron-dhcp-agent and its
// dnsmasq on the new one: the same address, from the same address of the server.
func TestDHCPAgent(t *testing.T) {
	if os.Getenv(wholeEnv) == "" {
		t.Skipf("another Neutron and two agents take a minute: %s=1 runs it", wholeEnv)
	}
	d := neutron.Guests(1)
	d.Subnets[0].EnableDHCP = true
	server := netip.MustParseAddr("10.9.0.77")
	d.Agents = append(d.Agents, network.Agent{ID: "1f000000-0000-4000-8000-000000000001", AgentType: "DHCP agent", Binary: "neutron-dhcp-agent", Topic: "dhcp_agent", Host: "cmp00", AdminStateUp: true, Configurations: json.RawMessage("{}")})
	p := d.Ports[0]
	p.ID, p.Name, p.MACAddress, p.DeviceOwner, p.DeviceID, p.Groups, p.PortSecurity = "6f000001-0000-4000-8000-000000000001", "", "fa:16:3e:ff:00:01", "network:dhcp", "dhcp11111111-1111-5111-8111-111111111111-"+p.NetworkID, nil, false
	p.FixedIPs = []network.FixedIP{{SubnetID: d.Subnets[0].ID, IPAddress: server.String()}}
	s := newSite(t, d)
	d.Ports = append(d.Ports, p)
	d.Normalize()
	s.d = d
	s.reserve = true
	a := neutron.NewAgent(t, s.Switch, s.bus)
	a.Start(t)
	s.apply(t, d, s.now)
	if _, _, ok := renew(t, s.guests[0], ovstest.MAC(1), ovstest.Addr(1), server); ok {
		t.Fatal("a server answers before there is one")
	}
	// An agent asks for its networks when it starts, and gets those that Neutron gives to agents which have reported before:
	// the first time it may be told of none.
	dhcp := neutron.NewDHCPAgent(t, s.Switch, s.bus)
	dhcp.Start(t)
	try.Until(t, "the agent's first report", func() bool {
		return s.db.SQL("SELECT COUNT(*) FROM neutron_new.agents WHERE agent_type = 'DHCP agent'") == "1"
	})
	dhcp.Kill()
	dhcp.Start(t)
	var address, by netip.Addr
	try.Until(t, "an answer of the new server", func() (ok bool) {
		address, by, ok = renew(t, s.guests[0], ovstest.MAC(1), ovstest.Addr(1), server)
		return ok
	})
	if address != ovstest.Addr(1) || by != server {
		t.Errorf("the lease is of %s by %s: want %s by %s", address, by, ovstest.Addr(1), server)
	}
	if n := s.db.SQL("SELECT GROUP_CONCAT(id) FROM neutron_new.ports WHERE device_owner = 'network:dhcp'"); n != p.ID {
		t.Errorf("ports of DHCP are %s, want %s", n, p.ID)
	}
	s.active(t)
	s.equal(t)
	if t.Failed() {
		t.Logf("agent:\n%s", dhcp.Log())
	}
}
