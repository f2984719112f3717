package etcdstore

import (
	"context"
	"sync/atomic"

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
	g     *guard
	name  string
	count atomic.Int64
	past  chan struct{} // holds one while a watch of the stream reads the past
}

// SendMsg counts a watch as ended when the member says so, which it does once. What tells how far all watches
// of the stream have come comes when what they had of the past has been taken.
func (w *guardedWatch) SendMsg(m any) error {
	r, ok := m.(*pb.WatchResponse)
	if ok && r.GetCanceled() {
		w.count.Add(-1)
		_ = w.g.bounds.watch(w.name, -1) // fewer are never refused
	}
	err := w.ServerStream.SendMsg(m)
	if ok && err == nil && r.GetWatchId() == clientv3.InvalidWatchID && len(r.GetEvents()) == 0 && !r.GetCreated() && !r.GetCanceled() {
		w.caughtUp()
	}
	return err
}

func (w *guardedWatch) end() {
	_ = w.g.bounds.watch(w.name, -int(w.count.Load()))
	w.caughtUp()
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
	if err := w.g.bounds.watch(w.name, 1); err != nil {
		return status.Error(codes.ResourceExhausted, err.Error())
	}
	w.count.Add(1)
	return nil
}

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
	select {
	case w.past <- struct{}{}:
	default:
		return status.Error(codes.ResourceExhausted, forNow(w.name, "reads the past by another watch of this stream; one at once is allowed").Error())
	}
	ctx, cancel := context.WithTimeout(w.Context(), waitForReads)
	defer cancel()
	if err := w.g.bounds.fromPast(ctx, w.name); err != nil {
		<-w.past
		return status.Error(codes.ResourceExhausted, err.Error())
	}
	return nil
}

func (w *guardedWatch) caughtUp() {
	select {
	case <-w.past:
		w.g.bounds.caughtUp(w.name)
	default:
	}
}
