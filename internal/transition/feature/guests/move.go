package guests

import (
	"context"
	"errors"
	"fmt"
	"time"

	"holdfast/internal/host/libvirt"
)

// moveLimit bounds a live migration, one way.
const moveLimit = 10 * time.Minute

// live moves the running guest to the target and back.
func (r *run) live(ctx context.Context) error {
	r.later("it is on the target "+r.order.Target, r.home)
	if err := r.migrate(ctx, r.here, r.there, r.order.Target); err != nil {
		return err
	}
	if err := r.migrate(ctx, r.there, r.here, r.order.Here); err != nil {
		return fmt.Errorf("back from the target: %w", err)
	}
	return r.up(ctx)
}

// migrate moves the running guest, and reads back on both hosts.
func (r *run) migrate(ctx context.Context, from, to *libvirt.Fleet, target string) error {
	place, err := from.Migrate(ctx, r.was.UUID, target, libvirt.MigrateOptions{Direct: true, AutoConverge: true, Timeout: moveLimit})
	if err == nil && place != libvirt.Left {
		err = fmt.Errorf("it is %s", place)
	}
	if err == nil {
		err = running(ctx, to, r.was.UUID, r.was.Name)
	}
	if err != nil {
		return err
	}
	return r.gone(ctx, from)
}

// gone reads back that a host does not have the guest any more.
func (r *run) gone(ctx context.Context, f *libvirt.Fleet) error {
	w, err := f.Whereabouts(ctx, r.was.UUID, r.was.Name)
	if err == nil && w.Place != libvirt.Absent && w.Place != libvirt.Left {
		err = fmt.Errorf("it has left, and the host that it left says that it is %s", w.Place)
	}
	return err
}

// cold shuts the guest down, moves its definition to the target, starts it there, and the same back.
func (r *run) cold(ctx context.Context) error {
	r.later("it is on the target "+r.order.Target, r.home)
	if err := r.carry(ctx, r.here, r.there, r.order.Target); err != nil {
		return err
	}
	if err := r.carry(ctx, r.there, r.here, r.order.Here); err != nil {
		return fmt.Errorf("back from the target: %w", err)
	}
	return r.up(ctx)
}

func (r *run) carry(ctx context.Context, from, to *libvirt.Fleet, target string) error {
	if err := from.ColdMove(ctx, r.was.UUID, target, r.shutdown()); err != nil {
		return err
	}
	if err := to.Start(ctx, r.was.UUID, libvirt.StartOptions{Transient: !r.was.Persistent}); err != nil {
		return err
	}
	if err := running(ctx, to, r.was.UUID, r.was.Name); err != nil {
		return err
	}
	return r.gone(ctx, from)
}

// home brings the guest back here from the target, running or off.
func (r *run) home(ctx context.Context) error {
	w, err := r.here.Whereabouts(ctx, r.was.UUID, r.was.Name)
	if err != nil {
		return err
	}
	switch w.Place {
	case libvirt.Here, libvirt.Off:
		return r.nowhereElse(ctx)
	case libvirt.Absent, libvirt.Left:
	default:
		return fmt.Errorf("this host's libvirtd says that it is %s %s", w.Place, w.Note)
	}
	if w, err = r.there.Whereabouts(ctx, r.was.UUID, r.was.Name); err != nil {
		return err
	}
	switch {
	case w.Place == libvirt.Here && w.State == libvirt.VMPaused: // it has arrived, and nobody let it go on
		if err := r.there.Resume(ctx, r.was.UUID); err != nil {
			return err
		}
	case w.Place != libvirt.Here && w.Place != libvirt.Off:
		return fmt.Errorf("this host's libvirtd does not know it, and the target's says that it is %s %s", w.Place, w.Note)
	}
	if w.Place == libvirt.Here {
		if err = r.migrate(ctx, r.there, r.here, r.order.Here); err == nil {
			return nil
		}
	}
	// What does not move live moves cold.
	if err := errors.Join(r.there.ColdMove(ctx, r.was.UUID, r.order.Here, r.shutdown()), ctx.Err()); err != nil {
		return err
	}
	return r.start(ctx)
}

// nowhereElse reads back that the target has nothing of a guest that is here.
func (r *run) nowhereElse(ctx context.Context) error {
	w, err := r.there.Whereabouts(ctx, r.was.UUID, r.was.Name)
	if err == nil && w.Place != libvirt.Absent && w.Place != libvirt.Left {
		err = fmt.Errorf("it is here, and on the target it is %s %s", w.Place, w.State)
	}
	return err
}
