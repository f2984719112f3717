package group

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"holdfast/internal/cluster"
	"holdfast/internal/testbed/try"
)

// TestAFullDisk: the disk of the active node is full, so its database ends at a commit. It is
// started again there, ends again, and the group goes to the other node with every row that
// was acknowledged. With room the node comes back by itself.
func TestAFullDisk(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can mount")
	}
	r := newRigOn(t, map[cluster.HostID]string{"a": "400m"})
	a, b := r.node["a"], r.node["b"]
	var l ledger
	r.assign("a", cluster.ProofFirst)
	r.complete()
	stop := l.write(r, 4)
	defer func() { stop() }()
	l.more(t, 50)

	fill := filepath.Join(a.dir, "fill")
	var fs unix.Statfs_t
	try.Must(t, unix.Statfs(a.dir, &fs))
	f, err := os.Create(fill)
	try.Must(t, err)
	room := int64(fs.Bavail)*fs.Bsize - 64<<10
	try.Must(t, unix.Fallocate(int(f.Fd()), 0, 0, room))
	try.Must(t, f.Close())
	t.Logf("64 KiB are left, %d rows are acknowledged", l.size())
	try.Until(t, "the group to leave a", func() bool {
		g, err := a.Observe(t.Context())
		return err == nil && g.State == cluster.GuestAbsent
	})
	r.assign("b", cluster.ProofReleased)
	l.more(t, 50)
	stop()
	l.check(b)
	stop = l.write(r, 4)
	l.more(t, 20)

	try.Must(t, os.Remove(fill))
	r.complete()
	l.more(t, 20)
	stop()
	stop = func() {}
	l.check(a)
	l.check(b)
	t.Logf("%d rows acknowledged, none lost", l.size())
}
