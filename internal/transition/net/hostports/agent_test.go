package hostports

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"holdfast/internal/fail"
	"holdfast/internal/testbed/nettest"
	"holdfast/internal/testbed/ovstest"
	"holdfast/internal/testbed/try"
	"holdfast/internal/transition/db/aligntest"
	"holdfast/internal/transition/net"
	neutron "holdfast/internal/transition/net/nettest"
	"holdfast/internal/transition/net/rebuild"
	"holdfast/internal/transition/pin"
	"holdfast/internal/transition/pin/bridge"
)

// wholeEnv is a variable with which the tests of real agents do all, which takes minutes.
const wholeEnv = "HOLDFAST_NEUTRON_AGENT"

const integration = "br-int"

// site is a host with guests on br-int, and a Neutron with a message bus.
type site struct {
	*ovstest.Switch
	d      *net.Document
	guests []nettest.End
	db     *aligntest.Rig
	bus    *neutron.Bus
	now    *neutron.Server
}

// newSite makes a host with the guests of a document, whose taps are on br-int as Nova and libvirt leave them there, and an
// empty Neutron.
func newSite(t *testing.T, d *net.Document) *site {
	t.Helper()
	s := &site{d: d, db: neutron.MariaDB(t), bus: neutron.StartBus(t)}
	s.Switch = ovstest.New(t)
	s.Bridge(t, integration, "OpenFlow10,OpenFlow13,OpenFlow14")
	for i, p := range d.Ports {
		s.guests = append(s.guests, s.Plug(t, integration, "tap"+p.ID[:11], i+1, "external_ids:iface-id="+p.ID, "external_ids:iface-status=active",
			`external_ids:attached-mac="`+p.MACAddress+`"`, "external_ids:vm-uuid="+p.DeviceID))
		guest(t, p.DeviceID)
	}
	s.now = neutron.StartOnBus(t, s.rig, "neutron_new", s.bus)
	s.bus.Serve(t, s.Switch)
	return s
}

func (s *site) rig(testing.TB) *aligntest.Rig { return s.db }

// exported is the document as an old platform that has it exports it.
func (s *site) exported(t *testing.T) *net.Document {
	t.Helper()
	old := neutron.Start(t, s.rig, "neutron_old", true)
	s.apply(t, s.d, old)
	d, err := rebuild.Export(try.Context(t), rebuild.API{Endpoint: old.Endpoint()}, filepath.Join(t.TempDir(), "net.json"))
	try.Must(t, err)
	return d
}

func (s *site) apply(t *testing.T, d *net.Document, to *neutron.Server) *rebuild.Report {
	t.Helper()
	r, err := rebuild.Apply(try.Context(t), d, rebuild.Order{API: rebuild.API{Endpoint: to.Endpoint()}, DB: rebuild.Database{DSN: s.db.DSN(), Name: to.Name}, Jobs: 4}, func(rebuild.Progress) {})
	if err != nil {
		t.Fatalf("%v\n%s", err, to.Log())
	}
	return r
}

// equal reports what of host and platform is not as the document says.
func (s *site) equal(t *testing.T) {
	t.Helper()
	var h *net.Host
	try.Must(t, s.Inside(func() (err error) { h, err = Look(try.Context(t), "cmp00"); return err }))
	for _, x := range net.CompareHost(s.d, h) {
		t.Errorf("host: %s", rebuild.HostText(x))
	}
	left, err := rebuild.Verify(try.Context(t), s.d, rebuild.API{Endpoint: s.now.Endpoint()}, false)
	try.Must(t, err)
	for _, x := range left {
		t.Errorf("verify: %s", rebuild.Text(x))
	}
}

// active waits until the agent has told Neutron that it has wired all ports.
func (s *site) active(t *testing.T) {
	t.Helper()
	try.Until(t, "the agent to wire the ports", func() bool {
		return s.db.SQL("SELECT COUNT(*) FROM neutron_new.ports WHERE status = 'ACTIVE'") == fmt.Sprint(len(s.d.Ports))
	})
}

// dump is what br-int has.
func (s *site) dump(t *testing.T) pin.Dump {
	t.Helper()
	d, err := pin.Read(s.Run(t, "ovs-ofctl", "-O", "OpenFlow14", "--no-names", "dump-flows", integration), s.Run(t, "ovs-ofctl", "-O", "OpenFlow14", "--no-names", "dump-groups", integration),
		s.Run(t, "ovs-ofctl", "-O", "OpenFlow14", "--no-names", "dump-ports-desc", integration))
	try.Must(t, err)
	return d
}

// send sends packets from the first guest to the second.
func (s *site) send(t *testing.T) *ovstest.Traffic {
	t.Helper()
	return ovstest.Send(t, s.guests[0], s.guests[1], ovstest.Addr(1), ovstest.Addr(2))
}

// restart has the agent end and begin again under traffic. pinned: br-int is pinned meanwhile. kill: it is killed, and its flows
// go, as when a package's scripts clean up.
func (s *site) restart(t *testing.T, a *neutron.Agent, pinned, kill bool) *ovstest.Traffic {
	t.Helper()
	x := s.send(t)
	time.Sleep(300 * time.Millisecond)
	order := pin.Order{Bridge: integration, For: time.Hour}
	if pinned {
		_, err := bridge.Pin(try.Context(t), order)
		try.Must(t, err)
	}
	if kill {
		a.Kill()
		for _, f := range s.dump(t).Theirs() {
			s.Delete(t, integration, f.Cookie)
			break // they all have one
		}
	} else {
		a.Stop(t)
	}
	if pinned && kill {
		if _, err := bridge.Unpin(try.Context(t), order); fail.ExitCode(err) != fail.ExitRefused {
			t.Errorf("unpin without the agent's flows: %v: want it refused", err)
		}
	}
	a.Start(t)
	if pinned {
		var r *pin.Result
		try.Until(t, "unpin", func() bool {
			var err error
			var e *fail.Error
			r, err = bridge.Unpin(try.Context(t), order)
			if err != nil && (!errors.As(err, &e) || e.Kind != fail.Refused) {
				t.Fatal(err)
			}
			return err == nil
		})
		t.Logf("unpin removed %d flows", r.Removed)
	}
	time.Sleep(300 * time.Millisecond)
	x.Stop()
	if d := s.dump(t); len(d.Ours()) > 0 {
		t.Errorf("%d flows of the pin are left", len(d.Ours()))
	}
	return x
}

// TestAgent: taps that the old platform has left on br-int get their tag and flows by a real agent when the ports with
// their IDs were rebuilt in the new Neutron; guests then reach each other, and host and platform are as the document
// says. The agent is killed, its flows go, and it begins again: pinned, no packet is lost by that.
func TestAgent(t *testing.T) {
	s := newSite(t, neutron.Guests(2))
	if os.Getenv(wholeEnv) != "" {
		s.d = s.exported(t)
	}
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
	x := s.send(t)
	time.Sleep(time.Second)
	x.Stop()
	if x.Got == 0 || x.Got < x.Sent/2 { // the first ones wait for ARP
		t.Errorf("%d of %d packets came from one guest to the other", x.Got, x.Sent)
	}
	s.equal(t)
	for i, g := range s.guests { // no ARP from here on: each lost packet is one of those that are counted
		g.IP(t, "neigh", "replace", ovstest.Addr(2-i).String(), "lladdr", ovstest.MAC(2-i), "nud", "permanent", "dev", "eth0")
	}
	type way struct {
		name               string
		pinned, kill, drop bool
		lost               string // none, some, any
	}
	ways := []way{{"killed and cleaned up, pinned", true, true, false, "none"}}
	if os.Getenv(wholeEnv) != "" {
		ways = append(ways, way{"killed and cleaned up", false, true, false, "some"}, way{"restarted", false, false, false, "any"}, way{"restarted, pinned", true, false, false, "none"},
			way{"restarted with drop_flows_on_start", false, false, true, "some"}, way{"restarted with drop_flows_on_start, pinned", true, false, true, "any"})
	}
	for _, w := range ways {
		t.Run(w.name, func(t *testing.T) {
			before := len(s.dump(t).Theirs())
			a.DropFlows = w.drop
			x := s.restart(t, a, w.pinned, w.kill)
			t.Logf("%d of %d packets came; %d flows before, %d afterwards", x.Got, x.Sent, before, len(s.dump(t).Theirs()))
			lost := x.Sent - x.Got
			if w.lost == "none" && lost > 0 || w.lost == "some" && lost == 0 || x.Sent < ovstest.Rate {
				t.Errorf("%d of %d packets were lost, want %s: %v", lost, x.Sent, w.lost, x.Lost[:min(50, len(x.Lost))])
			}
			cookies := map[uint64]int{}
			for _, f := range s.dump(t).Theirs() {
				cookies[f.Cookie]++
			}
			if len(cookies) != 1 {
				t.Errorf("flows of br-int by cookie: %v: want one only", cookies)
			}
			s.equal(t)
		})
	}
	if t.Failed() {
		t.Logf("agent:\n%s", a.Log())
	}
}
