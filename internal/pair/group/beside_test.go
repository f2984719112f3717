package group

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"

	"holdfast/internal/cluster"
	"holdfast/internal/host/replica/drbd"
	"holdfast/internal/lib/fail"
	"holdfast/internal/pair"
	"holdfast/testbed/need"
	"holdfast/testbed/try"
)

// cable joins the two halves of a partition, as DRBD does: a primary without its peer holds its
// writes back until it was told to go on alone.
type cable struct {
	mu   sync.Mutex
	cut  bool
	half map[cluster.HostID]*half
}

// half is a node's copy of it. What the kernel has is gone after a loss of power, the rest is not.
type half struct {
	of   *cable
	peer cluster.HostID
	keep []int // what is on the disk
	bad  bool  // the disk is broken
	old  bool  // the peer has gone on without this copy
	did  bool  // it was promoted, and has not followed since

	primary, alone, held, off bool
	mounted                   bool
	seen                      Copy
}

func newCable() *cable {
	c := &cable{half: map[cluster.HostID]*half{}}
	for _, h := range []cluster.HostID{"a", "b"} {
		c.half[h] = &half{of: c, peer: other(h)}
	}
	return c
}

var errNoDisk = errors.New("the disk can not be asked")

// linked needs the lock: the peer has everything.
func (h *half) linked() bool {
	p := h.of.half[h.peer]
	return !h.of.cut && !h.off && !p.off && !p.bad && (h.bad || !h.old && !p.old && slices.Equal(h.keep, p.keep))
}

func (h *half) state() (st drbd.State, err error) {
	if h.primary && !h.linked() && !h.alone {
		h.held = true
	}
	if h.linked() {
		h.held = false
	}
	st = drbd.State{Up: true, Role: role(h.primary), Suspended: "no", Disk: "UpToDate", Connection: "Connecting"}
	if h.bad {
		st.Disk = "Diskless"
	}
	if h.held {
		st.Suspended = "fencing"
	}
	if h.linked() {
		p := h.of.half[h.peer]
		st.Connection, st.Replication, st.PeerDisk, st.PeerRole = "Connected", "Established", "UpToDate", role(p.primary)
	}
	return st, nil
}

func role(primary bool) string {
	if primary {
		return "Primary"
	}
	return "Secondary"
}

func (h *half) Status(context.Context) (drbd.State, error) {
	h.of.mu.Lock()
	defer h.of.mu.Unlock()
	return h.state()
}

func (h *half) Glance(ctx context.Context) (drbd.State, error) { return h.Status(ctx) }

func (h *half) Last() Copy {
	h.of.mu.Lock()
	defer h.of.mu.Unlock()
	return h.seen
}

func (h *half) Look(context.Context, pair.Sync) (r pair.Replica, told string, err error) {
	h.of.mu.Lock()
	defer h.of.mu.Unlock()
	st, err := h.state()
	if err != nil {
		return r, "", err
	}
	p := h.of.half[h.peer]
	if h.did && !h.primary && p.primary && h.linked() {
		h.did = false
	}
	h.seen = Copy{State: st}
	r = pair.Replica{Role: pair.RoleStandby, Linked: !h.did || h.linked(), Whole: st.Good() && !h.old, Wrote: h.did}
	if h.primary {
		r.Role, r.Linked, r.Waits = pair.RoleActive, h.linked(), !h.alone
	}
	return r, "", nil
}

func (h *half) Promote(context.Context, pair.Sync) error {
	h.of.mu.Lock()
	defer h.of.mu.Unlock()
	p := h.of.half[h.peer]
	switch {
	case h.bad:
		return fail.Errorf(fail.Refused, "this copy is Diskless")
	case p.primary && !p.off:
		return fail.Errorf(fail.Failed, "the other one is the primary")
	}
	h.primary, h.alone, h.held, h.did = true, false, !h.linked(), true
	return nil
}

func (h *half) Demote(context.Context, bool) error {
	h.of.mu.Lock()
	defer h.of.mu.Unlock()
	if h.mounted {
		return fail.Errorf(fail.Failed, "it is mounted")
	}
	h.primary, h.alone, h.held = false, false, false
	return nil
}

func (h *half) Alone(context.Context) error {
	h.of.mu.Lock()
	defer h.of.mu.Unlock()
	h.alone, h.held = true, false
	return nil
}

func (h *half) Join(context.Context, string) (string, error) {
	h.of.mu.Lock()
	defer h.of.mu.Unlock()
	if !h.linked() {
		return "", fail.Errorf(fail.Failed, "the peer does not have everything")
	}
	h.alone = false
	return "", nil
}

// Follow copies what the peer has over this copy.
func (h *half) Follow(_ context.Context, cut bool) error {
	h.of.mu.Lock()
	defer h.of.mu.Unlock()
	p := h.of.half[h.peer]
	switch {
	case h.of.cut || p.off:
		return fail.Errorf(fail.Failed, "the peer does not answer")
	case h.did && !cut:
		return fail.Errorf(fail.Refused, "what this copy alone has would be lost")
	}
	h.keep, h.old, h.did = slices.Clone(p.keep), false, false
	return nil
}

func (h *half) Drain(context.Context, string) error  { return errors.New("its member ends it") }
func (h *half) Unfollow(context.Context) error       { return nil }
func (h *half) First(context.Context) error          { return nil }
func (h *half) Retain(context.Context) error         { return nil }
func (h *half) Close()                               {}
func (h *half) Describe(*cluster.PairReport)         {}
func (h *half) Spec() pair.Member                    { return pair.Member{Name: "files", Restarts: 1} }
func (h *half) Stop(_ context.Context, _ bool) error { h.set(func() { h.mounted = false }); return nil }
func (h *half) State(context.Context) (s pair.State) {
	h.set(func() { s = mountState(h.mounted) })
	return s
}
func (h *half) set(f func()) { h.of.mu.Lock(); defer h.of.mu.Unlock(); f() }
func (h *half) power(off bool) {
	h.set(func() { h.off, h.primary, h.mounted, h.alone, h.held = off, false, false, false, false })
}
func (c *cable) sever(cut bool) { c.mu.Lock(); defer c.mu.Unlock(); c.cut = cut }

func mountState(on bool) pair.State {
	if on {
		return pair.Up
	}
	return pair.Down
}

// mountOfHalf is the file system on a half: it mounts what is a primary that writes.
type mountOfHalf struct{ *half }

func (m mountOfHalf) Start(context.Context) (err error) {
	m.set(func() {
		switch {
		case !m.primary:
			err = errors.New("wrong medium type")
		case m.held:
			err = errors.New("it would hang")
		default:
			m.mounted = true
		}
	})
	return err
}

// write writes on the mounted half; it reports whether that was acknowledged.
func (h *half) write(n int) (acked bool) {
	h.set(func() {
		if _, err := h.state(); err != nil || !h.mounted || h.bad || h.held {
			return
		}
		joined := h.linked()
		h.keep = append(h.keep, n)
		if p := h.of.half[h.peer]; joined {
			p.keep = append(p.keep, n)
		} else {
			p.old = true
		}
		acked = true
	})
	return acked
}

// beside gives the group of a node the partition, or takes it away, while the group runs.
func (n *node) beside(c *cable) (data *Composite, members []Member) {
	h := c.half[n.name]
	data = &Composite{Data: n.db, Part: h}
	return data, []Member{&Promoted{Name: "device", Restarts: 1, Copy: data}, mountOfHalf{h}, n.vip}
}

func (n *node) takesIn(c *cable) {
	n.r.t.Helper()
	data, members := n.beside(c)
	try.Must(n.r.t, n.Change(try.Context(n.r.t), data, members, func(ctx context.Context, serves bool) error {
		if !serves {
			return nil
		}
		return errors.Join(members[0].Start(ctx), members[1].Start(ctx))
	}))
}

func (r *rig) writes(h cluster.HostID, c *cable, n int) {
	r.t.Helper()
	try.Until(r.t, fmt.Sprintf("write %d on %s", n, h), func() bool { return c.half[h].write(n) })
}

// TestAPartitionBesideADatabase: it comes and goes while the group runs, is on whichever node serves,
// and a node whose copy of it is behind does not get the group, however good its database is.
func TestAPartitionBesideADatabase(t *testing.T) {
	need.Drill(t, "P1, P2: a partition beside the database comes, moves, is lost and goes, and a node whose copy is "+
		"behind does not get the group", need.Programs("mariadb-server", "mariadbd"))
	r := newRig(t)
	ctx := try.Context(t)
	a, b := r.node["a"], r.node["b"]
	r.assign("a", cluster.ProofReleased)
	r.complete()
	pid := a.pid()
	c := newCable()
	a.takesIn(c)
	b.takesIn(c)
	r.complete()
	if a.vip.State(ctx) != pair.Up || a.pid() != pid {
		t.Error("what runs was started anew for the partition")
	}
	r.writes("a", c, 1)

	// A planned move.
	r.move("a", "b")
	r.complete()
	r.writes("b", c, 2)
	if c.half["a"].mounted || c.half["a"].primary {
		t.Error("both nodes have the partition")
	}

	// Only the partition's link is cut: the standby leaves, and writes go on; then it is whole again.
	c.sever(true)
	r.alone("b")
	r.writes("b", c, 3)
	if err := a.Check(ctx, cluster.GuestSpec{}); err == nil {
		t.Error("a node whose copy of the partition is behind may have the group")
	}
	c.sever(false)
	c.half["a"].Follow(ctx, false) // as DRBD does by itself
	r.complete()
	r.writes("b", c, 4)

	// A loss: the other one has everything of both.
	b.off()
	c.half["b"].power(true)
	r.assign("a", cluster.ProofFenced)
	r.writes("a", c, 5)
	if want := []int{1, 2, 3, 4, 5}; !slices.Equal(c.half["a"].keep, want) {
		t.Errorf("the partition has %v, want %v", c.half["a"].keep, want)
	}

	// It comes back, and follows with both. The agent that begins knows of the partition.
	b.boot()
	c.half["b"].power(false)
	b.takesIn(c)
	r.complete()
	if !slices.Equal(c.half["b"].keep, c.half["a"].keep) {
		t.Errorf("the partition has %v and %v", c.half["a"].keep, c.half["b"].keep)
	}

	// It goes, and the group stays.
	for _, n := range []*node{a, b} {
		h := c.half[n.name]
		try.Must(t, n.Change(ctx, n.db, []Member{n.vip}, func(ctx context.Context, _ bool) error {
			return errors.Join(h.Stop(ctx, false), h.Demote(ctx, false))
		}))
	}
	r.serves("a")
	r.complete()
	r.move("a", "b")
}

// TestAPartitionWhoseDiskFails: the group goes to the node whose copy is whole; where there is none, it
// does not run.
func TestAPartitionWhoseDiskFails(t *testing.T) {
	need.Drill(t, "P1: the group goes to the node whose copy of a partition is whole, and to none where there is none",
		need.Programs("mariadb-server", "mariadbd"))
	r := newRig(t)
	ctx := try.Context(t)
	a, b := r.node["a"], r.node["b"]
	r.assign("a", cluster.ProofReleased)
	r.complete()
	c := newCable()
	a.takesIn(c)
	b.takesIn(c)
	r.complete()
	r.writes("a", c, 1)
	c.half["a"].set(func() { c.half["a"].bad = true })
	try.Until(t, "the group to leave a", func() bool {
		g, err := a.Observe(ctx)
		return err == nil && g.State == cluster.GuestAbsent
	})
	c.half["b"].set(func() { c.half["b"].bad = true })
	try.Until(t, "b to refuse it", func() bool { return b.Check(ctx, cluster.GuestSpec{}) != nil })
}

// TestLookAtBoth is what the core is told of two copies.
func TestLookAtBoth(t *testing.T) {
	const active, standby, off = pair.RoleActive, pair.RoleStandby, pair.RoleOff
	up := drbd.State{Up: true, Suspended: "no", Disk: "UpToDate", Connection: "Connected", Replication: "Established", PeerDisk: "UpToDate"}
	frozen := drbd.State{Up: true, Suspended: "fencing", Disk: "UpToDate", Connection: "Connecting"}
	lost := drbd.State{Up: true, Suspended: "no", Disk: "UpToDate", Connection: "Connecting"}
	rep := func(role pair.Role, linked, waits, whole, wrote bool) pair.Replica {
		return pair.Replica{Role: role, Linked: linked, Waits: waits, Whole: whole, Wrote: wrote}
	}
	for _, tc := range []struct {
		name      string
		own, part pair.Replica
		st        drbd.State
		fails     bool
		want      pair.Replica
		unseen    bool
	}{
		{"both wait", rep(active, true, true, true, true), rep(active, true, true, true, true), up, false,
			rep(active, true, true, true, true), false},
		{"not promoted yet", rep(active, true, true, true, true), rep(standby, true, false, true, false), up, false,
			rep(active, true, true, true, true), false},
		{"not promoted, and no link", rep(active, true, true, true, true), rep(standby, true, false, true, false), lost,
			false, rep(active, false, true, true, true), false},
		{"alone, and the partition comes up", rep(active, false, false, true, true),
			rep(active, false, true, true, true), frozen, false, rep(active, false, true, true, true), false},
		{"alone", rep(active, false, false, true, true), rep(active, false, false, true, true), lost, false,
			rep(active, false, false, true, true), false},
		{"only the partition has joined", rep(active, true, false, true, true), rep(active, true, true, true, true), up,
			false, rep(active, true, false, true, true), false},
		{"the partition can not be looked at", rep(active, true, true, true, true), pair.Replica{}, lost, true,
			rep(active, false, true, false, true), false},
		{"a standby whose partition can not be looked at", rep(standby, true, false, true, false), pair.Replica{}, lost,
			true, pair.Replica{}, true},
		{"a standby", rep(standby, true, false, true, false), rep(standby, true, false, true, false), up, false,
			rep(standby, true, false, true, false), false},
		{"a standby whose partition is behind", rep(standby, true, false, true, false),
			rep(standby, true, false, false, false), lost, false, rep(standby, true, false, false, false), false},
		{"a standby whose partition is off", rep(standby, true, false, true, false), rep(off, true, false, true, false),
			lost, false, rep(standby, false, false, true, false), false},
		{"a former active", rep(off, false, false, true, false), rep(standby, false, false, true, true), lost, false,
			rep(off, false, false, true, true), false},
	} {
		b := &Composite{Data: &told{Replica: tc.own}, Part: &told{Replica: tc.part, st: tc.st, fails: tc.fails}}
		got, _, err := b.Look(t.Context(), pair.Sync{})
		if got != tc.want || (err != nil) != tc.unseen {
			t.Errorf("%s: got %+v, %v, want %+v", tc.name, got, err, tc.want)
		}
	}
}

// TestOneDidNotWait: after one of the copies did not wait for the peer, nothing that was joined before
// counts, until it is joined again.
func TestOneDidNotWait(t *testing.T) {
	up := drbd.State{Up: true, Role: "Primary", Suspended: "no", Disk: "UpToDate", Connection: "Connected",
		Replication: "Established", PeerDisk: "UpToDate"}
	own := &told{Replica: pair.Replica{Role: pair.RoleActive, Linked: true, Waits: true}}
	part := &told{Replica: pair.Replica{Role: pair.RoleActive, Linked: true, Waits: true}, st: up}
	b := &Composite{Data: own, Part: part}
	waits := func() bool {
		r, _, err := b.Look(t.Context(), pair.Sync{})
		try.Must(t, err)
		return r.Waits
	}
	if !waits() {
		t.Fatal("both wait")
	}
	own.Waits = false
	if waits() {
		t.Error("one does not wait")
	}
	own.Waits = true
	if waits() {
		t.Error("what was acknowledged meanwhile is forgotten")
	}
	own.parted = true
	if _, err := b.Join(t.Context(), ""); err == nil || waits() {
		t.Error("a join that failed counts")
	}
	own.parted = false
	_, err := b.Join(t.Context(), "")
	if try.Must(t, err); !waits() {
		t.Error("joined again, and it does not count")
	}
}

// told is a copy that says what a test says.
type told struct {
	pair.Replica
	st     drbd.State
	fails  bool
	parted bool // nothing can be joined
}

func (d *told) err() error {
	if d.fails {
		return errNoDisk
	}
	return nil
}

func (d *told) Look(context.Context, pair.Sync) (pair.Replica, string, error) {
	return d.Replica, "", d.err()
}
func (d *told) Last() Copy                                 { return Copy{State: d.st} }
func (d *told) Status(context.Context) (drbd.State, error) { return d.st, d.err() }
func (d *told) Glance(context.Context) (drbd.State, error) { return d.st, d.err() }
func (d *told) Promote(context.Context, pair.Sync) error   { return d.err() }
func (d *told) Demote(context.Context, bool) error         { return d.err() }
func (d *told) Drain(context.Context, string) error        { return d.err() }
func (d *told) Alone(context.Context) error                { return d.err() }
func (d *told) Join(context.Context, string) (string, error) {
	if d.parted {
		return "", errNoDisk
	}
	return "", d.err()
}
func (d *told) Follow(context.Context, bool) error { return d.err() }
func (d *told) Unfollow(context.Context) error     { return d.err() }
func (d *told) First(context.Context) error        { return d.err() }
func (d *told) Retain(context.Context) error       { return d.err() }
func (d *told) Close()                             {}

// alone waits until only this node's copies are complete.
func (r *rig) alone(h cluster.HostID) {
	r.t.Helper()
	try.Until(r.t, string(h)+" to go on alone", func() bool { return slices.Equal(r.sync().InSync, []cluster.HostID{h}) })
}
