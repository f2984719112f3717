package etcdstore

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
)

// fakeStream is a stream of watches that asks for one thing again and again.
type fakeStream struct {
	grpc.ServerStream
	ctx context.Context
	ask *pb.WatchRequest
}

func (s *fakeStream) Context() context.Context { return s.ctx }
func (s *fakeStream) SendMsg(any) error        { return nil }
func (s *fakeStream) RecvMsg(m any) error {
	proto.Merge(m.(proto.Message), s.ask)
	return nil
}

// watching is a stream of a guard's host that asks for one watch.
func watching(ctx context.Context, g *guard, c *pb.WatchCreateRequest) *guardedWatch {
	c.Key = []byte(g.prefix + "state/a")
	ask := &pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: c}}
	return g.watch(&fakeStream{ctx: ctx, ask: ask}, "g1")
}

func (g *guard) at(rev int64) *guard {
	f := func() int64 { return rev }
	g.rev.Store(&f)
	return g
}

// TestWatchForms: a watch has what our client asks for, and little more.
func TestWatchForms(t *testing.T) {
	g := standIn(nil).at(10)
	filters := func(n int) []pb.WatchCreateRequest_FilterType { return make([]pb.WatchCreateRequest_FilterType, n) }
	for name, c := range map[string]struct {
		req *pb.WatchCreateRequest
		ok  bool
	}{
		"plain":        {&pb.WatchCreateRequest{}, true},
		"two filters":  {&pb.WatchCreateRequest{Filters: filters(2)}, true},
		"many filters": {&pb.WatchCreateRequest{Filters: filters(3)}, false},
		"values":       {&pb.WatchCreateRequest{PrevKv: true}, false},
		"parts":        {&pb.WatchCreateRequest{Fragment: true}, false},
	} {
		w := watching(t.Context(), g, c.req)
		if err := w.RecvMsg(&pb.WatchRequest{}); (err == nil) != c.ok {
			t.Errorf("%s: %v, want it allowed: %t", name, err, c.ok)
		}
		w.end()
	}
}

// TestWatchesOfThePast: few of a host read the past at once, until they have told how far they are, or end.
func TestWatchesOfThePast(t *testing.T) {
	g := standIn(nil).at(10)
	over, cancel := context.WithCancel(t.Context())
	cancel() // who would wait does not
	begin := func(ctx context.Context, from int64) (*guardedWatch, error) {
		w := watching(ctx, g, &pb.WatchCreateRequest{StartRevision: from})
		return w, w.RecvMsg(&pb.WatchRequest{})
	}
	var first *guardedWatch
	for i := range maxPast {
		w, err := begin(t.Context(), 10)
		if err != nil {
			t.Fatalf("watch %d: %v", i, err)
		}
		first = w
	}
	for _, from := range []int64{0, 11} {
		if _, err := begin(t.Context(), from); err != nil {
			t.Errorf("from revision %d on, which is none of the past: %v", from, err)
		}
	}
	refused := func(when string) {
		t.Helper()
		if _, err := begin(over, 1); err == nil || !strings.Contains(err.Error(), refusedForNow) {
			t.Errorf("%s: %v, want one more refused for now", when, err)
		}
	}
	refused("at first")
	if err := first.RecvMsg(&pb.WatchRequest{}); err == nil {
		t.Error("one stream reads the past twice at once")
	}
	for what, r := range map[string]*pb.WatchResponse{
		"created":      {WatchId: clientv3.InvalidWatchID, Created: true},
		"changes":      {Events: []*mvccpb.Event{{Kv: &mvccpb.KeyValue{ModRevision: 10}}}},
		"one's place":  {WatchId: 7},
		"cancellation": {Canceled: true},
	} {
		if err := first.SendMsg(r); err != nil {
			t.Fatal(err)
		}
		refused("after " + what)
	}
	if err := first.SendMsg(&pb.WatchResponse{WatchId: clientv3.InvalidWatchID, Header: &pb.ResponseHeader{Revision: 11}}); err != nil {
		t.Fatal(err)
	}
	second, err := begin(t.Context(), 1)
	if err != nil {
		t.Fatalf("when one has told how far it is: %v", err)
	}
	refused("then")
	second.end()
	if _, err := begin(t.Context(), 1); err != nil {
		t.Errorf("when one has ended: %v", err)
	}
}

// TestMessagesWait: of a stream no more is read than is wanted, and one that waits ends when it is closed.
func TestMessagesWait(t *testing.T) {
	in := strings.NewReader(string(envelop(false, 3, []byte("abc"))) + string(envelop(false, 3, []byte("def"))))
	m := newMessages(t.Context(), io.NopCloser(in))
	m.want()
	m.want()
	got := make([]byte, 8)
	if _, err := io.ReadFull(m, got); err != nil || string(got[envelope:]) != "abc" {
		t.Fatalf("%q, %v", got, err)
	}
	ended := make(chan error, 1)
	go func() {
		_, err := m.Read(got)
		ended <- err
	}()
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err == nil || in.Len() != 8 {
		t.Errorf("%v, %d bytes are left, want an error and the second message", err, in.Len())
	}
}

// TestTimely: a stream ends when its answer is not taken.
func TestTimely(t *testing.T) {
	ended := make(chan error, 1)
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		out := &timely{ResponseWriter: w, rc: http.NewResponseController(w), left: time.Millisecond}
		var err error
		for err == nil {
			_, err = out.Write(make([]byte, 1<<20))
		}
		<-r.Context().Done() // gRPC ends by that
		ended <- err
	}))
	s.EnableHTTP2 = true
	s.TLS = &tls.Config{MinVersion: tls.VersionTLS13}
	s.StartTLS()
	defer s.Close()
	resp, err := s.Client().Get(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if err := <-ended; err == nil {
		t.Error("it did not end")
	}
}

// TestAStreamThatEndsWhileItsWatchWaits gives back nothing that it has not got, and the place that comes too late.
func TestAStreamThatEndsWhileItsWatchWaits(t *testing.T) {
	g := standIn(nil).at(10)
	begin := func(ctx context.Context) (*guardedWatch, error) {
		w := watching(ctx, g, &pb.WatchCreateRequest{StartRevision: 1})
		return w, w.RecvMsg(&pb.WatchRequest{})
	}
	for range 3 {
		var held []*guardedWatch
		for range maxPast {
			w, err := begin(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			held = append(held, w)
		}
		ctx, cancel := context.WithCancel(t.Context())
		w := watching(ctx, g, &pb.WatchCreateRequest{StartRevision: 1})
		refused := make(chan error)
		go func() { refused <- w.RecvMsg(&pb.WatchRequest{}) }()
		w.end()
		cancel()
		if err := <-refused; err == nil {
			t.Error("a watch of a stream that has ended")
		}
		for _, w := range held {
			w.end()
		}
	}
	if n := g.bounds.of["g1"]; n.watches != 0 || len(n.past) != 0 {
		t.Errorf("%d watches and %d of the past are left", n.watches, len(n.past))
	}
}

// TestAnswersThatWait: who has asked how far it is, and takes the answer when a watch of the past has begun, is not done with that.
func TestAnswersThatWait(t *testing.T) {
	g := standIn(nil).at(10)
	w := watching(t.Context(), g, &pb.WatchCreateRequest{StartRevision: 1})
	create := w.ServerStream
	w.ServerStream = &fakeStream{ctx: t.Context(), ask: &pb.WatchRequest{RequestUnion: &pb.WatchRequest_ProgressRequest{ProgressRequest: &pb.WatchProgressRequest{}}}}
	err := w.RecvMsg(&pb.WatchRequest{})
	w.ServerStream = create
	err = errors.Join(err, w.RecvMsg(&pb.WatchRequest{}))
	reads := func() int { return len(g.bounds.of["g1"].past) }
	for _, c := range []struct {
		rev  int64
		want int
	}{{9, 1}, {10, 1}, {11, 0}} {
		if err = errors.Join(err, w.SendMsg(&pb.WatchResponse{WatchId: clientv3.InvalidWatchID, Header: &pb.ResponseHeader{Revision: c.rev}})); err != nil {
			t.Fatal(err)
		}
		if reads() != c.want {
			t.Errorf("after an answer of revision %d %d read the past, want %d", c.rev, reads(), c.want)
		}
	}
}

// TestAWatchEndsOnce: a member says twice of one that begins in what was compacted that it is cancelled.
func TestAWatchEndsOnce(t *testing.T) {
	g := standIn(nil).at(10)
	w := watching(t.Context(), g, &pb.WatchCreateRequest{})
	var err error
	for range maxWatches {
		err = errors.Join(err, w.RecvMsg(&pb.WatchRequest{}))
	}
	for id := range int64(maxWatches) {
		err = errors.Join(err, w.SendMsg(&pb.WatchResponse{WatchId: id, Created: true}))
	}
	for range 3 {
		err = errors.Join(err, w.SendMsg(&pb.WatchResponse{WatchId: 1, Canceled: true, CompactRevision: 5}))
	}
	if err = errors.Join(err, w.RecvMsg(&pb.WatchRequest{})); err != nil {
		t.Fatal(err)
	}
	if err := w.RecvMsg(&pb.WatchRequest{}); err == nil {
		t.Error("one watch that ended made room for two")
	}
	w.end()
	if n := g.bounds.of["g1"].watches; n != 0 {
		t.Errorf("%d watches are left", n)
	}
}

// deadlined is an answer that notes until when it may be written.
type deadlined struct {
	http.ResponseWriter
	until time.Time
}

func (d *deadlined) Write(p []byte) (int, error) { return len(p), nil }
func (d *deadlined) Flush()                      {}
func (d *deadlined) SetWriteDeadline(until time.Time) error {
	d.until = until
	return nil
}

// TestTimelyInSum: small messages that are each taken in time do not keep a stream whose answers wait.
func TestTimelyInSum(t *testing.T) {
	d := &deadlined{}
	out := &timely{ResponseWriter: d, rc: http.NewResponseController(d), left: messageWithin}
	for i := range 3 {
		if _, err := out.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		left := messageWithin - time.Duration(i)*6*time.Second
		if got := time.Until(d.until); got > left+time.Second {
			t.Fatalf("message %d may wait %s, want %s", i, got, left)
		}
		out.at = out.at.Add(-6 * time.Second) // it was taken so late
		out.Flush()
	}
	if out.left > 0 {
		t.Errorf("%s are left", out.left)
	}
}
