package etcdstore

import (
	"context"
	"errors"
	"sync"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// maxFilters is how many kinds of changes there are that a watch can leave out.
const maxFilters = 2

// guardedWatch looks at what a stream of watches asks for, and counts the watches.
type guardedWatch struct {
	grpc.ServerStream
	g    *guard
	name string

	mu    sync.Mutex
	ended bool
	count int            // watches that count for the host: those in open, and those that the member has not answered yet
	open  map[int64]bool // by their ids
	asked int            // how far all watches are, and not answered yet, or never
	past  *past          // of a watch that reads the past, or waits for that; nil: none does
}

// past is the place of a watch that reads the past.
type past struct {
	alone   bool   // nobody had asked before how far the stream is, and was not answered
	since   int64  // revision of the member when it began
	release func() // nil while it waits
}

func (g *guard) watch(ss grpc.ServerStream, name string) *guardedWatch {
	return &guardedWatch{ServerStream: ss, g: g, name: name, open: map[int64]bool{}}
}

// SendMsg counts watches as ended when the member says so; of one that begins in what was compacted it does so again
// when that is cancelled. What tells how far all watches of the stream have come, made after one has begun in the past,
// comes when what that had of the past has been taken.
func (w *guardedWatch) SendMsg(m any) error {
	r, ok := m.(*pb.WatchResponse)
	if ok {
		w.answered(r)
	}
	err := w.ServerStream.SendMsg(m)
	if ok && err == nil && r.GetWatchId() == clientv3.InvalidWatchID && len(r.GetEvents()) == 0 && !r.GetCreated() && !r.GetCanceled() {
		w.caughtUp(r.GetHeader().GetRevision())
	}
	return err
}

func (w *guardedWatch) answered(r *pb.WatchResponse) {
	w.mu.Lock()
	defer w.mu.Unlock()
	id, over := r.GetWatchId(), false
	switch {
	case r.GetCreated() && r.GetCanceled(): // it was not made
		over = true
	case r.GetCreated():
		w.open[id] = true
	case r.GetCanceled() && w.open[id]:
		delete(w.open, id)
		over = true
	}
	if over && !w.ended {
		w.count--
		_ = w.g.bounds.watch(w.name, -1) // fewer are never refused
	}
}

// end gives back all that the stream has.
func (w *guardedWatch) end() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ended = true
	_ = w.g.bounds.watch(w.name, -w.count)
	if w.past != nil && w.past.release != nil {
		w.past.release()
	}
}

// RecvMsg ends the stream at a watch that may not be.
func (w *guardedWatch) RecvMsg(m any) error {
	if m, ok := w.Context().Value(messagesKey{}).(*messages); ok {
		m.want()
	}
	if err := w.ServerStream.RecvMsg(m); err != nil {
		return err
	}
	if err := w.g.bounds.ask(w.Context(), w.name); err != nil {
		return status.FromContextError(err).Err()
	}
	req, ok := m.(*pb.WatchRequest)
	if !ok {
		return denied(w.name, "send %T", m)
	}
	if req.GetProgressRequest() != nil {
		w.mu.Lock()
		w.asked++
		w.mu.Unlock()
	}
	c := req.GetCreateRequest()
	if c == nil {
		return nil
	}
	switch {
	case len(c.GetFilters()) > maxFilters:
		return denied(w.name, "watch with %d filters; at most %d are allowed", len(c.GetFilters()), maxFilters)
	case c.GetPrevKv(), c.GetFragment(): // read the past for each change; add up all changes for each one of them
		return denied(w.name, "watch with earlier values, or with answers in parts")
	}
	if err := w.g.within(w.name, c.GetKey(), c.GetRangeEnd()); err != nil {
		return err
	}
	for _, secret := range w.g.rules.Secret {
		if key := []byte(w.g.prefix + secret); covers(c.GetKey(), c.GetRangeEnd(), key) {
			return denied(w.name, "watch %s", secret)
		}
	}
	if err := w.fromPast(c.GetStartRevision()); err != nil {
		return err
	}
	return w.one()
}

// one counts one watch more.
func (w *guardedWatch) one() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.ended {
		return status.Error(codes.Canceled, errOver.Error())
	}
	if err := w.g.bounds.watch(w.name, 1); err != nil {
		return status.Error(codes.ResourceExhausted, err.Error())
	}
	w.count++
	return nil
}

var errOver = errors.New("the stream has ended")

// fromPast waits until a watch may read from a revision. The member decodes for each one all changes since, and
// keeps them until they are taken: those of 10 minutes, which may be 140 MB that one host has written.
func (w *guardedWatch) fromPast(from int64) error {
	rev := w.g.rev.Load()
	if rev == nil {
		return status.Error(codes.Unavailable, errStarting.Error())
	}
	if from <= 0 || from > (*rev)() {
		return nil
	}
	w.mu.Lock()
	place := &past{alone: w.asked == 0}
	busy := w.past != nil
	if !busy {
		w.past = place
	}
	w.mu.Unlock()
	if busy {
		err := forNow(w.name, "reads the past by another watch of this stream; one at once is allowed")
		return status.Error(codes.ResourceExhausted, err.Error())
	}
	ctx, cancel := context.WithTimeout(w.Context(), waitForReads)
	defer cancel()
	release, err := w.g.bounds.fromPast(ctx, w.name)
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case err != nil:
		w.past = nil
		return status.Error(codes.ResourceExhausted, err.Error())
	case w.ended:
		release()
		return status.Error(codes.Canceled, errOver.Error())
	}
	place.since, place.release = (*rev)(), release
	return nil
}

// caughtUp takes in that all watches of the stream have been sent what there was up to a revision. An answer that was
// made before the watch of the past began, and waited to be taken, has no later one.
func (w *guardedWatch) caughtUp(rev int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.asked = max(0, w.asked-1)
	if w.ended || w.past == nil || w.past.release == nil || rev <= w.past.since && !w.past.alone {
		return
	}
	w.past.release()
	w.past = nil
}
