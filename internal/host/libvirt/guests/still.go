package guests

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	golibvirt "github.com/digitalocean/go-libvirt"

	"holdfast/internal/host/libvirt"
	"holdfast/internal/host/libvirt/migration"
)

// This file is about guests that have arrived by a migration and stand still.

// ErrStill: a guest has left, and stands still where it went: it is to be resumed there.
var ErrStill = errors.New("it has left, and stands still there until it is resumed")

const (
	meetLimit = 3 * time.Second         // to connect to the target
	goOnLimit = 4 * time.Second         // to let a guest go on there
	firstGoOn = 1500 * time.Millisecond // of that, over a connection that may have broken unseen
	restLimit = 5 * time.Second         // for the rest of a call whose guest has left
)

// meet connects to the target's libvirtd, so that no time is lost when the guest
// has come there. Without that connection it is for others to let the guest go on.
func (m *move) meet(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, meetLimit)
	defer cancel()
	uri := m.leave.To(m.target, "").URI
	c, err := m.client.ConnectTo(ctx, uri)
	if err != nil {
		m.Fleet.opt.Log.Debug("no connection to the target of a migration", "guest", m.dom.Name, "uri", uri, "err", err)
		return
	}
	m.there = c
}

// goOn lets the guest go on at the target. It is called when it is certain that
// it has left; it works after ctx has ended, too.
func (m *move) goOn(ctx context.Context) error {
	if !m.halted {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), goOnLimit)
	defer cancel()
	first, stop := context.WithTimeout(ctx, firstGoOn)
	err := m.resumeThere(first)
	stop()
	if err != nil && !libvirt.Answered(err) { // the connection has broken in a long migration
		m.part()
		m.meet(ctx)
		err = m.resumeThere(ctx)
	}
	if err != nil {
		return fmt.Errorf("%w: %w", ErrStill, err)
	}
	return nil
}

func (m *move) resumeThere(ctx context.Context) error {
	if m.there == nil {
		return errors.New("no connection to its libvirtd")
	}
	return m.there.Call(ctx, "let it go on", func(l *golibvirt.Libvirt) error {
		return l.DomainResume(m.dom) // libvirtd finds it by its UUID; one that runs is no error
	})
}

// part ends the connection to the target.
func (m *move) part() {
	if m.there != nil {
		m.client.Drop(m.there)
		m.there = nil
	}
}

// end lets the call end whose guest has left, and the connections.
func (m *move) end() {
	m.part()
	if m.rest != nil {
		select {
		case <-m.rest: // libvirtd has forgotten the guest then. An error says nothing more: it has left
		case <-time.After(restLimit):
		}
	}
	if m.here != nil {
		m.client.Drop(m.here)
	}
}

// Discard ends a guest that stands still here, and forgets it, also one that is off:
// it is on another host. nil when it is not here. One that does not stand still, or with
// which something is under way, is an error and stays.
func (f *Fleet) Discard(ctx context.Context, uuid string) error {
	dom, err := f.find(ctx, uuid)
	if libvirt.HasCode(err, golibvirt.ErrNoDomain) {
		return nil
	}
	if err == nil {
		err = f.client.Ask(ctx, "end it", func(l *golibvirt.Libvirt) error { return discard(l, dom) })
	}
	return libvirt.Doing("discard", cmp.Or(dom.Name, uuid), err)
}

func discard(l *golibvirt.Libvirt, dom golibvirt.Domain) error {
	state, _, err := l.DomainGetState(dom, 0)
	if err != nil {
		return err
	}
	op, err := migration.OperationOf(l, dom)
	if err != nil {
		return err
	}
	off := golibvirt.DomainState(state) == golibvirt.DomainShutoff
	if !off && golibvirt.DomainState(state) != golibvirt.DomainPaused || op.Active {
		return errors.New("it does not stand still")
	}
	persistent, err := l.DomainIsPersistent(dom)
	if err == nil && persistent != 0 { // first: who dies between the two finds it standing still
		err = l.DomainUndefineFlags(dom, golibvirt.DomainUndefineKeepNvram|golibvirt.DomainUndefineKeepTpm)
	}
	if err != nil || off {
		return err
	}
	return l.DomainDestroy(dom)
}

// departure looks for the line of a domain's log that says that a migration took it
// away. libvirtd writes it when the target has told that all of it is there, and
// after it has noted for its own next start that the process here is to be ended, whose CPUs stand still
// since before. It may take long to end (it gives all its memory back), and the guest would wait.
type departure struct {
	path string
	size int64 // when it was read last
	deaf bool  // it says so already, of a process before this one
	left bool  // seen
}

func newDeparture(path string) *departure {
	d := &departure{path: path, size: -1}
	d.deaf, d.left = d.seen(), false
	return d
}

// seen reads the log when it has grown. What can not be read says nothing: the
// call's answer does.
func (d *departure) seen() bool {
	info, err := os.Stat(d.path)
	if err != nil || d.deaf || info.Size() == d.size {
		return false
	}
	moved, _, err := migration.Ended(d.path)
	if err != nil {
		return false
	}
	d.size, d.left = info.Size(), moved
	return moved
}
