package group

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/ha/records"
	"holdfast/internal/pair"
	"holdfast/internal/store"
	"holdfast/internal/store/storetest"
	"holdfast/testbed/try"
)

// halting is a copy whose looks a test lets hang.
type halting struct {
	hangs atomic.Bool // a look does

	mu   sync.Mutex
	role pair.Role
	hang chan struct{} // closed: it goes on
}

func (c *halting) hold(hang chan struct{}) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.hang = hang
}

func (c *halting) set(role pair.Role) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.role = role
	return nil
}

func (c *halting) Look(context.Context, pair.Sync) (pair.Replica, string, error) {
	c.mu.Lock()
	hang := c.hang
	c.mu.Unlock()
	if hang != nil {
		c.hangs.Store(true)
		<-hang
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return pair.Replica{Role: c.role, Linked: true, Waits: c.role == pair.RoleActive, Whole: true}, "mine", nil
}

func (c *halting) Promote(context.Context, pair.Sync) error           { return c.set(pair.RoleActive) }
func (c *halting) Demote(context.Context, bool) error                 { return c.set(pair.RoleStandby) }
func (*halting) Drain(context.Context, string) error                  { return nil }
func (*halting) Alone(context.Context) error                          { return nil }
func (*halting) Join(context.Context, string) (proof string, e error) { return "", nil }
func (*halting) Follow(context.Context, bool) error                   { return nil }
func (*halting) Unfollow(context.Context) error                       { return nil }
func (*halting) First(context.Context) error                          { return nil }
func (*halting) Close()                                               {}

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

// TestANodeThatIsNotLookedAt: what package ha sees of a node whose look hangs is nothing, and it resets such a node. And
// what does not end is never called ended.
func TestANodeThatIsNotLookedAt(t *testing.T) {
	t.Parallel()
	ctx := try.Context(t)
	mem := storetest.NewMem()
	db := mem.NewClient("test")
	put := func(key string, record any) {
		t.Helper()
		_, _, err := db.Txn(ctx, nil, []store.Op{{Key: key, Value: records.Encode(record)}})
		try.Must(t, err)
	}
	put(KeySync, pair.Sync{InSync: []cluster.HostID{"a", "b"}, Host: "a"})
	copied, member := &halting{role: pair.RoleStandby}, &stuck{}
	begun := time.Now()
	var ahead atomic.Int64 // of the clock
	d := New(Options{
		Self: "a", Peer: "b", Resource: cluster.MgmtVM, Store: mem.NewClient("a"), Data: copied,
		Members: []Member{member}, Patience: time.Second, RunDir: t.TempDir(),
		Clock: func() cluster.Instant { return cluster.Instant(time.Since(begun)) + cluster.Instant(ahead.Load()) + 1 },
		Log:   slog.New(slog.NewTextHandler(t.Output(), nil)),
	})
	run, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- d.Run(run, nil) }()
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
	killed := make(chan error, 1)
	go func() { killed <- d.Kill(run) }()
	try.Until(t, "three tries to end it", func() bool {
		if g, err := d.Observe(ctx); g.State != cluster.GuestRunning || err != nil {
			t.Fatalf("something of the group is here: %+v, %v", g, err)
		}
		return member.tries.Load() >= 3
	})
	member.held.Store(false)
	until("the end of the group", cluster.GuestAbsent, "")
	try.Must(t, <-killed)
	if member.up.Load() {
		t.Error("the member runs")
	}
}
