package ovs

import (
	"reflect"
	"strings"
	"testing"

	"holdfast/internal/fail"
	"holdfast/internal/testbed/ovstest"
	"holdfast/internal/testbed/try"
)

// TestRealSwitch: what a bridge is told is there when it is looked at, and a bundle with a fault in it
// changes nothing.
func TestRealSwitch(t *testing.T) {
	s := ovstest.New(t)
	ctx := try.Context(t)
	s.Bridge(t, "br-int", "OpenFlow10,OpenFlow14")
	s.Host(t, "br-int", 7)
	got, err := Bridge(ctx, "br-int")
	want := Facts{Protocols: []string{"OpenFlow10", "OpenFlow14"}, FailMode: "secure"}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, %v: want %+v", got, err, want)
	}
	s.Run(t, "ovs-vsctl", "--timeout=15", "set-controller", "br-int", "tcp:127.0.0.1:6633", "ptcp:6634:127.0.0.1", "--", "set", "Open_vSwitch", ".", "other_config:flow-restore-wait=true")
	got, err = Bridge(ctx, "br-int")
	if want.Controllers, want.Restoring = 2, true; err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, %v: want %+v", got, err, want)
	}
	s.Run(t, "ovs-vsctl", "--timeout=15", "del-controller", "br-int", "--", "remove", "Open_vSwitch", ".", "other_config", "flow-restore-wait")
	try.Must(t, Apply(ctx, "br-int", "OpenFlow14", []string{"group add group_id=5,type=all,bucket=actions=output:7", "flow add table=3,priority=4,in_port=7 actions=group:5"}))
	for _, bad := range []string{"flow add table=4 actions=group:6", "flow add table=4 actions=nonsense"} {
		if err := Apply(ctx, "br-int", "OpenFlow14", []string{"flow add table=9 actions=drop", "flow delete table=3", bad}); err == nil {
			t.Errorf("%s: want an error", bad)
		}
	}
	d, err := Look(ctx, "br-int", "OpenFlow14")
	try.Must(t, err)
	for _, c := range []struct{ in, want string }{{d.Flows, "table=3, n_packets"}, {d.Flows, "priority=4,in_port=7 actions=group:5"}, {d.Groups, "group_id=5,type=all,bucket=actions=output:7"}, {d.Ports, " 7(tap7): addr:"}} {
		if !strings.Contains(c.in, c.want) {
			t.Errorf("no %q in\n%s", c.want, c.in)
		}
	}
	if strings.Contains(d.Flows, "table=9") || !Speaks(ctx, "br-int", "OpenFlow10") || Speaks(ctx, "br-int", "OpenFlow15") {
		t.Errorf("OpenFlow10 and not OpenFlow15, and no table 9: want that of\n%s", d.Flows)
	}
	if _, err := Look(ctx, "br-int", "OpenFlow15"); fail.ExitCode(err) != fail.ExitUnavailable {
		t.Errorf("a version that the bridge has not: %v", err)
	}
}

func TestBridgesErrors(t *testing.T) {
	for _, out := range []string{"", "x", `{"data":[["a"]]}`, `{"data":[["a",{},"c",["set",[]]]]}`, `{"data":[["a",["set","x"],"c",["set",[]]]]}`} {
		if _, err := bridges(out); err == nil {
			t.Errorf("%s: want an error", out)
		}
	}
}
