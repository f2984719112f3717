package server

import (
	"context"
	"crypto/x509"
	"fmt"
	"net"
	"testing"

	"holdfast/internal/api"
	"holdfast/internal/lib/admit"
	"holdfast/internal/server/servertest"
	"holdfast/internal/store"
	"holdfast/testbed/try"
)

// from dials with a source address of the loopback interface.
func from(addr string) func(ctx context.Context, network, to string) (net.Conn, error) {
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(addr)}}
	return d.DialContext
}

// TestBareConnectionsTakeNoSlots: a flood of connections that prove nothing keeps nobody out: neither one from one
// source, nor one from so many that all places are taken.
func TestBareConnectionsTakeNoSlots(t *testing.T) {
	ca := servertest.NewAuthority(t)
	ready := make(chan string, 1)
	s, _ := limitedServer(t, ca, servertest.ListenLog(func(at string) { ready <- at }))
	serve(t, s)
	addr := <-ready
	bare := func(source string) {
		c, err := from(source)(try.Context(t), "tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
	}
	honest := func() {
		t.Helper()
		c, err := api.DialBy("https://"+addr, api.ClientTLS(ca.PeerCert(t, "g1"), ca.Pool), from("127.0.0.9"))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if _, err := c.Version(try.Context(t)); err != nil {
			t.Error(err)
		}
	}
	for range 400 {
		bare("127.0.0.2")
	}
	honest()
	for i := range 30 {
		for range unverified.Address {
			bare(fmt.Sprintf("127.0.1.%d", i+1))
		}
	}
	honest()
}

// TestSlotsAreOfKinds: each has its share, and who is not known takes nothing of who is.
func TestSlotsAreOfKinds(t *testing.T) {
	ca := servertest.NewAuthority(t)
	down := func(string) (bool, bool, error) { return false, false, store.ErrRetry }
	for _, c := range []struct {
		name  string
		hosts Hosts
		want  admit.Who
	}{
		{"g1", sorted, admit.Who{Name: "g1", Kind: guestHost, Each: 16, All: 256}},
		{"node2", sorted, admit.Who{Name: "node2", Kind: member, Each: 64, All: 1 << 16}},
		{"admin", sorted, admit.Who{Name: "admin", Kind: operator, Each: 64, All: 256}},
		{"node2", down, admit.Who{Name: "node2", Kind: unknown, Each: 16, All: 256}},
		{"g1", nil, admit.Who{Name: "g1", Kind: operator, Each: 64, All: 256}},
	} {
		if got := (Options{Hosts: c.hosts}).whose([]*x509.Certificate{ca.PeerCert(t, c.name).Leaf}); got != c.want {
			t.Errorf("%s: %+v, want %+v", c.name, got, c.want)
		}
	}
}
