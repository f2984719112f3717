package guests

import (
	"context"
	"errors"
	"fmt"
	"time"

	"holdfast/internal/host/libvirt/guests"
	"holdfast/internal/lib/clock"
)

// moveLimit bounds a live migration, one way.
const moveLimit = 10 * time.Minute

// live moves the running guest to the target and back.
func (r *run) live(ctx context.Context) error {
	r.Later("it is on the target "+r.order.Target, r.home)
	if err := r.migrate(ctx, r.here, r.there, r.order.Target); err != nil {
		return err
	}
	if err := r.migrate(ctx, r.there, r.here, r.order.Here); err != nil {
		return fmt.Errorf("back from the target: %w", err)
	}
	return r.up(ctx)
}

// migrate moves the running guest, and reads back on both hosts.
func (r *run) migrate(ctx context.Context, from, to *guests.Fleet, target string) error {
	place, err := from.Migrate(ctx, r.was.UUID, target, guests.MigrateOptions{AutoConverge: true, Timeout: moveLimit})
	if errors.Is(err, guests.ErrStill) { // from did not reach to, which is at hand
		err = to.Resume(ctx, r.was.UUID)
	}
	if err == nil && place != guests.Left {
		err = fmt.Errorf("libvirtd says that it is %s after it was moved", where(guests.Where{Place: place}))
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
func (r *run) gone(ctx context.Context, f *guests.Fleet) error {
	w, err := f.Whereabouts(ctx, r.was.UUID, r.was.Name)
	if err == nil && w.Place != guests.Absent && w.Place != guests.Left {
		err = fmt.Errorf("it has left, and the host that it left says that it is %s", where(w))
	}
	return err
}

// cold shuts the guest down, moves its definition to the target, starts it there, and the same back.
func (r *run) cold(ctx context.Context) error {
	r.Later("it is on the target "+r.order.Target, r.home)
	if err := r.carry(ctx, r.here, r.there, r.order.Target); err != nil {
		return err
	}
	if err := r.carry(ctx, r.there, r.here, r.order.Here); err != nil {
		return fmt.Errorf("back from the target: %w", err)
	}
	return r.up(ctx)
}

func (r *run) carry(ctx context.Context, from, to *guests.Fleet, target string) error {
	if err := from.ColdMove(ctx, r.was.UUID, target, r.shutdown()); err != nil {
		return err
	}
	if err := to.Start(ctx, r.was.UUID, guests.StartOptions{Transient: !r.was.Persistent}); err != nil {
		return err
	}
	if err := running(ctx, to, r.was.UUID, r.was.Name); err != nil {
		return err
	}
	return r.gone(ctx, from)
}

// home brings the guest back here from the target, running or off.
func (r *run) home(ctx context.Context) error {
	w, err := r.settled(ctx, r.here, r.there)
	if err != nil {
		return fmt.Errorf("this host: %w", err)
	}
	if w.Place == guests.Here || w.Place == guests.Off {
		return r.nowhereElse(ctx)
	}
	if w, err = r.settled(ctx, r.there, r.here); err != nil {
		return fmt.Errorf("the target: %w", err)
	}
	if w.Place != guests.Here && w.Place != guests.Off {
		return errors.New("neither this host's libvirtd nor the target's knows it")
	}
	if w.Place == guests.Here {
		if w.State == guests.VMPaused { // it has arrived, and nobody let it go on
			if err := r.there.Resume(ctx, r.was.UUID); err != nil {
				return err
			}
		}
		if r.migrate(ctx, r.there, r.here, r.order.Here) == nil {
			return nil
		}
	}
	// What does not move live moves cold.
	if err := r.there.ColdMove(ctx, r.was.UUID, r.order.Here, r.shutdown()); err != nil {
		return err
	}
	return r.start(ctx)
}

// settled waits until it is certain where a guest is, as one host sees it. A migration under way is aborted.
func (r *run) settled(ctx context.Context, at, other *guests.Fleet) (guests.Where, error) {
	for {
		w, err := at.Whereabouts(ctx, r.was.UUID, r.was.Name)
		switch {
		case err != nil:
		case w.Place == guests.Leaving:
			err = at.AbortMigration(ctx, r.was.UUID)
		case w.Halted:
			err = r.unhalt(ctx, at, other)
		case w.Place != guests.Arriving && w.Place != guests.Unclear:
			return w, nil
		}
		if !clock.Sleep(ctx, poll) {
			return w, errors.Join(fmt.Errorf("libvirtd says that it is %s", where(w)), err, ctx.Err())
		}
	}
}

// unhalt decides for a guest that a migration has left standing still, as its libvirtd does not know the end: it
// goes on where it was, unless the other host has it.
func (r *run) unhalt(ctx context.Context, at, other *guests.Fleet) error {
	w, err := other.Whereabouts(ctx, r.was.UUID, r.was.Name)
	switch {
	case err != nil:
		return err
	case w.Place == guests.Here:
		return at.Discard(ctx, r.was.UUID)
	case w.Place == guests.Absent || w.Place == guests.Left || w.Place == guests.Off:
		return at.Resume(ctx, r.was.UUID)
	}
	return nil
}

// nowhereElse reads back that the target has nothing of a guest that is here.
func (r *run) nowhereElse(ctx context.Context) error {
	w, err := r.there.Whereabouts(ctx, r.was.UUID, r.was.Name)
	if err == nil && w.Place != guests.Absent && w.Place != guests.Left {
		err = fmt.Errorf("it is here, and on the target it is %s", where(w))
	}
	return err
}
