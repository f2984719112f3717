package drbd_test

import "testing"

// keepsTheOlder: a copy that misses what the other one has acknowledged alone is
// promoted after Keep, and never before; the other one's is never copied over it.
func keepsTheOlder(t *testing.T, a, b node) {
	a.do("promote")
	a.Run("mkfs.ext4", "-q", "/dev/drbd0")
	mount(a)
	a.Run("sh", "-c", "echo first >/mnt/first && sync")
	a.Cut(true)
	a.until("frozen writes", frozen)
	a.do("alone")
	a.Run("sh", "-c", "echo newer >/mnt/newer && sync")
	unmount(a)
	a.do("demote")

	b.until("the loss", func(s status) bool { return s.Connection != "Connected" })
	b.Run("drbdsetup", "outdate", "0")
	b.refuses("promote")
	for range 2 { // again does no harm
		b.do("keep")
	}
	if s := b.status(); !s.Good() || !s.Alone() || s.Frozen() || s.Role != "Secondary" || s.Split {
		t.Errorf("kept: %+v", s)
	}
	// The two meet before it is promoted.
	a.do("detach")
	a.Cut(false)
	b.Run("drbdadm", "connect", "r0")
	a.Run("drbdadm", "connect", "r0")
	// The one that is first to see that the data differ parts, and the other one may go on to call.
	b.until("that they part", func(s status) bool { return s.Alone() || a.status().Alone() })
	if s := b.status(); s.Disk != "UpToDate" && s.Disk != "Consistent" {
		t.Errorf("the newer copy goes over the one that was kept: %+v", s)
	}

	b.do("promote")
	b.do("alone")
	mount(b)
	if got := b.Run("ls", "/mnt"); got != "first\nlost+found" {
		t.Errorf("the copy that was kept has %q", got)
	}
	a.follows(b)
	unmount(b)
	b.do("demote")
	a.do("promote")
	mount(a)
	if got := a.Run("ls", "/mnt"); got != "first\nlost+found" {
		t.Errorf("the copy that follows has %q", got)
	}
	unmount(a)
	a.do("demote")
}
