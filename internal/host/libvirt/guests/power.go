package guests

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	golibvirt "github.com/digitalocean/go-libvirt"

	"holdfast/internal/host/libvirt"
	"holdfast/internal/lib/clock"
)

// ShutdownOptions say how a guest is shut down.
type ShutdownOptions struct {
	Wait     time.Duration // for the guest to obey; 0: 2 min
	PowerOff bool          // power it off when it has not: it loses what it has not written
}

const (
	shutdownWait   = 2 * time.Minute
	shutdownRepeat = 5 * time.Second // a guest that boots misses the first request
	shutdownPoll   = 100 * time.Millisecond
)

// Shutdown shuts a guest down by its agent or its power button, and returns when
// it is off. clean tells that it shut itself down, or was off. A transient guest is defined before,
// so that it is not lost: it is persistent afterwards, and Start can make it transient
// again. ErrRunning: it did not obey, or it stands still, and may not be powered off.
func (f *Fleet) Shutdown(ctx context.Context, uuid string, opt ShutdownOptions) (clean bool, err error) {
	dom, err := f.find(ctx, uuid)
	if err != nil {
		return false, libvirt.Doing("shut down", uuid, err)
	}
	clean, err = f.shutdown(ctx, dom, opt)
	return clean, libvirt.Doing("shut down", dom.Name, err)
}

func (f *Fleet) shutdown(ctx context.Context, dom golibvirt.Domain, opt ShutdownOptions) (clean bool, err error) {
	state, err := f.state(ctx, dom)
	if err != nil || state == VMOff {
		return err == nil, err
	}
	if err := f.keepDefinition(ctx, dom); err != nil {
		return false, err
	}
	if state == VMPaused {
		err = fmt.Errorf("%w: it stands still, so it can not shut itself down", ErrRunning)
	} else {
		err = f.awaitShutdown(ctx, dom, cmp.Or(opt.Wait, shutdownWait))
	}
	if err == nil || !errors.Is(err, ErrRunning) || !opt.PowerOff {
		return err == nil, err
	}
	return false, f.powerOff(ctx, dom)
}

// awaitShutdown asks the guest, again and again, until it is off or the time is over.
func (f *Fleet) awaitShutdown(ctx context.Context, dom golibvirt.Domain, wait time.Duration) error {
	end := time.Now().Add(wait)
	var refused error
	for asked := (time.Time{}); ; {
		if time.Since(asked) >= shutdownRepeat {
			asked = time.Now()
			refused = f.client.Ask(ctx, "ask it to shut down", func(l *golibvirt.Libvirt) error {
				return l.DomainShutdownFlags(dom, golibvirt.DomainShutdownDefault)
			})
		}
		state, err := f.state(ctx, dom)
		if err == nil && state == VMOff {
			return nil
		}
		if time.Now().After(end) {
			return errors.Join(fmt.Errorf("%w %v after it was asked to shut down", ErrRunning, wait), refused, err)
		}
		if !clock.Sleep(ctx, shutdownPoll) {
			return errors.Join(ErrRunning, ctx.Err(), refused)
		}
	}
}

// powerOff ends the guest's process and returns when libvirtd says it is off.
func (f *Fleet) powerOff(ctx context.Context, dom golibvirt.Domain) error {
	err := f.client.Ask(ctx, "power it off", func(l *golibvirt.Libvirt) error {
		err := l.DomainDestroyFlags(dom, golibvirt.DomainDestroyGraceful)
		if err == nil || libvirt.HasCode(err, golibvirt.ErrNoDomain) || libvirt.HasCode(err, golibvirt.ErrOperationInvalid) {
			return nil // off, as its state will tell
		}
		return l.DomainDestroyFlags(dom, golibvirt.DomainDestroyDefault)
	})
	for {
		state, stateErr := f.state(ctx, dom)
		if stateErr == nil && state == VMOff {
			return nil
		}
		if !clock.Sleep(ctx, shutdownPoll) || err != nil {
			return errors.Join(ErrRunning, err, stateErr, ctx.Err())
		}
	}
}

// state asks how a guest stands; one that libvirtd does not know is off.
func (f *Fleet) state(ctx context.Context, dom golibvirt.Domain) (VMState, error) {
	out := VMOff
	err := f.client.Ask(ctx, "ask for its state", func(l *golibvirt.Libvirt) error {
		state, reason, err := l.DomainGetState(dom, 0)
		if err == nil {
			out, _ = vmState(golibvirt.DomainState(state), golibvirt.DomainPausedReason(reason))
		}
		return err
	})
	if libvirt.HasCode(err, golibvirt.ErrNoDomain) {
		return VMOff, nil
	}
	return out, err
}

// keepDefinition makes a transient guest persistent. It starts no earlier with
// the host than before: autostart stays off.
func (f *Fleet) keepDefinition(ctx context.Context, dom golibvirt.Domain) error {
	return f.client.Ask(ctx, "keep its definition", func(l *golibvirt.Libvirt) error {
		persistent, err := l.DomainIsPersistent(dom)
		if err != nil || persistent != 0 {
			return err
		}
		text, err := l.DomainGetXMLDesc(dom, golibvirt.DomainXMLInactive|golibvirt.DomainXMLSecure)
		if err != nil {
			return err
		}
		_, err = l.DomainDefineXMLFlags(text, 0)
		return err
	})
}

// StartOptions say how a guest is started.
type StartOptions struct {
	Transient bool // afterwards libvirt forgets it when it ends, as it did before Shutdown
}

// Start starts a guest that is defined here. nil also when it runs already. After
// an error that is not libvirtd's refusal it may still come up: Whereabouts tells.
func (f *Fleet) Start(ctx context.Context, uuid string, opt StartOptions) error {
	dom, err := f.find(ctx, uuid)
	if err != nil {
		return libvirt.Doing("start", uuid, err)
	}
	return libvirt.Doing("start", dom.Name, f.start(ctx, dom, opt))
}

func (f *Fleet) start(ctx context.Context, dom golibvirt.Domain, opt StartOptions) error {
	state, err := f.state(ctx, dom)
	if err == nil && state == VMOff {
		limit, cancel := context.WithTimeout(ctx, libvirt.Share(ctx, startLimit))
		defer cancel()
		err = f.client.With(limit, func(c *libvirt.Conn) error {
			return c.Call(limit, "start it", func(l *golibvirt.Libvirt) error {
				_, err := l.DomainCreateWithFlags(dom, 0)
				return err
			})
		})
	}
	if err != nil {
		// Another call may have been quicker.
		if state, again := f.state(ctx, dom); again != nil || state == VMOff {
			return err
		}
	}
	if !opt.Transient {
		return nil
	}
	return f.client.Ask(ctx, "make it transient again", func(l *golibvirt.Libvirt) error {
		persistent, err := l.DomainIsPersistent(dom)
		if err != nil || persistent == 0 {
			return err
		}
		return l.DomainUndefineFlags(dom, golibvirt.DomainUndefineKeepNvram|golibvirt.DomainUndefineKeepTpm)
	})
}

// startLimit bounds a start: libvirtd restores saved memory in it.
const startLimit = 2 * time.Minute

// Resume lets a guest go on that stands still. nil when it runs already.
func (f *Fleet) Resume(ctx context.Context, uuid string) error {
	dom, err := f.find(ctx, uuid)
	if err == nil {
		err = f.client.Ask(ctx, "ask libvirtd", func(l *golibvirt.Libvirt) error {
			state, _, err := l.DomainGetState(dom, 0)
			if err != nil || golibvirt.DomainState(state) == golibvirt.DomainRunning {
				return err
			}
			return l.DomainResume(dom)
		})
	}
	return libvirt.Doing("resume", cmp.Or(dom.Name, uuid), err)
}

// SetAutostart says whether libvirt starts a guest with the host. libvirt's
// migrations do not carry that along.
func (f *Fleet) SetAutostart(ctx context.Context, uuid string, on bool) error {
	dom, err := f.find(ctx, uuid)
	if err == nil {
		err = f.client.Ask(ctx, "ask libvirtd", func(l *golibvirt.Libvirt) error {
			n := int32(0)
			if on {
				n = 1
			}
			return l.DomainSetAutostart(dom, n)
		})
	}
	return libvirt.Doing("set autostart of", cmp.Or(dom.Name, uuid), err)
}

// ColdMove shuts a guest down and moves its definition to the host whose libvirtd
// is at target: it is defined there and undefined here by one call of libvirt. The
// Fleet of the target then starts it (with StartOptions.Transient if it was
// transient, and with SetAutostart). nil: it is there, off, and not here any more.
// May be repeated; a guest that is Absent here has been moved before, or never was
// here: ask the target. Nothing is done when what it needs is on this host only.
func (f *Fleet) ColdMove(ctx context.Context, uuid, target string, opt ShutdownOptions) error {
	dom, err := f.find(ctx, uuid)
	if err != nil {
		return libvirt.Doing("move to "+target, uuid, err)
	}
	return libvirt.Doing("move to "+target, dom.Name, f.coldMove(ctx, dom, target, opt))
}

func (f *Fleet) coldMove(ctx context.Context, dom golibvirt.Domain, target string, opt ShutdownOptions) error {
	vm, err := f.one(ctx, dom)
	if err != nil {
		return err
	}
	if !vm.known {
		return fmt.Errorf("it is not known what it needs: %s", vm.Busy)
	}
	if len(vm.Bound) > 0 {
		return fmt.Errorf("%w: %s", errBound, strings.Join(vm.Bound, "; "))
	}
	if vm.Job != "" {
		return fmt.Errorf("%w: busy with %s", ErrRunning, vm.Job)
	}
	if _, err := f.shutdown(ctx, dom, opt); err != nil {
		return err
	}
	limit, cancel := context.WithTimeout(ctx, libvirt.Share(ctx, offlineLimit))
	defer cancel()
	err = f.client.With(limit, func(c *libvirt.Conn) error {
		flags := golibvirt.MigrateOffline | golibvirt.MigratePersistDest | golibvirt.MigrateUndefineSource
		return c.Call(limit, "move its definition", func(l *golibvirt.Libvirt) error {
			return f.perform(limit, l, dom, target, flags, MigrateOptions{})
		})
	})
	if err == nil {
		return nil
	}
	w, again := f.where(ctx, libvirt.FormatUUID(dom.UUID), dom.Name)
	if again == nil && (w.Place == Absent || w.Place == Left) && !libvirt.Answered(err) {
		return nil // libvirt forgets it here only when the target has it
	}
	return err
}

// offlineLimit bounds the move of a definition, a few kilobytes.
const offlineLimit = 30 * time.Second

// one gives the facts of one guest.
func (f *Fleet) one(ctx context.Context, dom golibvirt.Domain) (VM, error) {
	all, err := f.List(ctx)
	if err != nil {
		return VM{}, err
	}
	for _, v := range all {
		if v.UUID == libvirt.FormatUUID(dom.UUID) {
			return v, nil
		}
	}
	return VM{}, fmt.Errorf("libvirtd does not know %s", dom.Name)
}

// subscribeLimit bounds the answer to a request for events.
const subscribeLimit = 10 * time.Second

// Reboot asks a guest to restart, by its agent or its power button, and returns when QEMU has told that it did.
// ErrRunning: it did not in the time. libvirt then restarts it when it ends by itself next, until it is told to
// Shutdown.
func (f *Fleet) Reboot(ctx context.Context, uuid string, wait time.Duration) error {
	dom, err := f.find(ctx, uuid)
	if err == nil {
		err = f.client.With(ctx, func(c *libvirt.Conn) error { return f.reboot(ctx, c, dom, wait) })
	}
	return libvirt.Doing("restart", cmp.Or(dom.Name, uuid), err)
}

func (f *Fleet) reboot(ctx context.Context, c *libvirt.Conn, dom golibvirt.Domain, wait time.Duration) error {
	limit, cancel := context.WithTimeout(ctx, libvirt.Share(ctx, subscribeLimit))
	defer cancel()
	told, stop, err := libvirt.Subscribe(limit, c, func(ctx context.Context, l *golibvirt.Libvirt) (<-chan any, error) {
		return l.SubscribeEvents(ctx, golibvirt.DomainEventIDReboot, nil)
	})
	if err != nil {
		return err
	}
	defer stop()
	end := time.NewTimer(wait)
	defer end.Stop()
	ask := time.NewTicker(shutdownRepeat)
	defer ask.Stop()
	for {
		if state, err := f.state(ctx, dom); err == nil && state == VMOff {
			return errors.New("it is off: it ended instead of restarting")
		}
		refused := f.client.Ask(ctx, "ask it to restart",
			func(l *golibvirt.Libvirt) error { return l.DomainReboot(dom, golibvirt.DomainRebootDefault) })
		for again := false; !again; {
			select {
			case e, ok := <-told:
				if m, is := e.(*golibvirt.DomainEventCallbackRebootMsg); is && m.Msg.Dom.UUID == dom.UUID {
					return nil
				}
				if !ok {
					return libvirt.ErrLost
				}
			case <-end.C:
				return errors.Join(fmt.Errorf("%w, and did not restart, %v after it was asked to", ErrRunning, wait), refused)
			case <-ctx.Done():
				return errors.Join(ctx.Err(), refused)
			case <-ask.C:
				again = true // a guest that boots misses the first request
			}
		}
	}
}
