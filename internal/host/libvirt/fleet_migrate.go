package libvirt

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	golibvirt "github.com/digitalocean/go-libvirt"

	"holdfast/internal/lib/clock"
	"holdfast/internal/lib/proc"
)

// MigrateOptions of a live migration.
type MigrateOptions struct {
	Data         string         // IP address or name of the target in the network that carries the guest's memory; "": as its libvirtd is reached
	MiBps        uint64         // most that is sent, MiB/s; 0: no bound
	Direct       bool           // refuse when the target's libvirtd is not reached directly: nobody else lets the guest go on there
	TLS          bool           // the target has said that it can receive memory by TLS (its MigrationSecurity): so it travels if this host can, too
	AutoConverge bool           // slow down a guest that changes memory faster than it can be sent
	Timeout      time.Duration  // after which it is aborted; 0: 1 h
	Progress     func(Progress) // called twice a second, from Migrate's goroutine; nil: not
	Before       func() error   // called at once, in a goroutine of its own, while all is made ready; nothing is asked of libvirtd before it has returned, and nothing after an error. nil: not
	There        func()         // called from Migrate's goroutine when the guest is let go on at the target, while libvirtd still ends what it left here; nil: not
}

// progressPause separates two looks at the progress.
const progressPause = 500 * time.Millisecond

const (
	// migrateLimit is the time of a migration for which none is given.
	migrateLimit = time.Hour
	// settleLimit is kept back from a migration's time: half of it to abort it, half to
	// find out where the guest is.
	settleLimit = 8 * time.Second
)

// Migrate moves a guest live to the host whose libvirtd is at target: an IP
// address or a name, or either with :PORT. libvirtd carries it out by itself
// (peer to peer), as virsh migrate --live --p2p --persistent --undefinesource does for
// a persistent guest and without the last two for a transient one. So it goes on
// when this process dies: see Whereabouts, Follow and AbortMigration.
//
// A guest that runs arrives standing still, and is let go on when libvirtd here has
// said that it is gone: the target's last answer may be lost, and libvirtd then lets it
// go on here. One that this process does not get to go on, because it dies or does not reach
// the target, stands still there until somebody Resumes it, or Discards it when it runs here.
//
// Left comes with a nil error when it runs there, or stands still because it did here, and
// with ErrStill when it is to be resumed there. Any other place comes
// with an error: Here, it runs on; Off or Absent, it ended meanwhile; Unclear,
// nobody can tell, ask both hosts. When ctx is cancelled, or in time before its
// deadline or the timeout, the migration is aborted; after a cancellation that
// takes 8 s at most. The target does not learn whether the guest shall start with the
// host: see SetAutostart.
func (f *Fleet) Migrate(ctx context.Context, uuid, target string, opt MigrateOptions) (Place, error) {
	reserve := min(settleLimit, share(ctx, 3*settleLimit)/3)
	end := time.Now().Add(cmp.Or(opt.Timeout, migrateLimit))
	if last, ok := ctx.Deadline(); ok && last.Add(-reserve).Before(end) {
		end = last.Add(-reserve)
	}
	work, cancel := context.WithDeadline(ctx, end)
	defer cancel()
	m := move{Fleet: f, target: target, opt: opt, before: make(chan error, 1)}
	go func() {
		if opt.Before == nil {
			m.before <- nil
			return
		}
		m.before <- opt.Before()
	}()
	defer m.end()
	name := uuid
	var err error
	m.opt.TLS, err = f.secure.choose(opt.TLS)
	var dom golibvirt.Domain
	if err == nil {
		dom, err = f.find(work, uuid)
	}
	if err == nil {
		name = dom.Name
		err = m.carryOut(work, dom, reserve/2)
	}
	if !m.began { // whoever called may undo it
		err = errors.Join(err, <-m.before)
	}
	if err != nil {
		last, stop := context.WithTimeout(context.WithoutCancel(ctx), reserve/2)
		defer stop()
		var at Place
		if at, err = f.settle(last, uuid, name, err); at != Left {
			if errors.Is(err, errLost) || errors.Is(err, errCalled) {
				at = Unclear // it is not there yet, but libvirtd may still carry out the call
			}
			return at, doing("migrate to "+target, name, err)
		}
	}
	err = m.goOn(ctx)
	if err == nil && opt.There != nil {
		opt.There()
	}
	return Left, doing("migrate to "+target, name, err)
}

// move is one migration that this process makes.
type move struct {
	*Fleet
	target string
	opt    MigrateOptions
	dom    golibvirt.Domain
	here   *conn        // on which the call is made
	there  *conn        // to the target's libvirtd, on which it is let go on; nil when there is none
	rest   <-chan error // the end of the call, when the guest has left before
	halted bool         // it arrives standing still although it ran
	before chan error   // the end of opt.Before
	began  bool         // it was received from
}

// carryOut makes the call. nil: libvirtd says that the guest has left; the call itself
// may not have returned yet. When work ends, it aborts the migration, which may take abort.
func (m *move) carryOut(work context.Context, dom golibvirt.Domain, abort time.Duration) error {
	m.dom = dom
	var err error
	if m.here, err = m.open(work); err != nil {
		return err
	}
	flags, err := m.liveFlags(work, m.here, dom)
	if err != nil {
		return err
	}
	if m.opt.AutoConverge {
		flags |= golibvirt.MigrateAutoConverge
	}
	if m.halted = flags&golibvirt.MigratePaused != 0; m.halted {
		m.meet(work)
		if m.there == nil && m.opt.Direct {
			return errNoWay
		}
	}
	m.began = true
	if err := <-m.before; err != nil {
		return err
	}
	gone := newDeparture(m.Fleet.log(dom.Name))
	done := m.here.async(func(l *golibvirt.Libvirt) error { return m.perform(work, l, dom, m.target, flags, m.opt) })
	over, err := m.attend(work, dom, done, gone, m.opt.Progress)
	if gone.left {
		m.rest = done
	}
	if over {
		return m.here.explain("ask libvirtd", err)
	}
	last, stop := context.WithTimeout(context.WithoutCancel(work), abort)
	defer stop()
	if err = m.abortUntil(last, dom, done); err != nil {
		return errors.Join(work.Err(), err)
	}
	return nil // it was over before the abort
}

// liveFlags chooses them by what the guest is. libvirt calls a migration unsafe
// when it can not see that a disk is shared; where it was said to be so (FleetOptions.Shared)
// it is told not to ask. A guest that runs arrives standing still (see Migrate).
func (f *Fleet) liveFlags(ctx context.Context, c *conn, dom golibvirt.Domain) (golibvirt.DomainMigrateFlags, error) {
	flags := golibvirt.MigrateLive | golibvirt.MigratePeer2peer
	var persistent, state int32
	if err := c.call(ctx, "ask whether it is persistent and runs", func(l *golibvirt.Libvirt) (err error) {
		if state, _, err = l.DomainGetState(dom, 0); err == nil {
			persistent, err = l.DomainIsPersistent(dom)
		}
		return err
	}); err != nil {
		return 0, err
	}
	if golibvirt.DomainState(state) != golibvirt.DomainPaused {
		flags |= golibvirt.MigratePaused
	}
	if persistent != 0 {
		flags |= golibvirt.MigratePersistDest | golibvirt.MigrateUndefineSource
	}
	vm := VM{}
	if err := f.examine(ctx, c, dom, &vm, &looker{ctx: ctx, fleet: f}); err != nil {
		return 0, err
	}
	for _, d := range vm.Disks {
		if !d.ReadOnly && !d.Shared {
			return flags, nil // libvirt says what is wrong
		}
	}
	if slices.ContainsFunc(vm.Disks, func(d Disk) bool { return f.storage.declared(d.Source) }) {
		flags |= golibvirt.MigrateUnsafe
	}
	return flags, nil
}

// perform is the one call that makes libvirtd carry out the whole migration. A
// libvirtd that the guest has just left takes a moment until it lets it in again.
func (f *Fleet) perform(ctx context.Context, l *golibvirt.Libvirt, dom golibvirt.Domain, target string, flags golibvirt.DomainMigrateFlags, opt MigrateOptions) error {
	uri, data := f.addresses(target, opt.Data)
	_, name := f.addresses(target, "")
	params := []golibvirt.TypedParam{{Field: golibvirt.MigrateParamURI, Value: *golibvirt.NewTypedParamValueString("tcp://" + data)}}
	if opt.MiBps > 0 {
		params = append(params, golibvirt.TypedParam{Field: golibvirt.MigrateParamBandwidth, Value: *golibvirt.NewTypedParamValueUllong(opt.MiBps)})
	}
	flags, params = withTLS(opt.TLS, strings.Trim(name, "[]"), flags, params)
	if flags&golibvirt.MigrateOffline != 0 {
		params = nil // there is nothing to send
	}
	return letIn(ctx, justLeft, func() error {
		_, err := l.DomainMigratePerform3Params(dom, golibvirt.OptString{uri}, params, nil, flags)
		return err
	})
}

// addresses gives the URI of the target's libvirtd, and the address for data.
func (f *Fleet) addresses(target, data string) (uri, dataHost string) {
	at, host := target, target
	if ip, err := netip.ParseAddr(target); err == nil && ip.Is6() {
		at, host = "["+target+"]", "["+target+"]"
	} else if h, _, err := net.SplitHostPort(target); err == nil {
		if host = h; strings.Contains(h, ":") {
			host = "[" + h + "]"
		}
	}
	if data != "" {
		host = data
		if ip, err := netip.ParseAddr(data); err == nil && ip.Is6() {
			host = "[" + data + "]"
		}
	}
	return strings.Replace(f.opt.MigrateURI, "%s", at, 1), host
}

// attend waits for the end of a call, for the guest's departure or for the end of ctx, and tells
// the progress. over: the call has ended, with err, or the guest has left.
func (f *Fleet) attend(ctx context.Context, dom golibvirt.Domain, done <-chan error, gone *departure, tell func(Progress)) (over bool, err error) {
	tick, look := time.NewTicker(progressPause), time.NewTicker(leftPoll)
	defer tick.Stop()
	defer look.Stop()
	for {
		select {
		case err := <-done:
			return true, err
		case <-ctx.Done():
			return false, ctx.Err()
		case <-look.C:
			if gone.seen() {
				return true, nil
			}
			continue
		case <-tick.C:
		}
		if tell == nil {
			continue
		}
		var op operation
		limit, cancel := context.WithTimeout(ctx, oneLimit)
		err := f.ask(limit, "ask for the progress", func(l *golibvirt.Libvirt) (err error) {
			op, err = operationOf(l, dom)
			return err
		})
		cancel()
		switch {
		case err != nil:
			f.opt.Log.Debug("no progress of a migration", "guest", dom.Name, "err", err)
		case op.leaving():
			tell(progressOf(op.params))
		}
	}
}

// errNoWay: MigrateOptions.Direct.
var errNoWay = errors.New("its libvirtd is not reached directly, and its agent is too old to let a guest go on that arrives: upgrade that first")

// errCalled: a migration was asked for, and the call has not returned.
var errCalled = errors.New("the migration did not end")

// abortUntil asks for the end of the migration until its call has returned, and
// returns that call's error.
func (f *Fleet) abortUntil(ctx context.Context, dom golibvirt.Domain, done <-chan error) error {
	for {
		_, why := f.abort(ctx, dom)
		why = f.unhang(ctx, dom, why)
		select {
		case err := <-done:
			return err
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", errCalled, errors.Join(ctx.Err(), why))
		case <-time.After(abortPause):
		}
	}
}

// abort asks for the end of an outgoing migration, and tells whether there was
// one.
func (f *Fleet) abort(ctx context.Context, dom golibvirt.Domain) (was bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, oneLimit)
	defer cancel()
	err = f.ask(ctx, "abort the migration", func(l *golibvirt.Libvirt) error {
		op, err := operationOf(l, dom)
		if err != nil || !op.leaving() {
			return err
		}
		was = true
		return l.DomainAbortJob(dom)
	})
	if hasCode(err, golibvirt.ErrNoDomain) {
		return false, nil
	}
	return was, err
}

// unhang is the function of the name, for the process of a guest.
func (f *Fleet) unhang(ctx context.Context, dom golibvirt.Domain, err error) error {
	if !errors.Is(err, context.DeadlineExceeded) || ctx.Err() != nil || f.opt.URI != "" {
		return err
	}
	procs := procTable{dir: proc.Table(f.opt.ProcDir), uuid: formatUUID(dom.UUID), name: dom.Name, gate: newGate()}
	found, perr := procs.guests(ctx)
	if perr != nil || len(found) != 1 {
		return errors.Join(err, perr)
	}
	return unhang(found[0].PID, err, f.opt.Log)
}

// settle finds out where a guest is after a call that failed with cause. It
// waits while that is not decided.
func (f *Fleet) settle(ctx context.Context, uuid, name string, cause error) (Place, error) {
	for {
		w, err := f.where(ctx, uuid, name)
		if err == nil {
			switch {
			case w.Place == Left, w.Place == Off && w.Moved: // its definition is about to go
				return Left, nil
			case w.Place == Here, w.Place == Off, w.Place == Absent:
				return w.Place, cause
			}
			err = fmt.Errorf("it is %s %s", w.Place, w.Note)
		}
		if !clock.Sleep(ctx, 50*time.Millisecond) {
			return Unclear, errors.Join(cause, err)
		}
	}
}

// Follow waits for the end of a migration that another process began, and
// returns as Migrate does, but that a guest that has Left stands still until it is
// Resumed at the target. It aborts nothing: when ctx ends first, the place is
// the one that was seen last.
func (f *Fleet) Follow(ctx context.Context, uuid, name string, tell func(Progress)) (Place, error) {
	last := Unclear
	for {
		w, err := f.where(ctx, uuid, name)
		if err == nil {
			last = w.Place
		}
		switch {
		case err != nil:
		case w.Place == Left, w.Place == Off && w.Moved:
			return Left, nil
		case w.Place != Leaving:
			return w.Place, doing("migrate", name, fmt.Errorf("it did not move, it is %s %s", w.Place, w.Note))
		case tell != nil:
			tell(w.Progress)
		}
		if !clock.Sleep(ctx, progressPause) {
			return last, doing("follow the migration of", name, errors.Join(ctx.Err(), err))
		}
	}
}

// AbortMigration ends an outgoing migration, also one that another process
// began, and returns when it has ended. nil when there is none.
func (f *Fleet) AbortMigration(ctx context.Context, uuid string) error {
	dom, err := f.find(ctx, uuid)
	if hasCode(err, golibvirt.ErrNoDomain) {
		return nil
	}
	for err == nil {
		var was bool
		if was, err = f.abort(ctx, dom); err == nil && !was {
			return nil
		}
		if hasCode(err, golibvirt.ErrOperationInvalid) { // it has ended just now
			err = nil
		}
		if err = f.unhang(ctx, dom, err); err == nil && !clock.Sleep(ctx, abortPause) {
			err = ctx.Err()
		}
	}
	return doing("abort the migration of", uuid, err)
}
