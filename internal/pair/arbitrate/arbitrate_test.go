package arbitrate

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"holdfast/internal/cluster"
	"holdfast/internal/ha/loop"
	"holdfast/internal/ha/records"
	"holdfast/internal/lib/clock"
	"holdfast/internal/lib/proc/supervise"
	"holdfast/internal/pair/arbiter"
	"holdfast/internal/store"
	"holdfast/internal/store/etcdstore"
	"holdfast/testbed/need"
	"holdfast/testbed/try"
)

// The test binary is the member of the store, too.
func TestMain(m *testing.M) {
	if len(os.Args) == 3 && os.Args[1] == "test-member" {
		c, err := etcdstore.LoadMember(os.Args[2])
		if err == nil {
			// A test that died must not leave this behind for ever.
			ctx, cancel := context.WithTimeout(context.Background(), time.Hour)
			defer cancel()
			err = etcdstore.RunMember(ctx, c)
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// side is one of two nodes with real members of the store, on loopback. Its fence device
// kills the agent and the member of the other one.
type side struct {
	x      *Arbitration
	live   atomic.Pointer[Arbitration] // x, while the node is on
	dir    string
	on     atomic.Bool
	cut    *atomic.Bool  // between both
	orders atomic.Int32  // to the device of this node
	gone   atomic.Bool   // it is off
	hidden atomic.Bool   // its device tells that after an order only
	group  atomic.Bool   // the group is here
	by     atomic.Uint64 // generation of its license; 0: not known
	lasts  atomic.Int32  // how often the lease was extended
	stop   func()
	other  *side
	member etcdstore.MemberConfig
	manual bool
}

var errTest = errors.New("no answer")

func newSides(t *testing.T) (a, b *side) {
	t.Helper()
	var ports []int
	for range 4 { // all open at once, so that they differ
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		ports = append(ports, l.Addr().(*net.TCPAddr).Port)
	}
	url := func(i int) string { return fmt.Sprintf("http://127.0.0.1:%d", ports[i]) }
	cut := &atomic.Bool{}
	a, b = &side{cut: cut}, &side{cut: cut}
	a.other, b.other = b, a
	for i, s := range []*side{a, b} {
		s.dir = t.TempDir()
		s.member = etcdstore.MemberConfig{
			Name: "ab"[i : i+1], Cluster: "c", DataDir: filepath.Join(s.dir, "data", "store"),
			ListenPeer: url(2 * i), PeerURL: url(2 * i), ListenClient: url(2*i + 1), ClientURL: url(2*i + 1),
			Initial: map[string]string{"a": url(0), "b": url(2)},
		}
		text, err := json.Marshal(s.member)
		if err == nil {
			err = os.WriteFile(filepath.Join(s.dir, "member.json"), text, 0o600)
		}
		if err == nil {
			err = os.MkdirAll(filepath.Join(s.dir, "data"), 0o700)
		}
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { s.off(t) })
	}
	return a, b
}

// power begins the agent of a node.
func (s *side) power(t *testing.T) {
	t.Helper()
	open := func(urls ...string) etcdstore.Options {
		return etcdstore.Options{Endpoints: urls, Prefix: "/holdfast/c/", DialTimeout: 2 * time.Second, Log: slog.New(slog.DiscardHandler)}
	}
	own, err := etcdstore.Open(open(s.member.ClientURL))
	if err != nil {
		t.Fatal(err)
	}
	both, err := etcdstore.Open(open(s.member.ClientURL, s.other.member.ClientURL))
	if err != nil {
		t.Fatal(err)
	}
	admin, err := etcdstore.OpenAdmin(open(s.member.ClientURL, s.other.member.ClientURL))
	if err != nil {
		t.Fatal(err)
	}
	x := New(Options{
		Self: cluster.HostID(s.member.Name), Peer: cluster.HostID(s.other.member.Name), Arbiter: device{s, t}, Manual: s.manual,
		DataDir: filepath.Join(s.dir, "data"), Member: s.member,
		Process: supervise.Spec{
			Name: "member", Exe: "/proc/self/exe", Args: []string{"test-member", filepath.Join(s.dir, "member.json")}, Env: os.Environ(),
			Dir: filepath.Join(s.dir, "run"), Log: slog.New(slog.DiscardHandler),
		},
		Own: own, Admin: admin, Machine: "of " + s.member.Name, Group: s, Now: clock.New().Now,
		Log:     slog.New(slog.NewTextHandler(t.Output(), nil)).With("node", s.member.Name),
		Timings: cluster.Timings{Lease: 3 * time.Second, Keepalive: time.Second, Watchdog: time.Second, Grace: time.Second, Drift: 0.01},
		Ask: func(context.Context) (cluster.PeerStatus, error) {
			x := s.other.live.Load()
			if s.cut.Load() || x == nil {
				return cluster.PeerStatus{}, errTest
			}
			return x.PeerStatus()
		},
	})
	x.Any = etcdstore.Prefer(own, both, x.Together)
	s.x = x
	ctx, cancel := context.WithCancel(context.Background())
	if err := x.Begin(ctx); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- x.Run(ctx, s) }()
	s.stop = func() {
		cancel()
		if err := errors.Join(<-done, x.Any.Close(), admin.Close()); err != nil {
			t.Error(err)
		}
	}
	s.on.Store(true)
	s.gone.Store(false)
	s.live.Store(x)
}

// Extend, Tell and Status implement Core.
func (s *side) Extend(context.Context, cluster.Instant)   { s.lasts.Add(1) }
func (s *side) Tell(context.Context, cluster.Event) error { return nil }
func (s *side) Status() cluster.Status                    { return cluster.Status{} }

// Observe and Carry implement Group.
func (s *side) Observe(context.Context) (cluster.Guest, error) {
	if !s.group.Load() {
		return cluster.Guest{State: cluster.GuestAbsent}, nil
	}
	return cluster.Guest{State: cluster.GuestRunning, Epoch: cluster.Epoch{Gen: s.by.Load(), Seq: 3}}, nil
}

func (s *side) Carry(e cluster.Epoch) error {
	s.by.Store(e.Gen)
	return nil
}

// device is the other node's fence device.
type device struct {
	s *side
	t *testing.T
}

func (device) Kind() arbiter.Kind { return arbiter.Fence }

func (d device) Tiebreak(_ context.Context, machine string, _ uint64) (bool, error) {
	if machine != "of "+d.s.other.member.Name {
		return false, errTest
	}
	d.s.other.orders.Add(1)
	d.s.other.off(d.t)
	return true, nil
}

func (d device) Off(_ context.Context, machine string) error {
	if machine != "of "+d.s.other.member.Name || d.s.other.hidden.Load() || !d.s.other.gone.Load() {
		return errTest
	}
	return nil
}

func (device) Check(context.Context, string) error { return nil }
func (device) Run(context.Context)                 {}

// off takes the power of a node: nothing of it goes on.
func (s *side) off(t *testing.T) {
	if !s.on.Swap(false) {
		return
	}
	s.live.Store(nil)
	st, err := supervise.Read(filepath.Join(s.dir, "run"), "member")
	if err == nil && st.PID != 0 {
		err = unix.Kill(st.PID, unix.SIGKILL)
	}
	s.stop()
	if err := errors.Join(err, supervise.Stop(context.Background(), filepath.Join(s.dir, "run"), "member")); err != nil {
		t.Error(err)
	}
	s.gone.Store(true)
}

func (s *side) state() arbiter.State {
	s.x.mu.Lock()
	defer s.x.mu.Unlock()
	if !s.x.looked || s.x.problem != "" {
		return arbiter.Returning
	}
	return s.x.m.State()
}

// bothVote waits until they do.
func bothVote(t *testing.T, a, b *side) {
	t.Helper()
	try.Until(t, "two voters", func() bool {
		w, err := a.x.PeerStatus()
		v, err2 := b.x.PeerStatus()
		return err == nil && err2 == nil && w.Role == "two" && v.Role == "two" && w.Gen == v.Gen && a.commits() && b.commits()
	})
}

func (s *side) commits() bool {
	s.x.mu.Lock()
	defer s.x.mu.Unlock()
	return s.x.m.Seen.Quorum
}

func (s *side) put(t *testing.T, key string) {
	t.Helper()
	try.Until(t, "a write of "+key, func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		_, ok, err := s.x.Own.Txn(ctx, nil, []store.Op{{Key: key, Value: []byte("x")}})
		return err == nil && ok
	})
}

func (s *side) want(t *testing.T, key string) {
	t.Helper()
	if _, found, err := s.x.Own.Get(try.Context(t), key); err != nil || !found {
		t.Errorf("%s has %s: %v, %v", s.x.Self, key, found, err)
	}
}

// TestTwoVoters: two hosts form a store; one loses its power, the other one shows it off and
// goes on alone with all that was acknowledged; the first comes back as a learner, votes when
// that is sealed, and may go on alone itself. Who begins alone waits.
func TestTwoVoters(t *testing.T) {
	need.Drill(t, "P1, P3: of two voters either goes on alone with all that was acknowledged, and the other one comes back and votes")
	a, b := newSides(t)
	a.power(t)
	b.power(t)
	bothVote(t, a, b)
	a.group.Store(true)
	wish := records.WantKey(cluster.MgmtVM)
	if _, ok, err := a.x.Own.Txn(t.Context(), nil, []store.Op{{Key: wish,
		Value: records.Encode(cluster.Want{Run: true})}}); err != nil || !ok {
		t.Fatal(ok, err)
	}
	a.put(t, "first")
	if w, err := a.x.PeerStatus(); err != nil || w.Gen != 1 {
		t.Errorf("the first store: %+v, %v", w, err)
	}

	a.off(t)
	a.group.Store(false)
	try.Until(t, "b to go on alone", func() bool { return b.state() == arbiter.Alone && b.commits() })
	b.want(t, "first")
	b.put(t, "second")
	w, err := b.x.PeerStatus()
	if err != nil || w.From != 1 || w.Gen <= 1 {
		t.Errorf("b has %+v, %v", w, err)
	}
	kv, found, err := b.x.Own.Get(t.Context(), wish)
	want, derr := records.Decode[cluster.Want](kv, !found)
	if err := errors.Join(err, derr); err != nil || !want.Run || len(want.Off) != 1 || want.Off[0].Host != "a" || want.Off[0].Mod != 0 {
		t.Errorf("what is asked for after the proof that a is off: %+v, %v", want, err)
	}
	if n := a.orders.Load(); n != 0 {
		t.Errorf("a was ordered off %d times, although it was off", n)
	}
	if g, err := generationOf(t.Context(), b.x.Own); err != nil || g != w.Gen {
		t.Errorf("the store is of generation %d, %v, its note says %d", g, err, w.Gen)
	}

	a.power(t)
	bothVote(t, a, b)
	a.want(t, "second")
	a.put(t, "third")
	if kept, err := filepath.Glob(a.member.DataDir + ".given-up-*"); err != nil || len(kept) != 1 {
		t.Errorf("given up: %v, %v, want one copy", kept, err)
	}

	b.hidden.Store(true)
	b.off(t)
	try.Until(t, "a to go on alone", func() bool { return a.state() == arbiter.Alone && a.commits() })
	a.want(t, "third")
	if n := b.orders.Load(); n != 1 {
		t.Errorf("b was ordered off %d times, want once", n)
	}
}

// TestTheGroupIsCarried: what surely runs here when the other node is lost goes on by a license of the new
// store; what is being handed over is not carried.
func TestTheGroupIsCarried(t *testing.T) {
	need.Drill(t, "P1, P3: what surely runs here goes on by a license of the new store; what is being handed over does not")
	a, b := newSides(t)
	a.power(t)
	b.power(t)
	bothVote(t, a, b)
	record := records.OwnerKey(cluster.MgmtVM)
	owner := cluster.Owner{Resource: cluster.MgmtVM, State: cluster.Running, Host: "a", Epoch: cluster.Epoch{Gen: 1, Seq: 3}}
	lose := func() cluster.Owner {
		t.Helper()
		for _, op := range []store.Op{{Key: record, Value: records.Encode(owner)},
			{Key: records.HostKey("b"), Value: records.Encode(cluster.Host{Name: "b"})}} {
			if _, ok, err := a.x.Own.Txn(t.Context(), nil, []store.Op{op}); err != nil || !ok {
				t.Fatal(ok, err)
			}
		}
		a.by.Store(owner.Epoch.Gen)
		a.group.Store(true)
		try.Until(t, "a to see the group", func() bool {
			a.x.mu.Lock()
			defer a.x.mu.Unlock()
			return a.x.m.Seen.Holds && a.x.m.Seen.HoldsBy == owner.Epoch.Gen
		})
		b.off(t)
		try.Until(t, "a to go on alone", func() bool { return a.state() == arbiter.Alone && a.commits() })
		kv, found, err := a.x.Own.Get(t.Context(), record)
		o, derr := records.Decode[cluster.Owner](kv, !found)
		_, listed, herr := a.x.Own.Get(t.Context(), records.HostKey("b"))
		if err := errors.Join(err, derr, herr); err != nil || listed {
			t.Fatalf("the records: %v; a host of before is there: %v", err, listed)
		}
		return o
	}
	o := lose()
	w, err := a.x.PeerStatus()
	if want := (cluster.Epoch{Gen: w.Gen, Seq: 3}); err != nil || o.State != cluster.Running || o.Host != "a" ||
		o.Epoch != want || a.by.Load() != w.Gen || w.Gen == 1 {
		t.Errorf("the group is %s on %s, epoch %s, and here by generation %d, %v: want it to run by %s", o.State,
			o.Host, o.Epoch, a.by.Load(), err, want)
	}
	if a.lasts.Load() != 2 {
		t.Errorf("the lease was extended %d times, want it by the contest and by the new store", a.lasts.Load())
	}

	b.power(t)
	bothVote(t, a, b)
	owner.State, owner.To, owner.Epoch.Gen = cluster.Migrating, "b", w.Gen
	if o = lose(); o.State != cluster.Migrating || o.Epoch != owner.Epoch || a.by.Load() != w.Gen {
		t.Errorf("what is handed over is %s, epoch %s, and here by generation %d: want it left as it was", o.State, o.Epoch, a.by.Load())
	}
}

// TestFormNeedsItsProof: no note, or one of another generation, and no store is formed.
func TestFormNeedsItsProof(t *testing.T) {
	for _, mark := range []arbiter.Ballot{{}, {State: arbiter.Won, From: 2, Gen: 9, By: arbiter.Fence},
		{State: arbiter.Won, From: 1, Gen: 9, By: arbiter.Ping}, {State: arbiter.Contesting, From: 1, Gen: 9, By: arbiter.Fence}} {
		x := &Arbitration{Options: Options{Arbiter: Fences{}}, m: &arbiter.Machine{Ballot: mark}}
		if err := x.form(t.Context(), arbiter.Form{From: 1, Gen: 9}); err == nil {
			t.Errorf("%+v: a store is formed", mark)
		}
	}
	// A device that may be another machine's is not asked.
	x := &Arbitration{Options: Options{Arbiter: device{s: &side{}}}, m: &arbiter.Machine{}}
	if o, err := x.contest(t.Context(), arbiter.Tiebreak{Gen: 1}); err == nil || o.Won {
		t.Errorf("won by a device of an unknown machine: %+v", o)
	}
	if _, err := loop.DrawGeneration(1); err != nil {
		t.Error(err)
	}
}
