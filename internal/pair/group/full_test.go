package group

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"holdfast/internal/cluster"
	"holdfast/testbed/need"
	"holdfast/testbed/try"
)

// TestAFullDisk: the disk of the active node is full, so a commit waits in its database for
// ever. The database is killed, can not be promoted there again, and the group goes to the
// other node with every row that was acknowledged. With room the node comes back by itself.
func TestAFullDisk(t *testing.T) {
	need.Drill(t, "P1, P3: a full disk of the active node loses no acknowledged row, and the group goes to "+
		"the other one", need.Root, need.Programs("mariadb-server", "mariadbd"))
	r := newRigOn(t, map[cluster.HostID]string{"a": "400m"})
	a, b := r.node["a"], r.node["b"]
	var l ledger
	told := make(chan cluster.Event, 16)
	try.Must(t, a.ask(t.Context(), func() {
		a.events = func(_ context.Context, ev cluster.Event) error {
			told <- ev
			return nil
		}
	}))
	r.assign("a", cluster.ProofFirst)
	r.complete()
	stop := l.write(r, 4)
	defer func() { stop() }()
	l.more(t, 50)

	// The table has free pages, so that what has no room first is the binary log.
	_, err := a.root.ExecContext(t.Context(), "INSERT INTO app.log SELECT -seq FROM app.seq_1_to_60000")
	try.Must(t, err)

	fill := filepath.Join(a.dir, "fill")
	fillUp(t, fill)
	t.Logf("the disk is full, %d rows are acknowledged", l.size())
	if said := full(a.dir); !strings.HasPrefix(said, "the file system of "+a.dir+" is full: 0 MB of ") {
		t.Errorf("of a full disk is said: %q", said)
	}
	try.Until(t, "the group to leave a", func() bool {
		g, err := a.Observe(t.Context())
		return err == nil && g.State == cluster.GuestAbsent
	})
	// the server may say it itself
	if ev := <-told; ev.Kind != cluster.EvOutage || !strings.Contains(ev.Detail, "a disk is full") &&
		!strings.Contains(ev.Detail, "Disk got full") {
		t.Errorf("the event is %+v", ev)
	}
	r.assign("b", cluster.ProofReleased)
	l.more(t, 50)
	stop()
	l.check(b)
	stop = l.write(r, 4)
	l.more(t, 20)

	try.Must(t, os.Remove(fill))
	if said := full(a.dir); said != "" {
		t.Errorf("of a disk with room is said: %q", said)
	}
	r.complete()
	l.more(t, 20)
	stop()
	stop = func() {}
	l.check(a)
	l.check(b)
	t.Logf("%d rows acknowledged, none lost", l.size())
}

// fillUp makes the file at path so large that nothing is left on its disk. The database
// beside it goes on writing meanwhile.
func fillUp(t *testing.T, path string) {
	t.Helper()
	f, err := os.Create(path)
	try.Must(t, err)
	for size := int64(0); ; {
		var fs unix.Statfs_t
		try.Must(t, unix.Statfs(path, &fs))
		room := int64(fs.Bavail) * fs.Bsize
		if room == 0 {
			break
		}
		switch err := unix.Fallocate(int(f.Fd()), 0, size, room); err {
		case nil:
			size += room
		case unix.ENOSPC: // the database took some of it
		default:
			t.Fatal(err)
		}
	}
	try.Must(t, f.Close())
}
