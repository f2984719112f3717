package libvirt

import (
	"context"
	"fmt"
	"time"

	golibvirt "github.com/digitalocean/go-libvirt"

	"holdfast/internal/cluster"
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
	c, err := d.link.open(ctx)
	if err != nil {
		return fmt.Errorf("shut down %s: %w", d.opt.Name, err)
	}
	defer d.link.drop(c)
	err = c.call(ctx, "reach the guest agent", func(l *golibvirt.Libvirt) error {
		_, err := l.QEMUDomainAgentCommand(d.dom, `{"execute":"guest-ping"}`, agentWait, 0)
		return err
	})
	if err == nil {
		if err = d.powerOff(ctx, c, golibvirt.DomainShutdownGuestAgent); err == nil {
			return nil
		}
	}
	if !answered(err) {
		return fmt.Errorf("shut down %s: %w", d.opt.Name, err)
	}
	if acpi := d.powerOff(ctx, c, golibvirt.DomainShutdownAcpiPowerBtn); acpi != nil {
		return fmt.Errorf("shut down %s: %w (guest agent: %w)", d.opt.Name, acpi, err)
	}
	return nil
}

func (d *Driver) powerOff(ctx context.Context, c *conn, how golibvirt.DomainShutdownFlagValues) error {
	return c.call(ctx, "ask the guest to power off", func(l *golibvirt.Libvirt) error {
		return l.DomainShutdownFlags(d.dom, how)
	})
}

// Kill ends every process of the guest on this host and proves it; it does not
// need libvirtd for that, and does not wait until libvirtd has noticed. A Start
// that has not reached libvirtd yet fails. nil means gone. Any error wraps
// cluster.ErrNotProved: among others that of a start which a frozen libvirtd may
// still carry out.
func (d *Driver) Kill(ctx context.Context) error {
	d.start.killed()
	if err := d.kill(ctx); err != nil {
		return fmt.Errorf("kill %s: %w: %w", d.opt.Name, cluster.ErrNotProved, err)
	}
	return nil
}

func (d *Driver) kill(ctx context.Context) error {
	for {
		// Asked before the process table is read: what is not open now is in there.
		open, err := d.startOpen()
		if err != nil {
			return err
		}
		if err := d.killFound(ctx); err != nil {
			return err
		}
		if !open {
			return nil
		}
		if err := d.settleStart(ctx); err != nil {
			return err
		}
	}
}

// killFound kills what the process table shows until it shows nothing more. The
// process that is known goes first: to read the whole table takes time, and hangs
// when a process on this host is stuck.
func (d *Driver) killFound(ctx context.Context) error {
	d.mu.Lock()
	known := d.known
	d.mu.Unlock()
	if known != nil {
		if err := d.procs.end(ctx, known.proc); err != nil {
			return err
		}
	}
	for {
		found, err := d.procs.guests(ctx)
		if err != nil {
			return err
		}
		if len(found) == 0 {
			d.setKnown(nil)
			return nil
		}
		for _, p := range found {
			if err := d.procs.end(ctx, p.proc); err != nil {
				return err
			}
		}
	}
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
