package hostports

import (
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"holdfast/internal/testbed/nettest"
	"holdfast/internal/testbed/ovstest"
	"holdfast/internal/testbed/try"
	"holdfast/internal/transition/db/aligntest"
	"holdfast/internal/transition/net"
	neutron "holdfast/internal/transition/net/nettest"
	"holdfast/internal/transition/net/rebuild"
)

// plug puts a guest on br-int, as Nova and libvirt leave it there.
func plug(t *testing.T, s *ovstest.Switch, p net.Port, n int) nettest.End {
	t.Helper()
	return s.Plug(t, "br-int", "tap"+p.ID[:11], n, "external_ids:iface-id="+p.ID, "external_ids:iface-status=active", `external_ids:attached-mac="`+p.MACAddress+`"`, "external_ids:vm-uuid="+p.DeviceID)
}

func tag(t *testing.T, s *ovstest.Switch, p net.Port) string {
	t.Helper()
	return s.Run(t, "ovs-vsctl", "--timeout=15", "get", "port", "tap"+p.ID[:11], "tag")
}

// TestAgentWiresRebuiltPorts: taps that the old platform has left on br-int get their tag and flows by a real agent when
// the ports with their IDs were rebuilt in the new Neutron; guests then reach each other, and host and platform are as
// the document says.
func TestAgentWiresRebuiltPorts(t *testing.T) {
	db := neutron.MariaDB(t)
	of := func(testing.TB) *aligntest.Rig { return db }
	t0 := time.Now()
	lap := func(w string) { t.Logf("%s: %s", w, time.Since(t0)) }
	bus := neutron.StartBus(t)
	lap("bus")
	s := ovstest.New(t)
	d := neutron.Guests(2)
	s.Bridge(t, "br-int", "OpenFlow10,OpenFlow13,OpenFlow14")
	var guests []nettest.End
	for i, p := range d.Ports {
		guests = append(guests, plug(t, s, p, i+1))
		guest(t, p.DeviceID)
	}
	ctx := try.Context(t)
	at := func(s *neutron.Server) rebuild.API { return rebuild.API{Endpoint: s.Endpoint()} }
	target := func(s *neutron.Server) rebuild.Order {
		return rebuild.Order{API: at(s), DB: rebuild.Database{DSN: s.DB.DSN(), Name: s.Name}, Jobs: 4}
	}
	silent := func(rebuild.Progress) {}
	old := neutron.Start(t, of, "neutron_old", true)
	_, err := rebuild.Apply(ctx, d, target(old), silent)
	try.Must(t, err)
	lap("old applied")
	file := filepath.Join(t.TempDir(), "net.json")
	d, err = rebuild.Export(ctx, at(old), file)
	try.Must(t, err)

	now := neutron.StartOnBus(t, of, "neutron_new", bus)
	lap("new")
	bus.Serve(t, s)
	agent := neutron.NewAgent(t, s, bus, false)
	agent.Start(t)
	lap("agent")
	for _, p := range d.Ports {
		if got := tag(t, s, p); got != "[]\n" && got != "4095\n" {
			t.Errorf("port %s has the tag %q before it is rebuilt", p.ID, got)
		}
	}
	if _, err := rebuild.Apply(ctx, d, target(now), silent); err != nil {
		t.Fatalf("%v\n%s", err, now.Log())
	}
	lap("applied")
	begun := time.Now()
	try.Until(t, "the agent", func() bool {
		return db.SQL("SELECT COUNT(*) FROM neutron_new.ports WHERE status = 'ACTIVE'") == fmt.Sprint(len(d.Ports))
	})
	t.Logf("ports were active %s after they were rebuilt", time.Since(begun).Round(time.Millisecond))
	x := ovstest.Send(t, guests[0], guests[1], ovstest.Addr(1), ovstest.Addr(2))
	time.Sleep(time.Second)
	x.Stop()
	if x.Got == 0 || x.Got < x.Sent/2 { // the first ones wait for ARP
		t.Errorf("%d of %d packets came from one guest to the other\n%s", x.Got, x.Sent, s.Run(t, "ovs-ofctl", "-O", "OpenFlow14", "dump-flows", "br-int"))
	}
	var h *net.Host
	try.Must(t, s.Inside(func() (err error) { h, err = Look(ctx, "cmp00"); return err }))
	for _, x := range net.CompareHost(d, h) {
		t.Errorf("host: %s", rebuild.HostText(x))
	}
	left, err := rebuild.Verify(ctx, d, at(now), false)
	try.Must(t, err)
	for _, x := range left {
		t.Errorf("verify: %s", rebuild.Text(x))
	}
	if t.Failed() {
		t.Logf("agent:\n%s", agent.Log())
	}
}
