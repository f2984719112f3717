package etcdstore

import (
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"sync/atomic"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

const (
	// maxFilters is how many kinds of changes there are that a watch can leave out.
	maxFilters = 2
	// smallAnswer is from how many bytes on a message counts as large in a stream of watches: of those, one of a host is
	// under way at once. A watch is given no more revisions in one.
	smallAnswer = 64 << 10
)

// watches is a stream of watches of a host without a member. etcd has no part in it.
type watches struct {
	grpc.ServerStream
	g      *guard
	name   string
	header func(rev int64) *pb.ResponseHeader
	streamed
	large chan struct{} // the host's place for a large message
	wake  chan struct{}
	open  map[int64]*place
	next  int64 // id
}

// streamed is what bounds a stream by what is read of it, and taken. The front puts it into the context.
type streamed struct {
	asked *messages
	taken *slot
}

// streamKey is the context key of a stream's *streamed.
type streamKey struct{}

// slot counts the messages of a stream that have been written.
type slot struct {
	n    atomic.Int64
	more chan struct{} // has room for one
}

func newTaken() *slot { return &slot{more: make(chan struct{}, 1)} }

func (t *slot) add() {
	t.n.Add(1)
	select {
	case t.more <- struct{}{}:
	default:
	}
}

// watch serves a stream of watches until it ends.
func (g *guard) watch(ss grpc.ServerStream, name string) error {
	header := g.header.Load()
	b, ok := ss.Context().Value(streamKey{}).(*streamed)
	if header == nil || !ok { // etcd's socket leads nowhere: all come by the front
		return status.Error(codes.Unavailable, errStarting.Error())
	}
	w := &watches{
		ServerStream: ss, g: g, name: name, header: *header, streamed: *b,
		large: g.bounds.large(name), wake: make(chan struct{}, 1), open: map[int64]*place{},
	}
	defer func() {
		for id := range w.open {
			w.close(id)
		}
	}()
	ctx, cancel := context.WithCancel(ss.Context())
	defer cancel()
	asks, broken := make(chan *pb.WatchRequest), make(chan error, 1)
	go func() { broken <- w.receive(ctx, asks) }() // ends with the stream, which is over when this returns
	for {
		if err := w.deliver(); err != nil {
			return err
		}
		var err error
		select {
		case r := <-asks:
			err = w.answer(r)
		case err = <-broken: // nil: nothing more is asked
		case <-w.wake:
		case <-ctx.Done():
			if err = ss.Context().Err(); errors.Is(err, context.Canceled) {
				err = rpctypes.ErrGRPCWatchCanceled // as etcd's own
			}
		}
		if err != nil {
			return err
		}
	}
}

// receive takes what is asked for, until nothing more is.
func (w *watches) receive(ctx context.Context, asks chan<- *pb.WatchRequest) error {
	for {
		w.asked.want()
		r := &pb.WatchRequest{}
		if err := w.RecvMsg(r); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		if err := w.g.bounds.ask(ctx, w.name); err != nil {
			return status.Error(codes.ResourceExhausted, err.Error())
		}
		select {
		case asks <- r:
		case <-ctx.Done():
			return nil
		}
	}
}

// answer does what is asked for. An error ends the stream.
func (w *watches) answer(r *pb.WatchRequest) error {
	switch u := r.GetRequestUnion().(type) {
	case *pb.WatchRequest_CreateRequest:
		return w.create(u.CreateRequest)
	case *pb.WatchRequest_CancelRequest:
		id := u.CancelRequest.GetWatchId()
		if w.open[id] == nil {
			return nil
		}
		w.close(id)
		return w.send(&pb.WatchResponse{Header: w.header(w.g.feed.now()), WatchId: id, Canceled: true})
	case *pb.WatchRequest_ProgressRequest:
		return w.progress()
	}
	return nil
}

// create begins a watch of the form that our client's have.
func (w *watches) create(c *pb.WatchCreateRequest) error {
	switch {
	case len(c.GetFilters()) > maxFilters:
		return denied(w.name, "watch with %d filters; at most %d are allowed", len(c.GetFilters()), maxFilters)
	case slices.ContainsFunc(c.GetFilters(), func(x pb.WatchCreateRequest_FilterType) bool {
		return pb.WatchCreateRequest_FilterType_name[int32(x)] == ""
	}):
		return denied(w.name, "watch with a filter that is not known")
	case c.GetPrevKv(), c.GetFragment(), c.GetWatchId() != clientv3.AutoWatchID:
		return denied(w.name, "watch with earlier values, with answers in parts, or by an id of its own")
	}
	if err := w.g.within(w.name, c.GetKey(), c.GetRangeEnd()); err != nil {
		return err
	}
	if secret := w.g.secrets.among(string(c.GetKey()), string(c.GetRangeEnd())); secret != "" {
		return denied(w.name, "watch %s", strings.TrimPrefix(secret, w.g.prefix))
	}
	if err := w.g.bounds.watch(w.name, 1); err != nil {
		return status.Error(codes.ResourceExhausted, err.Error())
	}
	id, p := w.next, w.g.feed.enter(c, w.wake)
	w.next, w.open[id] = w.next+1, p
	from := w.g.feed.now()
	if c.GetStartRevision() == 0 {
		from = p.next - 1
	}
	return w.send(&pb.WatchResponse{Header: w.header(from), WatchId: id, Created: true})
}

// close ends a watch that is open.
func (w *watches) close(id int64) {
	w.g.feed.leave(w.open[id])
	delete(w.open, id)
	_ = w.g.bounds.watch(w.name, -1) // fewer are never refused
}

// deliver sends what the watches have not got yet.
func (w *watches) deliver() error {
	for id, p := range w.open {
		for whole := false; !whole; {
			events, all, compacted := w.g.feed.read(p, smallAnswer)
			r := &pb.WatchResponse{WatchId: id, Events: events, CompactRevision: compacted}
			switch whole = all; {
			case compacted != 0:
				w.close(id)
				r.Header, r.Canceled, whole = w.header(compacted), true, true
			case len(events) == 0:
				continue
			default:
				r.Header = w.header(p.next - 1)
			}
			if err := w.send(r); err != nil {
				return err
			}
		}
	}
	return nil
}

// progress tells up to which revision all watches have got everything. As with etcd there is no answer while one of them
// begins later, or there is none.
func (w *watches) progress() error {
	w.g.feed.ask() // the answer to the next question
	now := w.g.feed.now()
	rev := now
	for _, p := range w.open {
		if p.next > now+1 {
			return nil
		}
		rev = min(rev, p.next-1)
	}
	if len(w.open) == 0 {
		return nil
	}
	return w.send(&pb.WatchResponse{Header: w.header(rev), WatchId: clientv3.InvalidWatchID})
}

// send returns when a message has been written: so one of each stream is in memory.
func (w *watches) send(r *pb.WatchResponse) error {
	if proto.Size(r) > smallAnswer {
		select {
		case w.large <- struct{}{}:
			defer func() { <-w.large }()
		case <-w.Context().Done():
			return nil // the stream ends by that
		}
	}
	before := w.taken.n.Load()
	if err := w.SendMsg(r); err != nil {
		return err
	}
	for w.taken.n.Load() == before {
		select {
		case <-w.taken.more:
		case <-w.Context().Done():
			return nil
		}
	}
	return nil
}
