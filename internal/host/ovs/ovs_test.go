package ovs

import (
	"errors"
	"reflect"
	"strings"
	"testing"

	"holdfast/internal/lib/fail"
	"holdfast/testbed/need"
	"holdfast/testbed/ovstest"
	"holdfast/testbed/try"
)

// TestRealSwitch: what a bridge is told is there when it is looked at, and a bundle with a fault in it
// changes nothing.
func TestRealSwitch(t *testing.T) {
	need.Real(t, need.Root, need.Programs("iproute2", "ip"),
		need.Programs("openvswitch-switch", "ovsdb-tool", "ovsdb-server", "ovs-vswitchd", "ovs-vsctl", "ovs-ofctl"))
	s := ovstest.New(t)
	ctx := try.Context(t)
	s.Bridge(t, "br-int", "OpenFlow10,OpenFlow14")
	s.Host(t, "br-int", 7)
	got, err := Bridge(ctx, "br-int")
	want := Facts{Protocols: []string{"OpenFlow10", "OpenFlow14"}, FailMode: "secure", Other: map[string]string{}}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, %v: want %+v", got, err, want)
	}
	s.Run(t, "ovs-vsctl", "--timeout=15", "set-controller", "br-int", "tcp:127.0.0.1:6633", "ptcp:6634:127.0.0.1", "--",
		"set", "Open_vSwitch", ".", "other_config:flow-restore-wait=true")
	got, err = Bridge(ctx, "br-int")
	if want.Controllers, want.Restoring = 2, true; err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, %v: want %+v", got, err, want)
	}
	s.Run(t, "ovs-vsctl", "--timeout=15", "del-controller", "br-int", "--", "remove", "Open_vSwitch", ".", "other_config", "flow-restore-wait")
	try.Must(t, Apply(ctx, "br-int", "OpenFlow14", []string{"group add group_id=5,type=all,bucket=actions=output:7",
		"flow add table=3,priority=4,in_port=7 actions=group:5"}))
	for _, value := range []string{`{"flows":3}`, ""} {
		try.Must(t, Note(ctx, "br-int", "holdfast-test", value))
		if f, err := Bridge(ctx, "br-int"); err != nil || f.Other["holdfast-test"] != value {
			t.Errorf("noted %q: %+v, %v", value, f.Other, err)
		}
	}
	for bad, named := range map[string]string{
		"flow add table=4 actions=group:6":                      "table:4",
		"flow add table=4 actions=nonsense":                     "flow add table=4 actions=nonsense: ",
		"flow add table=4,bogus=1 actions=drop":                 "flow add table=4,bogus=1 actions=drop: ",
		"group add group_id=9,type=all,bucket=actions=nonsense": "group add group_id=9,type=all,bucket=actions=nonsense: ",
	} {
		err := Apply(ctx, "br-int", "OpenFlow14", []string{"flow add table=9 actions=drop", "flow delete table=3", bad,
			"flow add table=8 actions=drop"})
		if err == nil || !strings.Contains(err.Error(), named) {
			t.Errorf("%s: %v: want an error that names it", bad, err)
		}
	}
	d, err := Look(ctx, "br-int", "OpenFlow14")
	try.Must(t, err)
	for _, c := range []struct{ in, want string }{{d.Flows, "table=3, n_packets"},
		{d.Flows, "priority=4,in_port=7 actions=group:5"}, {d.Groups, "group_id=5,type=all,bucket=actions=output:7"},
		{d.Ports, " 7(tap7): addr:"}} {
		if !strings.Contains(c.in, c.want) {
			t.Errorf("no %q in\n%s", c.want, c.in)
		}
	}
	ten, err1 := Speaks(ctx, "br-int", "OpenFlow10")
	fifteen, err2 := Speaks(ctx, "br-int", "OpenFlow15")
	if strings.Contains(d.Flows, "table=9") || !ten || fifteen || err1 != nil || err2 != nil {
		t.Errorf("OpenFlow10 and not OpenFlow15, and no table 9: want that of\n%s (%v, %v)", d.Flows, err1, err2)
	}
	_, looked := Look(ctx, "br-none", "OpenFlow14") // as where ovs-vswitchd does not run
	_, spoken := Speaks(ctx, "br-none", "OpenFlow14")
	for _, err := range []error{looked, spoken} {
		var e *fail.Error
		if !errors.As(err, &e) || e.Kind != fail.Unavailable ||
			!strings.Contains(e.Error(), "ovs-vswitchd does not serve it") || !strings.Contains(e.Remedy, "systemctl status") {
			t.Errorf("a bridge that is not served: %v", err)
		}
	}
	if _, err := Look(ctx, "br-int", "OpenFlow15"); fail.ExitCode(err) != fail.ExitUnavailable {
		t.Errorf("a version that the bridge has not: %v", err)
	}
}

func TestBridgesErrors(t *testing.T) {
	for _, out := range []string{"", "x", `{"data":[["a"]]}`, `{"data":[["a",{},"c",["set",[]]]]}`,
		`{"data":[["a",["set","x"],"c",["set",[]]]]}`} {
		if _, err := bridges(out); err == nil {
			t.Errorf("%s: want an error", out)
		}
	}
}

// TestRealInterfaces: an interface is told with its port and bridge, and what a bridge is spoken to in is chosen.
func TestRealInterfaces(t *testing.T) {
	need.Real(t, need.Root, need.Programs("iproute2", "ip"),
		need.Programs("openvswitch-switch", "ovsdb-tool", "ovsdb-server", "ovs-vswitchd", "ovs-vsctl", "ovs-ofctl"))
	s := ovstest.New(t)
	ctx := try.Context(t)
	s.Bridge(t, "br-int", "OpenFlow10,OpenFlow13")
	s.Run(t, "ovs-vsctl", "--timeout=15", "add-port", "br-int", "tapx", "tag=7", "other_config:net_uuid=n", "--", "set",
		"interface", "tapx", "type=internal", "external_ids:iface-id=p",
		"--", "add-port", "br-int", "away", "--", "add-bond", "br-int", "bond0", "b1", "b2")
	all, err := Interfaces(ctx)
	try.Must(t, err)
	of := map[string]Interface{}
	for _, i := range all {
		of[i.Name] = i
	}
	x := of["tapx"]
	if x.OFPort < 1 || (x.AdminState != "up" && x.AdminState != "down") {
		t.Errorf("tapx has the number %d and the state %q: want one of each", x.OFPort, x.AdminState)
	}
	x.OFPort, x.AdminState, x.Link = 0, "", ""
	want := Interface{Bridge: "br-int", Port: "tapx", Name: "tapx", Type: "internal", Tag: 7,
		External: map[string]string{"iface-id": "p"}, OtherConfig: map[string]string{"net_uuid": "n"},
		Protocols: []string{"OpenFlow10", "OpenFlow13"}}
	if !reflect.DeepEqual(x, want) {
		t.Errorf("%+v, want %+v", x, want)
	}
	if a := of["away"]; a.OFPort != -1 || !strings.Contains(a.Error, "No such device") || a.Tag != 0 {
		t.Errorf("an interface that the kernel does not have: %+v", a)
	}
	if b := of["b2"]; b.Port != "bond0" || b.Bridge != "br-int" || len(all) != 5 {
		t.Errorf("an interface of a bond: %+v, of %d", b, len(all))
	}
	s.Run(t, "ovs-ofctl", "add-flow", "br-int", "table=0,priority=4,in_port=7 actions=drop")
	for _, protocols := range [][]string{{"OpenFlow10", "OpenFlow13"}, nil} {
		if flows, err := Flows(ctx, "br-int", protocols); err != nil || !strings.Contains(flows, "priority=4,in_port=7 actions=drop") {
			t.Errorf("flows by %v: %q, %v", protocols, flows, err)
		}
	}
	if _, err := Flows(ctx, "br-int", []string{"OpenFlow15"}); fail.ExitCode(err) != fail.ExitUnavailable {
		t.Errorf("a version that the bridge has not: %v", err)
	}
}

func TestInterfacesErrors(t *testing.T) {
	const bridge, port, card = `{"data":[["b",["set",[]],["uuid","p"]]]}`,
		`{"data":[[["uuid","p"],"p",["uuid","i"],["set",[]],["map",[]]]]}`, `{"data":[[["uuid","i"],"i","",["map",[]],"up","up",1,["set",[]]]]}`
	if all, err := interfaces(bridge + "\n" + port + "\n" + card); err != nil || len(all) != 1 || all[0].Bridge != "b" {
		t.Fatalf("%+v, %v", all, err)
	}
	for _, out := range []string{"", bridge, "x\n" + port + "\n" + card, bridge + "\n" + bridge + "\n" + card,
		bridge + "\n" + strings.Replace(port, `["map",[]]`, `["map",[3]]`, 1) + "\n" + card,
		bridge + "\n" + strings.Replace(port, `["set",[]]`, `["set",3]`, 1) + "\n" + card,
		bridge + "\n" + port + "\n" + strings.Replace(card, "1", `"one"`, 1), bridge + "\n" + port + "\n" + strings.Replace(card, "1", `{}`, 1)} {
		if _, err := interfaces(out); err == nil {
			t.Errorf("%s: want an error", out)
		}
	}
}
