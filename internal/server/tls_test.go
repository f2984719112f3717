package server

import (
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"holdfast/internal/api"
	"holdfast/internal/cluster"
	"holdfast/internal/lib/fail"
	"holdfast/internal/server/servertest"
	"holdfast/testbed/try"
)

func TestTLS(t *testing.T) {
	ca, other := servertest.NewAuthority(t), servertest.NewAuthority(t)
	fake := servertest.New(servertest.Three(testTime()))
	ready := make(chan string, 1)
	log := servertest.ListenLog(func(at string) { ready <- at })
	s, err := New(fake, Options{
		Socket: filepath.Join(try.ShortDir(t), "s"), Listen: "127.0.0.1:0", Log: log,
		TLS: &tls.Config{Certificates: []tls.Certificate{ca.PeerCert(t, "node1")}, ClientCAs: ca.Pool, MinVersion: tls.VersionTLS13},
	})
	if err != nil {
		t.Fatal(err)
	}
	serve(t, s)
	var addr string
	select {
	case addr = <-ready:
	case <-try.Context(t).Done():
		t.Fatal("the server does not listen")
	}

	good := dial(t, "https://"+addr, api.ClientTLS(ca.PeerCert(t, "admin"), ca.Pool))
	if err := good.Stop(try.Context(t), true, ""); err != nil {
		t.Fatal(err)
	}
	if got := fake.Users(); !reflect.DeepEqual(got, []string{"admin"}) {
		t.Errorf("users %q, want admin", got)
	}
	foreign := dial(t, "https://"+addr, api.ClientTLS(other.PeerCert(t, "admin"), ca.Pool))
	wantNoEntry(t, foreign.Stop(try.Context(t), true, ""))
	nameless := dial(t, "https://"+addr, api.ClientTLS(ca.PeerCert(t, ""), ca.Pool))
	wantKind(t, nameless.Stop(try.Context(t), true, ""), fail.Denied, "no common name")
	none := dial(t, "https://"+addr, &tls.Config{RootCAs: ca.Pool, MinVersion: tls.VersionTLS13})
	wantNoEntry(t, none.Stop(try.Context(t), true, ""))
	distrust := dial(t, "https://"+addr, api.ClientTLS(ca.PeerCert(t, "admin"), other.Pool))
	wantKind(t, distrust.Stop(try.Context(t), true, ""), fail.Unavailable, "unknown authority")
	if got := fake.Users(); len(got) != 1 {
		t.Errorf("a refused client was obeyed: %q", got)
	}
}

// wantNoEntry fails unless err says that the agent took no connection, and points
// to the certificate.
func wantNoEntry(t *testing.T, err error) {
	t.Helper()
	wantKind(t, err, fail.Unavailable, "can not reach the agent at https://")
	var e *fail.Error
	if errors.As(err, &e) && !strings.Contains(e.Remedy, "--cert") {
		t.Errorf("remedy %q does not name the certificate", e.Remedy)
	}
}

// TestATakenPortDoesNotEndTheAgent: the socket is served, Trouble tells, and the
// port is used when it is free.
func TestATakenPortDoesNotEndTheAgent(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	ca := servertest.NewAuthority(t)
	addr, socket := taken.Addr().String(), filepath.Join(try.ShortDir(t), "s")
	s, err := New(servertest.New(servertest.Three(testTime())), Options{
		Socket: socket, Listen: addr, Log: slog.New(slog.DiscardHandler),
		TLS: &tls.Config{Certificates: []tls.Certificate{ca.PeerCert(t, "node1")}, ClientCAs: ca.Pool, MinVersion: tls.VersionTLS13},
	})
	if err != nil {
		t.Fatal(err)
	}
	serve(t, s)
	try.Until(t, "trouble that names the address", func() bool {
		return strings.Contains(s.Trouble(), addr) && strings.Contains(s.Trouble(), "address already in use")
	})
	local := dial(t, "unix:"+socket, nil)
	if _, err := local.Version(try.Context(t)); err != nil {
		t.Errorf("the socket is not served: %v", err)
	}
	if err := taken.Close(); err != nil {
		t.Fatal(err)
	}
	remote := dial(t, "https://"+addr, api.ClientTLS(ca.PeerCert(t, "admin"), ca.Pool))
	try.Until(t, "the port to be served", func() bool {
		_, err := remote.Version(try.Context(t))
		return err == nil && s.Trouble() == ""
	})
}

// TestATakenPortDoesNotHoldUpTheEnd ends the server while it waits for the port.
func TestATakenPortDoesNotHoldUpTheEnd(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	ca := servertest.NewAuthority(t)
	s, err := New(servertest.New(servertest.Three(testTime())), Options{
		Socket: filepath.Join(try.ShortDir(t), "s"), Listen: taken.Addr().String(), Log: slog.New(slog.DiscardHandler),
		TLS: &tls.Config{Certificates: []tls.Certificate{ca.PeerCert(t, "node1")}, ClientCAs: ca.Pool, MinVersion: tls.VersionTLS13},
	})
	if err != nil {
		t.Fatal(err)
	}
	stop := serve(t, s)
	try.Until(t, "trouble", func() bool { return s.Trouble() != "" })
	if err := stop(); err != nil { // the port is taken still
		t.Error(err)
	}
}

// TestAHostIsWhoItSays: nothing is sent to who is reached at the address that a host reports and has another one's
// certificate, though it is of the cluster; a revocation is looked at as well.
func TestAHostIsWhoItSays(t *testing.T) {
	ca := servertest.NewAuthority(t)
	ready := make(chan string, 1)
	s, fake := limitedServer(t, ca, servertest.ListenLog(func(at string) { ready <- at }))
	serve(t, s)
	target := "https://" + <-ready
	conf := api.ClientTLS(ca.PeerCert(t, "node2"), ca.Pool)
	stop := func(host cluster.HostID) error {
		c, err := api.DialHost(host, target, conf, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		return c.Stop(try.Context(t), true, "")
	}
	err := stop("node3")
	wantKind(t, err, fail.Denied, "host node3: the agent at "+target+` has the certificate of "node1"`)
	if got := fake.Users(); len(got) != 0 {
		t.Errorf("something was sent: %q", got)
	}
	if err := stop("node1"); err != nil {
		t.Error(err)
	}
	conf.VerifyConnection = func(tls.ConnectionState) error { return errors.New("revoked") }
	wantKind(t, stop("node1"), fail.Unavailable, "revoked")
}
