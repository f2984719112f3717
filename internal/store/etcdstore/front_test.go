package etcdstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"golang.org/x/sys/unix"

	"holdfast/internal/store"
	"holdfast/internal/store/storetest"
	"holdfast/testbed/revoking"
	"holdfast/testbed/try"
)

// ask sends a request to a member's port for clients, with the certificate of a host.
func (c *cluster) ask(t *testing.T, host, method, path, contentType string, body io.Reader) (*http.Response, []byte, error) {
	t.Helper()
	tr := &http.Transport{TLSClientConfig: c.tlsOf(t, host), ForceAttemptHTTP2: true}
	defer tr.CloseIdleConnections()
	req, err := http.NewRequestWithContext(try.Context(t), method, c.members[0].conf.ClientURL+path, body)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", contentType)
	req.Header.Set(rpctypes.MetadataClientAPIVersionKey, "a-new-one-each-time")
	resp, err := tr.RoundTrip(req)
	if err != nil {
		return nil, nil, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	return resp, text, err
}

// endless is a body without an end, that counts what is taken of it.
type endless struct{ taken atomic.Int64 }

func (e *endless) Read(b []byte) (int, error) {
	e.taken.Add(int64(len(b)))
	return len(b), nil
}

// TestFront: what stands before the calls, on three real members.
func TestFront(t *testing.T) {
	c := startCluster(t, func(m *MemberConfig) { m.QuotaMB = 64 })
	insist(t, c.open(t, c.prefix()), "state/owner", "h1")
	t.Run("rights before bodies", func(t *testing.T) { frontBodies(t, c) })
	t.Run("pages", func(t *testing.T) { frontPages(t, c) })
	t.Run("large watches", func(t *testing.T) { frontLargeWatches(t, c) })
	t.Run("watches", func(t *testing.T) { frontWatches(t, c) })
	t.Run("contract of watches", func(t *testing.T) {
		storetest.Contract(t, func(t *testing.T) store.Store { return watchedBy{c.open(t, c.prefix()), c.as(t, "g1")} })
	})
	t.Run("reconnected", func(t *testing.T) { frontReconnected(t, c) })
	t.Run("revoked", func(t *testing.T) { frontRevoked(t, c) })
	t.Run("room", func(t *testing.T) { frontRoom(t, c) })
}

// watchedBy is a store of a member whose changes a host without one watches.
type watchedBy struct {
	store.Store
	guest *Client
}

func (w watchedBy) Watch(ctx context.Context, prefix string, from int64) store.Watcher {
	return w.guest.Watch(ctx, prefix, from)
}

func (w watchedBy) Close() error { return errors.Join(w.Store.Close(), w.guest.Close()) }

// frontBodies: what is not allowed is refused before its body, and what is allowed is bounded.
func frontBodies(t *testing.T, c *cluster) {
	const grpcType = "application/grpc+proto"
	var e endless
	resp, _, err := c.ask(t, "g1", http.MethodPost, "/"+"etcdserverpb.Lease/LeaseGrant", grpcType, &e)
	if err != nil {
		t.Fatal(err)
	}
	if text := resp.Header.Get("Grpc-Message"); resp.Header.Get("Grpc-Status") != "7" || !strings.Contains(text, "g1 runs no member") {
		t.Errorf("a forbidden call: status %q: %s", resp.Header.Get("Grpc-Status"), text)
	}
	// A member would take all of the 1 MiB that HTTP/2 sends in advance, and more.
	if n := e.taken.Load(); n > 4<<20 {
		t.Errorf("%d bytes of a forbidden call's body were taken", n)
	}
	body := append([]byte{0, 0, 16, 0, 0}, make([]byte, 1<<20)...) // a message of 1 MiB
	resp, _, err = c.ask(t, "g1", http.MethodPost, pb.KV_Range_FullMethodName, grpcType, bytes.NewReader(body))
	if err == nil && resp.Trailer.Get("Grpc-Status") == "0" {
		t.Error("a read whose request has 1 MiB is answered")
	}
	// Half a million writes of nothing have 1 MB, and 50 MB when they are decoded.
	ops := envelop(false, 1<<20, bytes.Repeat([]byte{2<<3 | 2, 0}, 1<<19))
	resp, _, err = c.ask(t, "g1", http.MethodPost, pb.KV_Txn_FullMethodName, grpcType, bytes.NewReader(ops))
	if err != nil {
		t.Fatal(err)
	}
	if text := resp.Header.Get("Grpc-Message"); resp.Header.Get("Grpc-Status") != "7" || !strings.Contains(text, "more than 128") {
		t.Errorf("a transaction of half a million writes: status %q: %s", resp.Header.Get("Grpc-Status"), text)
	}
}

// frontPages: what etcd tells beside its calls is for members.
func frontPages(t *testing.T, c *cluster) {
	for _, path := range []string{"/metrics", "/debug/vars", "/health", "/version", "/readyz", "/config/local/log", "/x/../metrics"} {
		resp, text, err := c.ask(t, "g1", http.MethodGet, path, "", nil)
		if err != nil {
			t.Fatal(err)
		}
		if resp.StatusCode == http.StatusOK || bytes.Contains(text, []byte("etcd_")) {
			t.Errorf("%s for a host without a member: %s, %.80s", path, resp.Status, text)
		}
	}
	none := bytes.NewReader(envelop(false, 0, nil))
	resp, text, err := c.ask(t, "g1", http.MethodPost, pb.Maintenance_Status_FullMethodName, "application/grpc", none)
	if err != nil || resp.Trailer.Get("Grpc-Status") != "0" {
		t.Errorf("a call: %v, %v, %q", err, resp, text)
	}
	resp, text, err = c.ask(t, "h2", http.MethodGet, "/metrics", "", nil)
	if bytes.Contains(text, []byte("a-new-one")) {
		t.Error("a client's header is kept in the metrics")
	}
	if err != nil || resp.StatusCode != http.StatusOK || !bytes.Contains(text, []byte("etcd_server_has_leader")) {
		t.Errorf("metrics for a member: %v, %.80s", err, text)
	}
}

// frontLargeWatches: what a stream of watches is sent is bounded before it is decoded, and in its form.
func frontLargeWatches(t *testing.T, c *cluster) {
	one := &cluster{members: c.members, issue: c.issue, only: c.members[0]}
	g := one.as(t, "g1")
	insist(t, g, "own/g1", "x") // there is a connection
	for name, filters := range map[string]int{"three filters": 3, "many filters": 100_000} {
		s, err := pb.NewWatchClient(g.etcd.ActiveConnection()).Watch(try.Context(t))
		if err != nil {
			t.Fatal(err)
		}
		create := &pb.WatchCreateRequest{Key: []byte(c.prefix() + "own/g1"), Filters: make([]pb.WatchCreateRequest_FilterType, filters)}
		if err := s.Send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: create}}); err != nil {
			t.Fatal(err)
		}
		if r, err := s.Recv(); err == nil {
			t.Errorf("a watch with %s: %v", name, r)
		}
	}
}

// frontWatches: one host's watches are bounded, those that end make room for others, and another
// host has its own.
func frontWatches(t *testing.T, c *cluster) {
	one := &cluster{members: c.members, issue: c.issue, only: c.members[0]}
	g := one.as(t, "g1")
	insist(t, g, "own/g1", "x")
	kv, ok, err := g.Get(try.Context(t), "own/g1")
	if err != nil || !ok {
		t.Fatal(ok, err)
	}
	written := kv.ModRev
	for range 3 { // in turn they are more than may be at once
		ctx, cancel := context.WithCancel(try.Context(t))
		for range maxWatches / 2 {
			w := g.Watch(ctx, "own/", written)
			if b, ok := <-w.C(); !ok {
				t.Fatalf("a watch: %v, %v", b, w.Err())
			}
		}
		cancel()
		try.Until(t, "the end of watches", func() bool {
			ctx, cancel := context.WithCancel(try.Context(t))
			defer cancel()
			_, ok := <-g.Watch(ctx, "own/", written).C()
			return ok
		})
	}
}

// frontReconnected: all watches of a host go on when a member was away, although each has something to read then.
func frontReconnected(t *testing.T, c *cluster) {
	const watches = 8
	g, full := c.as(t, "g1"), c.open(t, c.prefix())
	insist(t, full, "own/g1", "before")
	var mu sync.Mutex
	last := map[int]string{}
	saw := func(value string) func() bool {
		return func() bool {
			mu.Lock()
			defer mu.Unlock()
			for i := range watches {
				if last[i] != value {
					return false
				}
			}
			return true
		}
	}
	ctx, cancel := context.WithCancel(try.Context(t))
	var following sync.WaitGroup
	defer following.Wait()
	defer cancel()
	for i := range watches {
		note := func(kv store.KV) {
			mu.Lock()
			defer mu.Unlock()
			last[i] = string(kv.Value)
		}
		following.Go(func() {
			store.Again(ctx, discard(), "the watch is begun anew", func(ctx context.Context) error {
				return store.Follow(ctx, g, "own/", time.Minute, func(kvs []store.KV) { note(kvs[0]) }, func(b store.Batch) {
					for _, change := range b.Changes {
						note(change.KV)
					}
				})
			})
		})
	}
	try.Until(t, "all watches", saw("before"))
	for i, m := range c.members {
		m.end(t, unix.SIGKILL)
		insist(t, full, "own/g1", fmt.Sprint("without ", i))
		m.start(t)
		insist(t, full, "own/g1", fmt.Sprint("after ", i))
		try.Until(t, "all watches after a member was away", saw(fmt.Sprint("after ", i)))
	}
}

// frontRoom: a host that writes as much as it may leaves room, and the members write on when
// more than half of it is taken, whoever took it.
func frontRoom(t *testing.T, c *cluster) {
	full, g := c.open(t, c.prefix()), c.as(t, "g1")
	written := 0
	var last error
	defer func() {
		if t.Failed() {
			t.Logf("%d halves of a MiB were written, then: %v", written, last)
		}
	}()
	try.Until(t, "the bound on what a host writes", func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		_, _, err := g.Txn(ctx, nil, []store.Op{{Key: "own/g1", Value: make([]byte, 1<<19)}})
		if last = err; err == nil {
			written++
		}
		return errors.Is(err, store.ErrRetry) && strings.Contains(err.Error(), refusedForNow)
	})
	if limit := 3 * (bytesBurst>>19 + 1); written > limit {
		t.Errorf("%d halves of a MiB were written at once, want at most %d on three members", written, limit)
	}
	for i := range 32 - written/2 + 6 { // more than half of 64 MiB is taken
		insist(t, full, fmt.Sprintf("state/fill/%d", i), strings.Repeat("x", 1<<20))
	}
	isRefusedForNow(t, c.as(t, "g2"), "a write of a host without a member", "more than half", store.Op{Key: "own/g2", Value: []byte("x")})
	insist(t, full, "state/owner", "h2")
}

// frontRevoked: a watch and the calls of a certificate end when it is revoked; those of others
// go on, and so do the members.
func frontRevoked(t *testing.T, c *cluster) {
	list := filepath.Join(filepath.Dir(c.members[0].conf.TLS.Cert), "list.crl")
	revoking.WriteList(t, c.ca, list)
	for _, m := range c.members {
		m.conf.TLS.CRL = list
		m.end(t, unix.SIGTERM)
		m.write(t)
		m.start(t)
	}
	full := c.open(t, c.prefix())
	c.until(t, func() error {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		_, _, err := full.Txn(ctx, nil, []store.Op{{Key: "state/owner", Value: []byte("h3")}})
		return err
	})
	one := &cluster{members: c.members, issue: c.issue, only: c.members[0]}
	bad, good := one.as(t, "g8"), one.as(t, "g9")
	ctx := try.Context(t)
	wbad, wgood := bad.etcd.Watch(ctx, c.prefix()+"own/g8"), good.etcd.Watch(ctx, c.prefix()+"own/g9")
	insist(t, bad, "own/g8", "x")
	insist(t, good, "own/g9", "x")
	<-wbad
	<-wgood
	revoking.WriteList(t, c.ca, list, filepath.Join(filepath.Dir(c.members[0].conf.TLS.Cert), "g8.pem"))
	try.Until(t, "the end of what a revoked certificate may do", func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, _, err := bad.Get(ctx, "state/owner")
		return err != nil
	})
	insist(t, good, "own/g9", "y")
	<-wgood
	insist(t, full, "own/g8", "y")
	select {
	case r, ok := <-wbad:
		if ok && len(r.Events) > 0 {
			t.Error("the watch of a revoked certificate goes on")
		}
	default:
	}
	c.allIn(t)
}
