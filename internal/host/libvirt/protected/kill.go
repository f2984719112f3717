package protected

import (
	"context"
	"fmt"
	"time"

	golibvirt "github.com/digitalocean/go-libvirt"

	"holdfast/internal/cluster"
	"holdfast/internal/host/libvirt"
	"holdfast/internal/lib/clock"
)

// agentWait is how long the guest's agent may take to answer, in seconds.
const agentWait = 1

// Shutdown asks the guest's system to power off: through the guest agent when
// that answers, else by the ACPI power button. It does not wait for the end. nil
// when there is no guest.
func (d *Driver) Shutdown(ctx context.Context) error {
	s, err := d.process(ctx)
	if err != nil || s == nil {
		return err
	}
	c, err := d.link.Open(ctx)
	if err != nil {
		return fmt.Errorf("shut down %s: %w", d.opt.Name, err)
	}
	defer d.link.Drop(c)
	err = c.Call(ctx, "reach the guest agent", func(l *golibvirt.Libvirt) error {
		_, err := l.QEMUDomainAgentCommand(d.dom, `{"execute":"guest-ping"}`, agentWait, 0)
		return err
	})
	if err == nil {
		if err = d.powerOff(ctx, c, golibvirt.DomainShutdownGuestAgent); err == nil {
			return nil
		}
	}
	if !libvirt.Answered(err) {
		return fmt.Errorf("shut down %s: %w", d.opt.Name, err)
	}
	if acpi := d.powerOff(ctx, c, golibvirt.DomainShutdownAcpiPowerBtn); acpi != nil {
		return fmt.Errorf("shut down %s: %w (guest agent: %w)", d.opt.Name, acpi, err)
	}
	return nil
}

func (d *Driver) powerOff(ctx context.Context, c *libvirt.Conn, how golibvirt.DomainShutdownFlagValues) error {
	return c.Call(ctx, "ask the guest to power off", func(l *golibvirt.Libvirt) error {
		return l.DomainShutdownFlags(d.dom, how)
	})
}

// Kill ends every process of the guest on this host and proves it; it does not
// need libvirtd for that, and does not wait until libvirtd has noticed. A Start
// that has not reached libvirtd yet fails. When libvirtd has been asked to start the
// guest and does not answer within a second either, its processes are killed, too:
// only then can nothing come of that call, and nil means gone. Any error wraps
// cluster.ErrNotProved.
func (d *Driver) Kill(ctx context.Context) error {
	d.start.killed()
	if err := d.kill(ctx); err != nil {
		return fmt.Errorf("kill %s: %w: %w", d.opt.Name, cluster.ErrNotProved, err)
	}
	return nil
}

func (d *Driver) kill(ctx context.Context) error {
	patience := time.Now().Add(libvirt.Share(ctx, answerWait))
	for {
		// Asked before the process table is read: what is not open now is in there.
		open, err := d.startOpen()
		if err != nil {
			return err
		}
		started, err := d.killFound(ctx)
		switch {
		case err != nil:
			return err
		case !open:
			return nil
		case started && d.flying.Load() == 0:
			return d.start.clear() // that was it: nobody else could start it meanwhile
		case time.Now().After(patience):
			err = d.endDaemons(ctx)
		}
		if err == nil && !clock.Sleep(ctx, 20*time.Millisecond) {
			err = ctx.Err()
		}
		if err != nil {
			return fmt.Errorf("%w: %w", errStartOpen, err)
		}
	}
}

// killFound kills what the process table shows until it shows nothing more. The
// process that is known goes first: to read the whole table takes time, and hangs
// when a process on this host is stuck. started: one of them did not wait for a
// migration.
func (d *Driver) killFound(ctx context.Context) (started bool, err error) {
	d.mu.Lock()
	known := d.known
	d.mu.Unlock()
	if known != nil {
		// It may have ended before a later start was called.
		alive, err := d.procs.alive(known.process)
		if err != nil {
			return false, err
		}
		if err := d.procs.end(ctx, known.process); err != nil {
			return false, err
		}
		started = alive && !known.incoming
	}
	for {
		found, err := d.procs.guests(ctx)
		if err != nil {
			return started, err
		}
		if len(found) == 0 {
			d.setKnown(nil)
			return started, nil
		}
		for _, p := range found {
			if err := d.procs.end(ctx, p.process); err != nil {
				return started, err
			}
			started = started || !p.incoming
		}
	}
}
