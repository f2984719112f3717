package libvirt

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"time"

	golibvirt "github.com/digitalocean/go-libvirt"
)

// Conn is one connection to libvirtd. Calls may be made concurrently; when one
// of them runs into its deadline the whole connection is given up, because the
// library can not take back a call.
type Conn struct {
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
func dial(ctx context.Context, path string) (*Conn, error) {
	nc, err := new(net.Dialer).DialContext(ctx, "unix", path)
	if err != nil {
		return nil, fmt.Errorf("connect to libvirtd: %w", err)
	}
	return greet(ctx, nc)
}

// greet begins to talk to the libvirtd at the other end, and opens its QEMU driver.
// The connection is closed when that fails.
func greet(ctx context.Context, nc net.Conn) (*Conn, error) {
	c := &Conn{sock: newSock(nc)}
	c.rpc = golibvirt.NewWithDialer(dialed{c.sock})
	if err := c.Call(ctx, "open libvirt's QEMU driver", func(l *golibvirt.Libvirt) error {
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
func (c *Conn) close() {
	c.hangUp()
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	c.wg.Wait()
}

// hangUp lets every call end, without waiting for it.
func (c *Conn) hangUp() {
	_ = c.sock.Conn.Close() // the only error is that it has been closed before
}

// Async runs f, which makes calls, in a goroutine that ends with the answer or
// with the connection.
func (c *Conn) Async(f func(*golibvirt.Libvirt) error) <-chan error {
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

// Call runs f and returns its error, or closes the connection and returns when
// ctx ends. Only an error for which answered is true came from libvirtd.
func (c *Conn) Call(ctx context.Context, what string, f func(*golibvirt.Libvirt) error) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	select {
	case err := <-c.Async(f):
		return c.Explain(what, err)
	case <-ctx.Done():
		c.hangUp()
		return fmt.Errorf("%s: no answer from libvirtd: %w", what, ctx.Err())
	}
}

// Explain says of a call's error whether libvirtd has answered.
func (c *Conn) Explain(what string, err error) error {
	switch {
	case err == nil:
		return nil
	case Answered(err):
		return fmt.Errorf("%s: %w", what, err)
	}
	return fmt.Errorf("%s: %w: %w", what, ErrLost, err)
}

// LocalAddr is this end's address.
func (c *Conn) LocalAddr() net.Addr { return c.sock.LocalAddr() }

// Dead is closed when the connection has ended.
func (c *Conn) Dead() <-chan struct{} { return c.sock.dead }

func (c *Conn) alive() bool {
	select {
	case <-c.sock.dead:
		return false
	default:
		return true
	}
}

// connectURI connects to the libvirtd at a connection URI, as dialURI has it, and opens its
// QEMU driver.
func connectURI(ctx context.Context, uri string) (*Conn, error) {
	nc, err := dialURI(ctx, uri)
	if err != nil {
		return nil, err
	}
	return greet(ctx, nc)
}

// dialURI connects to the libvirtd at a connection URI: qemu+tcp, or qemu+tls with
// libvirt's parameters pkipath and no_verify.
func dialURI(ctx context.Context, uri string) (net.Conn, error) {
	u, err := url.Parse(uri)
	if err != nil {
		return nil, fmt.Errorf("read the URI of the target: %w", err)
	}
	switch u.Scheme {
	case "qemu+tcp":
		return new(net.Dialer).DialContext(ctx, "tcp", net.JoinHostPort(u.Hostname(), cmp.Or(u.Port(), "16509")))
	case "qemu+tls":
		conf, err := tlsConfig(u.Query())
		if err != nil {
			return nil, err
		}
		nc, err := (&tls.Dialer{Config: conf}).DialContext(ctx, "tcp", net.JoinHostPort(u.Hostname(), cmp.Or(u.Port(), "16514")))
		if err != nil {
			return nil, err
		}
		if err := admitted(ctx, nc); err != nil {
			return nil, errors.Join(err, nc.Close())
		}
		return nc, nil
	}
	return nil, fmt.Errorf("no direct connection by %s", u.Scheme)
}

// tlsConfig reads the files that libvirt's own client reads, as root
// (https://libvirt.org/kbase/tlscerts.html).
func tlsConfig(params url.Values) (*tls.Config, error) {
	ca, cert, key := "/etc/pki/CA/cacert.pem", "/etc/pki/libvirt/clientcert.pem", "/etc/pki/libvirt/private/clientkey.pem"
	if dir := params.Get("pkipath"); dir != "" {
		ca, cert, key = filepath.Join(dir, "cacert.pem"), filepath.Join(dir, "clientcert.pem"), filepath.Join(dir, "clientkey.pem")
	}
	pair, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		return nil, fmt.Errorf("read libvirt's client certificate: %w", err)
	}
	text, err := os.ReadFile(ca)
	if err != nil {
		return nil, fmt.Errorf("read libvirt's CA certificate: %w", err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("%s: no certificate in it", ca)
	}
	return &tls.Config{
		Certificates: []tls.Certificate{pair}, RootCAs: roots, MinVersion: tls.VersionTLS12,
		InsecureSkipVerify: params.Get("no_verify") == "1", // as the operator's URI says
	}, nil
}

// admitted reads the byte by which libvirtd says, after the handshake, that it
// takes the client's certificate.
func admitted(ctx context.Context, nc net.Conn) error {
	if end, ok := ctx.Deadline(); ok {
		if err := nc.SetReadDeadline(end); err != nil {
			return err
		}
	}
	var b [1]byte
	if _, err := nc.Read(b[:]); err != nil {
		return fmt.Errorf("wait until libvirtd takes our certificate: %w", err)
	}
	if b[0] != 1 {
		return errors.New("libvirtd does not take our certificate")
	}
	return nc.SetReadDeadline(time.Time{})
}

// Subscribe asks for events of libvirt's, on a connection that serves nothing else from then on. stop ends the
// connection, and the library's goroutine behind the events.
func Subscribe[T any](ctx context.Context, c *Conn,
	ask func(ctx context.Context, l *golibvirt.Libvirt) (<-chan T, error),
) (events <-chan T, stop func(), err error) {
	// The library must not see this context end while its reader may still deliver
	// an event, which would block for ever: so it ends after the connection only.
	life, end := context.WithCancel(context.WithoutCancel(ctx))
	got := make(chan (<-chan T), 1)
	err = c.Call(ctx, "subscribe to libvirt's events", func(l *golibvirt.Libvirt) error {
		ch, err := ask(life, l)
		if err == nil {
			got <- ch
		}
		return err
	})
	stop = func() {
		c.hangUp()
		<-c.sock.dead
		end()
		c.close()
		select {
		case ch := <-got:
			drain(ch)
		default:
		}
	}
	if err != nil {
		stop()
		return nil, nil, err
	}
	events = <-got
	got <- events
	return events, stop, nil
}

// drain reads until the library closes the channel; it blocks on a channel that
// nobody reads.
func drain[T any](ch <-chan T) {
	for range ch {
		continue
	}
}
