package protected

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	golibvirt "github.com/digitalocean/go-libvirt"

	"holdfast/internal/cluster"
	"holdfast/internal/host/libvirt"
	"holdfast/internal/lib/clock"
)

// Start starts the guest as a transient domain, which no reboot and no libvirtd
// starts again, and which does not end with our connection. libvirtd is not asked
// after ctx's deadline, which the caller sets to the end of its right to start it. An
// error that wraps cluster.ErrNotStarted is certain: libvirtd was not asked, or it
// refused and no process of the guest exists. After any other error only Kill decides.
func (d *Driver) Start(ctx context.Context, spec cluster.GuestSpec) error {
	gen := d.start.generation()
	// Only when nothing of the guest is there or on its way can this call's failure
	// mean that it does not run.
	if err := d.checkClear(ctx); err != nil {
		return fmt.Errorf("start %s: %w", d.opt.Name, err)
	}
	def, err := d.prepare(ctx, spec)
	if err != nil {
		return fmt.Errorf("start %s: %w: %w", d.opt.Name, cluster.ErrNotStarted, err)
	}
	for end := time.Now().Add(forgetLimit); ; {
		err := d.startOnce(ctx, def, gen)
		if !errors.Is(err, cluster.ErrNotStarted) || !libvirt.BeingRemoved(err) || time.Now().After(end) ||
			!clock.Sleep(ctx, 20*time.Millisecond) {
			return err
		}
	}
}

func (d *Driver) startOnce(ctx context.Context, def string, gen int) error {
	c, err := d.ready(ctx, gen)
	if errors.Is(err, errStartOpen) { // of a call at the same time
		return fmt.Errorf("start %s: %w", d.opt.Name, err)
	}
	if err != nil {
		return fmt.Errorf("start %s: %w: %w", d.opt.Name, cluster.ErrNotStarted, err)
	}
	select {
	case err = <-d.create(ctx, c, def):
	case <-ctx.Done():
		return fmt.Errorf("start %s: no answer from libvirtd yet, it may still come up: %w", d.opt.Name, ctx.Err())
	}
	switch {
	case err == nil:
		return nil
	case errors.Is(err, errNotSent):
		return fmt.Errorf("start %s: %w: %w", d.opt.Name, cluster.ErrNotStarted, err)
	case !libvirt.Answered(err):
		return fmt.Errorf("start %s: %w: %w", d.opt.Name, libvirt.ErrLost, err)
	}
	return d.refused(ctx, err)
}

func (d *Driver) checkClear(ctx context.Context) error {
	open, err := d.startOpen()
	if err != nil {
		return err
	}
	if open {
		return errStartOpen
	}
	found, err := d.procs.guests(ctx)
	if err != nil {
		return err
	}
	if len(found) > 0 {
		return fmt.Errorf("it runs already, processes %v", pids(found))
	}
	return nil
}

// ready returns a connection over which the start may be asked for, and notes
// that it will be.
func (d *Driver) ready(ctx context.Context, gen int) (*libvirt.Conn, error) {
	daemons, err := d.procs.daemons(ctx)
	if err == nil {
		daemons, err = d.procs.ofRoot(daemons)
	}
	if err != nil {
		return nil, err
	}
	if len(daemons) == 0 {
		return nil, errors.New("no libvirtd or virtqemud of root runs: were a start not answered, nothing could prove later that it has failed")
	}
	c, err := d.link.Open(ctx)
	if err != nil {
		return nil, err
	}
	err = d.awaitForgotten(ctx, c)
	if err == nil {
		err = d.start.begin(daemons, gen)
	}
	if err != nil {
		d.link.Drop(c)
		return nil, err
	}
	return c, nil
}

func (d *Driver) prepare(ctx context.Context, spec cluster.GuestSpec) (string, error) {
	if !strings.EqualFold(spec.UUID, d.opt.UUID) || spec.Name != d.opt.Name || spec.Resource != d.opt.Resource {
		return "", fmt.Errorf("asked for %s %s (%s), but this driver is for %s %s (%s)",
			spec.Resource, spec.Name, spec.UUID, d.opt.Resource, d.opt.Name, d.opt.UUID)
	}
	format, err := d.checkFiles(ctx, spec, true)
	if err != nil {
		return "", err
	}
	if err := d.checkLocks(ctx, spec); err != nil {
		return "", err
	}
	if err := d.makeLease(ctx, spec); err != nil {
		return "", err
	}
	spec.OnPanic = d.panicPolicy(ctx, spec)
	def, err := domainXML(spec, format)
	if err != nil {
		return "", err
	}
	return def, d.takePool(ctx, spec)
}

// forgetLimit bounds the wait for libvirtd to forget an earlier process. It
// notices the end at once, and takes 0.2 s to clean up.
const forgetLimit = 2 * time.Second

// awaitForgotten waits until libvirtd has noticed that an earlier process of
// the guest is gone, else it would refuse the start because the name is taken. The
// domain is not destroyed through libvirtd: when libvirtd freezes, that call could
// be carried out much later, and hit the next guest.
func (d *Driver) awaitForgotten(ctx context.Context, c *libvirt.Conn) error {
	for end := time.Now().Add(forgetLimit); time.Now().Before(end); {
		var persistent int32
		err := c.Call(ctx, "look for an old domain", func(l *golibvirt.Libvirt) (err error) {
			persistent, err = l.DomainIsPersistent(d.dom)
			return err
		})
		switch {
		case libvirt.HasCode(err, golibvirt.ErrNoDomain):
			return nil
		case err != nil:
			return err
		case persistent != 0:
			return nil // defined by somebody: it stays
		}
		if !clock.Sleep(ctx, 10*time.Millisecond) {
			return fmt.Errorf("wait for libvirtd to forget the old domain: %w", ctx.Err())
		}
	}
	return nil // libvirtd says what is wrong when it refuses the start
}

// errNotSent: libvirtd was not asked to start the domain.
var errNotSent = errors.New("libvirtd was not asked")

// late tells whether the caller's time is over. Its clock is read: in a process that
// was stopped and goes on, the timer that would end the context may not have run yet.
func late(ctx context.Context) error {
	if end, ok := ctx.Deadline(); ok && !time.Now().Before(end) {
		return context.DeadlineExceeded
	}
	return ctx.Err()
}

// create asks libvirtd to start the domain, unless the caller's time is over. Then,
// the call is not given up any more: libvirtd may carry it out later, and its answer
// is the only certain word. It ends with that answer, with libvirtd, or with Close.
func (d *Driver) create(ctx context.Context, c *libvirt.Conn, def string) <-chan error {
	result := make(chan error, 1)
	d.flying.Add(1)
	owned := d.own(func() {
		defer d.poke()
		defer d.flying.Add(-1)
		defer d.link.Drop(c)
		err := <-c.Async(func(l *golibvirt.Libvirt) error {
			if err := late(ctx); err != nil {
				return fmt.Errorf("%w: %w", errNotSent, err)
			}
			_, err := l.DomainCreateXML(def, 0)
			return err
		})
		if err == nil || libvirt.Answered(err) || errors.Is(err, errNotSent) {
			if err := d.start.clear(); err != nil {
				d.log.Error("the guest's start is over, but stays noted as open", "err", err)
			}
		}
		result <- err
	})
	if !owned { // nothing was sent
		d.flying.Add(-1)
		d.link.Drop(c)
		result <- errors.Join(errNotSent, errors.New("the agent is ending"), d.start.clear())
	}
	return result
}

// refused tells whether libvirtd's refusal left anything behind. It ends the
// process of a start that failed before it answers, so that is not waited for long.
func (d *Driver) refused(ctx context.Context, cause error) error {
	cause = libvirt.OneLine(explainLock(cause))
	for {
		found, err := d.procs.guests(ctx)
		switch {
		case err != nil:
			return fmt.Errorf("start %s: libvirtd refused (%w), but %w", d.opt.Name, cause, err)
		case len(found) == 0:
			return fmt.Errorf("start %s: %w: libvirtd refused: %w", d.opt.Name, cluster.ErrNotStarted, cause)
		}
		if !clock.Sleep(ctx, 10*time.Millisecond) {
			return fmt.Errorf("start %s: libvirtd refused (%w), but processes %v are there", d.opt.Name, cause, pids(found))
		}
	}
}
