package server

import (
	"errors"
	"io"
	"net/http"
	"sync"
	"time"

	"connectrpc.com/connect"

	"holdfast/internal/api/v1/apiv1connect"
)

const (
	takeBytes = 64 << 10 // of an answer that are to be taken in the time of patience
	envelope  = 1 << 10  // bytes of a body around its message: a prefix of 5 bytes, an end of the stream
)

// patience ends calls whose caller sends nothing, or takes nothing: what such a call has in memory would
// stay there for as long as the caller answers pings.
type patience struct {
	body time.Duration // to send the whole body of a call that sends one message, or the next bytes of a stream
	take time.Duration // to take the next bytes of an answer
}

// many are the calls that send more than one message.
var many = map[string]bool{
	apiv1connect.UpgradeServicePutBundleProcedure: true,
	apiv1connect.ScreenServiceOpenScreenProcedure: true,
	apiv1connect.AgentServiceServeScreenProcedure: true,
}

// serve has next answer a call.
func (t patience) serve(next http.Handler, w http.ResponseWriter, r *http.Request) {
	rc := http.NewResponseController(w)
	if rc.SetWriteDeadline(time.Time{}) != nil || rc.SetReadDeadline(time.Now().Add(t.body)) != nil {
		next.ServeHTTP(w, r) // no listener of the API has such connections
		return
	}
	most := int64(RequestBound(r.URL.Path)) + envelope
	body := &sent{
		ReadCloser: r.Body, rc: rc, most: most, left: most,
		many: many[r.URL.Path], within: t.body,
	}
	defer body.end()
	r.Body = body
	next.ServeHTTP(&budgetShare{w, rc, t.take}, r)
	if r.ProtoMajor > 1 { // else the connection goes on with it
		_ = rc.SetWriteDeadline(time.Now().Add(t.take)) // of what is buffered; it fails where the connection has ended
	}
}

// sent is the body of a call. It must come in time, and have no more bytes than a message may have.
type sent struct {
	io.ReadCloser
	rc   *http.ResponseController
	most int64 // bytes
	left int64 // of them
	many bool  // messages: within is that of each read, and connect counts the bytes of each message

	within time.Duration

	mu    sync.Mutex
	ended bool // the call has
}

// end has what still reads end, as a call's own goroutine may when the call has ended: its answer is no more by then.
func (s *sent) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended = true
}

// deadline bounds reads.
func (s *sent) deadline(at time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended {
		return http.ErrBodyReadAfterClose
	}
	return s.rc.SetReadDeadline(at)
}

func (s *sent) Read(p []byte) (int, error) {
	if s.many {
		if err := s.deadline(time.Now().Add(s.within)); err != nil {
			return 0, err
		}
	} else if s.left <= 0 {
		return 0, &http.MaxBytesError{Limit: s.most}
	} else {
		p = p[:min(int64(len(p)), s.left)]
	}
	n, err := s.ReadCloser.Read(p)
	s.left -= int64(n)
	if err != nil {
		if derr := s.deadline(time.Time{}); derr != nil {
			return n, derr
		}
	}
	return n, err
}

// budgetShare is the answer of a call. It must be taken in time.
type budgetShare struct {
	http.ResponseWriter
	rc   *http.ResponseController
	each time.Duration
}

// Unwrap is for http.ResponseController.
func (t *budgetShare) Unwrap() http.ResponseWriter { return t.ResponseWriter }

func (t *budgetShare) Write(p []byte) (n int, err error) {
	for len(p) > 0 && err == nil {
		part := p[:min(len(p), takeBytes)]
		err = t.within(func() error {
			m, err := t.ResponseWriter.Write(part)
			n, p = n+m, p[m:]
			return err
		})
	}
	return n, err
}

// Flush is for streams, which send each message at once.
func (t *budgetShare) Flush() {
	_ = t.within(t.rc.Flush) // the next write fails, too
}

func (t *budgetShare) within(f func() error) error {
	if err := t.rc.SetWriteDeadline(time.Now().Add(t.each)); err != nil {
		return err
	}
	err := f()
	return errors.Join(err, t.rc.SetWriteDeadline(time.Time{}))
}

// bounded gives each procedure the bound of its messages.
func bounded() connect.HandlerOption {
	return connect.WithConditionalHandlerOptions(func(s connect.Spec) []connect.HandlerOption {
		return []connect.HandlerOption{connect.WithReadMaxBytes(RequestBound(s.Procedure))}
	})
}
