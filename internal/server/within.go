package server

import (
	"context"
	"errors"
	"io"
	"net/http"
	"sync"
	"time"

	"holdfast/internal/api/v1/apiv1connect"
	"holdfast/internal/cluster"
)

// Caller is a user or a token, whom somebody else has let in: the console, by a session, or REST, by a token.
type Caller struct {
	User string // as the audit shows it, with where it calls from
	Role cluster.Role
}

// As returns a transport to this server's API, in this process, for calls by a user or a token. What it may is in the same
// table, and bounded by the same budgets, as what comes over the network.
func (s *Server) As(c Caller) http.RoundTripper { return within{s.handler(), c} }

// within carries calls to a handler of this process.
type within struct {
	to http.Handler
	by Caller
}

// RoundTrip has the handler answer; the body of the answer may be read while it is written.
func (t within) RoundTrip(r *http.Request) (*http.Response, error) {
	ctx, cancel := context.WithCancel(context.WithValue(r.Context(), peerKey{}, peerResult{peer: peer{user: t.by.User, role: t.by.Role}}))
	in := r.Clone(ctx)
	both := r.URL.Path == apiv1connect.ScreenServiceOpenScreenProcedure // send at once, as HTTP/2 lets them
	proto, major, minor := "HTTP/1.1", 1, 1
	if both {
		proto, major, minor = "HTTP/2.0", 2, 0
	}
	in.RequestURI, in.Proto, in.ProtoMajor, in.ProtoMinor = r.URL.RequestURI(), proto, major, minor
	if in.Body == nil {
		in.Body = http.NoBody
	}
	body, to := io.Pipe()
	w := &answer{header: http.Header{}, asked: in.Body, both: both, to: to, began: make(chan struct{})}
	stop := context.AfterFunc(ctx, func() { body.CloseWithError(context.Cause(ctx)) })
	go func() {
		defer cancel()
		defer stop() // before: who reads the answer takes it to its end
		defer in.Body.Close()
		defer func() {
			w.WriteHeader(http.StatusOK)
			err := io.EOF
			if p := recover(); p != nil {
				err = errAborted
			}
			to.CloseWithError(err)
		}()
		t.to.ServeHTTP(w, in)
	}()
	select {
	case <-w.began:
	case <-ctx.Done():
		if err := r.Context().Err(); err != nil {
			return nil, err
		}
		<-w.began // the handler has ended, and what it answered is there
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	return &http.Response{
		Status: http.StatusText(w.code), StatusCode: w.code, Proto: proto, ProtoMajor: major, ProtoMinor: minor,
		Header: w.sent, Body: closing{body, cancel}, ContentLength: -1, Request: r,
	}, nil
}

// errAborted: net/http logs such a panic and closes the connection; here there is none.
var errAborted = errors.New("the agent failed inside a call")

// closing ends the call when nobody reads its answer any more.
type closing struct {
	*io.PipeReader
	cancel context.CancelFunc
}

// Close ends the call.
func (c closing) Close() error {
	c.cancel()
	return c.PipeReader.Close()
}

// answer is what a handler writes to.
type answer struct {
	header http.Header
	asked  io.Closer // the body of the request
	both   bool      // more is read of the request while it is answered
	to     *io.PipeWriter

	mu    sync.Mutex
	began chan struct{} // closed once the head is there
	code  int
	sent  http.Header
}

// Header is the head until it is sent.
func (a *answer) Header() http.Header { return a.header }

// WriteHeader sends the head; only the first call counts. As in HTTP/1.1, nothing more is read of the request, but for what
// sends both ways: who is still sending would never come to read the answer.
func (a *answer) WriteHeader(code int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.code != 0 {
		return
	}
	a.code, a.sent = code, a.header.Clone()
	if !a.both {
		_ = a.asked.Close() // what could not be read is not needed any more
	}
	close(a.began)
}

// Write waits until it is read.
func (a *answer) Write(b []byte) (int, error) {
	a.WriteHeader(http.StatusOK)
	return a.to.Write(b)
}

// Flush sends the head; all else is sent as it is written.
func (a *answer) Flush() { a.WriteHeader(http.StatusOK) }

// SetReadDeadline has nothing to do: what is read is in memory, or comes from who waits for it himself.
func (a *answer) SetReadDeadline(time.Time) error { return nil }

// SetWriteDeadline has nothing to do: the reader ends the call.
func (a *answer) SetWriteDeadline(time.Time) error { return nil }
