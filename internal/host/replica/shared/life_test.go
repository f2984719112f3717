package shared_test

import (
	"strings"
	"testing"

	"holdfast/internal/host/replica/shared"
	"holdfast/internal/testbed/drbdnode"
	"holdfast/internal/testbed/need"
)

// TestTheLifeOfAReservation: one node after the other holds it, and only who holds it writes.
// What the device says is read by sg_persist, too.
func TestTheLifeOfAReservation(t *testing.T) {
	need.Drill(t, "P1: one of two nodes after the other holds a reservation, and only who holds it writes (emulated hosts, a real target of iSCSI)", need.Root, need.Programs("sg3-utils", "sg_persist"))
	l := drbdnode.NewLUN(t, 64<<20)
	nodes := drbdnode.Make(t, drbdnode.Options{Pkg: "holdfast/internal/host/replica/shared", Files: []string{"/usr/bin/sg_persist"}, LUN: l})
	a, b := node{nodes[0], t}, node{nodes[1], t}
	keys := []shared.Key{shared.KeyOf("test", 0), shared.KeyOf("test", 1)}
	holds := func(of shared.Key) {
		t.Helper()
		for _, n := range []node{a, b} {
			if got, want := n.do("holder"), of.String()+" type 1"; got != want {
				t.Errorf("%s: holder %q, want %q", n.Name(), got, want)
			}
			if said, code := n.persist("-i", "-r"); code != 0 || !strings.Contains(said, "Key="+of.String()) || !strings.Contains(said, "type: Write Exclusive") {
				t.Errorf("%s: sg_persist says %q", n.Name(), said)
			}
		}
	}
	if got := a.do("holder"); got != "0x0 type 0" {
		t.Errorf("a new device: %q", got)
	}
	a.refuses(shared.ErrNone.Error(), "/dev/vda", "holder") // virtio-blk
	a.refuses(shared.ErrNone.Error(), "/dev/vda", "claim")
	a.refuses("no path", "/dev/none", "holder")
	a.refuses("no file system", lun, "check")
	a.do("answers")
	a.refuses("no path", "/dev/none", "answers")
	if got := a.do("ready"); got != "own false" {
		t.Errorf("an empty device: %s", got)
	}
	a.refuses(shared.ErrNone.Error(), "/dev/vda", "ready")
	a.refuses("no path", "/dev/none", "ready")

	a.do("claim")
	a.do("claim") // once more does no harm
	holds(keys[0])
	if !a.writes() || b.writes() {
		t.Error("want writes of the first node only")
	}
	b.refuses("the other node holds", lun, "claim-free")
	b.refuses("somebody else holds its reservation, by the key "+keys[0].String(), lun, "ready")
	b.do("ready-own") // a key of the pair itself
	b.do("answers")   // reads are not refused
	b.do("release")   // it holds nothing
	holds(keys[0])

	// A planned change.
	a.do("release")
	if got := a.do("holder"); got != "0x0 type 0" {
		t.Errorf("after a release: %q", got)
	}
	b.do("claim")
	holds(keys[1])
	if a.writes() || !b.writes() {
		t.Error("want writes of the second node only")
	}

	// A takeover: the other one's registration goes with its reservation.
	a.do("claim")
	holds(keys[0])
	if got := a.do("keys"); got != "["+keys[0].String()+"]" {
		t.Errorf("after a preemption: keys %s", got)
	}
	if !a.writes() || b.writes() {
		t.Error("want writes of the first node only")
	}
	b.do("release") // it has lost it
	holds(keys[0])

	// A node that boots is another nexus, with the same key.
	a.Crash()
	a.Boot()
	a.Wait()
	holds(keys[0])
	if a.writes() {
		t.Error("a write of a node that has booted")
	}
	a.do("release") // it is not registered, and can not write: that is enough
	a.do("claim")
	holds(keys[0])
	if !a.writes() || b.writes() {
		t.Error("want writes of the first node only")
	}

	// Somebody else's reservation is left alone.
	a.do("clear")
	if _, code := b.persist("-o", "-I", "-S", "0xabc"); code != 0 {
		_, _ = b.persist("-o", "-I", "-S", "0xabc") // after a unit attention
	}
	if said, code := b.persist("-o", "-R", "-K", "0xabc", "-T", "3"); code != 0 {
		t.Fatalf("sg_persist: %s", said)
	}
	a.refuses("neither node's key", lun, "claim")
	b.do("clear")
	if got := a.do("keys"); got != "[]" {
		t.Errorf("after a clear: keys %s", got)
	}
}
