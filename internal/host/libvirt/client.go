package libvirt

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	golibvirt "github.com/digitalocean/go-libvirt"
)

// ConnectLimit is how long an attempt to connect waits for an answer.
const ConnectLimit = 5 * time.Second

// Link keeps the connection that observations share, and all others so that
// they can be closed together. Starts and migrations have a connection of their
// own: an observation that runs out of time must not cut them off.
type Link struct {
	path  string // of the socket, or the connection URI of a libvirtd elsewhere
	dial  func(ctx context.Context, path string) (*Conn, error)
	tried chan struct{} // closed after the first attempt to connect

	mu    sync.Mutex
	first sync.Once
	conn  *Conn // shared; nil when down
	err   error // why it is down
	all   map[*Conn]struct{}
	ended bool
}

// NewLink returns the link to the libvirtd at a socket, which connects to nothing by itself.
func NewLink(path string) *Link {
	return &Link{path: path, dial: dial, tried: make(chan struct{}), all: map[*Conn]struct{}{}, err: errors.New("not connected yet")}
}

// Get returns the shared connection. It waits for the first attempt to connect
// only: later, when libvirtd is down, callers are told so at once.
func (l *Link) Get(ctx context.Context) (*Conn, error) {
	select {
	case <-l.tried:
	case <-ctx.Done():
		return nil, fmt.Errorf("connect to libvirtd at %s: %w", l.path, ctx.Err())
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.conn == nil || !l.conn.alive() {
		if l.err == nil {
			return nil, fmt.Errorf("libvirtd at %s: %w", l.path, ErrLost)
		}
		return nil, l.err
	}
	return l.conn, nil
}

// Set makes a connection the shared one; nil: it is down, by err.
func (l *Link) Set(c *Conn, err error) {
	l.mu.Lock()
	l.conn, l.err = c, err
	l.mu.Unlock()
	l.first.Do(func() { close(l.tried) })
}

// Open makes a new connection; the caller closes it with drop.
func (l *Link) Open(ctx context.Context) (*Conn, error) {
	c, err := l.dial(ctx, l.path)
	if err != nil {
		return nil, fmt.Errorf("libvirtd at %s: %w", l.path, err)
	}
	return c, l.add(c)
}

// add takes a connection in; one that comes too late is closed.
func (l *Link) add(c *Conn) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended {
		c.hangUp()
		return fmt.Errorf("libvirtd at %s: the agent is ending", l.path)
	}
	l.all[c] = struct{}{}
	return nil
}

// Drop ends a connection.
func (l *Link) Drop(c *Conn) {
	l.mu.Lock()
	delete(l.all, c)
	l.mu.Unlock()
	c.close()
}

// CloseAll lets every call on every connection end, now and later ones.
func (l *Link) CloseAll() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ended = true
	for c := range l.all {
		c.hangUp()
	}
}

// Client makes each call on a connection of its own, so that one that hangs disturbs no other.
type Client struct {
	link *Link
	life context.Context // until Close: it ends connecting, which link can not
	end  context.CancelFunc
}

// NewClient returns a client of the libvirtd at a socket, or, unless uri is "", of one on another host:
// qemu+tls or qemu+tcp. It need not be there yet.
func NewClient(socket, uri string) *Client {
	c := &Client{link: NewLink(socket)}
	if uri != "" {
		c.link.path, c.link.dial = uri, connectURI
	}
	c.life, c.end = context.WithCancel(context.Background())
	return c
}

// Close ends all calls under way, and later ones at once. What libvirtd does,
// a migration for one, goes on.
func (c *Client) Close() {
	c.end()
	c.link.CloseAll()
}

// Connect makes a connection; the caller drops it.
func (c *Client) Connect(ctx context.Context) (*Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, ConnectLimit)
	defer cancel()
	defer context.AfterFunc(c.life, cancel)()
	return c.link.Open(ctx)
}

// ConnectTo makes a connection to the libvirtd at another URI, which ends with the client; the caller drops it.
func (c *Client) ConnectTo(ctx context.Context, uri string) (*Conn, error) {
	one, err := connectURI(ctx, uri)
	if err != nil {
		return nil, err
	}
	return one, c.link.add(one)
}

// Drop ends a connection of the client.
func (c *Client) Drop(one *Conn) { c.link.Drop(one) }

// With runs do on a connection.
func (c *Client) With(ctx context.Context, do func(*Conn) error) error {
	one, err := c.Connect(ctx)
	if err != nil {
		return err
	}
	defer c.Drop(one)
	return do(one)
}

// answerLimit is how long a single question to libvirtd may take.
const answerLimit = 10 * time.Second

// Ask is Within, for something short.
func (c *Client) Ask(ctx context.Context, what string, question func(*golibvirt.Libvirt) error) error {
	return c.Within(ctx, answerLimit, what, question)
}

// Within makes one call, which may take so long.
func (c *Client) Within(ctx context.Context, limit time.Duration, what string,
	do func(*golibvirt.Libvirt) error,
) error {
	ctx, cancel := context.WithTimeout(ctx, Share(ctx, limit))
	defer cancel()
	return c.With(ctx, func(one *Conn) error { return one.Call(ctx, what, do) })
}
