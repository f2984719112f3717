package api

import (
	"context"
	"errors"
	"io"
	"net/http"
	"sync"
	"time"

	"connectrpc.com/connect"

	apiv1 "holdfast/internal/api/v1"
	"holdfast/internal/api/v1/apiv1connect"
	"holdfast/internal/cluster"
	"holdfast/internal/lib/fail"
)

// ScreenChunk bounds the bytes of one message of a screen.
const ScreenChunk = 32 << 10

const (
	screenWindow = 256 << 10        // bytes of a screen that this process may have and nobody has read
	screenOpen   = 15 * time.Second // for the host to open it
	screenSign   = 3 * time.Second  // between two signs of life, of which the agent wants one in ten seconds
)

// Screen is the open screen of a guest: bytes of RFB. One goroutine may read while another writes. Close ends both.
type Screen struct {
	Host  cluster.HostID // that runs the guest
	Guest string         // its name

	left    []byte // read, and not taken yet
	receive func() ([]byte, error)
	mu      sync.Mutex // of send
	send    func([]byte) error
	end     func()
}

// screensBy is a transport for one screen, with a connection of its own: what it has and nobody has read is bounded, and keeps
// nobody else waiting.
func screensBy(t *http.Transport) (own *http.Transport, hangUp func()) {
	own = t.Clone()
	own.HTTP2.MaxReceiveBufferPerStream, own.HTTP2.MaxReceiveBufferPerConnection = screenWindow, screenWindow
	own.IdleConnTimeout = time.Second
	return own, own.CloseIdleConnections
}

// OpenScreen opens the screen of a guest, wherever it runs, by its UUID; of the management VM by "mnvm". It lasts until it
// is closed, or ctx ends.
func (c *Client) OpenScreen(ctx context.Context, guest string) (*Screen, error) {
	rt, hangUp := c.screens()
	ctx, end := context.WithCancel(ctx)
	st, err := apiv1connect.NewScreenServiceClient(httpClient(rt), c.base, connect.WithReadMaxBytes(2*ScreenChunk)).OpenScreen(ctx)
	if err != nil {
		end()
		hangUp()
		return nil, fromWire(ctx, c.target, err)
	}
	s := &Screen{}
	s.send = func(b []byte) error { return st.Send(&apiv1.OpenScreenRequest{Chunk: b}) }
	s.receive = func() ([]byte, error) {
		m, err := st.Receive()
		return m.GetChunk(), c.ended(ctx, err)
	}
	s.end = s.ender(end, st.CloseRequest, hangUp)
	return s, s.begin(ctx, func() error {
		sent := async(func() error { return st.Send(&apiv1.OpenScreenRequest{Guest: guest}) })
		m, err := st.Receive()
		s.Host, s.Guest = cluster.HostID(m.GetHost()), m.GetGuest()
		return c.refused(ctx, sent, err)
	})
}

// ServeScreen opens the screen of a guest of the agent's host.
func (c *Client) ServeScreen(ctx context.Context, uuid string) (io.ReadWriteCloser, error) {
	rt, hangUp := c.screens()
	ctx, end := context.WithCancel(ctx)
	st, err := apiv1connect.NewAgentServiceClient(httpClient(rt), c.base, connect.WithReadMaxBytes(2*ScreenChunk)).ServeScreen(ctx)
	if err != nil {
		end()
		hangUp()
		return nil, fromWire(ctx, c.target, err)
	}
	s := &Screen{}
	s.send = func(b []byte) error { return st.Send(&apiv1.ServeScreenRequest{Chunk: b}) }
	s.receive = func() ([]byte, error) {
		m, err := st.Receive()
		return m.GetChunk(), c.ended(ctx, err)
	}
	s.end = s.ender(end, st.CloseRequest, hangUp)
	if err := s.begin(ctx, func() error {
		sent := async(func() error { return st.Send(&apiv1.ServeScreenRequest{Guest: uuid}) })
		_, err := st.Receive()
		return c.refused(ctx, sent, err)
	}); err != nil {
		return nil, err
	}
	return s, nil
}

// begin opens a screen, and has it give signs of life until ctx ends.
func (s *Screen) begin(ctx context.Context, open func() error) error {
	late := time.AfterFunc(screenOpen, s.end)
	err := open()
	if !late.Stop() && err != nil {
		err = fail.Errorf(fail.Timeout, "the screen was not opened within %s", screenOpen).With("see: holdfast status")
	}
	if err != nil {
		s.end()
		return err
	}
	go func() {
		tick := time.NewTicker(screenSign)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				if s.put(nil) != nil {
					return // Read tells why
				}
			}
		}
	}()
	return nil
}

// async sends beside what is received: who is refused is not read first.
func async(send func() error) <-chan error {
	done := make(chan error, 1)
	go func() { done <- send() }()
	return done
}

// refused is why a screen was not opened; nil: it was, and what was sent is there. Why it was not is in what is received.
func (c *Client) refused(ctx context.Context, sent <-chan error, received error) error {
	if errors.Is(received, io.EOF) {
		return fail.Errorf(fail.Failed, "the agent at %s ended the call before the screen was open", c.target)
	}
	if received == nil {
		received = <-sent
	}
	return fromWire(ctx, c.target, received)
}

// ended is how a stream has ended; nil: it has not.
func (c *Client) ended(ctx context.Context, err error) error {
	if errors.Is(err, io.EOF) {
		return io.EOF
	}
	return fromWire(ctx, c.target, err)
}

// Read gives what the guest's VNC server has sent. io.EOF: it has ended; any other error says why the screen was closed.
func (s *Screen) Read(p []byte) (int, error) {
	for len(s.left) == 0 {
		b, err := s.receive()
		if err != nil {
			return 0, err
		}
		s.left = b
	}
	n := copy(p, s.left)
	s.left = s.left[n:]
	return n, nil
}

// Write sends keys and the like to the guest's VNC server. When it fails, Read tells why.
func (s *Screen) Write(p []byte) (n int, err error) {
	for len(p) > 0 {
		part := p[:min(len(p), ScreenChunk)]
		if err := s.put(part); err != nil {
			return n, err
		}
		n, p = n+len(part), p[len(part):]
	}
	return n, nil
}

func (s *Screen) put(b []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.send(b)
}

// ender ends the call, whose transport looks whether its context has ended only when nothing more can be sent.
func (s *Screen) ender(end func(), closeSend func() error, hangUp func()) func() {
	return sync.OnceFunc(func() {
		end()
		s.mu.Lock()
		defer s.mu.Unlock()
		_ = closeSend() // the call has ended
		hangUp()
	})
}

// Close closes the screen.
func (s *Screen) Close() error {
	s.end()
	return nil
}
