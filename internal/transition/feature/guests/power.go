package guests

import (
	"context"
	"errors"
	"fmt"
	"time"

	"libvirt.org/go/libvirtxml"

	"holdfast/internal/host/libvirt/guests"
	"holdfast/internal/lib/clock"
)

// poll separates two looks.
const poll = 200 * time.Millisecond

// shutdown is how the test guest is shut down: it loses nothing that anybody needs.
func (r *run) shutdown() guests.ShutdownOptions {
	return guests.ShutdownOptions{Wait: r.order.Wait, PowerOff: true}
}

// stop shuts the guest down. An error also when it had to be powered off.
func (r *run) stop(ctx context.Context) error {
	clean, err := r.here.Shutdown(ctx, r.was.UUID, r.shutdown())
	if err == nil {
		err = r.isOff(ctx)
	}
	if err == nil && !clean {
		return fmt.Errorf("it did not shut down in %s after it was asked to, and was powered off", r.order.Wait)
	}
	return err
}

// off sees that the guest is off, whatever that takes.
func (r *run) off(ctx context.Context) error {
	if _, err := r.here.Shutdown(ctx, r.was.UUID, r.shutdown()); err != nil {
		return err
	}
	return r.isOff(ctx)
}

// isOff reads back that the guest is off, also in the process table.
func (r *run) isOff(ctx context.Context) error {
	w, err := r.here.Whereabouts(ctx, r.was.UUID, r.was.Name)
	if err != nil {
		return err
	}
	if w.Place != guests.Off {
		return fmt.Errorf("libvirtd says that it is %s", where(w))
	}
	pids, err := r.here.Processes(ctx, r.was.UUID, r.was.Name)
	if err == nil && len(pids) > 0 {
		err = fmt.Errorf("libvirtd says that it is off, and it has a process: %d", pids[0])
	}
	return err
}

// start sees that the guest runs here, with its system up.
func (r *run) start(ctx context.Context) error {
	if err := r.power(ctx); err != nil {
		return err
	}
	return r.up(ctx)
}

// power starts the guest if it does not run. A transient one gets its definition of before the run.
func (r *run) power(ctx context.Context) error {
	w, err := r.here.Whereabouts(ctx, r.was.UUID, r.was.Name)
	if err != nil {
		return err
	}
	if w.Place == guests.Here && w.State == guests.VMRunning {
		return nil
	}
	if !r.was.Persistent {
		if err := r.here.Define(ctx, r.def); err != nil {
			return err
		}
	}
	if err := r.here.Start(ctx, r.was.UUID, guests.StartOptions{Transient: !r.was.Persistent}); err != nil {
		return err
	}
	return running(ctx, r.here, r.was.UUID, r.was.Name)
}

// again stops and starts the guest.
func (r *run) again(ctx context.Context) error {
	if err := r.off(ctx); err != nil {
		return err
	}
	return r.start(ctx)
}

// up reads back that the guest runs here, and waits for its guest agent if it has one.
func (r *run) up(ctx context.Context) error {
	if err := running(ctx, r.here, r.was.UUID, r.was.Name); err != nil {
		return err
	}
	pids, err := r.here.Processes(ctx, r.was.UUID, r.was.Name)
	if err == nil && len(pids) == 0 {
		err = errors.New("libvirtd says that it runs, and it has no process")
	}
	if err != nil || !r.agent {
		return err
	}
	return r.await(ctx, "its guest agent is not connected", func() (bool, error) {
		def, err := r.present(ctx)
		return err == nil && agent(def), err
	})
}

// where says where a guest is: in which state it is where it has a process, and why that is not known.
func where(w guests.Where) string {
	text := string(w.Place)
	switch {
	case w.Place == guests.Absent:
		text = "not there"
	case w.Place == guests.Left:
		text = "moved to another host"
	case w.Place == guests.Unclear:
		text = "at a place that is not clear"
	case w.State != "":
		text += ", " + string(w.State)
	}
	if w.Note != "" {
		text += " (" + w.Note + ")"
	}
	return text
}

// running reads back that a guest runs on a host.
func running(ctx context.Context, f *guests.Fleet, uuid, name string) error {
	w, err := f.Whereabouts(ctx, uuid, name)
	if err == nil && (w.Place != guests.Here || w.State != guests.VMRunning) {
		err = fmt.Errorf("libvirtd says that it is %s", where(w))
	}
	return err
}

// await looks until ok, at most as long as the guest may take to obey.
func (r *run) await(ctx context.Context, not string, ok func() (bool, error)) error {
	end := time.Now().Add(r.order.Wait)
	for {
		good, err := ok()
		switch {
		case good:
			return nil
		case time.Now().After(end):
			return errors.Join(fmt.Errorf("%s after %s", not, r.order.Wait), err)
		case !clock.Sleep(ctx, poll):
			return errors.Join(errors.New(not), ctx.Err())
		}
	}
}

// present is the definition of the guest as it is now.
func (r *run) present(ctx context.Context) (*libvirtxml.Domain, error) {
	text, err := r.here.Present(ctx, r.was.UUID)
	if err != nil {
		return nil, err
	}
	var def libvirtxml.Domain
	if err := def.Unmarshal(text); err != nil {
		return nil, fmt.Errorf("read its definition: %w", err)
	}
	if def.Devices == nil {
		def.Devices = &libvirtxml.DomainDeviceList{}
	}
	return &def, nil
}

// agent reports whether a guest's agent is connected.
func agent(def *libvirtxml.Domain) bool {
	for _, c := range def.Devices.Channels {
		if c.Target != nil && c.Target.VirtIO != nil && c.Target.VirtIO.Name == "org.qemu.guest_agent.0" {
			return c.Target.VirtIO.State == "connected"
		}
	}
	return false
}
