package libvirt

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"

	golibvirt "github.com/digitalocean/go-libvirt"
)

// errLost: the connection ended before the answer came, so it is not known
// whether the call was carried out.
var errLost = errors.New("connection to libvirtd lost")

// conn is one connection to libvirtd. Calls may be made concurrently; when one
// of them runs into its deadline the whole connection is given up, because the
// library can not take back a call.
type conn struct {
	rpc  *golibvirt.Libvirt
	sock *sock

	mu     sync.Mutex
	closed bool
	wg     sync.WaitGroup // calls under way; grows only while not closed
}

// sock is a net.Conn that tells when it has died. While the library connects, it holds back
// the end of the connection for as long as the library does not wait for an answer: at the
// end of a successful connect the library writes a field that it reads when the connection
// ends, without a lock.
type sock struct {
	net.Conn
	once sync.Once
	dead chan struct{} // closed when reading failed, which is final: no read deadlines are set

	mu     sync.Mutex
	turn   sync.Cond // of mu: asked or greeted has changed
	asked  bool      // a request was sent whose answer is not here as a whole
	answer []byte    // what has come since
	// greeted: the library's connect has returned or will fail. The fields above are not
	// kept after that.
	greeted bool
}

func newSock(nc net.Conn) *sock {
	s := &sock{Conn: nc, dead: make(chan struct{})}
	s.turn.L = &s.mu
	return s
}

func (s *sock) Read(b []byte) (int, error) {
	n, err := s.Conn.Read(b)
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.greeted && s.asked {
		// An answer is one packet; the first four bytes say how long it is.
		s.answer = append(s.answer, b[:n]...)
		s.asked = len(s.answer) < 4 || len(s.answer) < int(binary.BigEndian.Uint32(s.answer))
	}
	if err != nil {
		for !s.greeted && !s.asked {
			s.turn.Wait()
		}
		s.once.Do(func() { close(s.dead) })
	}
	return n, err
}

func (s *sock) Write(b []byte) (int, error) {
	s.mu.Lock()
	if !s.greeted {
		s.asked, s.answer = true, nil
		s.turn.Signal()
	}
	s.mu.Unlock()
	return s.Conn.Write(b)
}

// Close is called by the library, when it gives up connecting.
func (s *sock) Close() error {
	s.endOfGreeting()
	return s.Conn.Close()
}

func (s *sock) endOfGreeting() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.greeted, s.answer = true, nil
	s.turn.Signal()
}

// dialed hands a connection that exists already to the library.
type dialed struct{ sock *sock }

func (d dialed) Dial() (net.Conn, error) { return d.sock, nil }

// dial connects to libvirtd and opens its QEMU driver.
func dial(ctx context.Context, path string) (*conn, error) {
	nc, err := new(net.Dialer).DialContext(ctx, "unix", path)
	if err != nil {
		return nil, fmt.Errorf("connect to libvirtd: %w", err)
	}
	return greet(ctx, nc)
}

// greet begins to talk to the libvirtd at the other end, and opens its QEMU driver.
// The connection is closed when that fails.
func greet(ctx context.Context, nc net.Conn) (*conn, error) {
	c := &conn{sock: newSock(nc)}
	c.rpc = golibvirt.NewWithDialer(dialed{c.sock})
	if err := c.call(ctx, "open libvirt's QEMU driver", func(l *golibvirt.Libvirt) error {
		defer c.sock.endOfGreeting()
		return l.ConnectToURI(golibvirt.QEMUSystem)
	}); err != nil {
		c.close()
		return nil, err
	}
	return c, nil
}

// close ends the connection and the calls on it. It does not say good-bye to
// libvirtd, which might not answer: to libvirtd an end of file says the same.
func (c *conn) close() {
	c.hangUp()
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	c.wg.Wait()
}

// hangUp lets every call end, without waiting for it.
func (c *conn) hangUp() {
	_ = c.sock.Conn.Close() // the only error is that it has been closed before
}

// async runs f, which makes calls, in a goroutine that ends with the answer or
// with the connection.
func (c *conn) async(f func(*golibvirt.Libvirt) error) <-chan error {
	done := make(chan error, 1)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		done <- net.ErrClosed
		return done
	}
	c.wg.Go(func() { done <- f(c.rpc) })
	return done
}

// call runs f and returns its error, or closes the connection and returns when
// ctx ends. Only an error for which answered is true came from libvirtd.
func (c *conn) call(ctx context.Context, what string, f func(*golibvirt.Libvirt) error) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	select {
	case err := <-c.async(f):
		return c.explain(what, err)
	case <-ctx.Done():
		c.hangUp()
		return fmt.Errorf("%s: no answer from libvirtd: %w", what, ctx.Err())
	}
}

func (c *conn) explain(what string, err error) error {
	switch {
	case err == nil:
		return nil
	case answered(err):
		return fmt.Errorf("%s: %w", what, err)
	}
	return fmt.Errorf("%s: %w: %w", what, errLost, err)
}

func (c *conn) alive() bool {
	select {
	case <-c.sock.dead:
		return false
	default:
		return true
	}
}

// answered reports whether err is libvirtd's own, definite answer.
func answered(err error) bool {
	var e golibvirt.Error
	return errors.As(err, &e) || errors.Is(err, golibvirt.ErrUnsupported)
}

// hasCode reports whether err is libvirtd's answer with that code.
func hasCode(err error, code golibvirt.ErrorNumber) bool {
	var e golibvirt.Error
	return errors.As(err, &e) && e.Code == uint32(code)
}

// parseUUID reads the canonical form, 8-4-4-4-12 hexadecimal digits.
func parseUUID(s string) (golibvirt.UUID, error) {
	var u golibvirt.UUID
	b, err := hex.DecodeString(strings.ReplaceAll(s, "-", ""))
	if err != nil || len(b) != len(u) || len(s) != 36 || s[8] != '-' || s[13] != '-' || s[18] != '-' || s[23] != '-' {
		return u, fmt.Errorf("domain UUID %q: want the form xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx", s)
	}
	copy(u[:], b)
	return u, nil
}
