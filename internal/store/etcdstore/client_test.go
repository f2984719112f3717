package etcdstore

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"holdfast/internal/lib/clock"
	"holdfast/internal/store"
	"holdfast/internal/store/storetest"
	"holdfast/testbed/try"
)

func TestCluster(t *testing.T) {
	c := startCluster(t)
	t.Run("prefix", c.prefixes)
	t.Run("strangers", c.strangers)
	t.Run("kill", c.kill)
	t.Run("freeze", c.freezeOne)
	t.Run("no majority", c.noMajority)
	// Last, as it makes the store forget changes, and shows that all is well again.
	t.Run("contract", func(t *testing.T) {
		storetest.Contract(t, func(t *testing.T) store.Store { return c.open(t, "/holdfast/contract/") })
	})
}

func (c *cluster) prefixes(t *testing.T) {
	a, b := c.open(t, "/holdfast/a/"), c.open(t, "/holdfast/b/")
	ctx := try.Context(t)
	_, before, err := b.List(ctx, "")
	if err != nil {
		t.Fatal(err)
	}
	w := b.Watch(ctx, "", before+1)
	if _, _, err := a.Txn(ctx, nil, []store.Op{{Key: "k", Value: []byte("a")}}); err != nil {
		t.Fatal(err)
	}
	rev, _, err := b.Txn(ctx, []store.Cmp{{Key: "k"}}, []store.Op{{Key: "k", Value: []byte("b")}})
	if err != nil {
		t.Fatal(err)
	}
	kvs, _, err := b.List(ctx, "")
	if err != nil || len(kvs) != 1 || kvs[0].Key != "k" || string(kvs[0].Value) != "b" {
		t.Errorf("list of b: %v, %v", kvs, err)
	}
	for batch := range w.C() {
		for _, ch := range batch.Changes {
			if ch.KV.Key != "k" || ch.KV.ModRev != rev {
				t.Errorf("watch of b delivers %+v", ch)
			}
		}
		if batch.Rev >= rev {
			return
		}
	}
	t.Errorf("watch ended: %v", w.Err())
}

// strangers: without a certificate of the cluster nothing is answered.
func (c *cluster) strangers(t *testing.T) {
	bare := c.client.Clone()
	bare.Certificates, bare.GetClientCertificate = nil, nil
	cl, err := Open(Options{Endpoints: c.endpoints(), TLS: bare, Prefix: "/", Log: discard()})
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if _, _, err := cl.Get(ctx, "k"); !errors.Is(err, store.ErrRetry) {
		t.Errorf("without a certificate: %v", err)
	}
}

// worker increments a counter and notes in the same transaction which of its
// increments it was, so that after an unknown outcome it can tell.
type worker struct {
	id      string
	cl      *Client
	done    atomic.Int64
	unknown int
}

func (w *worker) run(ctx context.Context) error {
	for ctx.Err() == nil {
		if err := w.increment(); err != nil {
			return err
		}
		w.done.Add(1)
		clock.Sleep(ctx, workerRests)
	}
	return nil
}

// workerRests is between two increments of a worker: several of them have one under way most of the time, and leave the processor to
// others.
const workerRests = 10 * time.Millisecond

// increment makes exactly one increment, whatever happens.
func (w *worker) increment() error {
	mine, seq := "done/"+w.id, strconv.FormatInt(w.done.Load()+1, 10)
	for {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		ok, err := w.try(ctx, mine, seq)
		cancel()
		switch {
		case err == nil && ok:
			return nil
		case errors.Is(err, store.ErrUnknown):
			// If it is not applied yet, the next try has the same condition, so at most
			// one of the two ever is.
			w.unknown++
		case err != nil && !errors.Is(err, store.ErrRetry):
			return err
		}
	}
}

// goOn waits until each worker has made some more increments.
func goOn(t *testing.T, workers []*worker) {
	t.Helper()
	for _, w := range workers {
		enough := w.done.Load() + 20
		try.Until(t, "worker "+w.id+" to go on", func() bool { return t.Failed() || w.done.Load() >= enough })
	}
}

func (w *worker) try(ctx context.Context, mine, seq string) (bool, error) {
	kvs, _, err := w.cl.List(ctx, "")
	if err != nil {
		return false, err
	}
	var n, rev int64
	for _, kv := range kvs {
		switch kv.Key {
		case mine:
			if string(kv.Value) == seq {
				return true, nil // an attempt of unknown outcome was applied
			}
		case "n":
			rev = kv.ModRev
			if n, err = strconv.ParseInt(string(kv.Value), 10, 64); err != nil {
				return false, err
			}
		}
	}
	_, ok, err := w.cl.Txn(ctx, []store.Cmp{{Key: "n", Rev: rev}}, []store.Op{
		{Key: "n", Value: []byte(strconv.FormatInt(n+1, 10))},
		{Key: mine, Value: []byte(seq)},
	})
	return ok, err
}

// follow watches the counter from revision next on, through all troubles, until
// it is final, and checks that it goes up by one each time.
func follow(ctx context.Context, cl *Client, next int64, final <-chan int64) error {
	n, want := int64(0), int64(-1)
	for ctx.Err() == nil {
		w := cl.Watch(ctx, "n", next)
		for open := true; open; {
			var b store.Batch
			select {
			case want = <-final:
				final = nil
			case b, open = <-w.C():
			}
			for _, ch := range b.Changes {
				if got := string(ch.KV.Value); got != strconv.FormatInt(n+1, 10) {
					return fmt.Errorf("counter went from %d to %s", n, got)
				}
				n++
			}
			if b.Rev > 0 {
				next = b.Rev + 1
			}
			if n == want {
				return nil
			}
		}
		if err := w.Err(); err != nil && !errors.Is(err, store.ErrRetry) {
			return err
		}
	}
	return fmt.Errorf("watch saw %d increments of %d", n, want)
}

func (c *cluster) kill(t *testing.T) {
	const prefix = "/holdfast/kill/"
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	follower := c.open(t, prefix)
	_, before, err := follower.List(ctx, "")
	if err != nil {
		t.Fatal(err)
	}
	var workers []*worker
	var wg sync.WaitGroup
	for i := range 4 {
		w := &worker{id: strconv.Itoa(i), cl: c.open(t, prefix)}
		workers = append(workers, w)
		wg.Go(func() {
			if err := w.run(ctx); err != nil {
				t.Error(err)
			}
		})
	}
	final, followed := make(chan int64, 1), make(chan error, 1)
	go func() { followed <- follow(try.Context(t), follower, before+1, final) }()

	for _, victim := range []func() *member{
		func() *member { return c.leader(t) },
		func() *member { return c.other(t, c.leader(t)) },
	} {
		goOn(t, workers)
		m := victim()
		m.end(t, unix.SIGKILL)
		goOn(t, workers) // without it
		m.start(t)
	}
	goOn(t, workers)
	cancel()
	wg.Wait()

	var sum int64
	for _, w := range workers {
		sum += w.done.Load()
		t.Logf("worker %s: %d increments, %d outcomes unknown", w.id, w.done.Load(), w.unknown)
	}
	kv, _, err := follower.Get(try.Context(t), "n")
	if err != nil || string(kv.Value) != strconv.FormatInt(sum, 10) {
		t.Errorf("counter is %s (%v), the workers made %d increments", kv.Value, err, sum)
	}
	final <- sum
	if err := <-followed; err != nil {
		t.Error(err)
	}
}

func (c *cluster) other(t *testing.T, than *member) *member {
	t.Helper()
	for _, m := range c.members {
		if m != than {
			return m
		}
	}
	t.Fatal("there is one member only")
	return nil
}

// freezeOne: a member whose process stands still is left by reads and watches,
// though its connection is not known to be dead: it stands still until all have the answer.
func (c *cluster) freezeOne(t *testing.T) {
	ctx := try.Context(t)
	cl := c.open(t, "/holdfast/freeze/")
	rev, _, err := cl.Txn(ctx, nil, []store.Op{{Key: "k", Value: []byte("before")}})
	if err != nil {
		t.Fatal(err)
	}
	// The members are taken in turn, so some watch is likely at the one to freeze.
	var watches []store.Watcher
	for range 3 {
		w := cl.Watch(ctx, "", rev)
		b, open := <-w.C()
		if !open || len(b.Changes) != 1 {
			t.Fatalf("watch: %+v, %v", b, w.Err())
		}
		watches = append(watches, w)
	}
	frozen := c.other(t, c.leader(t))
	frozen.freeze(t, unix.SIGSTOP)
	defer frozen.freeze(t, unix.SIGCONT)
	for range 4 {
		if _, _, err := cl.Get(ctx, "k"); err != nil {
			t.Errorf("get with one member frozen: %v", err)
		}
	}
	after := insist(t, cl, "k", "after")
	began := time.Now()
	for i, w := range watches {
		for seen := rev; seen < after; {
			b, open := <-w.C()
			if !open && !errors.Is(w.Err(), store.ErrRetry) {
				t.Fatalf("watch %d: %v", i, w.Err())
			}
			if !open {
				w = cl.Watch(ctx, "", seen+1)
				continue
			}
			seen = b.Rev
		}
	}
	t.Logf("all watches saw the change %s after it", time.Since(began).Round(time.Millisecond))
}

// insist writes until the store says that it is done.
func insist(t *testing.T, cl *Client, key, value string) (rev int64) {
	t.Helper()
	try.Until(t, "a write", func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		r, _, err := cl.Txn(ctx, nil, []store.Op{{Key: key, Value: []byte(value)}})
		rev = r
		return err == nil
	})
	return rev
}

// noMajority: calls with a deadline end while there is no majority, and say the truth.
func (c *cluster) noMajority(t *testing.T) {
	cl := c.open(t, "/holdfast/majority/")
	insist(t, cl, "k", "0")
	leader := c.leader(t)
	for _, m := range c.members {
		if m != leader {
			m.freeze(t, unix.SIGSTOP)
			defer m.freeze(t, unix.SIGCONT)
			try.Stands(t, m.cmd.Process.Pid)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 1500*time.Millisecond)
	defer cancel()
	_, _, err := cl.Txn(ctx, nil, []store.Op{{Key: "k", Value: []byte("1")}})
	if !errors.Is(err, store.ErrUnknown) && !errors.Is(err, store.ErrRetry) {
		t.Errorf("transaction: %v", err)
	}
	if _, _, err := cl.Get(ctx, "k"); !errors.Is(err, store.ErrRetry) {
		t.Errorf("get: %v", err)
	}
	ctx, cancel = context.WithTimeout(t.Context(), 3*time.Second)
	defer cancel()
	w := cl.Watch(ctx, "", 1)
	for b := range w.C() {
		for _, ch := range b.Changes { // a member alone still tells what was committed
			if string(ch.KV.Value) == "1" {
				t.Errorf("watch without a majority delivers %+v", ch)
			}
		}
	}
	if err := w.Err(); err != nil && !errors.Is(err, store.ErrRetry) {
		t.Errorf("watch: %v", err)
	}
}

// fakeKV answers transactions with an error of its own.
type fakeKV struct {
	pb.UnimplementedKVServer
	calls atomic.Int64
	err   error
}

func (f *fakeKV) Txn(context.Context, *pb.TxnRequest) (*pb.TxnResponse, error) {
	f.calls.Add(1)
	return nil, f.err
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func openAt(t *testing.T, addr net.Addr) *Client {
	t.Helper()
	c := &cluster{members: []*member{{conf: MemberConfig{ClientURL: "http://" + addr.String()}}}}
	return c.open(t, "/")
}

// The server's deadline may fire before ours; the library would send the write
// once more. See config.
func TestWriteIsSentOnce(t *testing.T) {
	for _, code := range []codes.Code{codes.DeadlineExceeded, codes.Canceled, codes.Unavailable} {
		f := &fakeKV{err: status.Error(code, "from the server")}
		srv := grpc.NewServer()
		pb.RegisterKVServer(srv, f)
		l := listen(t)
		served := make(chan error, 1)
		go func() { served <- srv.Serve(l) }()
		cl := openAt(t, l.Addr())
		_, _, err := cl.Txn(try.Context(t), nil, []store.Op{{Key: "k", Value: []byte("v")}})
		if !errors.Is(err, store.ErrUnknown) || f.calls.Load() != 1 {
			t.Errorf("%s: %v after %d calls", code, err, f.calls.Load())
		}
		srv.Stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
	}
}

func TestNotSentIsNotUnknown(t *testing.T) {
	refused := listen(t)
	if err := refused.Close(); err != nil {
		t.Fatal(err)
	}
	mute := listen(t) // accepts, in the kernel, and says nothing
	defer mute.Close()
	for name, addr := range map[string]net.Addr{"refused": refused.Addr(), "mute": mute.Addr()} {
		cl := openAt(t, addr)
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		_, _, err := cl.Txn(ctx, nil, []store.Op{{Key: "k", Value: []byte("v")}})
		cancel()
		if !errors.Is(err, store.ErrRetry) || errors.Is(err, store.ErrUnknown) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestCloseEndsWhatWaits(t *testing.T) {
	mute := listen(t)
	defer mute.Close()
	cl := openAt(t, mute.Addr())
	w := cl.Watch(t.Context(), "", 1)
	got := make(chan error, 1)
	go func() {
		_, _, err := cl.Get(t.Context(), "k")
		got <- err
	}()
	if err := cl.Close(); err != nil {
		t.Error(err)
	}
	if err := <-got; !errors.Is(err, store.ErrDefinite) {
		t.Errorf("get: %v", err)
	}
	if _, open := <-w.C(); open || !errors.Is(w.Err(), store.ErrDefinite) {
		t.Errorf("watch: open %v, %v", open, w.Err())
	}
}

func TestBadOptions(t *testing.T) {
	good := Options{Endpoints: []string{"http://127.0.0.1:1"}, Prefix: "/x/", Log: discard()}
	for name, alter := range map[string]func(*Options){
		"endpoints": func(o *Options) { o.Endpoints = nil },
		"prefix":    func(o *Options) { o.Prefix = "/x" },
		"log":       func(o *Options) { o.Log = nil },
	} {
		o := good
		alter(&o)
		if _, err := Open(o); !errors.Is(err, store.ErrDefinite) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestTooLarge(t *testing.T) {
	l := listen(t)
	defer l.Close()
	cl := openAt(t, l.Addr())
	_, _, err := cl.Txn(t.Context(), nil, []store.Op{{Key: "k", Value: []byte(strings.Repeat("x", maxTxnBytes))}})
	if !errors.Is(err, store.ErrDefinite) {
		t.Errorf("got %v", err)
	}
}
