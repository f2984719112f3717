package hostports

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"holdfast/internal/lib/fail"
	"holdfast/internal/transition/db/aligntest"
	"holdfast/internal/transition/net"
	neutron "holdfast/internal/transition/net/nettest"
	"holdfast/internal/transition/net/rebuild"
	"holdfast/internal/transition/pin"
	"holdfast/internal/transition/pin/bridge"
	"holdfast/testbed/need"
	"holdfast/testbed/nettest"
	"holdfast/testbed/ovstest"
	"holdfast/testbed/try"
)

const integration = "br-int"

// site are hosts with guests on br-int, and a Neutron with a message bus.
type site struct {
	*ovstest.Switch // of the first host
	hosts           []*ovstest.Switch
	d               *net.Document
	guests          []nettest.End // of the document's ports
	db              *aligntest.Rig
	bus             *neutron.Bus
	now             *neutron.Server
	reserve         bool // ports of DHCP wait for an agent
}

// newSite makes the hosts of a document with its guests, whose taps are on br-int as Nova and libvirt leave them there, and an
// empty Neutron.
func newSite(t *testing.T, d *net.Document) *site {
	t.Helper()
	s := &site{d: d, db: neutron.MariaDB(t), bus: neutron.StartBus(t)}
	at := map[string]*ovstest.Switch{}
	for i, p := range d.Ports {
		sw := at[p.HostID]
		if sw == nil {
			sw = ovstest.New(t)
			sw.Bridge(t, integration, "OpenFlow10,OpenFlow13,OpenFlow14")
			s.bus.Serve(t, sw)
			at[p.HostID] = sw
			s.hosts = append(s.hosts, sw)
		}
		s.guests = append(s.guests, sw.Plug(t, integration, "tap"+p.ID[:11], i+1, "external_ids:iface-id="+p.ID,
			"external_ids:iface-status=active",
			`external_ids:attached-mac="`+p.MACAddress+`"`, "external_ids:vm-uuid="+p.DeviceID))
		guest(t, p.DeviceID)
	}
	s.Switch = s.hosts[0]
	s.Here(t)
	s.now = neutron.StartOnBus(t, s.rig, "neutron_new", s.bus)
	return s
}

func (s *site) rig(testing.TB) *aligntest.Rig { return s.db }

// exported is the document as an old platform that has it exports it.
func (s *site) exported(t *testing.T) *net.Document {
	t.Helper()
	old := neutron.Start(t, s.rig, "neutron_old", true)
	s.apply(t, s.d, old)
	d, err := rebuild.Export(try.Context(t), rebuild.API{Endpoint: old.Endpoint()}, filepath.Join(t.TempDir(), "net.json"), nil)
	try.Must(t, err)
	return d
}

func (s *site) apply(t *testing.T, d *net.Document, to *neutron.Server) *rebuild.Report {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Minute) // Neutron takes its time on a busy machine
	defer cancel()
	r, err := rebuild.Apply(ctx, d, rebuild.Order{API: rebuild.API{Endpoint: to.Endpoint()},
		DB: rebuild.Database{DSN: s.db.DSN(), Name: to.Name}, Jobs: 4, ReserveDHCP: s.reserve}, func(rebuild.Progress) {})
	if err != nil {
		t.Fatalf("%v\n%s", err, to.Log())
	}
	return r
}

// equal reports what of hosts and platform is not as the document says.
func (s *site) equal(t *testing.T) {
	t.Helper()
	for i, sw := range s.hosts {
		sw.Here(t)
		var h *net.Host
		try.Must(t, sw.Inside(func() (err error) { h, err = Look(try.Context(t), fmt.Sprintf("cmp%02d", i)); return err }))
		for _, x := range net.CompareHost(s.d, h) {
			t.Errorf("host %s: %s", h.Host, rebuild.HostText(x))
		}
	}
	s.Here(t)
	v, err := rebuild.Verify(try.Context(t), s.d, rebuild.API{Endpoint: s.now.Endpoint()}, s.reserve, func(rebuild.Progress) {})
	try.Must(t, err)
	for _, x := range v.Differences {
		t.Errorf("verify: %s", rebuild.Text(x))
	}
}

// lookAgain is between two looks of which each starts programs, at what takes an agent seconds.
const lookAgain = 250 * time.Millisecond

// active waits until the agent has told Neutron that it has wired all ports.
func (s *site) active(t *testing.T) {
	t.Helper()
	try.Until(t, "the agent to wire the ports", func() bool {
		time.Sleep(lookAgain)
		return s.db.SQL("SELECT COUNT(*) FROM neutron_new.ports WHERE status = 'ACTIVE'") == fmt.Sprint(len(s.d.Ports))
	})
}

// dump is what a bridge of the first host has.
func (s *site) dump(t *testing.T, bridge string) pin.Dump {
	t.Helper()
	d, err := pin.Read(s.Run(t, "ovs-ofctl", "-O", "OpenFlow14", "--no-names", "dump-flows", bridge),
		s.Run(t, "ovs-ofctl", "-O", "OpenFlow14", "--no-names", "dump-groups", bridge),
		s.Run(t, "ovs-ofctl", "-O", "OpenFlow14", "--no-names", "dump-ports-desc", bridge))
	try.Must(t, err)
	return d
}

// cookies are those of the flows of a bridge of the first host, without those of a pin, with their numbers of flows.
func (s *site) cookies(t *testing.T, bridge string) map[uint64]int {
	t.Helper()
	out := map[uint64]int{}
	for _, f := range s.dump(t, bridge).Theirs() {
		out[f.Cookie]++
	}
	return out
}

// send sends packets from one guest to another.
func (s *site) send(t *testing.T, from, to int) *ovstest.Traffic {
	t.Helper()
	return ovstest.Send(t, s.guests[from], s.guests[to], ovstest.Addr(from+1), ovstest.Addr(to+1))
}

// know has guests know each other's MAC address: no packet waits for ARP from here on, and each that is lost is one of those
// that are counted.
func (s *site) know(t *testing.T, a, b int) {
	t.Helper()
	for _, x := range [][2]int{{a, b}, {b, a}} {
		s.guests[x[0]].IP(t, "neigh", "replace", ovstest.Addr(x[1]+1).String(), "lladdr", ovstest.MAC(x[1]+1), "nud", "permanent", "dev", "eth0")
	}
}

// way is how the agent of the first host ends and begins again.
type way struct {
	name         string
	pinned, kill bool   // kill: it is killed, and its flows go, as when a package's scripts clean up; else it is stopped
	drop         bool   // drop_flows_on_start
	lost         string // packets: none, some, any
}

// restart has the agent of the first host end and begin again under traffic, and reports packets that were lost and should not have been,
// and flows that are left. Pinned, all bridges that the agent programs are pinned meanwhile.
func (s *site) restart(t *testing.T, a *neutron.Agent, w way, bridges []string, traffic ...*ovstest.Traffic) {
	t.Helper()
	a.DropFlows = w.drop
	before := map[string]int{}
	for _, b := range bridges {
		before[b] = len(s.dump(t, b).Theirs())
	}
	time.Sleep(300 * time.Millisecond)
	if w.pinned {
		for _, b := range bridges {
			r, err := bridge.Pin(try.Context(t), pin.Order{Bridge: b, For: time.Hour})
			try.Must(t, err)
			t.Logf("%s is pinned: %d ports, %d flows, %d groups, notes %q", b, r.Ports, r.Flows, r.Groups, r.Notes)
		}
	}
	if w.kill {
		a.Kill()
		for _, b := range bridges {
			for cookie := range s.cookies(t, b) {
				s.Delete(t, b, cookie)
			}
		}
	} else {
		a.Stop(t)
	}
	if w.pinned && w.kill {
		for _, b := range bridges {
			if _, err := bridge.Unpin(try.Context(t), pin.Order{Bridge: b}); fail.ExitCode(err) != fail.ExitRefused {
				t.Errorf("unpin of %s without the agent's flows: %v: want it refused", b, err)
			}
		}
	}
	a.Start(t)
	if w.pinned {
		for _, b := range bridges {
			s.unpin(t, b)
		}
	}
	time.Sleep(300 * time.Millisecond)
	for _, x := range traffic {
		x.Stop()
		lost := x.Sent - x.Got
		t.Logf("%d of %d packets came", x.Got, x.Sent)
		if w.lost == "none" && lost > 0 || w.lost == "some" && lost == 0 || x.Sent < ovstest.Rate {
			t.Errorf("%d of %d packets were lost, want %s: %v", lost, x.Sent, w.lost, x.Lost[:min(50, len(x.Lost))])
		}
	}
	for _, b := range bridges {
		d := s.dump(t, b)
		t.Logf("%s: %d flows before, %d afterwards", b, before[b], len(d.Theirs()))
		if len(d.Ours()) > 0 {
			t.Errorf("%d flows of the pin are left on %s", len(d.Ours()), b)
		}
		// An agent tells Neutron of its ports first, and deletes its flows of before then (rpc_loop, cleanup_stale_flows).
		try.Until(t, "flows of "+b+" of one cookie only", func() bool { return len(s.cookies(t, b)) == 1 })
	}
	s.equal(t)
}

// unpin ends a pin when the agent's flows are there.
func (s *site) unpin(t *testing.T, name string) {
	t.Helper()
	var r *pin.Result
	try.Until(t, "unpin of "+name, func() bool {
		time.Sleep(lookAgain)
		var err error
		var e *fail.Error
		r, err = bridge.Unpin(try.Context(t), pin.Order{Bridge: name})
		if err != nil && (!errors.As(err, &e) || e.Kind != fail.Refused) {
			t.Fatal(err)
		}
		return err == nil
	})
	t.Logf("unpin of %s removed %d flows", name, r.Removed)
}

// TestAgent: taps that the old platform has left on br-int get their tag and flows by a real agent when the ports with
// their IDs were rebuilt in the new Neutron; guests then reach each other, and host and platform are as the document
// says. The agent is killed, its flows go, and it begins again: pinned, no packet is lost by that.
func TestAgent(t *testing.T) {
	need.Drill(t, "360, network: a real agent takes rebuilt ports over, and a pin keeps packets in every way it begins again", need.Root)
	s := newSite(t, neutron.Guests(2))
	s.d = s.exported(t)
	a := neutron.NewAgent(t, s.Switch, s.bus)
	a.Start(t)
	for _, p := range s.d.Ports {
		if got := s.Run(t, "ovs-vsctl", "--timeout=15", "get", "port", "tap"+p.ID[:11], "tag"); got != "[]\n" && got != "4095\n" {
			t.Errorf("port %s has the tag %q before it is rebuilt", p.ID, got)
		}
	}
	if r := s.apply(t, s.d, s.now); r.Created["agent"] != 0 || r.Created["port"] != len(s.d.Ports) {
		t.Errorf("created %v beside an agent that reports itself", r.Created)
	}
	s.active(t)
	x := s.send(t, 0, 1)
	time.Sleep(time.Second)
	x.Stop()
	if x.Got == 0 || x.Got < x.Sent/2 { // the first ones wait for ARP
		t.Errorf("%d of %d packets came from one guest to the other", x.Got, x.Sent)
	}
	s.equal(t)
	s.know(t, 0, 1)
	for _, w := range []way{
		{"killed and cleaned up, pinned", true, true, false, "none"},
		{"killed and cleaned up", false, true, false, "some"},
		{"restarted", false, false, false, "any"},
		{"restarted, pinned", true, false, false, "none"},
		// That is why a host whose agent has it in /etc/neutron is refused a pin.
		{"restarted with drop_flows_on_start", false, false, true, "some"},
		{"restarted with drop_flows_on_start, pinned", true, false, true, "some"},
	} {
		t.Run(w.name, func(t *testing.T) { s.restart(t, a, w, []string{integration}, s.send(t, 0, 1)) })
	}
	if t.Failed() {
		t.Logf("agent:\n%s", a.Log())
	}
}
