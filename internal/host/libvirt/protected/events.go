package protected

import (
	"context"
	"fmt"
	"time"

	golibvirt "github.com/digitalocean/go-libvirt"

	"holdfast/internal/host/libvirt"
	"holdfast/internal/lib/clock"
)

// Pauses between attempts to connect.
const (
	retryFirst = 100 * time.Millisecond
	retryMost  = time.Second
)

// watch keeps the shared connection up, until ctx ends.
func (d *Driver) watch(ctx context.Context) {
	d.persist(ctx, "no connection to libvirtd", func(up func()) error {
		err := d.session(ctx, up)
		d.link.Set(nil, err)
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
	limit, cancel := context.WithTimeout(ctx, libvirt.ConnectLimit)
	defer cancel()
	c, err := d.link.Open(limit)
	if err != nil {
		return err
	}
	defer d.link.Drop(c)
	d.link.Set(c, nil)
	d.poke()
	up()
	select {
	case <-c.Dead():
		return fmt.Errorf("libvirtd at %s: %w", d.opt.Socket, libvirt.ErrLost)
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
		defer d.link.Drop(c)
		defer stop()
		d.poke() // for what happened before
		up()
		for {
			select {
			case e, ok := <-events:
				if !ok {
					return fmt.Errorf("libvirtd at %s: %w", d.opt.Socket, libvirt.ErrLost)
				}
				d.noteEvent(e)
			case <-c.Dead():
				return fmt.Errorf("libvirtd at %s: %w", d.opt.Socket, libvirt.ErrLost)
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	})
}

// event is one of a domain's life.
type event = golibvirt.DomainEventLifecycleMsg

// subscribe connects and asks for lifecycle events.
func (d *Driver) subscribe(ctx context.Context) (*libvirt.Conn, <-chan event, func(), error) {
	limit, cancel := context.WithTimeout(ctx, libvirt.ConnectLimit)
	defer cancel()
	c, err := d.link.Open(limit)
	if err != nil {
		return nil, nil, nil, err
	}
	events, stop, err := libvirt.Subscribe(limit, c, func(ctx context.Context, l *golibvirt.Libvirt) (<-chan event, error) {
		return l.LifecycleEvents(ctx)
	})
	if err != nil {
		d.link.Drop(c)
		return nil, nil, nil, err
	}
	return c, events, stop, nil
}

func (d *Driver) noteEvent(e event) {
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
