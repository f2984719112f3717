package bridge

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"holdfast/testbed/need"

	"holdfast/internal/host/ovs"
	"holdfast/internal/lib/fail"
	"holdfast/internal/transition/pin"
	"holdfast/testbed/ovstest"
	"holdfast/testbed/try"
)

// TestUnpinOfAnEmptyBridge: where all flows were deleted, those of the pin, too, nothing is forwarded: that is no success.
func TestUnpinOfAnEmptyBridge(t *testing.T) {
	r := newRig(t)
	ctx := try.Context(t)
	_, err := Pin(ctx, order)
	try.Must(t, err)
	r.Run(t, "ovs-ofctl", "-O", "OpenFlow14", "del-flows", bridgeName)
	if _, err := Unpin(ctx, order); !has(err, "has no flows, neither of a pin nor its own") || fail.ExitCode(err) != fail.ExitRefused {
		t.Errorf("unpin of a bridge without flows: %v: want it refused", err)
	}
	r.Add(t, bridgeName, 1, tenants()...)
	if res, err := Unpin(ctx, order); err != nil || res.Removed != 0 {
		t.Errorf("unpin of a bridge that has its flows again: %+v, %v", res, err)
	}
	// The entries are gone, and the copy is left: that goes, and it is no success either.
	_, err = Pin(ctx, order)
	try.Must(t, err)
	r.Run(t, "ovs-ofctl", "-O", "OpenFlow14", "del-flows", bridgeName, "table=0")
	r.Delete(t, bridgeName, 1)
	if _, err := Unpin(ctx, order); !has(err, "has no flows") || len(r.dump(t).Flows) > 0 {
		t.Errorf("unpin of a bridge with a copy alone: %v, and %d flows are left", err, len(r.dump(t).Flows))
	}
	forced := order
	forced.Force = true
	if _, err := Unpin(ctx, forced); err != nil {
		t.Errorf("unpin --force of a bridge without flows: %v", err)
	}
}

// TestUnpinTellsWhatOthersTookFromAPin: by the record that the bridge has of its pin.
func TestUnpinTellsWhatOthersTookFromAPin(t *testing.T) {
	need.Drill(t, "360, pinned flows: the end of a pin tells what others have taken from it")
	r := newRig(t)
	ctx := try.Context(t)
	ofctl := func(argv ...string) { r.Run(t, append([]string{"ovs-ofctl", "-O", "OpenFlow14"}, argv...)...) }
	whole := len(tenants()) + 5
	pinned := func() {
		t.Helper()
		_, err := Pin(ctx, order)
		try.Must(t, err)
	}
	unpinned := func(what string, flows int, notes ...string) {
		t.Helper()
		res, err := Unpin(ctx, order)
		try.Must(t, err)
		told := strings.Join(res.Notes, "\n")
		if (res.Damage == nil) != (flows == whole) || res.Damage != nil && (res.Damage.Left != flows || res.Damage.Put != whole) {
			t.Errorf("%s: %+v %+v: want %d of %d flows left", what, res, res.Damage, flows, whole)
		}
		for _, n := range notes {
			if !strings.Contains(told, n) {
				t.Errorf("%s: no %q in %q", what, n, told)
			}
		}
		if n := len(r.dump(t).Ours()); n > 0 {
			t.Errorf("%s: %d flows of the pin are left", what, n)
		}
	}
	refused := func(what string, want ...string) {
		t.Helper()
		_, err := Unpin(ctx, order)
		for _, w := range want {
			if !has(err, w) || fail.ExitCode(err) != fail.ExitRefused {
				t.Errorf("%s: %v: want %q", what, err, w)
			}
		}
	}
	repinned := func(what string, want ...string) {
		t.Helper()
		_, err := Pin(ctx, order)
		for _, w := range want {
			if !has(err, w) || fail.ExitCode(err) != fail.ExitRefused {
				t.Errorf("pin again, %s: %v: want %q", what, err, w)
			}
		}
	}
	const ours = "cookie=0x686f6c6466617374/-1"
	pinned()
	unpinned("a pin that is whole", whole)

	pinned()
	ofctl("del-flows", bridgeName, ours+",table=0")
	repinned("the entries alone", "is not pinned any more", fmt.Sprintf("%d of them were left", whole-5), "packets may get lost")
	refused("the entries alone", "somebody has deleted the entries of its pin",
		fmt.Sprintf("the pin had %d flows, and %d of them were left", whole, whole-5))
	if n := len(r.dump(t).Ours()); n > 0 {
		t.Errorf("%d flows of the pin are left", n)
	}

	pinned()
	ofctl("del-flows", bridgeName, ours+",table=253")
	ofctl("del-flows", bridgeName, "table=60,cookie=1/-1")
	repinned("a table of the copy", "is pinned already, for ", "its pin is damaged",
		fmt.Sprintf("%d of them were left", whole-9), "packets get lost")
	refused("a table of the copy, and flows of the agent", "stays pinned",
		fmt.Sprintf("the pin had %d flows, and %d of them were left", whole, whole-9), "packets get lost")
	r.Add(t, bridgeName, 1, tenants()...)
	unpinned("a table of the copy", whole-9, fmt.Sprintf("the pin had %d flows, and %d of them were left", whole, whole-9))

	pinned()
	ofctl("del-flows", bridgeName)
	r.Add(t, bridgeName, 3, "table=60,priority=1 actions=drop")
	for range 2 { // it is told as long as it is so
		refused("all flows but one", "its own flows are not complete: 1 flows, 17 were there when it was pinned",
			fmt.Sprintf("the pin had %d flows, and 0 of them", whole))
	}
	r.Delete(t, bridgeName, 3)
	r.Add(t, bridgeName, 1, tenants()...)
	unpinned("an agent that has deleted the pin, and written all", 0, fmt.Sprintf("the pin had %d flows, and 0 of them were left", whole))
	unpinned("no pin", whole)

	for range 2 { // a pin whose time is over is no damage; what is left of its record ends
		text := pin.Record{Flows: 9, Entries: 5, Own: 20, Until: time.Now().Unix()}.String()
		try.Must(t, ovs.Note(ctx, bridgeName, pin.RecordKey, text))
		unpinned("a pin whose time is over", whole, "the bridge's own flows are not complete: 17 flows, 20 were there when it was pinned")
	}
	if f, err := ovs.Bridge(ctx, bridgeName); err != nil || f.Other[pin.RecordKey] != "" {
		t.Errorf("%+v, %v: want no record", f, err)
	}
}

// TestAPinThatFailsNamesTheFlow: which flow can not be copied, and which the switch does not take.
func TestAPinThatFailsNamesTheFlow(t *testing.T) {
	r := newRig(t)
	ctx := try.Context(t)
	refused := func(what string, want ...string) {
		t.Helper()
		_, err := Pin(ctx, order)
		for _, w := range want {
			if !has(err, w) {
				t.Errorf("%s: %v: want %q in it", what, err, w)
			}
		}
		if n := len(r.dump(t).Ours()); n > 0 {
			t.Errorf("%s: %d flows of a pin are there", what, n)
		}
		t.Logf("%s: %v", what, err)
	}
	r.Run(t, "ovs-ofctl", "-O", "OpenFlow14", "add-meter", bridgeName, "meter=1,pktps,band=type=drop,rate=10")
	r.Add(t, bridgeName, 7, "table=58,priority=1,dl_vlan=5 actions=meter:1,NORMAL")
	refused("a meter", "table=58,priority=1,dl_vlan=5 actions=meter:1,NORMAL: meter:1: flows with a meter")
	r.Delete(t, bridgeName, 7)
	r.Run(t, "ovs-vsctl", "--timeout=15", "--", "--id=@t", "create", "Flow_Table", "flow_limit=2",
		"overflow_policy=refuse", "--", "set", "Bridge", bridgeName, "flow_tables:253=@t")
	refused("a table that is full", "TABLE_FULL", "ADD table:253 priority=")
	r.Run(t, "ovs-vsctl", "--timeout=15", "clear", "Bridge", bridgeName, "flow_tables")
	_, err := Pin(ctx, order)
	try.Must(t, err)
	_, err = Unpin(ctx, order)
	try.Must(t, err)
}

// TestAPortThatIsAddedAgain: while the bridge is pinned a guest's port goes and comes, as at a hard reboot, under a new number. The
// pin does not end before the agent has written that port's flows; then the guest is reached. One that goes for good
// keeps nobody waiting.
func TestAPortThatIsAddedAgain(t *testing.T) {
	need.Drill(t, "360, pinned flows: a pin does not end before the flows of a port are there that came back while it was on")
	r := newRig(t)
	ctx := try.Context(t)
	vsctl := func(argv ...string) string {
		return strings.TrimSpace(r.Run(t, append([]string{"ovs-vsctl", "--timeout=15"}, argv...)...))
	}
	_, err := Pin(ctx, order)
	try.Must(t, err)
	card := vsctl("--bare", "--columns=name", "find", "Interface", "ofport=2")
	vsctl("del-port", bridgeName, card)
	vsctl("add-port", bridgeName, card)
	number := vsctl("get", "Interface", card, "ofport")
	t.Logf("%s was port 2, and is port %s", card, number)
	if number == "2" {
		t.Fatal("the port has its old number: this test shows nothing")
	}
	if _, err := Unpin(ctx, order); !has(err, fmt.Sprintf("port %s (%s), which came when port 2 went: 0 flows name it",
		number, card)) || fail.ExitCode(err) != fail.ExitRefused {
		t.Errorf("unpin before the port has its flows: %v", err)
	}
	again := strings.NewReplacer("in_port=2 ", "in_port="+number+" ", "output:2", "output:"+number)
	var flows []string
	for _, f := range tenants() {
		flows = append(flows, again.Replace(f))
	}
	r.Add(t, bridgeName, 1, flows...)
	res, err := Unpin(ctx, order)
	if err != nil || res.Removed == 0 {
		t.Fatalf("unpin when the port has its flows: %+v, %v", res, err)
	}
	x := r.send(t, 1, 2)
	time.Sleep(300 * time.Millisecond)
	x.Stop()
	if x.Got != x.Sent || x.Got == 0 {
		t.Errorf("to the port that was added again %d of %d packets came", x.Got, x.Sent)
	}

	// The other tenant goes for good, with all flows of its ports.
	_, err = Pin(ctx, order)
	try.Must(t, err)
	for port := 3; port <= 4; port++ {
		vsctl("del-port", bridgeName, vsctl("--bare", "--columns=name", "find", "Interface", fmt.Sprintf("ofport=%d", port)))
	}
	for port := 3; port <= 4; port++ {
		for _, match := range []string{fmt.Sprintf("table=0,in_port=%d", port), fmt.Sprintf("table=25,reg6=%d", port),
			fmt.Sprintf("table=60,reg6=%d,dl_vlan=20", port), "table=60,dl_vlan=20,dl_dst=" + ovstest.MAC(port)} {
			r.Run(t, "ovs-ofctl", "-O", "OpenFlow14", "del-flows", bridgeName, match+",cookie=1/-1")
		}
	}
	if _, err = Unpin(ctx, pin.Order{Bridge: bridgeName}); err != nil {
		t.Errorf("unpin when ports went for good: %v", err)
	}
}

// TestTheCleanupServiceStaysDisarmed: as long as any bridge is pinned.
func TestTheCleanupServiceStaysDisarmed(t *testing.T) {
	need.Drill(t, "360, pinned flows: the service that would clean a bridge up stays disarmed while any is pinned")
	r := newRig(t)
	ctx := try.Context(t)
	r.Bridge(t, "br-ex", protocols)
	r.Host(t, "br-ex", 5)
	r.Add(t, "br-ex", 1, "table=0,priority=0 actions=NORMAL")
	was := cleanupService
	cleanupService, _ = newCleanup(t, "loaded")
	t.Cleanup(func() { cleanupService = was })
	runs := func(want string) {
		t.Helper()
		if got, err := cleanupService.runs(ctx); got != want || err != nil {
			t.Errorf("it would run %q, %v; want %q", got, err, want)
		}
	}
	for _, b := range []string{bridgeName, "br-ex"} {
		if _, err := Pin(ctx, pin.Order{Bridge: b, For: 5 * time.Minute}); err != nil {
			t.Fatal(err)
		}
		runs("")
	}
	r.Bridge(t, "br-old", "OpenFlow10") // it can have no pin
	if _, err := Unpin(ctx, pin.Order{Bridge: "br-ex"}); err != nil {
		t.Fatal(err)
	}
	runs("")
	if _, err := Pin(ctx, pin.Order{Bridge: "br-old", For: 5 * time.Minute}); err == nil {
		t.Error("a bridge without a port is pinned")
	}
	runs("")
	if _, err := Unpin(ctx, pin.Order{Bridge: bridgeName}); err != nil {
		t.Fatal(err)
	}
	runs("/usr/bin/neutron-ovs-cleanup")
}
