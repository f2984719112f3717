package etcdstore

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"golang.org/x/sys/unix"

	"holdfast/internal/lib/pki"
	"holdfast/internal/store"
	"holdfast/testbed/try"
)

// testSecret and testRules are the Guard of all members of these tests: a host writes
// own/HOST as it likes, taken/KEY where that is there, says its name, and can not
// change meanwhile, and some few/KEY while something is below told/HOST/.
const testSecret = "state/secret"

func testRules(a store.Attempt) error {
	switch {
	case a.Key == "own/"+a.Host && a.Value != nil:
		return nil
	case strings.HasPrefix(a.Key, "taken/") && !a.Looked:
		return store.ErrLook
	case strings.HasPrefix(a.Key, "taken/") && a.Guarded && string(a.Old) == a.Host:
		return nil
	case strings.HasPrefix(a.Key, "few/"):
		if told, err := a.Read("told/" + a.Host + "/"); err != nil || len(told) == 1 && string(told[0].Value) == "x" {
			return err
		}
	}
	return store.ErrNotYours
}

const mostFew = 3

func testRates() []store.Rate {
	return []store.Rate{{
		Prefix: "few/", Every: time.Millisecond, Burst: 100, Most: mostFew,
		Writer: func(kv store.KV) (string, bool) { return string(kv.Value), true },
	}}
}

// tlsOf is the client's side of a certificate that the cluster's authority has given to
// a host.
func (c *cluster) tlsOf(t *testing.T, host string) *tls.Config {
	t.Helper()
	var f *TLSFiles
	for _, m := range c.members {
		if m.conf.Name == host {
			f = m.conf.TLS
		}
	}
	if f == nil {
		f = c.issue(host, netip.MustParseAddr("127.0.0.1"))
	}
	_, client, err := pki.Load(f.CA, f.Cert, f.Key)
	if err != nil {
		t.Fatal(err)
	}
	return client
}

// as is a connection with the certificate of a host.
func (c *cluster) as(t *testing.T, host string) *Client {
	t.Helper()
	cl, err := Open(Options{Endpoints: c.endpoints(), TLS: c.tlsOf(t, host), Prefix: c.prefix(), Log: discard()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := cl.Close(); err != nil {
			t.Error(err)
		}
	})
	return cl
}

// isDenied fails the test unless err says that a host without a member may not.
func isDenied(t *testing.T, what string, err error) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), "runs no member of the store and may not") {
		t.Errorf("%s: %v, want it denied", what, err)
	}
}

// TestGuard: certificates of hosts without a member, on three real members.
func TestGuard(t *testing.T) {
	c := startCluster(t)
	full, g := c.open(t, c.prefix()), c.as(t, "g1")
	insist(t, full, "state/owner", "h1")
	insist(t, full, testSecret, "x")
	insist(t, full, "taken/a", "g1")
	insist(t, full, "taken/b", "g2")
	t.Run("writes", func(t *testing.T) { guardedWrites(t, full, g) })
	t.Run("few", func(t *testing.T) { guardedFew(t, full, g) })
	t.Run("reads", func(t *testing.T) { guardedReads(t, full, g) })
	t.Run("other forms", func(t *testing.T) { guardedForms(t, c, g.etcd) })
	t.Run("care", func(t *testing.T) { guardedCare(t, c) })
	t.Run("peers", func(t *testing.T) { guardedPeers(t, c) })
	t.Run("other members", func(t *testing.T) {
		for _, m := range c.members {
			insist(t, c.as(t, m.conf.Name), "by", m.conf.Name)
		}
	})
}

func guardedWrites(t *testing.T, full, g *Client) {
	ctx := try.Context(t)
	put := func(key, value string, conds ...store.Cmp) (bool, error) {
		_, ok, err := g.Txn(ctx, conds, []store.Op{{Key: key, Value: []byte(value)}})
		return ok, err
	}
	rev := func(key string) int64 {
		kv, _, err := full.Get(ctx, key)
		if err != nil {
			t.Fatal(err)
		}
		return kv.ModRev
	}
	for _, key := range []string{"state/owner", "own/g2", "own", testSecret, "new"} {
		_, err := put(key, "g1")
		isDenied(t, key, err)
		if !errors.Is(err, store.ErrDefinite) {
			t.Errorf("%s: %v, want %v", key, err, store.ErrDefinite)
		}
	}
	_, _, err := g.Txn(ctx, nil, []store.Op{{Key: "own/g1", Value: []byte("x")}, {Key: "state/owner", Value: []byte("g1")}})
	isDenied(t, "beside an own key", err)
	_, _, err = g.Txn(ctx, nil, []store.Op{{Key: "state/owner"}})
	isDenied(t, "deletion", err)
	if ok, err := put("own/g1", "x"); !ok || err != nil {
		t.Errorf("its own key: %t, %v", ok, err)
	}
	_, err = put("taken/a", "g1")
	isDenied(t, "without a condition", err)
	_, err = put("taken/a", "g1", store.Cmp{Key: "taken/a", Rev: rev("taken/a") + 1e6})
	isDenied(t, "with a revision of the future", err)
	_, err = put("taken/b", "g1", store.Cmp{Key: "taken/b", Rev: rev("taken/b")})
	isDenied(t, "what is another's", err)
	if ok, err := put("taken/b", "g1", store.Cmp{Key: "taken/b", Rev: rev("state/owner")}); ok || err != nil {
		t.Errorf("with a revision of the past: %t, %v, want no error and nothing done", ok, err)
	}
	if ok, err := put("taken/a", "g9", store.Cmp{Key: "taken/a", Rev: rev("taken/a")}); !ok || err != nil {
		t.Errorf("what is its own: %t, %v", ok, err)
	}
	for key, want := range map[string]string{"state/owner": "h1", "own/g1": "x", "taken/a": "g9", "taken/b": "g2"} {
		if kv, _, err := full.Get(ctx, key); string(kv.Value) != want || err != nil {
			t.Errorf("%s holds %q, %v, want %q", key, kv.Value, err, want)
		}
	}
}

// guardedFew: how many keys of a kind one host has at a time, whoever else has some.
func guardedFew(t *testing.T, full, g *Client) {
	ctx := try.Context(t)
	write := func(ops ...store.Op) error {
		_, _, err := g.Txn(ctx, nil, ops)
		return err
	}
	put := func(n int) store.Op { return store.Op{Key: fmt.Sprintf("few/%d", n), Value: []byte("g1")} }
	isDenied(t, "nobody has told it to", write(put(1)))
	insist(t, full, "told/g1/a", "x")
	insist(t, full, "few/theirs", "g2")
	for what, err := range map[string]error{"all that it may": write(put(1), put(2), put(3)), "one of them again": write(put(2))} {
		if err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	for what, ops := range map[string][]store.Op{"one more": {put(4)}, "one more beside one that is there": {put(1), put(4)}} {
		isRefusedForNow(t, g, what, "at most 3 are allowed at a time", ops...)
	}
	if err := errors.Join(write(store.Op{Key: "few/2"}), write(put(4))); err != nil {
		t.Errorf("one in place of another: %v", err)
	}
}

func guardedReads(t *testing.T, full, g *Client) {
	ctx := try.Context(t)
	kvs, _, err := g.List(ctx, "state/")
	if err != nil || len(kvs) != 1 || kvs[0].Key != "state/owner" {
		t.Errorf("list: %v, %v", kvs, err)
	}
	if kv, ok, err := g.Get(ctx, testSecret); ok || err != nil {
		t.Errorf("the secret: %q, %v", kv.Value, err)
	}
	if kv, ok, err := full.Get(ctx, testSecret); !ok || err != nil {
		t.Errorf("the secret for a member: %q, %v", kv.Value, err)
	}
	kvs, rev, err := g.List(ctx, "own/")
	if err != nil || len(kvs) == 0 {
		t.Fatal(kvs, err)
	}
	w := g.Watch(ctx, "own/", kvs[0].ModRev)
	if b, ok := <-w.C(); !ok || len(b.Changes) == 0 {
		t.Errorf("a watch: %+v, %v", b, w.Err())
	}
	w = g.Watch(ctx, "state/", rev)
	for b := range w.C() {
		if len(b.Changes) > 0 {
			t.Errorf("a watch with the secret: %+v", b)
		}
	}
	if w.Err() == nil {
		t.Error("a watch with the secret ended without an error")
	}
}

func guardedForms(t *testing.T, c *cluster, g *clientv3.Client) {
	ctx := try.Context(t)
	p := c.prefix()
	own := clientv3.OpPut(p+"own/g1", "y")
	calls := map[string]func() error{
		"put":    func() error { _, err := g.Put(ctx, p+"own/g1", "y"); return err },
		"delete": func() error { _, err := g.Delete(ctx, p+"own/g1"); return err },
		"else":   func() error { _, err := g.Txn(ctx).Else(own).Commit(); return err },
		"nested": func() error {
			_, err := g.Txn(ctx).Then(clientv3.OpTxn(nil, []clientv3.Op{own}, nil)).Commit()
			return err
		},
		"read": func() error { _, err := g.Txn(ctx).Then(clientv3.OpGet(p + testSecret)).Commit(); return err },
		"range": func() error {
			_, err := g.Txn(ctx).Then(clientv3.OpDelete(p+"own/", clientv3.WithPrefix())).Commit()
			return err
		},
		"old": func() error {
			_, err := g.Txn(ctx).Then(clientv3.OpPut(p+"own/g1", "y", clientv3.WithPrevKV())).Commit()
			return err
		},
		"outside": func() error { _, err := g.Txn(ctx).Then(clientv3.OpPut("/elsewhere", "y")).Commit(); return err },
		"guess": func() error {
			_, err := g.Txn(ctx).If(clientv3.Compare(clientv3.Value(p+testSecret), ">", "w")).Then(own).Commit()
			return err
		},
		"guess by order": func() error {
			_, err := g.Get(ctx, p, clientv3.WithPrefix(), clientv3.WithSort(clientv3.SortByValue, clientv3.SortAscend))
			return err
		},
		"all keys":      func() error { _, err := g.Get(ctx, "\x00", clientv3.WithFromKey()); return err },
		"from own on":   func() error { _, err := g.Get(ctx, p, clientv3.WithFromKey()); return err },
		"beyond":        func() error { _, err := g.Get(ctx, p, clientv3.WithRange("/z")); return err },
		"compact":       func() error { _, err := g.Compact(ctx, 1); return err },
		"lease":         func() error { _, err := g.Grant(ctx, 60); return err },
		"add member":    func() error { _, err := g.MemberAddAsLearner(ctx, []string{"https://127.0.0.1:1"}); return err },
		"remove member": func() error { _, err := g.MemberRemove(ctx, 1); return err },
		"defragment":    func() error { _, err := g.Defragment(ctx, c.endpoints()[0]); return err },
		"move leader":   func() error { _, err := g.MoveLeader(ctx, 1); return err },
		"alarms":        func() error { _, err := g.AlarmList(ctx); return err }, // that is a write of the store
		"disarm":        func() error { _, err := g.AlarmDisarm(ctx, &clientv3.AlarmMember{MemberID: 1, Alarm: 1}); return err },
		"hash":          func() error { _, err := g.HashKV(ctx, c.endpoints()[0], 0); return err },
		"role":          func() error { _, err := g.RoleAdd(ctx, "root"); return err },
		"enable auth":   func() error { _, err := g.AuthEnable(ctx); return err },
		"snapshot": func() error {
			r, err := g.Snapshot(ctx)
			if err == nil {
				_, err = r.Read(make([]byte, 1))
			}
			return err
		},
	}
	for name, call := range calls {
		isDenied(t, name, call())
	}
}

// guardedCare: what the status of the store needs is for all, what changes members is
// not.
func guardedCare(t *testing.T, c *cluster) {
	a, err := OpenAdmin(Options{Endpoints: c.endpoints(), TLS: c.tlsOf(t, "g1"), Prefix: c.prefix(), Log: discard()})
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	ctx := try.Context(t)
	all, err := a.Status(ctx)
	if err != nil || len(all) != 3 {
		t.Errorf("status: %v, %v", all, err)
	}
	for _, m := range all {
		if !m.Reachable() || m.LeaderID == 0 {
			t.Errorf("status of %s: %+v", m.Name, m)
		}
	}
	_, err = a.Replace(ctx, "h2", c.members[1].conf.PeerURL)
	if err == nil {
		t.Error("it replaces members")
	}
	if _, err := c.admin(t).Snapshot(ctx, t.TempDir(), 1); err != nil {
		t.Errorf("snapshot by a member: %v", err)
	}
}

// guardedPeers: the port of raft is for members.
func guardedPeers(t *testing.T, c *cluster) {
	if err := c.asPeer(t, "h2", c.members[0]); err != nil {
		t.Errorf("a member: %v", err)
	}
	if err := c.asPeer(t, "g1", c.members[0]); err == nil {
		t.Error("a host without a member reaches the port of the peers")
	}
}

// asPeer asks a member at the port of the peers, with the certificate of a host.
func (c *cluster) asPeer(t *testing.T, host string, m *member) error {
	t.Helper()
	tr := &http.Transport{TLSClientConfig: c.tlsOf(t, host)}
	defer tr.CloseIdleConnections()
	req, err := http.NewRequestWithContext(try.Context(t), http.MethodGet, m.conf.PeerURL+"/members", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := tr.RoundTrip(req)
	if err == nil {
		err = resp.Body.Close()
	}
	return err
}

// allIn checks that every member takes every member for one, at both ports.
func (c *cluster) allIn(t *testing.T) {
	t.Helper()
	for _, at := range c.members {
		for _, from := range c.members {
			if err := c.asPeer(t, from.conf.Name, at); err != nil {
				t.Errorf("%s does not let %s in as a peer: %v", at.conf.Name, from.conf.Name, err)
			}
			one := &cluster{members: c.members, issue: c.issue, only: at}
			_, _, err := one.as(t, from.conf.Name).Txn(try.Context(t), nil, []store.Op{{Key: "in", Value: []byte(from.conf.Name)}})
			if err != nil {
				t.Errorf("%s does not let %s write: %v", at.conf.Name, from.conf.Name, err)
			}
		}
	}
}

// TestAMemberUnderAnotherName says so at its start, and not by the others' refusals.
func TestAMemberUnderAnotherName(t *testing.T) {
	c := startCluster(t)
	m := c.members[2]
	m.end(t, unix.SIGTERM)
	f := *m.conf.TLS
	other := c.issue("somebody", netip.MustParseAddr("127.0.0.1"))
	m.conf.TLS = &TLSFiles{CA: f.CA, Cert: other.Cert, Key: other.Key}
	m.write(t)
	out, code := m.runAndFail(t)
	for _, want := range []string{other.Cert, `"somebody"`, `"h3"`} {
		if code != 1 || !strings.Contains(out, want) {
			t.Errorf("exit %d: %s, want it to name %s", code, out, want)
		}
	}
	m.conf.TLS = &f
	m.write(t)
	m.start(t)
	insist(t, c.open(t, c.prefix()), "key", "value")
	c.readBy(t, m, c.prefix(), "key", "value")
}

// isRefusedForNow wants members to refuse a write for now, which the client tries again until its time is over. Where that
// comes in the middle of an attempt, it says of that one that its end is not known.
func isRefusedForNow(t *testing.T, c *Client, what, text string, ops ...store.Op) {
	t.Helper()
	try.Until(t, "the refusal of "+what, func() bool {
		ctx, cancel := context.WithTimeout(try.Context(t), 2*time.Second)
		defer cancel()
		_, _, err := c.Txn(ctx, nil, ops)
		switch {
		case err == nil || errors.Is(err, store.ErrDefinite):
			t.Fatalf("%s: %v, want it refused: %s", what, err, text)
		case !strings.Contains(err.Error(), text): // the members had no time for it
			return false
		}
		return errors.Is(err, store.ErrRetry)
	})
}
