package bridge

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"holdfast/internal/job"
	"holdfast/internal/job/engine"
	"holdfast/internal/lib/fail"
	"holdfast/internal/transition/pin"
	"holdfast/internal/transition/pin/pinstep"
	"holdfast/internal/upgrade"
	"holdfast/testbed/need"
	"holdfast/testbed/try"
)

var order = pin.Order{Bridge: bridgeName, For: time.Minute}

// TestNoPacketIsLostWhilePinned: an agent deletes all flows and slowly writes them anew. Without a pin
// packets are lost; with one none is, also when it begins and ends.
func TestNoPacketIsLostWhilePinned(t *testing.T) {
	r := newRig(t)
	ctx := try.Context(t)
	without := r.send(t, 1, 2)
	r.rewrite(t, 1, 2)
	without.Stop()
	if without.Got == 0 || without.Got >= without.Sent {
		t.Errorf("without a pin %d of %d packets came: want some lost, or this test shows nothing", without.Got, without.Sent)
	}

	with := r.send(t, 1, 2)
	time.Sleep(300 * time.Millisecond)
	if _, err := Pin(ctx, order); err != nil {
		t.Fatal(err)
	}
	r.Delete(t, bridgeName, 2)
	if _, err := Unpin(ctx, order); !has(err, "not complete") || fail.ExitCode(err) != fail.ExitRefused {
		t.Errorf("unpin without flows: %v: want it refused", err)
	}
	r.rewrite(t, 2, 3)
	res, err := Unpin(ctx, order)
	try.Must(t, err)
	time.Sleep(300 * time.Millisecond)
	with.Stop()
	t.Logf("without a pin %d of %d packets came, with one %d of %d", without.Got, without.Sent, with.Got, with.Sent)
	if with.Got != with.Sent || with.Sent < rate {
		t.Errorf("pinned: %d of %d packets came: want all, and at least %d; lost are %v", with.Got, with.Sent, rate, with.Lost)
	}
	if d := r.dump(t); len(d.Ours()) > 0 || res.Removed == 0 || len(d.Theirs()) != len(tenants()) {
		t.Errorf("after unpin: %d flows of the pin, %d removed, %d of the agent", len(d.Ours()), res.Removed, len(d.Theirs()))
	}
}

// TestNoPacketIsLostInAnUpgrade: the steps of an upgrade around what deletes all flows and slowly writes them anew. The first
// one is done twice, as after the end of its agent; the last one waits for the flows.
func TestNoPacketIsLostInAnUpgrade(t *testing.T) {
	need.Drill(t, "360, pinned flows: the steps of an upgrade around an agent that deletes all flows lose no packet")
	r := newRig(t)
	s := &pinstep.Step{Host: "h1", Has: Has, Pin: Pin, Unpin: Unpin}
	var log bytes.Buffer
	do := func(end bool) error {
		args, err := json.Marshal(upgrade.PinArgs{Bridges: []string{bridgeName, "br-none"}, End: end})
		if err != nil {
			return err
		}
		return s.Do(try.Context(t), engine.Task{Step: job.Step{ID: "h1/pin/turn", Host: "h1", Args: args,
			Timeout: time.Minute}, Log: &log, Note: func(string, int) {}})
	}
	packets := r.send(t, 1, 2)
	time.Sleep(300 * time.Millisecond)
	try.Must(t, do(false))
	try.Must(t, do(false))
	if d := r.dump(t); d.Entries() != len(r.hosts)+1 { // and the bridge's own port
		t.Errorf("%d ports are pinned, want %d", d.Entries(), len(r.hosts)+1)
	}
	r.Delete(t, bridgeName, 1)
	ended := make(chan error, 1)
	go func() { ended <- do(true) }()
	r.rewrite(t, 1, 2)
	try.Must(t, <-ended)
	time.Sleep(300 * time.Millisecond)
	packets.Stop()
	t.Logf("%d of %d packets came\n%s", packets.Got, packets.Sent, log.String())
	if packets.Got != packets.Sent || packets.Sent < rate {
		t.Errorf("%d of %d packets came: want all, and at least %d; lost are %v", packets.Got, packets.Sent, rate, packets.Lost)
	}
	if d := r.dump(t); len(d.Ours()) > 0 || len(d.Theirs()) != len(tenants()) {
		t.Errorf("afterwards: %d flows of the pin, %d of the agent", len(d.Ours()), len(d.Theirs()))
	}
	if n := strings.Count(log.String(), "br-none: this host has none of that name"); n != 3 {
		t.Errorf("a bridge that is not here was told of %d times, want 3:\n%s", n, log.String())
	}
}

// TestNoFrameCrossesTenants: no frame goes from one tenant's port to the other's, whatever happens. The
// same frames do cross by NORMAL.
func TestNoFrameCrossesTenants(t *testing.T) {
	r := newRig(t)
	ctx := try.Context(t)
	stop := r.frames(t)
	if _, err := Pin(ctx, order); err != nil {
		t.Fatal(err)
	}
	r.rewrite(t, 1, 2)
	if _, err := Unpin(ctx, order); err != nil {
		t.Fatal(err)
	}
	got := stop()
	n, within := leaks(got)
	t.Logf("%d frames crossed, %d came within a tenant", n, within)
	if n > 0 || within == 0 {
		t.Errorf("%d frames crossed, %d came within a tenant: want none, and some: %v", n, within, got)
	}
	stop = r.frames(t)
	r.Add(t, bridgeName, 9, "table=0,priority=65000 actions=NORMAL")
	time.Sleep(300 * time.Millisecond)
	if n, _ = leaks(stop()); n == 0 {
		t.Error("no frame crosses by NORMAL either: this test can not see one")
	}
}

// pinAndHang is the process that a test kills: it pins, says so, and goes on for ever.
const pinAndHang = "HOLDFAST_TEST_PIN_AND_HANG"

func TestMain(m *testing.M) {
	if d, err := time.ParseDuration(os.Getenv(pinAndHang)); err == nil {
		_, err := Pin(context.Background(), pin.Order{Bridge: bridgeName, For: d})
		fmt.Println("pinned:", err)
		select {}
	}
	os.Exit(m.Run())
}

// TestAPinEndsByItself: who has pinned is killed. The pin goes at its time, and no packet is lost by that.
func TestAPinEndsByItself(t *testing.T) {
	need.Drill(t, "360, pinned flows: a pin is gone when its time is over, also when who made it was killed")
	r := newRig(t)
	x := r.send(t, 1, 2)
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), pinAndHang+"=10s")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := cmd.StdoutPipe()
	try.Must(t, err)
	try.Must(t, cmd.Start())
	line, err := bufio.NewReader(out).ReadString('\n')
	try.Must(t, cmd.Process.Kill())
	_ = cmd.Wait() // it was killed
	if err != nil || line != "pinned: <nil>\n" {
		t.Fatalf("the process said %q, %v", line, err)
	}
	d := r.dump(t)
	if d.Entries() != 5 || d.Left() <= 0 || d.Left() > 10*time.Second {
		t.Errorf("%d entries, %s left: want 5, for at most 10s", d.Entries(), d.Left())
	}
	r.rewrite(t, 1, 2)
	r.later(t, "the entries' end", func() bool { return r.dump(t).Entries() == 0 })
	if n := len(r.dump(t).Ours()); n == 0 {
		t.Error("the copy had gone with its entries: packets could have met empty tables")
	}
	r.later(t, "the copy's end", func() bool { return len(r.dump(t).Ours()) == 0 })
	x.Stop()
	if x.Got != x.Sent {
		t.Errorf("%d of %d packets came: want all; lost are %v", x.Got, x.Sent, x.Lost)
	}
}

// TestAPinIsWholeOrNot: whenever who pins is killed, with all that it has begun, the bridge has
// nothing of the pin or all of it.
func TestAPinIsWholeOrNot(t *testing.T) {
	need.Drill(t, "360, pinned flows: a pin is there as a whole or not at all, whenever it is killed")
	r := newRig(t)
	const kills = 8
	want := len(tenants()) + 5
	seen := map[int]int{}
	var whole time.Duration // that the first takes, which is killed when it has said that it is done
	for i := range kills {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), pinAndHang+"=60s")
		cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
		out, err := cmd.StdoutPipe()
		try.Must(t, err)
		begun := time.Now()
		try.Must(t, cmd.Start())
		if i == 0 {
			_, err = bufio.NewReader(out).ReadString('\n')
			try.Must(t, err)
			whole = time.Since(begun)
		}
		after := whole * time.Duration(i) / kills // no two runs are alike
		if i > 0 {
			after -= rand.N(max(1, whole/kills))
		}
		time.Sleep(after)
		try.Must(t, syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL))
		_ = cmd.Wait() // it was killed
		n := len(r.dump(t).Ours())
		if seen[n]++; n != 0 && n != want {
			t.Errorf("killed after %s: %d flows of the pin: want none or %d", after, n, want)
		}
		_, err = Unpin(t.Context(), pin.Order{Bridge: bridgeName, Force: true})
		try.Must(t, err)
	}
	t.Logf("flows after a kill within %s, and how often: %v", whole, seen)
	if seen[0] == 0 || seen[want] == 0 {
		t.Errorf("flows after a kill, and how often: %v: want both none and %d to be seen", seen, want)
	}
}

// TestRefusals: what can not be pinned is refused, and nothing is changed.
func TestRefusals(t *testing.T) {
	need.Drill(t, "P7: bridges that can not be pinned are refused, and stay as they are")
	r := newRig(t)
	ctx := try.Context(t)
	r.Bridge(t, "br-empty", protocols)
	set := func(argv ...string) { r.Run(t, append([]string{"ovs-vsctl", "--timeout=15"}, argv...)...) }
	for _, c := range []struct {
		name, bridge, want string
		exit               int
		before, after      func()
	}{
		{"no ports", "br-empty", "has no ports", fail.ExitInvalid, nil, nil},
		{"unknown", "br-none", "it has br-empty, br-int", fail.ExitInvalid, nil, nil},
		{"unknown, with a dash", "--help", "none of that name", fail.ExitInvalid, nil, nil},
		{"old OpenFlow", bridgeName, "a pin needs OpenFlow15 or OpenFlow14", fail.ExitRefused,
			func() { set("set", "bridge", bridgeName, "protocols=OpenFlow10,OpenFlow13") },
			func() { set("set", "bridge", bridgeName, "protocols="+protocols) }},
		{"restoring", bridgeName, "flow-restore-wait", fail.ExitRefused,
			func() { set("set", "Open_vSwitch", ".", "other_config:flow-restore-wait=true") },
			func() { set("remove", "Open_vSwitch", ".", "other_config", "flow-restore-wait") }},
		{"standalone", bridgeName, "fail mode standalone", fail.ExitRefused,
			func() {
				set("set-fail-mode", bridgeName, "standalone", "--", "set-controller", bridgeName, "tcp:127.0.0.1:6633")
			},
			func() {
				set("set-fail-mode", bridgeName, "secure", "--", "del-controller", bridgeName)
				r.Add(t, bridgeName, 1, tenants()...) // a controller that comes or goes deletes all
			}},
		{"a flow as high", bridgeName, "table 0 has a flow of priority 65535", fail.ExitRefused,
			func() { r.Add(t, bridgeName, 7, "priority=65535,in_port=9 actions=output:1") }, func() { r.Delete(t, bridgeName, 7) }},
		{"a meter", bridgeName, "flows with a meter", fail.ExitRefused,
			func() {
				r.Run(t, "ovs-ofctl", "-O", "OpenFlow14", "add-meter", bridgeName, "meter=1,pktps,band=type=drop,rate=10")
				r.Add(t, bridgeName, 7, "table=58,priority=1 actions=meter:1,NORMAL")
			}, func() { r.Delete(t, bridgeName, 7) }},
		{"no flows", bridgeName, "has no flows", fail.ExitRefused, func() { r.Delete(t, bridgeName, 1) },
			func() { r.Add(t, bridgeName, 1, tenants()...) }},
	} {
		if c.before != nil {
			c.before()
		}
		_, err := Pin(ctx, pin.Order{Bridge: c.bridge, For: time.Minute})
		if !has(err, c.want) || fail.ExitCode(err) != c.exit {
			t.Errorf("%s: %v (exit %d): want %q, exit %d", c.name, err, fail.ExitCode(err), c.want, c.exit)
		}
		if c.after != nil {
			c.after()
		}
		if n := len(r.dump(t).Ours()); n > 0 {
			t.Errorf("%s: %d flows of a pin are there", c.name, n)
		}
	}
	_, err := Pin(ctx, order)
	try.Must(t, err)
	if _, err = Pin(ctx, order); !has(err, "is pinned already") || fail.ExitCode(err) != fail.ExitRefused {
		t.Errorf("pinned twice: %v", err)
	}
	dry := order
	dry.DryRun = true
	res, err := Pin(ctx, dry)
	try.Must(t, err)
	if !res.Pinned || res.Flows != len(tenants()) || len(res.Notes) != 1 || !strings.Contains(res.Notes[0], "is pinned already") {
		t.Errorf("what a second pin would do: %+v: want the agent's %d flows, and the pin that is there told of", res, len(tenants()))
	}
	t.Setenv("OVS_RUNDIR", r.Dir+"/none")
	if _, err = Pin(ctx, order); fail.ExitCode(err) != fail.ExitUnavailable || !strings.Contains(err.Error(), "ovs-vsctl") {
		t.Errorf("without Open vSwitch: %v", err)
	}
}
