package etcdstore

import (
	"context"
	"errors"
	"net"
	"sync/atomic"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"

	"holdfast/testbed/try"
)

// answering is a member that says how it is, and nothing else.
type answering struct {
	pb.UnimplementedMaintenanceServer
	net.Listener
	taken atomic.Int64 // connections
}

func (s *answering) Accept() (net.Conn, error) {
	c, err := s.Listener.Accept()
	if err == nil {
		s.taken.Add(1)
	}
	return c, err
}

func (s *answering) Status(context.Context, *pb.StatusRequest) (*pb.StatusResponse, error) {
	return &pb.StatusResponse{Leader: 7}, nil
}

// serve answers at an address until end.
func (s *answering) serve(t *testing.T, at string) (end func()) {
	t.Helper()
	l, err := net.Listen("tcp", at)
	if err != nil {
		t.Fatal(err)
	}
	s.Listener = l
	srv := grpc.NewServer()
	pb.RegisterMaintenanceServer(srv, s)
	done := make(chan struct{})
	go func() { defer close(done); _ = srv.Serve(s) }() // until it is stopped
	return func() { srv.Stop(); <-done }
}

// A member is asked over one connection again and again. One that was away answers the first question when it is back: no
// connection of before is waited for.
func TestStatusOverAConnectionThatIsKept(t *testing.T) {
	s := &answering{}
	end := s.serve(t, "127.0.0.1:0")
	defer func() { end() }()
	at := s.Addr().String()
	a, err := OpenAdmin(Options{Endpoints: []string{"http://" + at}, Prefix: "/x/", Log: discard()})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		try.Must(t, a.Close())
		if _, err := a.statusOf(t.Context(), "http://"+at); !errors.Is(err, net.ErrClosed) {
			t.Errorf("after its end: %v", err)
		}
	}()
	asks := func() error {
		st, err := a.statusOf(t.Context(), "http://"+at)
		if err == nil && st.Leader != 7 {
			t.Errorf("%+v", st)
		}
		return err
	}
	for range 3 {
		try.Must(t, asks())
	}
	if n := s.taken.Load(); n != 1 {
		t.Errorf("%d connections for three questions: want one", n)
	}
	for range 3 {
		end()
		if err := asks(); err == nil {
			t.Error("a member that is away has answered")
		}
		end = s.serve(t, at)
		try.Must(t, asks())
	}
}
