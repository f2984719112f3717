package servertest

import (
	"context"
	"io"
	"sync"

	"holdfast/internal/cluster"
	"holdfast/internal/lib/fail"
)

// Screens are those of guests on node2 that Dial connects to.
type Screens struct {
	Dial func() io.ReadWriteCloser

	mu     sync.Mutex
	err    error
	opened []string // by whom, and of what
	closed int
}

// Set gives the error of those that are opened from then on.
func (s *Screens) Set(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.err = err
}

// OpenScreen is as server.Screens wants it.
func (s *Screens) OpenScreen(_ context.Context, user, guest string) (cluster.HostID, string, io.ReadWriteCloser, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return "", "", nil, s.err
	}
	s.opened = append(s.opened, user+": "+guest)
	return "node2", "<b>" + guest, &counted{ReadWriteCloser: s.Dial(), of: s}, nil
}

// ServeScreen is as server.Screens wants it.
func (s *Screens) ServeScreen(ctx context.Context, uuid string) (io.ReadWriteCloser, error) {
	if uuid == "" {
		return nil, fail.Errorf(fail.Invalid, "guest %q: want a UUID", uuid)
	}
	_, _, c, err := s.OpenScreen(ctx, "an agent", uuid)
	return c, err
}

// Opened are those that were opened, by whom.
func (s *Screens) Opened() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.opened...)
}

// Closed is how many were closed.
func (s *Screens) Closed() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.closed
}

// counted is a screen that is counted once when it is closed.
type counted struct {
	io.ReadWriteCloser
	once sync.Once
	of   *Screens
}

// Close closes the screen.
func (c *counted) Close() error {
	c.once.Do(func() {
		c.of.mu.Lock()
		defer c.of.mu.Unlock()
		c.of.closed++
	})
	return c.ReadWriteCloser.Close()
}
