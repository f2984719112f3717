package server

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"holdfast/internal/api"
	"holdfast/internal/cluster"
	"holdfast/internal/lib/fail"
	"holdfast/internal/server/servertest"
	"holdfast/testbed/rfb"
	"holdfast/testbed/try"
)

// theatre is a server with screens, by TLS, to users, and by its socket.
type theatre struct {
	*servertest.Screens
	guest  *rfb.Server
	fake   *servertest.Fake
	server *Server
	stop   func() error
	as     func(name string) *api.Client
	root   *api.Client
}

func newTheatre(t *testing.T, edit ...func(*Server)) *theatre {
	t.Helper()
	ca := servertest.NewAuthority(t)
	x := &theatre{guest: rfb.New(t), fake: servertest.New(servertest.Three(testTime()))}
	x.Screens = &servertest.Screens{Dial: func() io.ReadWriteCloser { return x.guest.Dial() }}
	ready := make(chan string, 1)
	socket := filepath.Join(try.ShortDir(t), "s")
	s, err := New(x.fake, Options{
		Socket: socket, Listen: "127.0.0.1:0", Log: servertest.ListenLog(func(at string) { ready <- at }),
		Screens: x.Screens, Agents: newUpgrades(),
		TLS:   &tls.Config{Certificates: []tls.Certificate{ca.PeerCert(t, "node1")}, ClientCAs: ca.Pool, MinVersion: tls.VersionTLS13},
		Hosts: func(name string) (bool, bool, error) { return name != "admin", name == "g1", nil },
	})
	try.Must(t, err)
	for _, f := range edit {
		f(s)
	}
	x.server, x.stop = s, serve(t, s)
	addr := <-ready
	x.as = func(name string) *api.Client {
		return dial(t, "https://"+addr, api.ClientTLS(ca.PeerCert(t, name), ca.Pool))
	}
	x.root = dial(t, "unix:"+socket, nil)
	return x
}

// user is a client of the same process, as the console is.
func (x *theatre) user(name string, role cluster.Role) *api.Client {
	return api.Through("here", x.server.As(Caller{User: name, Role: role}))
}

// look has a viewer see a screen and press a key there.
func look(t *testing.T, s io.ReadWriter, guest *rfb.Server) {
	t.Helper()
	before := len(guest.Keys())
	w, h, name, err := rfb.Look(s)
	if err != nil || w != rfb.Width || h != rfb.Height || name != "stand-in" {
		t.Fatalf("%d x %d, %q, %v", w, h, name, err)
	}
	try.Must(t, rfb.Press(s, 'k'))
	try.Until(t, "the key arrives", func() bool { return len(guest.Keys()) > before })
}

// TestScreens: a screen is seen and typed on, by a user in this process, by root, an operator's certificate, and by another agent.
func TestScreens(t *testing.T) {
	x := newTheatre(t)
	for name, c := range map[string]*api.Client{"alice": x.user("alice", cluster.Operator), "root": x.root, "admin": x.as("admin")} {
		s, err := c.OpenScreen(try.Context(t), "5eed0001")
		try.Must(t, err)
		if s.Host != "node2" || s.Guest != "<b>5eed0001" {
			t.Errorf("%+v", s)
		}
		look(t, s, x.guest)
		try.Must(t, s.Close())
		if all := x.Opened(); !strings.HasSuffix(all[len(all)-1], ": 5eed0001") || name != "root" && !strings.HasPrefix(all[len(all)-1], name) {
			t.Errorf("opened by %s: %q", name, all)
		}
	}
	s, err := x.as("node2").ServeScreen(try.Context(t), "5eed0002")
	try.Must(t, err)
	look(t, s, x.guest)
	try.Must(t, s.Close())
	try.Until(t, "all are closed", func() bool { return x.Closed() == 4 && x.guest.Open() == 0 })
}

// TestWhoMaySeeScreens: users from operators on; no host that runs guests only; ServeScreen none but members.
func TestWhoMaySeeScreens(t *testing.T) {
	x := newTheatre(t)
	open := func(c *api.Client) error {
		s, err := c.OpenScreen(try.Context(t), "5eed0001")
		if err == nil {
			err = s.Close()
		}
		return err
	}
	for _, role := range cluster.Roles {
		err := open(x.user("u", role))
		if role.May(cluster.Operator) {
			try.Must(t, err)
		} else {
			wantKind(t, err, fail.Denied, "has the role viewer, and operator is needed")
		}
	}
	wantKind(t, open(x.as("g1")), fail.Denied, "g1 is a host that runs guests only")
	for name, want := range map[string]string{"g1": "runs guests only", "admin": "no host of this cluster"} {
		_, err := x.as(name).ServeScreen(try.Context(t), "5eed0001")
		wantKind(t, err, fail.Denied, want)
	}
	_, err := x.user("u", cluster.Admin).ServeScreen(try.Context(t), "5eed0001")
	if err == nil { // a user has no way there, whatever the transport
		t.Error("a user was served as an agent is")
	}
	if n := len(x.Opened()); n != 2 {
		t.Errorf("opened: %q", x.Opened())
	}
}

// TestScreensAreRefused: what the caller can mend is told as it is; without a quorum nobody could see later who looked.
func TestScreensAreRefused(t *testing.T) {
	x := newTheatre(t)
	alice := x.user("alice", cluster.Operator)
	x.Set(fail.Errorf(fail.Refused, "vm1 has a screen of SPICE only").With("give it VNC"))
	_, err := alice.OpenScreen(try.Context(t), "5eed0001")
	wantKind(t, err, fail.Refused, "SPICE only")
	var e *fail.Error
	if !errors.As(err, &e) || e.Remedy != "give it VNC" {
		t.Errorf("%+v", e)
	}
	_, err = x.as("node2").ServeScreen(try.Context(t), "")
	wantKind(t, err, fail.Invalid, "want a UUID")
	x.Set(nil)
	x.fake.Update(func(s *cluster.Status) { s.Connected = false })
	_, err = alice.OpenScreen(try.Context(t), "5eed0001")
	wantKind(t, err, fail.Refused, "reaches no quorum")
	if len(x.Opened()) != 0 {
		t.Errorf("opened: %q", x.Opened())
	}
}

// TestScreensEnd: with the guest's server, with the caller, and with the agent, which says so.
func TestScreensEnd(t *testing.T) {
	x := newTheatre(t)
	for name, c := range map[string]*api.Client{"user": x.user("alice", cluster.Operator), "operator": x.as("admin")} {
		s, err := c.OpenScreen(try.Context(t), "5eed0001")
		try.Must(t, err)
		look(t, s, x.guest)
		x.guest.Hang()
		_, err = io.Copy(io.Discard, s)
		wantKind(t, err, fail.Unavailable, "VNC server has closed")
		try.Must(t, s.Close())

		ctx, cancel := context.WithCancel(try.Context(t))
		s, err = c.OpenScreen(ctx, "5eed0001")
		try.Must(t, err)
		cancel()
		if _, err = io.Copy(io.Discard, s); err == nil {
			t.Errorf("%s: a screen outlives its caller", name)
		}
	}
	try.Until(t, "all are closed", func() bool { return x.Closed() == 4 && x.guest.Open() == 0 })
	s, err := x.user("alice", cluster.Operator).OpenScreen(try.Context(t), "5eed0001")
	try.Must(t, err)
	ended := make(chan error, 1)
	go func() {
		_, err := io.Copy(io.Discard, s)
		ended <- err
	}()
	try.Must(t, x.stop())
	wantKind(t, <-ended, fail.Unavailable, "the agent is stopping")
	try.Must(t, s.Close())
}

// TestSlowViewer: who takes nothing is not sent more than a bounded part of what the guest has, and is cut off.
func TestSlowViewer(t *testing.T) {
	x := newTheatre(t, func(s *Server) { s.calls.take = 200 * time.Millisecond })
	x.guest.Flood = true
	for name, open := range map[string]func() (io.ReadCloser, error){
		"user": func() (io.ReadCloser, error) {
			return asReader(x.user("a", cluster.Operator).OpenScreen(try.Context(t), "v"))
		},
		"member": func() (io.ReadCloser, error) { return asReader(x.as("node2").ServeScreen(try.Context(t), "v")) },
	} {
		before, closed := x.guest.Given(), x.Closed()
		s, err := open()
		try.Must(t, err)
		if name == "member" { // over the network; in the process nothing is in between
			try.Until(t, "it is cut off", func() bool { return x.Closed() == closed+1 })
		} else {
			try.Until(t, "it is given something", func() bool { return x.guest.Given() > before })
		}
		if n := x.guest.Given() - before; n > 1<<20 {
			t.Errorf("%s: %d bytes are somewhere in between", name, n)
		}
		try.Must(t, s.Close())
		try.Until(t, "it has ended", func() bool { return x.guest.Open() == 0 })
	}
}

func asReader[T io.ReadCloser](s T, err error) (io.ReadCloser, error) { return s, err }

// TestSilentViewer: who gives no sign of life is cut off, and who does is not.
func TestSilentViewer(t *testing.T) {
	x := newTheatre(t, func(s *Server) { s.calls.body = 100 * time.Millisecond }) // api.Screen gives one every three seconds
	s, err := x.as("node2").ServeScreen(try.Context(t), "5eed0001")
	try.Must(t, err)
	if _, err := io.Copy(io.Discard, s); err == nil {
		t.Error("it was not cut off")
	}
	try.Must(t, s.Close())
}

// TestTooManyScreens: each user may have some at once.
func TestTooManyScreens(t *testing.T) {
	x := newTheatre(t, func(s *Server) { s.budgets.wait = time.Millisecond })
	alice := x.user("alice", cluster.Operator)
	for range userShares()[screen].each {
		s, err := alice.OpenScreen(try.Context(t), "5eed0001")
		try.Must(t, err)
		defer s.Close()
	}
	_, err := alice.OpenScreen(try.Context(t), "5eed0001")
	wantKind(t, err, fail.Unavailable, "too many calls at once by alice")
	s, err := x.user("bob", cluster.Operator).OpenScreen(try.Context(t), "5eed0001")
	try.Must(t, err)
	try.Must(t, s.Close())
}
