package drbd_test

import (
	"context"
	"strings"
	"testing"
	"time"
)

// A row that does not come within this time is taken to wait: a longer one only misses less.
const quiet = 4 * time.Second

func mount(n node)   { n.t.Helper(); n.Run("mount", "/dev/drbd0", "/mnt") }
func unmount(n node) { n.t.Helper(); n.Run("umount", "/mnt") }

// kept reports rows that were acknowledged and are not on the node.
func kept(t *testing.T, n node, acked []string) {
	t.Helper()
	have := map[string]bool{}
	for _, row := range strings.Fields(n.Run("cat", "/mnt/rows")) {
		have[row] = true
	}
	lost := 0
	for _, row := range acked {
		if !have[row] {
			lost++
		}
	}
	t.Logf("%s: %d rows acknowledged, %d there", n.Name(), len(acked), len(have))
	if lost > 0 || len(acked) == 0 {
		t.Errorf("%d of %d acknowledged rows are lost", lost, len(acked))
	}
}

func life(t *testing.T, a, b node) {
	a.refuses("promote-bare")
	a.do("promote")
	a.Run("mkfs.ext4", "-q", "/dev/drbd0")
	b.refuses("promote") // the other one is
	mount(a)
	if s := a.status(); !s.Waits {
		t.Errorf("a primary whose peer has everything: %+v", s)
	}
	// A planned change.
	a.Run("sh", "-c", "echo 0 >/mnt/rows && sync")
	unmount(a)
	a.do("demote")
	b.do("promote")
	mount(b)
	if got := b.Run("cat", "/mnt/rows"); got != "0" {
		t.Fatalf("the other node has %q", got)
	}
	b.Run("rm", "/mnt/rows")

	// The primary loses its power under a writer.
	c := b.client(t.Context())
	if !c.more(50) {
		t.Fatal("no row is acknowledged")
	}
	b.Crash()
	acked := c.rest()
	a.until("the loss", func(s status) bool { return s.Connection != "Connected" })
	a.Run("sh", "-c", "! drbdadm primary r0") // who asks without a license is refused by the handler
	if s := a.status(); s.Role != "Secondary" {
		t.Fatalf("promoted without a license: %+v", s)
	}
	a.do("promote")
	if s := a.status(); s.Role != "Primary" || !s.Waits || !s.Frozen() {
		t.Fatalf("a primary without a peer writes before Alone: %+v", s)
	}
	a.do("demote") // that also works while all writes are held back
	a.do("promote")
	a.do("alone")
	if s := a.status(); s.Waits || s.Frozen() {
		t.Fatalf("a primary that goes on alone: %+v", s)
	}
	mount(a)
	kept(t, a, acked)
	a.Run("sh", "-c", "rm /mnt/rows; sync")

	// The other one comes back, and gets what it has missed.
	b.Boot()
	b.Wait()
	b.do("create")
	b.do("attach")
	if s := b.status(); s.Connection == "Connected" || s.Disk == "UpToDate" {
		t.Errorf("a former primary after a loss of power: %+v", s)
	}
	b.insist("resync-cut")
	b.until("a good copy", linked)
	a.insist("join")
	if s := a.status(); !s.Waits {
		t.Errorf("after a join: %+v", s)
	}
}

func cutLink(t *testing.T, a, b node) {
	a.do("promote")
	a.Run("mkfs.ext4", "-q", "/dev/drbd0")
	mount(a)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	c := a.client(ctx)
	if !c.more(20) {
		t.Fatal("no row is acknowledged")
	}
	a.Cut(true)
	a.until("frozen writes", frozen)
	for i := 0; c.comes(quiet); i++ { // what was on its way
		if i > 1000 {
			t.Fatal("rows are acknowledged while writes are frozen")
		}
	}
	if s := a.status(); !s.Waits || s.Linked() {
		t.Errorf("frozen: %+v", s)
	}
	// A link that comes back lets it go on, and nothing was lost.
	a.Cut(false)
	a.until("the peer", linked)
	if !c.more(20) {
		t.Fatal("no row is acknowledged after the link has come back")
	}
	// The next time it goes on alone, also when the link is lost once more.
	a.Cut(true)
	a.until("frozen writes", frozen)
	a.do("alone")
	if !c.more(20) {
		t.Fatal("no row is acknowledged alone")
	}
	b.until("the loss", func(s status) bool { return s.Connection != "Connected" })
	b.Run("sh", "-c", "! drbdadm primary r0")
	a.Cut(false)
	a.until("the peer", linked)
	a.Cut(true)
	a.until("the loss", func(s status) bool { return s.Connection != "Connected" })
	if !c.more(20) {
		t.Fatal("the handler did not answer by the mark of Alone")
	}
	a.Cut(false)
	a.insist("join")
	a.Cut(true)
	a.until("frozen writes: a join ends what Alone allowed", frozen)

	// A split brain made on purpose: the license of the other one is a lie.
	b.until("the loss", func(s status) bool { return s.Connection != "Connected" })
	b.do("promote")
	b.do("alone")
	mount(b)
	b.Run("sh", "-c", "echo other >/mnt/other && sync")
	a.do("alone")
	if !c.more(20) {
		t.Fatal("no row is acknowledged alone")
	}
	cancel()
	unmountSoon(a)
	a.do("demote")
	a.Cut(false)
	a.until("the split", func(s status) bool { return s.Split })
	b.do("connect")
	if why := a.refuses("resync"); !strings.Contains(why, "have diverged") {
		t.Errorf("follows a copy of another history: %s", why)
	}
	a.follows(b)
	unmount(b)
	b.do("demote")
	a.do("promote")
	mount(a)
	if got := a.Run("cat", "/mnt/other"); got != "other" {
		t.Errorf("the copy that followed has %q", got)
	}
	unmount(a)
	a.do("demote")
	a.do("detach")
	if s := a.status(); s.Split || !s.Alone() {
		t.Errorf("a copy that was told not to follow: %+v", s)
	}
	a.insist("resync")
	a.until("a good copy", linked)
}

// unmountSoon unmounts when the last client has gone.
func unmountSoon(n node) {
	n.t.Helper()
	n.Run("sh", "-c", "i=0; until umount /mnt || [ $i -gt 100 ]; do i=$((i+1)); sleep 0.1; done; ! grep -q /mnt /proc/mounts")
}
