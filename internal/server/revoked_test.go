package server

import (
	"context"
	"net/netip"
	"path/filepath"
	"testing"
	"time"

	"holdfast/internal/api"
	"holdfast/internal/cluster"
	"holdfast/internal/lib/pki"
	"holdfast/internal/server/servertest"
	"holdfast/testbed/revoking"
	"holdfast/testbed/try"
)

// TestAStreamEndsWhenTheFileRevokesIt: an agent's revocation list is a file. A stream that is open when another file takes
// its place ends when that names its certificate, and the others go on.
func TestAStreamEndsWhenTheFileRevokesIt(t *testing.T) {
	dir := t.TempDir()
	in := func(name string) string { return filepath.Join(dir, name) }
	ca, err := pki.NewCA("a", time.Hour)
	if err == nil {
		err = ca.WriteCert(in("ca.pem"))
	}
	for _, name := range []string{"node1", "g1", "g2"} {
		var p pki.Pair
		if err == nil {
			p, err = ca.Issue(name, []netip.Addr{netip.MustParseAddr("127.0.0.1")}, nil, time.Hour)
		}
		if err == nil {
			err = p.Write(in(name+".pem"), in(name+".key"))
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	revoking.WriteList(t, ca, in("crl"))
	conf, own, err := pki.Load(in("ca.pem"), in("node1.pem"), in("node1.key"))
	if err == nil {
		err = pki.Deny(conf, own, in("ca.pem"), in("crl"))
	}
	if err != nil {
		t.Fatal(err)
	}
	ready := make(chan string, 1)
	fake := servertest.New(servertest.Three(testTime()))
	s, err := New(fake, Options{
		Socket: filepath.Join(try.ShortDir(t), "s"), Listen: "127.0.0.1:0", Log: servertest.ListenLog(func(at string) { ready <- at }),
		TLS: conf, Counts: pki.Counts(conf), Hosts: sorted,
	})
	if err != nil {
		t.Fatal(err)
	}
	serve(t, s)
	addr := <-ready
	type told struct {
		events int
		err    error
	}
	watch := func(name string) (*api.Client, <-chan told) {
		_, client, err := pki.Load(in("ca.pem"), in(name+".pem"), in(name+".key"))
		if err != nil {
			t.Fatal(err)
		}
		c, out := dial(t, "https://"+addr, client), make(chan told, 16)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			for page, err := range c.WatchEvents(ctx, 0) {
				out <- told{len(page.Events), err}
			}
		}()
		t.Cleanup(func() { cancel(); <-done })
		return c, out
	}
	next := func(from <-chan told) told {
		select {
		case x := <-from:
			return x
		case <-try.Context(t).Done():
			t.Fatal("a stream tells nothing")
			return told{}
		}
	}
	thief, its := watch("g1")
	other, others := watch("g2")
	fake.Log(cluster.Event{Kind: cluster.EvWant, Detail: "one"})
	for name, from := range map[string]<-chan told{"g1": its, "g2": others} {
		if x := next(from); x.err != nil || x.events != 1 {
			t.Fatalf("%s: %+v", name, x)
		}
	}
	revoking.WriteList(t, ca, in("crl"), in("g1.pem"))
	if x := next(its); x.err == nil {
		t.Errorf("of the one that was revoked: %+v", x)
	}
	fake.Log(cluster.Event{Kind: cluster.EvWant, Detail: "two"})
	if x := next(others); x.err != nil || x.events != 1 {
		t.Errorf("of another one: %+v", x)
	}
	if _, err := thief.Version(try.Context(t)); err == nil {
		t.Error("a revoked certificate gets in again")
	}
	if _, err := other.Version(try.Context(t)); err != nil {
		t.Error(err)
	}
}
