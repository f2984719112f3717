package libvirt

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	golibvirt "github.com/digitalocean/go-libvirt"

	"holdfast/internal/lib/clock"
)

// Pauses between attempts to connect.
const (
	retryFirst = 100 * time.Millisecond
	retryMost  = time.Second
	// connectLimit is how long an attempt waits for an answer.
	connectLimit = 5 * time.Second
)

// link keeps the connection that observations share, and all others so that
// they can be closed together. Starts and migrations have a connection of their
// own: an observation that runs out of time must not cut them off.
type link struct {
	path  string // of the socket, or the connection URI of a libvirtd elsewhere
	dial  func(ctx context.Context, path string) (*conn, error)
	tried chan struct{} // closed after the first attempt to connect

	mu    sync.Mutex
	first sync.Once
	conn  *conn // shared; nil when down
	err   error // why it is down
	all   map[*conn]struct{}
	ended bool
}

func newLink(path string) *link {
	return &link{path: path, dial: dial, tried: make(chan struct{}), all: map[*conn]struct{}{}, err: errors.New("not connected yet")}
}

// get returns the shared connection. It waits for the first attempt to connect
// only: later, when libvirtd is down, callers are told so at once.
func (l *link) get(ctx context.Context) (*conn, error) {
	select {
	case <-l.tried:
	case <-ctx.Done():
		return nil, fmt.Errorf("connect to libvirtd at %s: %w", l.path, ctx.Err())
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.conn == nil || !l.conn.alive() {
		if l.err == nil {
			return nil, fmt.Errorf("libvirtd at %s: %w", l.path, errLost)
		}
		return nil, l.err
	}
	return l.conn, nil
}

func (l *link) set(c *conn, err error) {
	l.mu.Lock()
	l.conn, l.err = c, err
	l.mu.Unlock()
	l.first.Do(func() { close(l.tried) })
}

// open makes a new connection; the caller closes it with drop.
func (l *link) open(ctx context.Context) (*conn, error) {
	c, err := l.dial(ctx, l.path)
	if err != nil {
		return nil, fmt.Errorf("libvirtd at %s: %w", l.path, err)
	}
	return c, l.add(c)
}

// add takes a connection in; one that comes too late is closed.
func (l *link) add(c *conn) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended {
		c.hangUp()
		return fmt.Errorf("libvirtd at %s: the agent is ending", l.path)
	}
	l.all[c] = struct{}{}
	return nil
}

func (l *link) drop(c *conn) {
	l.mu.Lock()
	delete(l.all, c)
	l.mu.Unlock()
	c.close()
}

// closeAll lets every call on every connection end, now and later ones.
func (l *link) closeAll() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ended = true
	for c := range l.all {
		c.hangUp()
	}
}

// watch keeps the shared connection up, until ctx ends.
func (d *Driver) watch(ctx context.Context) {
	d.persist(ctx, "no connection to libvirtd", func(up func()) error {
		err := d.session(ctx, up)
		d.link.set(nil, err)
		d.poke()
		return err
	})
}

// persist runs life, which returns only when what it keeps up has ended, again
// and again until ctx ends. life calls up when it has succeeded.
func (d *Driver) persist(ctx context.Context, what string, life func(up func()) error) {
	pause, told := retryFirst, ""
	for ctx.Err() == nil {
		err := life(func() { pause, told = retryFirst, "" })
		if ctx.Err() != nil {
			return
		}
		if msg := err.Error(); msg != told { // once, not at every attempt
			d.log.Warn(what, "err", err)
			told = msg
		}
		if !clock.Sleep(ctx, pause) {
			return
		}
		pause = min(2*pause, retryMost)
	}
}

// session is one life of the shared connection; it returns why it ended.
func (d *Driver) session(ctx context.Context, up func()) error {
	limit, cancel := context.WithTimeout(ctx, connectLimit)
	defer cancel()
	c, err := d.link.open(limit)
	if err != nil {
		return err
	}
	defer d.link.drop(c)
	d.link.set(c, nil)
	d.poke()
	up()
	select {
	case <-c.sock.dead:
		return fmt.Errorf("libvirtd at %s: %w", d.opt.Socket, errLost)
	case <-ctx.Done():
		return ctx.Err()
	}
}

// follow turns libvirt's lifecycle events into wakes, until ctx ends. It has a
// connection of its own, on which no call is ever given up: libvirtd 9.0 crashed
// now and then when it thawed and found that a client with events had hung up
// in the middle of a call.
func (d *Driver) follow(ctx context.Context) {
	d.persist(ctx, "no events from libvirtd", func(up func()) error {
		c, events, stop, err := d.subscribe(ctx)
		if err != nil {
			return err
		}
		defer d.link.drop(c)
		defer stop()
		d.poke() // for what happened before
		up()
		for {
			select {
			case e, ok := <-events:
				if !ok {
					return fmt.Errorf("libvirtd at %s: %w", d.opt.Socket, errLost)
				}
				d.noteEvent(e)
			case <-c.sock.dead:
				return fmt.Errorf("libvirtd at %s: %w", d.opt.Socket, errLost)
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	})
}

// subscribe connects and asks for lifecycle events. stop ends the connection
// and the library's goroutine behind events.
func (d *Driver) subscribe(ctx context.Context) (*conn, <-chan golibvirt.DomainEventLifecycleMsg, func(), error) {
	limit, cancel := context.WithTimeout(ctx, connectLimit)
	defer cancel()
	c, err := d.link.open(limit)
	if err != nil {
		return nil, nil, nil, err
	}
	// The library must not see this context end while its reader may still deliver
	// an event, which would block for ever: so it ends after the connection only.
	evCtx, evEnd := context.WithCancel(context.WithoutCancel(ctx))
	got := make(chan (<-chan golibvirt.DomainEventLifecycleMsg), 1)
	err = c.call(limit, "subscribe to libvirt's events", func(l *golibvirt.Libvirt) error {
		ch, err := l.LifecycleEvents(evCtx)
		if err == nil {
			got <- ch
		}
		return err
	})
	stop := func() {
		c.unsubscribe(evEnd)
		select {
		case ch := <-got:
			drain(ch)
		default:
		}
	}
	if err != nil {
		stop()
		d.link.drop(c)
		return nil, nil, nil, err
	}
	ch := <-got
	got <- ch
	return c, ch, stop, nil
}

// unsubscribe ends a connection, and then the context of its events.
func (c *conn) unsubscribe(end context.CancelFunc) {
	c.hangUp()
	<-c.sock.dead
	end()
	c.close()
}

// drain reads until the library closes the channel; it blocks on a channel that
// nobody reads.
func drain[T any](ch <-chan T) {
	for range ch {
		continue
	}
}

func (d *Driver) noteEvent(e golibvirt.DomainEventLifecycleMsg) {
	if e.Dom.UUID != d.dom.UUID {
		return
	}
	if golibvirt.DomainEventType(e.Event) == golibvirt.DomainEventStopped &&
		golibvirt.DomainEventStoppedDetailType(e.Detail) == golibvirt.DomainEventStoppedMigrated {
		d.mu.Lock()
		d.movedOut = true
		d.mu.Unlock()
	}
	d.poke()
}
