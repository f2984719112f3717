package libvirt

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	golibvirt "github.com/digitalocean/go-libvirt"

	"holdfast/internal/cluster"
	"holdfast/internal/lib/clock"
)

// abortLimit is the time that an abort of a migration may take.
const abortLimit = 3 * time.Second

// abortAnswer is how long one request to abort may take: of a QEMU that has not answered
// by then the connection is looked at.
const abortAnswer = time.Second

// abortPause separates two requests to abort. One is not enough: libvirtd also
// accepts it, without effect, while the target still prepares.
const abortPause = 50 * time.Millisecond

// A libvirtd from which the guest has just gone takes some 0.2 s until it lets it
// in again, more on a busy host: it refuses at once, and is asked again.
const (
	busyTries = 10
	busyPause = 150 * time.Millisecond
)

// justLeft tells such a refusal: the guest is still there, or it is being removed.
func justLeft(err error) bool {
	return hasCode(err, golibvirt.ErrOperationInvalid) && strings.Contains(err.Error(), "already") || beingRemoved(err)
}

// letIn begins a migration, and again while the target refuses it so.
func letIn(ctx context.Context, refused func(error) bool, perform func() error) error {
	for try := 1; ; try++ {
		err := perform()
		if !refused(err) || try == busyTries || !clock.Sleep(ctx, busyPause) {
			return err
		}
	}
}

// leftPoll is how often the end of the source's process is looked for: the guest
// stands still until it is seen.
const leftPoll = 5 * time.Millisecond

// job is what libvirtd does with the domain.
type job struct {
	out     bool // it migrates it away
	percent int  // of that, 0..100
}

// currentJob asks for the domain's job. An incoming migration's has no figures:
// libvirtd refuses to tell, which is as good as none here.
func currentJob(l *golibvirt.Libvirt, dom golibvirt.Domain) (job, error) {
	kind, params, err := l.DomainGetJobStats(dom, 0)
	if err != nil {
		if answered(err) && !hasCode(err, golibvirt.ErrNoDomain) {
			return job{}, nil
		}
		return job{}, err
	}
	return jobOf(golibvirt.DomainJobType(kind), params), nil
}

func jobOf(kind golibvirt.DomainJobType, params []golibvirt.TypedParam) job {
	// A migration that has been completed or cancelled is a job until both sides
	// have cleaned up: only then is it certain where the guest stays.
	if kind == golibvirt.DomainJobNone {
		return job{}
	}
	var operation, total, remaining uint64
	for _, p := range params {
		switch p.Field {
		case golibvirt.DomainJobOperationStr:
			operation = number(p)
		case golibvirt.DomainJobDataTotal:
			total = number(p)
		case golibvirt.DomainJobDataRemaining:
			remaining = number(p)
		}
	}
	j := job{out: golibvirt.DomainJobOperation(operation) == golibvirt.DomainJobOperationStrMigrationOut}
	// What a busy guest dirties again counts as remaining, so it may go backwards.
	if j.out && total > 0 && remaining <= total {
		j.percent = int(100 * (total - remaining) / total)
	}
	return j
}

func number(p golibvirt.TypedParam) uint64 {
	switch v := p.Value.I.(type) {
	case int32:
		return uint64(max(v, 0))
	case uint32:
		return uint64(v)
	case int64:
		return uint64(max(v, 0))
	case uint64:
		return v
	}
	return 0
}

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
	tls, err := d.secure.choose(tls)
	if err == nil {
		err = d.migrate(ctx, addr, tls)
	}
	if err != nil {
		return fmt.Errorf("migrate %s to %s: %w", d.opt.Name, addr, oneLine(err))
	}
	return nil
}

func (d *Driver) migrate(ctx context.Context, addr string, tls bool) error {
	reserve := share(ctx, 4*abortLimit) / 3 // a quarter of the time that is left
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
	c, err := d.link.open(work)
	if err != nil {
		return err
	}
	defer d.link.drop(c)
	d.mu.Lock()
	d.movedOut, d.asked = false, false
	d.mu.Unlock()
	done := c.async(func(l *golibvirt.Libvirt) error { return d.perform(work, l, addr, tls) })
	select {
	case err = <-done:
	case <-d.left(work, s.process):
		return nil // the call itself looks for the end of the process only every 200 ms
	case <-work.Done():
	}
	last, stop := context.WithTimeout(context.WithoutCancel(ctx), reserve)
	defer stop()
	if work.Err() != nil {
		err = errors.Join(work.Err(), d.abortUntil(last, s.PID, done))
	}
	return d.outcome(last, s, addr, err)
}

// perform is the one call that makes libvirtd carry out the whole migration,
// together with the target's (VIR_MIGRATE_PEER2PEER). Neither side keeps a
// definition. Paused: libvirtd lets the source go on when the target's last
// answer is lost, although the guest may have arrived there ("The lock manager
// plugins should take care of safety in this scenario", qemu_migration.c); one
// that stands still does no harm. Unsafe: libvirt can not know that the image's file system is shared
// and coherent; that was checked at install.
func (d *Driver) perform(ctx context.Context, l *golibvirt.Libvirt, addr string, tls bool) error {
	host, at, name := addr, addr, addr
	if ip, err := netip.ParseAddr(addr); err == nil && ip.Is6() {
		host, at = "["+addr+"]", "["+addr+"]"
	} else if gate, err := netip.ParseAddrPort(addr); err == nil {
		// Only libvirtd is reached at that port, QEMU's data go straight.
		host = strings.TrimSuffix(addr, fmt.Sprintf(":%d", gate.Port()))
		name = gate.Addr().String()
	}
	uri := strings.Replace(d.opt.MigrateURI, "%s", at, 1)
	params := []golibvirt.TypedParam{{
		Field: golibvirt.MigrateParamURI,
		Value: *golibvirt.NewTypedParamValueString("tcp://" + host),
	}}
	flags, params := withTLS(tls, name, golibvirt.MigrateLive|golibvirt.MigratePeer2peer|golibvirt.MigratePaused|golibvirt.MigrateUnsafe, params)
	params, err := listenAt(l, d.dom, name, params)
	if err != nil {
		return err
	}
	// An invalid operation in whatever words: those of libvirtd may be of another language.
	refused := func(err error) bool { return hasCode(err, golibvirt.ErrOperationInvalid) || beingRemoved(err) }
	return letIn(ctx, refused, func() error {
		_, err := l.DomainMigratePerform3Params(d.dom, golibvirt.OptString{uri}, params, nil, flags)
		return err
	})
}

// abortUntil asks for the end of the migration until its call has returned, and
// returns that call's error.
func (d *Driver) abortUntil(ctx context.Context, pid int, done <-chan error) error {
	var why error
	for {
		why = unhang(pid, d.abortJob(ctx), d.log)
		select {
		case err := <-done:
			return err
		case <-ctx.Done():
			return fmt.Errorf("the migration did not end: %w", errors.Join(ctx.Err(), why))
		case <-time.After(abortPause):
		}
	}
}

// abortJob aborts an outgoing migration. nil when there was none.
func (d *Driver) abortJob(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, abortAnswer)
	defer cancel()
	c, err := d.link.open(ctx)
	if err != nil {
		return err
	}
	defer d.link.drop(c)
	err = c.call(ctx, "abort the migration", func(l *golibvirt.Libvirt) error {
		j, err := currentJob(l, d.dom)
		if err != nil || !j.out {
			return err
		}
		return l.DomainAbortJob(d.dom)
	})
	if hasCode(err, golibvirt.ErrNoDomain) {
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
			if err == nil && cause != nil && v.state == cluster.GuestRunning && !v.job.out {
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
	c, err := d.link.open(ctx)
	if err == nil {
		defer d.link.drop(c)
		err = c.call(ctx, "resume", func(l *golibvirt.Libvirt) error {
			state, _, err := l.DomainGetState(d.dom, 0)
			if err != nil || golibvirt.DomainState(state) == golibvirt.DomainRunning {
				return err
			}
			return l.DomainResume(d.dom)
		})
	}
	if err != nil {
		return fmt.Errorf("resume %s: %w", d.opt.Name, oneLine(err))
	}
	if s, err := d.process(ctx); err == nil && s != nil && s.incoming && !s.ran {
		d.awaitLeft()
	}
	return nil
}

// left returns a channel that is closed when the process has ended and libvirtd
// has told that a migration took all of it away.
func (d *Driver) left(ctx context.Context, p process) <-chan struct{} {
	out := make(chan struct{})
	d.own(func() {
		for clock.Sleep(ctx, leftPoll) {
			if alive, err := d.procs.alive(p); err == nil && !alive {
				if d.hasMoved() {
					close(out)
				}
				return
			}
		}
	})
	return out
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
		moved, again, err := endedByMigration(filepath.Join(d.opt.LogDir, d.opt.Name+".log"))
		if err != nil {
			d.log.Warn("it is not known how the guest's last process ended", "err", err)
		}
		d.movedOut, d.asked = moved && !again, true
	}
	return d.movedOut
}

// logTail is how much of a domain's log is read: more than libvirtd writes for
// one start.
const logTail = 64 << 10

// endedByMigration reads the end of a domain's log, where libvirtd writes why it
// ends the process, before it does. moved: a migration took the last process away. again: after that
// line comes another one about its end: libvirtd died in between, and when it starts it
// ends what is left of the process, for a reason of its own. The guest has left all the same.
// A log that is not there tells nothing.
func endedByMigration(path string) (moved, again bool, err error) {
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return false, false, nil
	}
	if err != nil {
		return false, false, err
	}
	defer func() { _ = f.Close() }() // it was only read
	info, err := f.Stat()
	if err != nil {
		return false, false, err
	}
	text := make([]byte, min(info.Size(), logTail))
	if _, err := f.ReadAt(text, info.Size()-int64(len(text))); err != nil && !errors.Is(err, io.EOF) {
		return false, false, err
	}
	for line := range bytes.Lines(text) {
		switch {
		case bytes.Contains(line, []byte(": starting up libvirt version: ")):
			moved, again = false, false
		case bytes.Contains(line, []byte(": shutting down, reason=")):
			migrated := bytes.HasSuffix(bytes.TrimSpace(line), []byte("=migrated"))
			moved, again = moved || migrated, moved && !migrated
		}
	}
	return moved, again, nil
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
		if err == nil && !v.job.out {
			return nil
		}
		if err == nil {
			err = d.abortJob(ctx)
		}
		err = unhang(s.PID, err, d.log)
		if !clock.Sleep(ctx, abortPause) {
			return fmt.Errorf("abort the migration of %s: %w", d.opt.Name, oneLine(errors.Join(ctx.Err(), err)))
		}
	}
}
