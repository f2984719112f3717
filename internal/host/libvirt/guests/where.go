package guests

import (
	"cmp"
	"context"
	"errors"
	"fmt"

	golibvirt "github.com/digitalocean/go-libvirt"

	"holdfast/internal/host/libvirt"
	"holdfast/internal/host/libvirt/migration"
)

// Place is where a guest is, as seen from this host.
type Place string

// Places.
const (
	Here     Place = "here"     // it has a process here, and no migration is under way
	Leaving  Place = "leaving"  // a migration takes it away
	Arriving Place = "arriving" // a migration brings it
	Left     Place = "left"     // a migration took all of it away
	Off      Place = "off"      // it is defined here, and does not run here
	Absent   Place = "absent"   // this host's libvirtd does not know it
	Unclear  Place = "unclear"  // it is not known; see Where.Note
)

// Where tells where a guest is.
type Where struct {
	Place Place
	State VMState // of a guest that is Here
	// the last process that it had here was taken away by a migration. With Off: only its definition was left behind,
	// or has come back since
	Moved bool
	// of Unclear: it stands still since a migration of which libvirtd does not know the end, and goes on here only when
	// it is Resumed
	Halted   bool
	Progress migration.Progress // of a guest that is Leaving
	Note     string             // for people
}

// Whereabouts tells where a guest is: the answer to "what has become of it" for
// whoever began to move it and died. name finds the guest's log when libvirtd does
// not know it any more.
//
// Left is certain: libvirtd writes it only when the target has taken over. Here is
// certain for this host; after a migration whose target fell silent at the very end
// it may stand still there, too: Discard that. Unclear with Halted is what a libvirtd
// leaves that died at that point: if the target has it, Discard it here and Resume it there,
// if not, Resume it here.
func (f *Fleet) Whereabouts(ctx context.Context, uuid, name string) (Where, error) {
	w, err := f.where(ctx, uuid, name)
	if err != nil {
		return Where{Place: Unclear, Note: libvirt.OneLine(err).Error()}, libvirt.Doing("find", name, err)
	}
	return w, nil
}

func (f *Fleet) where(ctx context.Context, uuid, name string) (Where, error) {
	u, err := libvirt.ParseUUID(uuid)
	if err != nil {
		return Where{}, err
	}
	var known bool
	var state, reason int32
	var op migration.Operation
	err = f.client.Ask(ctx, "ask for the guest", func(l *golibvirt.Libvirt) error {
		dom, err := l.DomainLookupByUUID(u)
		if libvirt.HasCode(err, golibvirt.ErrNoDomain) {
			return nil
		}
		if err != nil {
			return err
		}
		if state, reason, err = l.DomainGetState(dom, 0); err == nil {
			op, err = migration.OperationOf(l, dom)
		}
		known = err == nil
		if libvirt.HasCode(err, golibvirt.ErrNoDomain) {
			return nil // it has just gone
		}
		return err
	})
	if err != nil {
		return Where{}, err
	}
	moved, _, err := migration.Ended(f.log(name))
	if err != nil {
		return Where{}, fmt.Errorf("read its log: %w", err)
	}
	if !known && moved {
		return Where{Place: Left, Moved: true}, nil
	}
	if !known {
		return Where{Place: Absent}, nil
	}
	return placeOf(golibvirt.DomainState(state), golibvirt.DomainPausedReason(reason), op, moved), nil
}

// placeOf tells the place of a guest that libvirtd knows.
func placeOf(state golibvirt.DomainState, reason golibvirt.DomainPausedReason, op migration.Operation, moved bool) Where {
	vm, note := vmState(state, reason)
	w := Where{Place: Here, State: vm, Note: note}
	switch {
	case vm == VMOff:
		return Where{Place: Off, Moved: moved}
	case op.Incoming:
		return Where{Place: Arriving}
	case op.Leaving():
		return Where{Place: Leaving, Progress: op.Progress}
	case state != golibvirt.DomainPaused:
	case reason == golibvirt.DomainPausedMigration && op.Active: // not told of which kind
		w.Place = Arriving
	case reason == golibvirt.DomainPausedMigration:
		w.Place, w.Halted, w.Note = Unclear, true, "it stands still after a migration of which libvirtd does not know whether the target has it"
	case reason == golibvirt.DomainPausedPostcopy, reason == golibvirt.DomainPausedPostcopyFailed:
		w.Place, w.Note = Unclear, "a post-copy migration broke off: it is on two hosts in parts"
	}
	return w
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
