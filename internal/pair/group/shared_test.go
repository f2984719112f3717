package group

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/host/replica/shared"
	"holdfast/internal/pair"
	"holdfast/internal/sleep"
	"holdfast/internal/testbed/drbdnode"
	"holdfast/internal/testbed/try"
)

// onShared calls the copy or the mount of a disk on a node: disk, call, and what it needs.
func onShared(args []string) error {
	host, err := os.Hostname()
	if err != nil {
		return err
	}
	me := 0
	if host == "n2" {
		me = 1
	}
	disk := shared.New(args[0], "test", me)
	m := &Mount{Name: "data", Device: args[0], Dir: "/mnt", Type: "ext4"}
	d := &Shared{Disk: disk, Mount: m, Dir: "/var/lib", RunDir: "/run", Make: func(ctx context.Context) error {
		return run(ctx, []string{"mkfs.ext4", "-q", "-F", "-U", disk.UUID().String(), disk.Path()})
	}}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	switch args[1] {
	case "begin":
		return d.First(ctx)
	case "look":
		l := sharedLook{Mount: m.State(ctx)}
		if l.Replica, l.Told, err = d.Look(ctx, pair.Sync{}); err != nil {
			return err
		}
		return json.NewEncoder(os.Stdout).Encode(l)
	case "promote":
		seq, err := strconv.ParseUint(args[2], 10, 64)
		if err != nil {
			return err
		}
		return d.Promote(ctx, pair.Sync{Host: cluster.HostID(host), Epoch: cluster.Epoch{Gen: 1, Seq: seq}})
	case "demote":
		return d.Demote(ctx, false)
	case "drain":
		return d.Drain(ctx, "")
	case "join":
		_, err := d.Join(ctx, args[2])
		return err
	case "mount":
		return m.Start(ctx)
	case "umount":
		return m.Stop(ctx, false)
	case "kill":
		return m.Stop(ctx, true)
	case "fault": // as looks find it one after the other
		for m.State(ctx) == pair.Up {
			if !sleep.For(ctx, LookEvery) {
				return ctx.Err()
			}
		}
		return nil
	}
	return fmt.Errorf("no such call: %s", args[1])
}

// sharedLook is what a node says of itself.
type sharedLook struct {
	Replica pair.Replica
	Told    string
	Mount   pair.State
}

// sharedNode is one of two emulated hosts with a disk that both see.
type sharedNode struct {
	*drbdnode.Node
	t    *testing.T
	disk string
}

func (n sharedNode) do(args ...string) {
	n.t.Helper()
	n.t.Log(n.Name(), args)
	n.Run(append([]string{"/node", "shared", n.disk}, args...)...)
}

// refuses has a call fail, for a reason.
func (n sharedNode) refuses(why string, args ...string) {
	n.t.Helper()
	out, code := n.Try(append([]string{"/node", "shared", n.disk}, args...)...)
	if code == 0 || !strings.Contains(out, why) {
		n.t.Errorf("%s %q: exit code %d, %q: want %q", n.Name(), args, code, out, why)
	}
}

// look compares what a node says of itself. pair.StateUnknown: whatever the mount is.
func (n sharedNode) look(want pair.Replica, mount pair.State) (told string) {
	n.t.Helper()
	var l sharedLook
	try.Must(n.t, json.Unmarshal([]byte(n.Run("/node", "shared", n.disk, "look")), &l))
	if l.Replica != want || mount != pair.StateUnknown && l.Mount != mount {
		n.t.Errorf("%s: %+v: want %+v, mount %v", n.Name(), l, want, mount)
	}
	return l.Told
}

// What a look may say.
var (
	sharedActive  = pair.Replica{Role: pair.RoleActive, Waits: true, Linked: true, Whole: true}
	sharedStandby = pair.Replica{Role: pair.RoleStandby, Linked: true, Whole: true}
	sharedOff     = pair.Replica{Role: pair.RoleOff, Linked: true}
)

// sharedRefuses has two nodes, one of which writes when the other one takes
// the disk with a license: as if the first one were cut off and went on.
func sharedRefuses(t *testing.T, a, b sharedNode) {
	b.look(sharedOff, pair.Down) // nothing is on it yet
	a.do("begin")
	a.do("begin") // what is there is left as it is
	b.look(sharedStandby, pair.Down)

	a.do("promote", "1")
	a.do("mount")
	a.look(sharedActive, pair.Up)
	told := b.look(sharedStandby, pair.Down)
	a.do("join", told)
	a.refuses("in use", "demote")
	b.refuses("holds the reservation", "begin")
	if out, code := b.Try("mount", "-t", "ext4", "/dev/sda", "/mnt"); code == 0 {
		t.Errorf("mounted on both: %s", out)
	}

	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute) // it goes on for ever when nothing refuses it
	defer cancel()
	rows := a.Stream(ctx, "/node", "write")
	acked := map[string]bool{}
	for len(acked) < 20 {
		row, ok := <-rows
		if !ok {
			t.Fatal("no row is acknowledged")
		}
		acked[row] = true
	}
	b.do("promote", "2")
	why := ""
	for row := range rows { // it ends by itself
		if _, err := strconv.Atoi(row); err != nil {
			why += row
		} else {
			acked[row] = true
		}
	}
	t.Logf("%d rows are acknowledged; then: %s", len(acked), why)
	if !strings.Contains(why, "input/output error") {
		t.Errorf("the client has ended by %q", why)
	}
	if said := a.Run("dmesg"); !strings.Contains(said, "reservation conflict") {
		t.Errorf("the kernel of %s says nothing of a conflict: %s", a.Name(), said)
	}
	// The journal has ended. The kernel (6.1.0-56) goes on to call the mount writable.
	if out, code := a.Try("sh", "-c", "sync; touch /mnt/x; sync; touch /mnt/y"); code == 0 {
		t.Errorf("%s writes: %s", a.Name(), out)
	}
	a.do("fault")
	a.look(sharedStandby, pair.StateUnknown)
	a.refuses("the other node holds", "promote", "1")
	b.do("mount")
	b.look(sharedActive, pair.Up)
	have := map[string]bool{}
	for _, row := range strings.Fields(b.Run("cat", "/mnt/rows")) {
		have[row] = true
	}
	for row := range acked {
		if !have[row] {
			t.Errorf("row %s was acknowledged and is lost", row)
		}
	}
	b.Run("sh", "-c", "echo new >/mnt/new && sync")

	// The former one comes back clean, and gets the group by a planned change.
	a.do("kill")
	a.do("demote")
	told = a.look(sharedStandby, pair.Down)
	b.do("join", told)
	b.do("umount")
	b.do("drain")
	b.look(sharedStandby, pair.Down)
	a.do("promote", "3")
	a.do("mount")
	a.look(sharedActive, pair.Up)
	if got := a.Run("cat", "/mnt/new"); got != "new" {
		t.Errorf("%s has %q", a.Name(), got)
	}
	a.refuses("another reservation", "join", told)

	// A node whose disk has gone is not fit.
	b.Run("sh", "-c", "echo 1 >/sys/block/sda/device/delete")
	told = b.look(sharedOff, pair.Down)
	a.refuses("does not see", "join", told)

	// A disk without reservations. What is on it stays.
	b.disk = "/dev/vda"
	b.Run("sh", "-c", "echo mine >/dev/vda; sync")
	b.refuses("no file system", "begin")
	if got := b.Run("head", "-n", "1", "/dev/vda"); got != "mine" {
		t.Errorf("the disk has %q", got)
	}
	b.Run("dd", "if=/dev/zero", "of=/dev/vda", "bs=4096", "count=1", "conv=notrunc,fsync")
	b.do("begin")
	b.do("promote", "4")
	b.do("mount")
	b.look(sharedActive, pair.Up)
	b.do("umount")
	b.do("drain")
	b.look(sharedStandby, pair.Down)
}

// slowToEnd is a member whose first stop fails.
type slowToEnd struct {
	Member
	stops int
}

func (s *slowToEnd) Stop(context.Context, bool) error {
	if s.stops++; s.stops == 1 {
		return errors.New("it goes on")
	}
	return nil
}

// TestAMountThatHoldsNothingBack: a hard stop that hangs on it is tried again, and the mount stays.
func TestAMountThatHoldsNothingBack(t *testing.T) {
	t.Parallel()
	m := &slowToEnd{}
	if err := (&Above{Member: m, Mount: &Mount{}}).Stop(t.Context(), true); err != nil || m.stops != 2 {
		t.Errorf("%d stops, %v", m.stops, err)
	}
}
