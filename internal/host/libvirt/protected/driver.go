package protected

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	golibvirt "github.com/digitalocean/go-libvirt"

	"holdfast/internal/cluster"
	"holdfast/internal/host/libvirt"
	"holdfast/internal/host/libvirt/migration"
	"holdfast/internal/lib/proc"
)

// Options of a Driver.
type Options struct {
	Socket     string // of libvirtd; default /run/libvirt/libvirt-sock
	MigrateURI string // connection URI of a migration's target, %s stands for its address; default qemu+tls://%s/system
	MigrateTLS string // whether the guest's memory travels encrypted: migration.TLSAuto (default), TLSRequired or TLSOff
	PKIDir     string // where libvirt and QEMU look for certificates unless their configuration says otherwise; default /etc/pki
	ProcDir    string // default /proc. It must show the pids of the caller's own PID namespace
	SysDir     string // default /sys
	ConfDir    string // of libvirt; default /etc/libvirt
	LogDir     string // of the domains' logs; default /var/log/libvirt/qemu
	// where libvirt dumps crashed guests unless its configuration says otherwise; default /var/lib/libvirt/qemu/dump
	DumpDir  string
	RunDir   string             // a directory that lives as long as the boot, for the note of a start whose outcome is open; "" for none
	Resource cluster.ResourceID // the guest
	UUID     string             // of its domain, canonical form
	Name     string             // of its domain
	Log      *slog.Logger
	RBD      func(cluster.RBD) RBD // the port to an image in a Ceph pool; nil: such images are refused
}

func (o Options) withDefaults() Options {
	for _, d := range []struct {
		field *string
		value string
	}{
		{&o.Socket, "/run/libvirt/libvirt-sock"},
		{&o.ProcDir, "/proc"},
		{&o.SysDir, "/sys"},
		{&o.ConfDir, "/etc/libvirt"},
		{&o.LogDir, "/var/log/libvirt/qemu"},
		{&o.DumpDir, "/var/lib/libvirt/qemu/dump"},
	} {
		if *d.field == "" {
			*d.field = d.value
		}
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	o.UUID = strings.ToLower(o.UUID)
	return o
}

// Driver runs one guest through libvirtd. Its methods may be called
// concurrently. An earlier Driver's guest and migration are taken over as they are.
type Driver struct {
	opt    Options
	dom    golibvirt.Domain
	procs  procTable
	files  libvirt.Gate
	log    *slog.Logger
	wake   chan struct{}
	link   *libvirt.Link
	leave  migration.Settings
	start  *startNote
	flying atomic.Int32    // calls to start the guest that are not answered
	life   context.Context // ends with Close
	cancel context.CancelFunc
	pool   pool
	wg     sync.WaitGroup // watch, pidfd waits and open starts

	mu    sync.Mutex
	known *seen // the guest's process as last observed
	ended bool
	waits map[*proc.Handle]struct{} // pidfds that goroutines wait on
	// movedOut: libvirtd has told that a migration took all of the last process
	// away. It is cleared when another process is seen, and when a migration begins.
	movedOut bool
	asked    bool // the domain's log has been asked, too
}

// seen is what is remembered of the guest's process. It only saves work: truth
// is looked up each time. It is not changed once made, so it can be shared.
type seen struct {
	guestProc
	state cluster.GuestState // as libvirtd last told, "" before it did
	ran   bool               // it was seen running: so it waits for no incoming migration
	// panicked: its kernel had panicked when libvirtd last told.
	panicked bool
}

// New returns a Driver. It does not need libvirtd to be there; goroutines that
// Close ends connect, and connect again, in the background.
func New(opt Options) (*Driver, error) {
	opt = opt.withDefaults()
	uuid, err := libvirt.ParseUUID(opt.UUID)
	if err != nil {
		return nil, err
	}
	if !validName(opt.Name) {
		return nil, fmt.Errorf("domain name %q: want letters, digits and . _ + - only", opt.Name)
	}
	d := &Driver{
		opt:   opt,
		dom:   golibvirt.Domain{Name: opt.Name, UUID: uuid, ID: -1},
		procs: procTable{dir: proc.Table(opt.ProcDir), uuid: opt.UUID, name: opt.Name, gate: libvirt.NewGate()},
		files: libvirt.NewGate(),
		log:   opt.Log,
		wake:  make(chan struct{}, 1),
		link:  libvirt.NewLink(opt.Socket),
		waits: map[*proc.Handle]struct{}{},
	}
	certs := libvirt.NewCertificates(opt.ConfDir, opt.PKIDir)
	if d.leave, err = migration.New(opt.MigrateURI, opt.MigrateTLS, certs); err != nil {
		return nil, err
	}
	if d.start, err = openStartNote(opt.RunDir, opt.UUID); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	d.life, d.cancel = ctx, cancel
	d.wg.Go(func() { d.watch(ctx) })
	d.wg.Go(func() { d.follow(ctx) })
	d.wg.Go(func() { d.settle(ctx) })
	return d, nil
}

// Close ends the driver's goroutines and connections. The guest goes on, and so
// do a migration and a start under way in libvirtd.
func (d *Driver) Close() error {
	d.mu.Lock()
	d.ended = true
	for h := range d.waits {
		_ = h.Close() // lets its goroutine end; that one may have closed it just now
	}
	d.mu.Unlock()
	d.cancel()
	d.link.CloseAll()
	d.wg.Wait()
	return nil
}

// Wake delivers a value soon after something of the guest changed: by libvirtd's
// lifecycle events, and by the end of its process even without libvirtd.
func (d *Driver) Wake() <-chan struct{} { return d.wake }

func (d *Driver) poke() {
	select {
	case d.wake <- struct{}{}:
	default: // one is waiting to be read already
	}
}

// queryLimit is the longest that Observe waits for libvirtd. After a call ran
// into it the connection is given up, and Observe goes by the process alone until
// a new one is up.
const queryLimit = 2 * time.Second

// Observe tells what there is of the guest on this host. GuestAbsent is proved
// by the process table. When libvirtd gives no answer, a guest that was last seen
// running is said to be running as long as its process is there; otherwise the
// state is GuestUnknown, with the process and an error.
func (d *Driver) Observe(ctx context.Context) (cluster.Guest, error) {
	open, err := d.startOpen() // asked before the process table is read: see below
	if err != nil {
		return cluster.Guest{State: cluster.GuestUnknown}, err
	}
	s, err := d.process(ctx)
	if err != nil {
		return cluster.Guest{State: cluster.GuestUnknown}, err
	}
	if s == nil {
		if open {
			// It may appear at any moment: absence would prove nothing.
			return cluster.Guest{State: cluster.GuestUnknown}, errStartOpen
		}
		return cluster.Guest{State: cluster.GuestAbsent, Moved: d.hasMoved()}, nil
	}
	g := cluster.Guest{State: cluster.GuestUnknown, Epoch: s.epoch, PID: s.PID, Started: s.Started}
	v, err := d.ask(ctx, s)
	if err != nil {
		if s.state == cluster.GuestRunning {
			g.State = cluster.GuestRunning
			return g, nil
		}
		return g, fmt.Errorf("process %d of the guest is there, its state is not known: %w", s.PID, err)
	}
	d.remember(s.process, v)
	if open && !s.incoming && d.flying.Load() == 0 {
		// This is what the open start has become: nobody else could start it meanwhile.
		if err := d.start.clear(); err != nil {
			d.log.Error("the guest's start is over, but stays noted as open", "err", err)
		}
	}
	g.State, g.Migrating, g.Percent, g.Panicked, g.IOError = v.state, v.out, v.percent, v.panicked, v.ioError
	g.LockedOut = g.IOError && d.lockedOut(s.process)
	return g, nil
}

// process returns the guest's process, nil when there is none. While the known
// one lives, the process table is not searched again.
func (d *Driver) process(ctx context.Context) (*seen, error) {
	d.mu.Lock()
	known := d.known
	d.mu.Unlock()
	if known != nil {
		alive, err := d.procs.alive(known.process)
		if err != nil {
			return nil, err
		}
		if alive {
			return known, nil
		}
	}
	found, err := d.procs.guests(ctx)
	if err != nil {
		return nil, err
	}
	if len(found) > 1 {
		return nil, fmt.Errorf("%d processes run the guest: %v", len(found), pids(found))
	}
	if len(found) == 0 {
		d.setKnown(nil)
		return nil, nil
	}
	s := &seen{guestProc: found[0]}
	return d.setKnown(s), nil
}

// setKnown remembers a process, starts a wait for its end, and returns what is
// remembered.
func (d *Driver) setKnown(s *seen) *seen {
	d.mu.Lock()
	defer d.mu.Unlock()
	if s != nil && d.known != nil && d.known.process == s.process {
		return d.known // found by two callers at once
	}
	d.known = s
	if s != nil {
		d.movedOut, d.asked = false, false
	}
	if s != nil && !d.ended {
		p := s.process
		d.wg.Go(func() { d.awaitEnd(p) })
	}
	return s
}

// own runs f in a goroutine that Close waits for. It reports false, and does
// not run f, when the driver is closed.
func (d *Driver) own(f func()) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.ended {
		return false
	}
	d.wg.Go(f)
	return true
}

func (d *Driver) remember(p process, v view) {
	d.mu.Lock()
	known := d.known
	if known == nil || known.process != p {
		d.mu.Unlock()
		return
	}
	s := *known
	s.state, s.ran, s.panicked = v.state, s.ran || v.state == cluster.GuestRunning, v.panicked
	d.known = &s
	d.mu.Unlock()
	if v.panicked && !known.panicked {
		d.log.Warn("the guest's kernel has panicked, its process stands still and is kept (preserve), or until its "+
			"memory is dumped (coredump)", "pid", p.PID)
	}
}

// view is what libvirtd says of the guest.
type view struct {
	state    cluster.GuestState
	out      bool // libvirtd migrates it away
	percent  int  // of that, 0..100
	panicked bool // the guest's kernel has, its CPUs stand still
	ioError  bool // QEMU has stopped its CPUs, because a disk could not be read or written
}

// ask asks libvirtd about the guest, whose process is s.
func (d *Driver) ask(ctx context.Context, s *seen) (view, error) {
	ctx, cancel := context.WithTimeout(ctx, libvirt.Share(ctx, queryLimit))
	defer cancel()
	c, err := d.link.Get(ctx)
	if err != nil {
		return view{}, err
	}
	var state, reason int32
	var op migration.Operation
	if err := c.Call(ctx, "ask for the guest's state", func(l *golibvirt.Libvirt) (err error) {
		if state, reason, err = l.DomainGetState(d.dom, 0); err == nil {
			op, err = currentJob(l, d.dom)
		}
		return err
	}); err != nil {
		return view{}, err
	}
	v := view{
		state:    guestState(golibvirt.DomainState(state), golibvirt.DomainPausedReason(reason), s, op.Leaving()),
		panicked: golibvirt.DomainState(state) == golibvirt.DomainCrashed,
		ioError: golibvirt.DomainState(state) == golibvirt.DomainPaused &&
			golibvirt.DomainPausedReason(reason) == golibvirt.DomainPausedIoerror,
	}
	if v.out = op.Leaving(); v.out {
		v.percent = op.Progress.Percent
	}
	if v.state == cluster.GuestUnknown {
		return view{}, fmt.Errorf("libvirtd tells no state of the domain (%d, reason %d)", state, reason)
	}
	return v, nil
}

// currentJob asks for the domain's job. What libvirtd refuses to tell is as good as none here.
func currentJob(l *golibvirt.Libvirt, dom golibvirt.Domain) (migration.Operation, error) {
	op, err := migration.OperationOf(l, dom)
	if libvirt.Answered(err) && !libvirt.HasCode(err, golibvirt.ErrNoDomain) {
		return migration.Operation{}, nil
	}
	return op, err
}

// guestState translates libvirt's state of a domain whose process exists.
func guestState(state golibvirt.DomainState, reason golibvirt.DomainPausedReason, s *seen, out bool) cluster.GuestState {
	switch state {
	case golibvirt.DomainRunning, golibvirt.DomainBlocked, golibvirt.DomainPmsuspended:
		return cluster.GuestRunning
	case golibvirt.DomainPaused:
		// The last step of a migration pauses the source for the same reason.
		waits := reason == golibvirt.DomainPausedMigration || reason == golibvirt.DomainPausedStartingUp
		switch {
		case !s.incoming || s.ran || out:
		case waits:
			return cluster.GuestIncoming
		case reason == golibvirt.DomainPausedUser: // which the end of a migration with VIR_MIGRATE_PAUSED sets
			return cluster.GuestArrived
		}
		return cluster.GuestPaused
	case golibvirt.DomainShutdown, golibvirt.DomainShutoff:
		return cluster.GuestPaused // its process is about to end
	case golibvirt.DomainCrashed:
		return cluster.GuestPaused // QEMU has stopped its CPUs; whether its process ends depends on the panic policy
	}
	return cluster.GuestUnknown
}

func pids(found []guestProc) []int {
	var out []int
	for _, p := range found {
		out = append(out, p.PID)
	}
	return out
}

// MigrationSecurity looks at the certificates of this host. It reads five small files:
// ask every 10 s, not more often.
func (d *Driver) MigrationSecurity() migration.Security { return d.leave.Security() }
