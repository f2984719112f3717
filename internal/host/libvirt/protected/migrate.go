package protected

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	golibvirt "github.com/digitalocean/go-libvirt"

	"holdfast/internal/cluster"
	"holdfast/internal/host/libvirt"
	"holdfast/internal/host/libvirt/migration"
	"holdfast/internal/lib/clock"
)

// abortLimit is the time that an abort of a migration may take.
const abortLimit = 3 * time.Second

// abortAnswer is how long one request to abort may take: of a QEMU that has not answered
// by then the connection is looked at.
const abortAnswer = time.Second

// Migrate moves the running guest to the host at addr, live: an IP address or a
// name, or IP:PORT where libvirtd is reached at another port than its own. tls: the
// target has said that it can receive memory by TLS (its MigrationSecurity). Then it
// travels so if this host can, too; nothing falls back to clear. nil:
// it is gone here, and libvirtd says that all of it is there, to be resumed. An
// error that wraps cluster.ErrNotProved: it is not known where it is, or whether
// it will stay. Any other error: it runs on here. When ctx is cancelled, or in
// time before its deadline, the migration is aborted; after a cancellation that
// takes 3 s at most.
func (d *Driver) Migrate(ctx context.Context, addr string, tls bool) error {
	tls, err := d.leave.Choose(tls)
	if err == nil {
		err = d.migrate(ctx, addr, tls)
	}
	if err != nil {
		return fmt.Errorf("migrate %s to %s: %w", d.opt.Name, addr, libvirt.OneLine(err))
	}
	return nil
}

func (d *Driver) migrate(ctx context.Context, addr string, tls bool) error {
	reserve := libvirt.Share(ctx, 4*abortLimit) / 3 // a quarter of the time that is left
	reserve = min(reserve, abortLimit)
	work, cancel := context.WithCancel(ctx)
	if end, ok := ctx.Deadline(); ok {
		work, cancel = context.WithDeadline(ctx, end.Add(-reserve))
	}
	defer cancel()
	s, err := d.process(work)
	if err != nil {
		return err
	}
	if s == nil {
		return errors.New("it does not run here")
	}
	c, err := d.link.Open(work)
	if err != nil {
		return err
	}
	defer d.link.Drop(c)
	d.mu.Lock()
	d.movedOut, d.asked = false, false
	d.mu.Unlock()
	done := c.Async(func(l *golibvirt.Libvirt) error { return d.perform(work, l, addr, tls) })
	over, err := migration.Attend(work, done, d.left(s.process), nil)
	last, stop := context.WithTimeout(context.WithoutCancel(ctx), reserve)
	defer stop()
	if !over {
		abort := func() error { return migration.Unhang(s.PID, d.abortJob(last), d.log) }
		err = errors.Join(err, migration.AbortUntil(last, done, abort))
	}
	return d.outcome(last, s, addr, err)
}

// perform makes the call. Neither side keeps a
// definition. Paused: libvirtd lets the source go on when the target's last
// answer is lost, although the guest may have arrived there ("The lock manager
// plugins should take care of safety in this scenario", qemu_migration.c); one
// that stands still does no harm. Unsafe: libvirt can not know that the image's file system is shared
// and coherent; that was checked at install.
func (d *Driver) perform(ctx context.Context, l *golibvirt.Libvirt, addr string, tls bool) error {
	to := d.leave.To(addr, "")
	params, err := listenAt(l, d.dom, to.Name)
	if err != nil {
		return err
	}
	return migration.Call{
		Target: to, TLS: tls, Params: params,
		Flags: golibvirt.MigrateLive | golibvirt.MigratePaused | golibvirt.MigrateUnsafe,
		// An invalid operation in whatever words: those of libvirtd may be of another language.
		Refused: func(err error) bool {
			return libvirt.HasCode(err, golibvirt.ErrOperationInvalid) || libvirt.BeingRemoved(err)
		},
	}.Perform(ctx, l, d.dom)
}

// abortJob aborts an outgoing migration. nil when there was none.
func (d *Driver) abortJob(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, abortAnswer)
	defer cancel()
	c, err := d.link.Open(ctx)
	if err != nil {
		return err
	}
	defer d.link.Drop(c)
	err = c.Call(ctx, "abort the migration", func(l *golibvirt.Libvirt) error {
		_, err := migration.Abort(l, d.dom)
		return err
	})
	if libvirt.HasCode(err, golibvirt.ErrNoDomain) {
		return nil
	}
	return err
}

// outcome decides, by the process table first, where the guest is after a
// migration's call ended with cause.
func (d *Driver) outcome(ctx context.Context, s *seen, addr string, cause error) error {
	for {
		alive, err := d.procs.alive(s.process)
		if err != nil {
			return fmt.Errorf("%w: %w: %w", cluster.ErrNotProved, err, cause)
		}
		if !alive {
			if cause == nil {
				d.mu.Lock()
				d.movedOut = true
				d.mu.Unlock()
			}
			if d.hasMoved() {
				return nil
			}
			err = fmt.Errorf("it is gone here, and nobody says that it runs at %s", addr)
		} else {
			var v view
			v, err = d.ask(ctx, s)
			if err == nil && cause != nil && v.state == cluster.GuestRunning && !v.out {
				return cause
			}
			if err == nil {
				err = fmt.Errorf("its process is still there, %s", v.state)
			}
		}
		if !clock.Sleep(ctx, 20*time.Millisecond) {
			return errors.Join(fmt.Errorf("%w: %w", cluster.ErrNotProved, err), cause)
		}
	}
}

// Resume lets a guest go on that stands still. nil when it runs already.
func (d *Driver) Resume(ctx context.Context) error {
	c, err := d.link.Open(ctx)
	if err == nil {
		defer d.link.Drop(c)
		err = c.Call(ctx, "resume", func(l *golibvirt.Libvirt) error {
			state, _, err := l.DomainGetState(d.dom, 0)
			if err != nil || golibvirt.DomainState(state) == golibvirt.DomainRunning {
				return err
			}
			return l.DomainResume(d.dom)
		})
	}
	if err != nil {
		return fmt.Errorf("resume %s: %w", d.opt.Name, libvirt.OneLine(err))
	}
	if s, err := d.process(ctx); err == nil && s != nil && s.incoming && !s.ran {
		d.awaitLeft()
	}
	return nil
}

// left tells, once, that the process has ended and libvirtd has told that a migration took all of it away.
func (d *Driver) left(p process) func() bool {
	ended := false
	return func() bool {
		if ended {
			return false
		}
		alive, err := d.procs.alive(p)
		ended = err == nil && !alive
		return ended && d.hasMoved()
	}
}

// hasMoved reports that a migration took all of the last process away: libvirtd
// has said so to this driver, or, while none was there to listen, in the domain's
// log.
func (d *Driver) hasMoved() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.movedOut && !d.asked {
		// A later end without a start in between is about the same process, so the first line
		// would do. But a line of a start can be lost (a full disk), and this guest has an
		// epoch that others can go by: what is not plain proves nothing here.
		moved, again, err := migration.Ended(filepath.Join(d.opt.LogDir, d.opt.Name+".log"))
		if err != nil {
			d.log.Warn("it is not known how the guest's last process ended", "err", err)
		}
		d.movedOut, d.asked = moved && !again, true
	}
	return d.movedOut
}

// AbortMigration ends an outgoing migration, also one that an earlier agent
// process began, and returns when it has ended. nil when there is none. It tries
// again until ctx ends: a question that has no answer costs the connection to libvirtd.
func (d *Driver) AbortMigration(ctx context.Context) error {
	for {
		s, err := d.process(ctx)
		if err != nil {
			return fmt.Errorf("abort the migration of %s: %w", d.opt.Name, err)
		}
		if s == nil {
			return nil
		}
		v, err := d.ask(ctx, s)
		if err == nil && !v.out {
			return nil
		}
		if err == nil {
			err = d.abortJob(ctx)
		}
		err = migration.Unhang(s.PID, err, d.log)
		if !clock.Sleep(ctx, migration.AbortPause) {
			return fmt.Errorf("abort the migration of %s: %w", d.opt.Name, libvirt.OneLine(errors.Join(ctx.Err(), err)))
		}
	}
}
