package group

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"holdfast/internal/cluster"
	"holdfast/internal/ha/records"
	"holdfast/internal/host/replica/shared"
	"holdfast/internal/pair"
	"holdfast/internal/store"
	"holdfast/internal/store/storetest"
	"holdfast/internal/testbed/need"
	"holdfast/internal/testbed/try"
)

// silentDisk is an active node's copy on a disk to which there is no path.
func silentDisk(t *testing.T, held bool) *Shared {
	t.Helper()
	dir := t.TempDir()
	path := filepath.Join(dir, "no-device")
	d := &Shared{Disk: shared.New(path, "test", 0), Mount: &Mount{Name: "data", Device: path, Dir: filepath.Join(dir, "mnt"), Type: "ext4"}, Dir: dir, RunDir: dir}
	try.Must(t, d.note(promotion{cluster.Epoch{Gen: 1, Seq: 2}, true, held}))
	d.Told(`{"Whole":true}`)
	return d
}

func (d *Shared) looks(t *testing.T, want pair.Role, lost string) (told string) {
	t.Helper()
	r, told, err := d.Look(t.Context(), pair.Sync{})
	try.Must(t, err)
	if r.Role != want || lost == "" != (d.Lost() == "") || !strings.Contains(d.Lost(), lost) {
		t.Errorf("role %d, lost %q: want %d, %q", r.Role, d.Lost(), want, lost)
	}
	return told
}

// late has the disk silent for longer than an active node keeps it.
func (d *Shared) late() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.at = time.Now().Add(-silentAfter)
}

// TestAPathThatIsLost: for a while the active node waits. Then its copy is lost, if the other node sees the disk.
func TestAPathThatIsLost(t *testing.T) {
	t.Parallel()
	d := silentDisk(t, true)
	if told := d.looks(t, pair.RoleActive, ""); !strings.Contains(told, "no path to the device") {
		t.Errorf("told %s", told)
	}
	d.Told(`{"Whole":false}`)
	d.late()
	if told := d.looks(t, pair.RoleActive, ""); !strings.Contains(told, "the other node does not see it either") {
		t.Errorf("told %s", told)
	}
	d.Told("")
	d.looks(t, pair.RoleActive, "")
	d.Told(`{"Whole":true}`)
	if told := d.looks(t, pair.RoleOff, "has not answered for 20s"); !strings.Contains(told, "has not answered") {
		t.Errorf("told %s", told)
	}
	// Nothing of this node has it, and the disk refuses what comes late: it is not active any more.
	if p, err := d.promoted(); err != nil || p.Active || !p.Held || p.Epoch.Seq != 2 {
		t.Errorf("%+v, %v", p, err)
	}
	d.looks(t, pair.RoleOff, "")
	if err := d.Promote(t.Context(), pair.Sync{Epoch: cluster.Epoch{Gen: 1, Seq: 2}}); !errors.Is(err, shared.ErrPath) {
		t.Errorf("promoted: %v", err)
	}
	if err := d.Demote(t.Context(), true); !errors.Is(err, shared.ErrPath) {
		t.Errorf("demoted: %v", err)
	}
}

// TestAPathThatIsLostForGood: once it is lost it stays so, until the disk answers.
func TestAPathThatIsLostForGood(t *testing.T) {
	t.Parallel()
	d := silentDisk(t, false)
	d.looks(t, pair.RoleActive, "")
	d.late()
	d.looks(t, pair.RoleUnknown, "has not answered") // nobody refuses what it has sent
	d.Told(`{"Whole":false}`)
	d.looks(t, pair.RoleUnknown, "has not answered")
	if p, err := d.promoted(); err != nil || !p.Active {
		t.Errorf("%+v, %v", p, err)
	}
}

// lossy is a copy that a test loses.
type lossy struct {
	hangs atomic.Bool // a look does

	mu   sync.Mutex
	role pair.Role
	lost string
	told string
	hang chan struct{} // closed: it goes on
}

func (l *lossy) hold(hang chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.hang = hang
}

func (l *lossy) set(role pair.Role, lost string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.role, l.lost = role, lost
}

func (l *lossy) Look(context.Context, pair.Sync) (pair.Replica, string, error) {
	l.mu.Lock()
	hang := l.hang
	l.mu.Unlock()
	if hang != nil {
		l.hangs.Store(true)
		<-hang
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return pair.Replica{Role: l.role, Linked: true, Waits: l.role == pair.RoleActive, Whole: true}, "mine", nil
}

func (l *lossy) Promote(context.Context, pair.Sync) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.lost != "" {
		return errors.New(l.lost)
	}
	l.role = pair.RoleActive
	return nil
}

func (l *lossy) Demote(context.Context, bool) error {
	l.set(pair.RoleStandby, "")
	return nil
}

func (l *lossy) Lost() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.lost
}

func (l *lossy) Told(told string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.told = told
}

func (l *lossy) heard() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.told
}

func (l *lossy) Drain(context.Context, string) error          { return nil }
func (l *lossy) Alone(context.Context) error                  { return nil }
func (l *lossy) Join(context.Context, string) (string, error) { return "", nil }
func (l *lossy) Follow(context.Context, bool) error           { return nil }
func (l *lossy) Unfollow(context.Context) error               { return nil }
func (l *lossy) First(context.Context) error                  { return nil }
func (l *lossy) Close()                                       {}

// stuck is a member that ends when it is let.
type stuck struct {
	up, held atomic.Bool
	tries    atomic.Int32 // to end it while it is held
}

func (s *stuck) Spec() pair.Member { return pair.Member{Name: "database", Restarts: 1} }

func (s *stuck) State(context.Context) pair.State {
	if s.up.Load() {
		return pair.Up
	}
	return pair.Down
}

func (s *stuck) Start(context.Context) error {
	s.up.Store(true)
	return nil
}

func (s *stuck) Stop(context.Context, bool) error {
	if s.held.Load() {
		s.tries.Add(1)
		return errors.New("its process does not end")
	}
	s.up.Store(false)
	return nil
}

// TestALostCopyIsNotKnownToRun: what package ha sees of a node whose copy is lost. As long as something of the group is
// there the node is one that can not be observed, which it resets; and then the group has ended.
func TestALostCopyIsNotKnownToRun(t *testing.T) {
	t.Parallel()
	ctx := try.Context(t)
	mem := storetest.NewMem()
	db := mem.NewClient("test")
	put := func(key string, record any) {
		t.Helper()
		_, _, err := db.Txn(ctx, nil, []store.Op{{Key: key, Value: records.Encode(record)}})
		try.Must(t, err)
	}
	put(KeySync, pair.Sync{Complete: []cluster.HostID{"a", "b"}, Host: "a"})
	_, _, err := db.Txn(ctx, nil, []store.Op{{Key: keyTold + "b", Value: []byte("its")}})
	try.Must(t, err)
	copied, member := &lossy{role: pair.RoleStandby}, &stuck{}
	begun := time.Now()
	var ahead atomic.Int64 // of the clock
	d := New(Options{
		Self: "a", Peer: "b", Resource: cluster.MgmtVM, Store: mem.NewClient("a"), Data: copied, Members: []Member{member}, Patience: time.Second, RunDir: t.TempDir(),
		Clock: func() cluster.Instant { return cluster.Instant(time.Since(begun)) + cluster.Instant(ahead.Load()) + 1 },
		Log:   slog.New(slog.NewTextHandler(t.Output(), nil)),
	})
	run, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- d.Run(run) }()
	defer func() {
		cancel()
		if err := errors.Join(<-done, d.Close()); err != nil {
			t.Error(err)
		}
	}()
	until := func(what string, want cluster.GuestState, why string) {
		t.Helper()
		var g cluster.Guest
		var err error
		defer func() {
			if t.Failed() {
				t.Logf("%s: %+v, %v", what, g, err)
			}
		}()
		try.Until(t, what, func() bool {
			g, err = d.Observe(ctx)
			return g.State == want && (err == nil) == (why == "") && (err == nil || strings.Contains(err.Error(), why))
		})
	}
	try.Until(t, "a node that is able", func() bool { return d.Check(ctx, cluster.GuestSpec{}) == nil })
	o := cluster.Owner{State: cluster.Assigned, Host: "a", Epoch: cluster.Epoch{Gen: 1, Seq: 1}}
	put(records.OwnerKey(cluster.MgmtVM), o)
	try.Must(t, d.Start(ctx, cluster.GuestSpec{Epoch: o.Epoch}))
	o.State = cluster.Running
	put(records.OwnerKey(cluster.MgmtVM), o)
	try.Until(t, "the group to serve", func() bool { return member.up.Load() })
	until("a group that runs", cluster.GuestRunning, "")
	if got := copied.heard(); got != "its" {
		t.Errorf("the copy was told %q of the peer's", got)
	}

	hang := make(chan struct{})
	copied.hold(hang)
	try.Until(t, "a look that hangs", copied.hangs.Load)
	until("a node that was looked at a moment ago", cluster.GuestRunning, "")
	ahead.Store(int64(staleAfter))
	until("a node that is not looked at", cluster.GuestUnknown, "was not checked for 20s")
	copied.hold(nil)
	close(hang)
	until("a node that is looked at again", cluster.GuestRunning, "")

	member.held.Store(true)
	copied.set(pair.RoleOff, "no path")
	until("a copy that is lost", cluster.GuestUnknown, "no path")
	try.Until(t, "three tries to end it", func() bool { // what does not end is never called ended
		if g, err := d.Observe(ctx); g.State != cluster.GuestUnknown || err == nil {
			t.Fatalf("something of the group is here: %+v, %v", g, err)
		}
		return member.tries.Load() >= 3
	})
	member.held.Store(false)
	until("the end of the group", cluster.GuestAbsent, "")
	if member.up.Load() {
		t.Error("the member runs")
	}
}

// TestAProbeOfAFileSystem: what takes writes is well, and what takes none is told.
func TestAProbeOfAFileSystem(t *testing.T) {
	t.Parallel()
	need.Real(t, need.Root)
	dir := t.TempDir()
	try.Must(t, unix.Mount("probe", dir, "tmpfs", 0, "size=64k"))
	t.Cleanup(func() { try.Must(t, unix.Unmount(dir, unix.MNT_DETACH)) })
	var st unix.Stat_t
	try.Must(t, unix.Stat(dir, &st))
	file := filepath.Join(dir, probeName)
	try.Must(t, write(dir, st.Dev+1))
	if _, err := os.Stat(file); err == nil {
		t.Error("another file system was written")
	}
	var p probe
	try.Until(t, "a probe", func() bool {
		if err := p.look(dir, st.Dev); err != nil {
			t.Fatal(err)
		}
		_, err := os.Stat(file)
		return err == nil
	})
	p.found(unix.ENOSPC)
	p.found(unix.ENOMEM)
	if err := p.look(dir, st.Dev); err != nil {
		t.Errorf("it takes writes: %v", err)
	}
	again := p.rest(t.Context())
	if p.mu.TryLock() {
		t.Error("a probe can begin while it rests")
	}
	over, cancel := context.WithCancel(t.Context())
	cancel()
	p.rest(over)() // it does not wait, and ends nothing
	again()

	fillUp(t, filepath.Join(dir, "fill"))
	if err := write(dir, st.Dev); err != nil {
		t.Errorf("a write that needs no room: %v", err)
	}
	try.Must(t, unix.Mount("probe", dir, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""))
	p.fresh()
	try.Until(t, "the end of writes to be found", func() bool { return errors.Is(p.look(dir, st.Dev), unix.EROFS) })
	p.rest(t.Context())() // the last one has ended
	p.fresh()
	p.about.Lock()
	if p.fault != nil {
		t.Error("what was mounted anew has the fault of before")
	}
	p.about.Unlock()
	p.rest(t.Context())() // the last one has ended
}
