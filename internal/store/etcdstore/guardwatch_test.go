package etcdstore

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"holdfast/testbed/try"
)

// fakeStream is the member's side of a stream of watches.
type fakeStream struct {
	grpc.ServerStream
	ctx   context.Context
	taken *slot
	asks  chan *pb.WatchRequest
	told  chan *pb.WatchResponse
	stuck bool // what it is told is not written
}

// streaming is a stream as the front gives it to a guard.
func streaming(ctx context.Context, room int) *fakeStream {
	count := newTaken()
	ctx = context.WithValue(ctx, streamKey{}, &streamed{newMessages(ctx, http.NoBody), count})
	return &fakeStream{ctx: ctx, taken: count, asks: make(chan *pb.WatchRequest), told: make(chan *pb.WatchResponse, room)}
}

func (s *fakeStream) Context() context.Context { return s.ctx }

func (s *fakeStream) SendMsg(m any) error {
	select {
	case s.told <- proto.Clone(m.(proto.Message)).(*pb.WatchResponse):
		if !s.stuck {
			s.taken.add()
		}
		return nil
	case <-s.ctx.Done():
		return s.ctx.Err()
	}
}

func (s *fakeStream) RecvMsg(m any) error {
	select {
	case r, ok := <-s.asks:
		if !ok {
			return io.EOF
		}
		proto.Merge(m.(proto.Message), r)
		return nil
	case <-s.ctx.Done():
		return s.ctx.Err()
	}
}

// stream is one that a guard serves to host g1.
type stream struct {
	*fakeStream
	end   func() error // ends it, and gives its error
	ended chan error
}

func (g *guard) stream1(t *testing.T) *stream {
	ctx, cancel := context.WithCancel(t.Context())
	s := &stream{fakeStream: streaming(ctx, 0), ended: make(chan error, 1)}
	go func() { s.ended <- g.watch(s, "g1") }()
	s.end = func() error {
		cancel()
		return <-s.ended
	}
	return s
}

func create(c *pb.WatchCreateRequest) *pb.WatchRequest {
	return &pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: c}}
}

func howFar() *pb.WatchRequest {
	return &pb.WatchRequest{RequestUnion: &pb.WatchRequest_ProgressRequest{ProgressRequest: &pb.WatchProgressRequest{}}}
}

// feeding is a guard whose member is at revision 10.
func feeding() *guard {
	g := standIn(nil)
	g.feed = newFeed()
	g.feed.begin(10)
	header := func(rev int64) *pb.ResponseHeader { return &pb.ResponseHeader{Revision: rev} }
	g.header.Store(&header)
	return g
}

// TestWatchForms: a watch has what our client asks for, and little more.
func TestWatchForms(t *testing.T) {
	g := feeding()
	filters := func(n int) []pb.WatchCreateRequest_FilterType { return make([]pb.WatchCreateRequest_FilterType, n) }
	for name, c := range map[string]struct {
		req *pb.WatchCreateRequest
		ok  bool
	}{
		"plain":                      {&pb.WatchCreateRequest{}, true},
		"two filters":                {&pb.WatchCreateRequest{Filters: filters(2)}, true},
		"many filters":               {&pb.WatchCreateRequest{Filters: filters(3)}, false},
		"values":                     {&pb.WatchCreateRequest{PrevKv: true}, false},
		"parts":                      {&pb.WatchCreateRequest{Fragment: true}, false},
		"a filter that nobody knows": {&pb.WatchCreateRequest{Filters: []pb.WatchCreateRequest_FilterType{7}}, false},
		"an id":                      {&pb.WatchCreateRequest{WatchId: 7}, false},
		"all keys":                   {&pb.WatchCreateRequest{RangeEnd: []byte{0}}, false},
		"nothing":                    {&pb.WatchCreateRequest{RangeEnd: []byte(g.prefix + "state/a")}, false},
		"less":                       {&pb.WatchCreateRequest{RangeEnd: []byte(g.prefix + "a")}, false},
		"before all":                 {&pb.WatchCreateRequest{RangeEnd: []byte("/")}, false},
	} {
		s := g.stream1(t)
		c.req.Key = []byte(g.prefix + "state/a")
		s.asks <- create(c.req)
		select {
		case r := <-s.told:
			if !c.ok || !r.Created || r.Canceled || r.Header.GetRevision() != 10 {
				t.Errorf("%s: %v", name, r)
			}
			_ = s.end()
		case err := <-s.ended:
			if c.ok || status.Code(err) != codes.PermissionDenied {
				t.Errorf("%s: %v, want it allowed: %t", name, err, c.ok)
			}
		}
	}
	if n := g.bounds.of["g1"].watches; n != 0 || len(g.feed.topics) != 0 {
		t.Errorf("%d watches and %d topics are left", n, len(g.feed.topics))
	}
}

// TestNoWatchTellsASecret, whatever range is asked for, from whenever on.
func TestNoWatchTellsASecret(t *testing.T) {
	g := feeding()
	secret, other := g.prefix+"state/heartbeat", g.prefix+"state/heart"
	users := g.prefix + "access/"
	g.secrets = secrets{secret, users}
	g.feed = newFeed(g.secrets...)
	g.feed.begin(10)
	user := users + "users/alice"
	ends := []string{"", "\x00", "/", g.prefix, other, secret, secret + "\x00", g.prefix + "state/i", "\xff", users,
		users + "a", user, user + "\x00"}
	ends = append(ends, clientv3.GetPrefixRangeEnd(g.prefix))
	for _, key := range []string{g.prefix, other, secret, secret + "\x00", g.prefix + "z", users, users + "a", user, user + "\x00"} {
		for _, end := range ends {
			s := g.stream1(t)
			s.asks <- create(&pb.WatchCreateRequest{Key: []byte(key), RangeEnd: []byte(end), StartRevision: 11})
			select {
			case <-s.told: // it is let in: it holds no secret
				_ = s.end()
				if covers(key, end, secret) || covers(key, end, user) {
					t.Errorf("%q to %q is let in", key, end)
				}
			case <-s.ended:
			}
			// And if it were let in:
			p := g.feed.enter(&pb.WatchCreateRequest{Key: []byte(key), RangeEnd: []byte(end)}, make(chan struct{}, 1))
			rev := g.feed.now() + 1
			g.feed.add(rev, []*mvccpb.Event{change1(rev, secret, 32), change1(rev, user, 32)})
			if events, _, _ := g.feed.read(p, 1); len(events) != 0 {
				t.Errorf("%q to %q: %v", key, end, events)
			}
		}
	}
}

// TestWatchTells changes, cancellation and how far it is, as etcd does.
func TestWatchTells(t *testing.T) {
	g := feeding()
	s := g.stream1(t)
	want := func(what string, ok func(r *pb.WatchResponse) bool) {
		t.Helper()
		if r := <-s.told; !ok(r) {
			t.Fatalf("%s: %v", what, r)
		}
	}
	key := g.prefix + "state/a"
	s.asks <- howFar() // nothing is watched: no answer
	s.asks <- create(&pb.WatchCreateRequest{Key: []byte(key), Filters: []pb.WatchCreateRequest_FilterType{pb.WatchCreateRequest_NODELETE}})
	want("created", func(r *pb.WatchResponse) bool { return r.Created && r.WatchId == 0 && r.Header.Revision == 10 })
	g.feed.add(11, []*mvccpb.Event{change1(11, key, 1), change1(11, g.prefix+"state/b", 1)})
	want("a change", func(r *pb.WatchResponse) bool { return r.Header.Revision == 11 && len(r.Events) == 1 })
	deletion := change1(12, key, 0)
	deletion.Type = mvccpb.Event_DELETE
	g.feed.add(12, []*mvccpb.Event{deletion})
	g.feed.add(15, nil)
	s.asks <- howFar()
	want("how far", func(r *pb.WatchResponse) bool {
		return r.WatchId == clientv3.InvalidWatchID && r.Header.Revision == 15 && len(r.Events) == 0
	})
	s.asks <- create(&pb.WatchCreateRequest{Key: []byte(key), StartRevision: 18})
	want("a later one", func(r *pb.WatchResponse) bool { return r.Created && r.WatchId == 1 })
	s.asks <- howFar() // no answer
	s.asks <- create(&pb.WatchCreateRequest{Key: []byte(key), StartRevision: 5})
	want("one of long ago", func(r *pb.WatchResponse) bool { return r.Created && r.WatchId == 2 })
	want("its end", func(r *pb.WatchResponse) bool { return r.Canceled && r.WatchId == 2 && r.CompactRevision == 11 })
	cancel := &pb.WatchRequest{RequestUnion: &pb.WatchRequest_CancelRequest{CancelRequest: &pb.WatchCancelRequest{WatchId: 1}}}
	s.asks <- cancel
	want("cancelled", func(r *pb.WatchResponse) bool { return r.Canceled && r.WatchId == 1 && r.CompactRevision == 0 })
	s.asks <- cancel // it is over: no answer
	close(s.asks)
	g.feed.add(20, []*mvccpb.Event{change1(20, key, 1)})
	want("a change when nothing more is asked", func(r *pb.WatchResponse) bool { return r.WatchId == 0 && len(r.Events) == 1 })
	if n := g.bounds.of["g1"].watches; n != 1 {
		t.Errorf("%d watches count, want 1", n)
	}
	if err := s.end(); err == nil {
		t.Error("it ended without an error")
	}
	if n := g.bounds.of["g1"].watches; n != 0 || len(g.feed.topics) != 0 {
		t.Errorf("%d watches and %d topics are left", n, len(g.feed.topics))
	}
}

// TestMostWatches: a host has no more than it may, and one that ends makes room for one.
func TestMostWatches(t *testing.T) {
	g := feeding()
	s := g.stream1(t)
	c := create(&pb.WatchCreateRequest{Key: []byte(g.prefix + "state/a")})
	for range maxWatches {
		s.asks <- c
		<-s.told
	}
	s.asks <- &pb.WatchRequest{RequestUnion: &pb.WatchRequest_CancelRequest{CancelRequest: &pb.WatchCancelRequest{WatchId: 3}}}
	<-s.told
	s.asks <- c
	<-s.told
	s.asks <- c
	if err := <-s.ended; err == nil || !strings.Contains(err.Error(), refusedForNow) {
		t.Errorf("one too many: %v", err)
	}
}

// TestOneLargeMessageOfAHost is under way at once, in all its streams; small ones go by.
func TestOneLargeMessageOfAHost(t *testing.T) {
	g := feeding()
	key := g.prefix + "state/a"
	a, b := g.stream1(t), g.stream1(t)
	for _, s := range []*stream{a, b} {
		s.asks <- create(&pb.WatchCreateRequest{Key: []byte(key)})
		<-s.told
	}
	large := g.bounds.large("g1")
	large <- struct{}{} // of a third one
	g.feed.add(11, []*mvccpb.Event{change1(11, key, smallAnswer)})
	<-large
	try.Until(t, "one of them to take the place", func() bool { return len(large) == 1 })
	second := b
	var r *pb.WatchResponse
	select { // who has the place tells, and then the other one
	case r = <-a.told:
	case r = <-b.told:
		second = a
	}
	if next := <-second.told; len(r.Events) != 1 || len(next.Events) != 1 {
		t.Fatal(r, next)
	}
	large <- struct{}{}
	g.feed.add(12, []*mvccpb.Event{change1(12, key, 10)})
	for _, s := range []*stream{a, b} {
		if r := <-s.told; len(r.Events) != 1 {
			t.Fatal(r)
		}
		_ = s.end()
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

// TestMessagesComeWhole: of one that comes in pieces nothing is handed on before it is there: gRPC takes 16 KiB for each piece.
func TestMessagesComeWhole(t *testing.T) {
	message := string(envelop(false, smallBody, bytes.Repeat([]byte("x"), smallBody)))
	m := newMessages(t.Context(), io.NopCloser(iotest.OneByteReader(strings.NewReader(message))))
	m.want()
	got := make([]byte, len(message))
	if n, err := m.Read(got); n != len(message) || err != nil || string(got) != message {
		t.Errorf("%d bytes at once, %v, want %d", n, err, len(message))
	}
	m.want()
	if n, err := m.Read(got); n != 0 || err != io.EOF {
		t.Errorf("at the end: %d bytes, %v", n, err)
	}
	m = newMessages(t.Context(), io.NopCloser(strings.NewReader(message[:100])))
	m.want()
	for range 2 {
		if n, err := m.Read(got); n != 0 || err == nil || err == io.EOF {
			t.Errorf("half of one: %d bytes, %v", n, err)
		}
	}
}

// TestTimely: a stream ends when its answer is not taken.
func TestTimely(t *testing.T) {
	ended := make(chan error, 1)
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		out := &timely{ResponseWriter: w, rc: http.NewResponseController(w), within: time.Millisecond, taken: newTaken()}
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
	if resp, err := s.Client().Get(s.URL); err == nil { // else it has ended before its headers were written
		defer resp.Body.Close()
	}
	if err := <-ended; err == nil {
		t.Error("it did not end")
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

// TestTimelyMessages: each message has its time, and between two of them a stream has all that there is.
func TestTimelyMessages(t *testing.T) {
	d := &deadlined{}
	out := &timely{ResponseWriter: d, rc: http.NewResponseController(d), within: messageWithin, taken: newTaken()}
	for i := range int64(3) {
		if _, err := out.Write([]byte("x")); err != nil || d.until.IsZero() {
			t.Fatalf("%v, until %s", err, d.until)
		}
		if out.Flush(); !d.until.IsZero() || out.taken.n.Load() != i+1 {
			t.Errorf("after message %d: until %s, %d are taken", i, d.until, out.taken.n.Load())
		}
	}
}

// TestSendWaits until a message has been written.
func TestSendWaits(t *testing.T) {
	g := feeding()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	s := streaming(ctx, 9)
	s.stuck = true
	ended := make(chan error, 1)
	go func() { ended <- g.watch(s, "g1") }()
	s.asks <- create(&pb.WatchCreateRequest{Key: []byte(g.prefix + "state/a")})
	<-s.told
	g.feed.add(11, []*mvccpb.Event{change1(11, g.prefix+"state/a", 1)})
	s.taken.more <- struct{}{} // of a message before
	try.Until(t, "it to be looked at", func() bool { return len(s.taken.more) == 0 })
	if n := len(s.told); n != 0 {
		t.Fatalf("%d messages although the first is not written", n)
	}
	s.taken.add()
	<-s.told
	cancel()
	if err := <-ended; errors.Is(err, io.EOF) || err == nil {
		t.Errorf("the end: %v", err)
	}
}
