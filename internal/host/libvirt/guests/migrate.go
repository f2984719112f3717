package guests

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	golibvirt "github.com/digitalocean/go-libvirt"

	"holdfast/internal/host/libvirt"
	"holdfast/internal/host/libvirt/migration"
	"holdfast/internal/lib/clock"
	"holdfast/internal/lib/proc"
)

// MigrateOptions of a live migration.
type MigrateOptions struct {
	// IP address or name of the target in the network that carries the guest's memory; "": as its libvirtd is reached
	Data   string
	MiBps  uint64 // most that is sent, MiB/s; 0: no bound
	Direct bool   // refuse when the target's libvirtd is not reached directly: nobody else lets the guest go on there
	// the target has said that it can receive memory by TLS (its MigrationSecurity): so it travels if this host can,
	// too
	TLS          bool
	AutoConverge bool                     // slow down a guest that changes memory faster than it can be sent
	Timeout      time.Duration            // after which it is aborted; 0: 1 h
	Progress     func(migration.Progress) // called twice a second, from Migrate's goroutine; nil: not
	// called at once, in a goroutine of its own, while all is made ready; nothing is asked of libvirtd before it has
	// returned, and nothing after an error. nil: not
	Before func() error
	// called from Migrate's goroutine when the guest is let go on at the target, while libvirtd still ends what it left
	// here; nil: not
	There func()
}

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
	reserve := min(settleLimit, libvirt.Share(ctx, 3*settleLimit)/3)
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
	m.opt.TLS, err = f.leave.Choose(opt.TLS)
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
			if errors.Is(err, libvirt.ErrLost) || errors.Is(err, migration.ErrCalled) {
				at = Unclear // it is not there yet, but libvirtd may still carry out the call
			}
			return at, libvirt.Doing("migrate to "+target, name, err)
		}
	}
	err = m.goOn(ctx)
	if err == nil && opt.There != nil {
		opt.There()
	}
	return Left, libvirt.Doing("migrate to "+target, name, err)
}

// move is one migration that this process makes.
type move struct {
	*Fleet
	target string
	opt    MigrateOptions
	dom    golibvirt.Domain
	here   *libvirt.Conn // on which the call is made
	there  *libvirt.Conn // to the target's libvirtd, on which it is let go on; nil when there is none
	rest   <-chan error  // the end of the call, when the guest has left before
	halted bool          // it arrives standing still although it ran
	before chan error    // the end of opt.Before
	began  bool          // it was received from
}

// carryOut makes the call. nil: libvirtd says that the guest has left; the call itself
// may not have returned yet. When work ends, it aborts the migration, which may take abort.
func (m *move) carryOut(work context.Context, dom golibvirt.Domain, abort time.Duration) error {
	m.dom = dom
	var err error
	if m.here, err = m.client.Connect(work); err != nil {
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
	done := m.here.Async(func(l *golibvirt.Libvirt) error { return m.perform(work, l, dom, m.target, flags, m.opt) })
	over, err := migration.Attend(work, done, gone.seen, m.teller(work))
	if gone.left {
		m.rest = done
	}
	if over {
		return m.here.Explain("ask libvirtd", err)
	}
	last, stop := context.WithTimeout(context.WithoutCancel(work), abort)
	defer stop()
	if err = migration.AbortUntil(last, done, func() error {
		_, why := m.abort(last, dom)
		return m.unhang(last, dom, why)
	}); err != nil {
		return errors.Join(work.Err(), err)
	}
	return nil // it was over before the abort
}

// liveFlags chooses them by what the guest is. libvirt calls a migration unsafe
// when it can not see that a disk is shared; where it was said to be so (Options.Shared)
// it is told not to ask. A guest that runs arrives standing still (see Migrate).
func (f *Fleet) liveFlags(ctx context.Context, c *libvirt.Conn, dom golibvirt.Domain) (golibvirt.DomainMigrateFlags, error) {
	flags := golibvirt.MigrateLive
	var persistent, state int32
	if err := c.Call(ctx, "ask whether it is persistent and runs", func(l *golibvirt.Libvirt) (err error) {
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
	if err := f.examine(ctx, c, dom, &vm, f.pools.Look(ctx)); err != nil {
		return 0, err
	}
	for _, d := range vm.Disks {
		if !d.ReadOnly && !d.Shared {
			return flags, nil // libvirt says what is wrong
		}
	}
	if slices.ContainsFunc(vm.Disks, func(d Disk) bool { return f.pools.Declared(d.Source) }) {
		flags |= golibvirt.MigrateUnsafe
	}
	return flags, nil
}

// perform makes the call.
func (f *Fleet) perform(ctx context.Context, l *golibvirt.Libvirt, dom golibvirt.Domain, target string,
	flags golibvirt.DomainMigrateFlags, opt MigrateOptions) error {
	c := migration.Call{Target: f.leave.To(target, opt.Data), TLS: opt.TLS, Flags: flags, Refused: justLeft}
	if opt.MiBps > 0 {
		most := *golibvirt.NewTypedParamValueUllong(opt.MiBps)
		c.Params = []golibvirt.TypedParam{{Field: golibvirt.MigrateParamBandwidth, Value: most}}
	}
	return c.Perform(ctx, l, dom)
}

// teller asks for the progress and tells it; nil when nobody wants to know.
func (m *move) teller(ctx context.Context) func() {
	if m.opt.Progress == nil {
		return nil
	}
	return func() {
		var op migration.Operation
		limit, cancel := context.WithTimeout(ctx, oneLimit)
		defer cancel()
		err := m.client.Ask(limit, "ask for the progress", func(l *golibvirt.Libvirt) (err error) {
			op, err = migration.OperationOf(l, m.dom)
			return err
		})
		switch {
		case err != nil:
			m.Fleet.opt.Log.Debug("no progress of a migration", "guest", m.dom.Name, "err", err)
		case op.Leaving():
			m.opt.Progress(op.Progress)
		}
	}
}

// errNoWay: MigrateOptions.Direct.
var errNoWay = errors.New("its libvirtd is not reached directly, and its agent is too old to let a guest go on that " +
	"arrives: upgrade that first")

// abort asks for the end of an outgoing migration, and tells whether there was
// one.
func (f *Fleet) abort(ctx context.Context, dom golibvirt.Domain) (was bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, oneLimit)
	defer cancel()
	err = f.client.Ask(ctx, "abort the migration", func(l *golibvirt.Libvirt) (err error) {
		was, err = migration.Abort(l, dom)
		return err
	})
	if libvirt.HasCode(err, golibvirt.ErrNoDomain) {
		return false, nil
	}
	return was, err
}

// unhang is the function of the name, for the process of a guest.
func (f *Fleet) unhang(ctx context.Context, dom golibvirt.Domain, err error) error {
	if !errors.Is(err, context.DeadlineExceeded) || ctx.Err() != nil || f.opt.URI != "" {
		return err
	}
	table := proc.Table(f.opt.ProcDir)
	found, perr := libvirt.Processes(ctx, libvirt.NewGate(), table, libvirt.FormatUUID(dom.UUID), dom.Name)
	if perr != nil || len(found) != 1 {
		return errors.Join(err, perr)
	}
	return migration.Unhang(found[0].PID, err, f.opt.Log)
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
func (f *Fleet) Follow(ctx context.Context, uuid, name string, tell func(migration.Progress)) (Place, error) {
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
			return w.Place, libvirt.Doing("migrate", name, fmt.Errorf("it did not move, it is %s %s", w.Place, w.Note))
		case tell != nil:
			tell(w.Progress)
		}
		if !clock.Sleep(ctx, migration.Pause) {
			return last, libvirt.Doing("follow the migration of", name, errors.Join(ctx.Err(), err))
		}
	}
}

// AbortMigration ends an outgoing migration, also one that another process
// began, and returns when it has ended. nil when there is none.
func (f *Fleet) AbortMigration(ctx context.Context, uuid string) error {
	dom, err := f.find(ctx, uuid)
	if libvirt.HasCode(err, golibvirt.ErrNoDomain) {
		return nil
	}
	for err == nil {
		var was bool
		if was, err = f.abort(ctx, dom); err == nil && !was {
			return nil
		}
		if libvirt.HasCode(err, golibvirt.ErrOperationInvalid) { // it has ended just now
			err = nil
		}
		if err = f.unhang(ctx, dom, err); err == nil && !clock.Sleep(ctx, migration.AbortPause) {
			err = ctx.Err()
		}
	}
	return libvirt.Doing("abort the migration of", uuid, err)
}

// justLeft tells such a refusal: the guest is still there, or it is being removed.
func justLeft(err error) bool {
	return libvirt.HasCode(err, golibvirt.ErrOperationInvalid) && strings.Contains(err.Error(), "already") || libvirt.BeingRemoved(err)
}

// ErrStill: a guest has left, and stands still where it went: it is to be resumed there.
var ErrStill = errors.New("it has left, and stands still there until it is resumed")

const (
	meetLimit = 3 * time.Second         // to connect to the target
	goOnLimit = 4 * time.Second         // to let a guest go on there
	firstGoOn = 1500 * time.Millisecond // of that, over a connection that may have broken unseen
	restLimit = 5 * time.Second         // for the rest of a call whose guest has left
)

// meet connects to the target's libvirtd, so that no time is lost when the guest
// has come there. Without that connection it is for others to let the guest go on.
func (m *move) meet(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, meetLimit)
	defer cancel()
	uri := m.leave.To(m.target, "").URI
	c, err := m.client.ConnectTo(ctx, uri)
	if err != nil {
		m.Fleet.opt.Log.Debug("no connection to the target of a migration", "guest", m.dom.Name, "uri", uri, "err", err)
		return
	}
	m.there = c
}

// goOn lets the guest go on at the target. It is called when it is certain that
// it has left; it works after ctx has ended, too.
func (m *move) goOn(ctx context.Context) error {
	if !m.halted {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), goOnLimit)
	defer cancel()
	first, stop := context.WithTimeout(ctx, firstGoOn)
	err := m.resumeThere(first)
	stop()
	if err != nil && !libvirt.Answered(err) { // the connection has broken in a long migration
		m.part()
		m.meet(ctx)
		err = m.resumeThere(ctx)
	}
	if err != nil {
		return fmt.Errorf("%w: %w", ErrStill, err)
	}
	return nil
}

func (m *move) resumeThere(ctx context.Context) error {
	if m.there == nil {
		return errors.New("no connection to its libvirtd")
	}
	return m.there.Call(ctx, "let it go on", func(l *golibvirt.Libvirt) error {
		return l.DomainResume(m.dom) // libvirtd finds it by its UUID; one that runs is no error
	})
}

// part ends the connection to the target.
func (m *move) part() {
	if m.there != nil {
		m.client.Drop(m.there)
		m.there = nil
	}
}

// end lets the call end whose guest has left, and the connections.
func (m *move) end() {
	m.part()
	if m.rest != nil {
		select {
		case <-m.rest: // libvirtd has forgotten the guest then. An error says nothing more: it has left
		case <-time.After(restLimit):
		}
	}
	if m.here != nil {
		m.client.Drop(m.here)
	}
}

// departure looks for the line of a domain's log that says that a migration took it
// away. libvirtd writes it when the target has told that all of it is there, and
// after it has noted for its own next start that the process here is to be ended, whose CPUs stand still
// since before. It may take long to end (it gives all its memory back), and the guest would wait.
type departure struct {
	path string
	size int64 // when it was read last
	deaf bool  // it says so already, of a process before this one
	left bool  // seen
}

func newDeparture(path string) *departure {
	d := &departure{path: path, size: -1}
	d.deaf, d.left = d.seen(), false
	return d
}

// seen reads the log when it has grown. What can not be read says nothing: the
// call's answer does.
func (d *departure) seen() bool {
	info, err := os.Stat(d.path)
	if err != nil || d.deaf || info.Size() == d.size {
		return false
	}
	moved, _, err := migration.Ended(d.path)
	if err != nil {
		return false
	}
	d.size, d.left = info.Size(), moved
	return moved
}
