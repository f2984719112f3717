package libvirt

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	golibvirt "github.com/digitalocean/go-libvirt"
)

// FleetOptions of a Fleet.
type FleetOptions struct {
	Socket     string   // of libvirtd; default /run/libvirt/libvirt-sock
	URI        string   // of a libvirtd on another host, instead of Socket: qemu+tls or qemu+tcp. Of that host no logs and processes are seen
	MigrateURI string   // connection URI of a move's target, %s stands for its address; default qemu+tls://%s/system
	MigrateTLS string   // whether guests' memory travels encrypted: TLSAuto (default), TLSRequired or TLSOff
	ConfDir    string   // of libvirt; default /etc/libvirt
	PKIDir     string   // where libvirt and QEMU look for certificates unless their configuration says otherwise; default /etc/pki
	Shared     []string // directories and devices, with all below them, that are the same on every host although their kind does not tell it
	Protected  []string // UUIDs of guests that Holdfast's own HA runs: they are listed and never touched
	ReserveMiB int64    // memory that the host keeps for itself; 0: 2 GiB, but a quarter of the host's memory at most
	ProcDir    string   // default /proc
	SysDir     string   // default /sys
	DevDir     string   // default /dev
	LogDir     string   // of the domains' logs; default /var/log/libvirt/qemu
	// Group lists what Holdfast's own HA runs on this host that is no guest of libvirt: the
	// group of a pair. Such a host needs no libvirtd. nil: libvirtd has all guests.
	Group func(ctx context.Context) ([]VM, error) `json:"-"`
	Log   *slog.Logger
}

// Fleet lists and moves the guests of this host that Holdfast does not protect.
// libvirtd is its truth. Its methods may be called concurrently; each makes
// connections of its own, so that one that hangs disturbs no other.
type Fleet struct {
	opt       FleetOptions
	link      *link
	storage   storage
	secure    secure
	protected map[string]bool
	life      context.Context // until Close: it ends connecting, which link can not
	end       context.CancelFunc
}

// Errors of a Fleet that callers branch on.
var (
	// ErrProtected: the guest belongs to Holdfast's own HA.
	ErrProtected = errors.New("the guest is protected by Holdfast, which moves it itself")
	// ErrRunning: the guest was asked to shut down and still runs.
	ErrRunning = errors.New("the guest still runs")
	// ErrBound: what the guest needs is on this host only.
	ErrBound = errors.New("the guest is bound to this host")
)

// NewFleet returns a Fleet. libvirtd need not be there yet.
func NewFleet(opt FleetOptions) (*Fleet, error) {
	opt.Socket = cmp.Or(opt.Socket, "/run/libvirt/libvirt-sock")
	opt.MigrateURI = cmp.Or(opt.MigrateURI, "qemu+tls://%s/system")
	opt.ProcDir = cmp.Or(opt.ProcDir, "/proc")
	opt.SysDir = cmp.Or(opt.SysDir, "/sys")
	opt.DevDir = cmp.Or(opt.DevDir, "/dev")
	opt.LogDir = cmp.Or(opt.LogDir, "/var/log/libvirt/qemu")
	if opt.Log == nil {
		opt.Log = slog.New(slog.DiscardHandler)
	}
	if strings.Count(opt.MigrateURI, "%s") != 1 || strings.Count(opt.MigrateURI, "%") != 1 {
		return nil, fmt.Errorf("migration URI %q: want exactly one %%s for the target's address", opt.MigrateURI)
	}
	sec, err := newSecure(opt.MigrateTLS, opt.ConfDir, opt.PKIDir)
	if err != nil {
		return nil, err
	}
	f := &Fleet{
		opt:       opt,
		secure:    sec,
		link:      newLink(opt.Socket),
		storage:   storage{proc: opt.ProcDir, sys: opt.SysDir, dev: opt.DevDir, shared: opt.Shared, gate: newGate()},
		protected: map[string]bool{},
	}
	for _, u := range opt.Protected {
		if _, err := parseUUID(u); err != nil {
			return nil, fmt.Errorf("protected guest: %w", err)
		}
		f.protected[strings.ToLower(u)] = true
	}
	if opt.URI != "" {
		f.link.path, f.link.dial = opt.URI, connectURI
	}
	f.life, f.end = context.WithCancel(context.Background())
	return f, nil
}

// Close ends all calls under way, and later ones at once. What libvirtd does,
// a migration for one, goes on.
func (f *Fleet) Close() error {
	f.end()
	f.link.closeAll()
	return nil
}

// open makes a connection; the caller drops it.
func (f *Fleet) open(ctx context.Context) (*conn, error) {
	ctx, cancel := context.WithTimeout(ctx, connectLimit)
	defer cancel()
	defer context.AfterFunc(f.life, cancel)()
	return f.link.open(ctx)
}

// log is the file of a domain's log; an empty one when that is on another host, and for a name that libvirt does not take.
func (f *Fleet) log(name string) string {
	if f.opt.URI != "" || strings.Contains(name, "/") {
		return os.DevNull
	}
	return filepath.Join(f.opt.LogDir, name+".log")
}

// answerLimit is how long a single question to libvirtd may take.
const answerLimit = 10 * time.Second

// with runs do on a connection of its own.
func (f *Fleet) with(ctx context.Context, do func(*conn) error) error {
	c, err := f.open(ctx)
	if err != nil {
		return err
	}
	defer f.link.drop(c)
	return do(c)
}

// ask is with, for something short.
func (f *Fleet) ask(ctx context.Context, what string, question func(*golibvirt.Libvirt) error) error {
	ctx, cancel := context.WithTimeout(ctx, share(ctx, answerLimit))
	defer cancel()
	return f.with(ctx, func(c *conn) error { return c.call(ctx, what, question) })
}

// find looks a guest up that may be touched.
func (f *Fleet) find(ctx context.Context, uuid string) (golibvirt.Domain, error) {
	if f.protected[strings.ToLower(uuid)] {
		return golibvirt.Domain{}, ErrProtected
	}
	return f.lookup(ctx, uuid)
}

func (f *Fleet) lookup(ctx context.Context, uuid string) (golibvirt.Domain, error) {
	u, err := parseUUID(uuid)
	if err != nil {
		return golibvirt.Domain{}, err
	}
	var dom golibvirt.Domain
	err = f.ask(ctx, "look up the guest", func(l *golibvirt.Libvirt) error {
		dom, err = l.DomainLookupByUUID(u)
		return err
	})
	return dom, err
}

// doing names the guest and what was tried in an error; nil stays nil.
func doing(what, guest string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s %s: %w", what, guest, oneLine(err))
}

// operation is the job that libvirtd has under way with a guest.
type operation struct {
	kind     golibvirt.DomainJobOperation
	active   bool
	incoming bool // a migration brings the guest here
	params   []golibvirt.TypedParam
}

// operationOf asks for it. libvirtd has no figures of an incoming migration, and
// says so with an error of its own.
func operationOf(l *golibvirt.Libvirt, dom golibvirt.Domain) (operation, error) {
	kind, params, err := l.DomainGetJobStats(dom, 0)
	switch {
	case err == nil:
	case answered(err) && strings.Contains(err.Error(), "only on the source"): // of one of two codes, by version
		return operation{kind: golibvirt.DomainJobOperationStrMigrationIn, active: true, incoming: true}, nil
	case hasCode(err, golibvirt.ErrOperationInvalid): // it is off
		return operation{}, nil
	default:
		return operation{}, err
	}
	if golibvirt.DomainJobType(kind) == golibvirt.DomainJobNone {
		return operation{}, nil
	}
	op := operation{active: true, params: params}
	for _, p := range params {
		if p.Field == golibvirt.DomainJobOperationStr {
			op.kind = golibvirt.DomainJobOperation(number(p))
		}
	}
	return op, nil
}

func (o operation) leaving() bool {
	return o.active && o.kind == golibvirt.DomainJobOperationStrMigrationOut
}

// String tells people what holds the guest.
func (o operation) String() string {
	if !o.active {
		return ""
	}
	switch o.kind {
	case golibvirt.DomainJobOperationStrStart:
		return "start"
	case golibvirt.DomainJobOperationStrSave:
		return "save"
	case golibvirt.DomainJobOperationStrRestore:
		return "restore"
	case golibvirt.DomainJobOperationStrMigrationIn, golibvirt.DomainJobOperationStrMigrationOut:
		return "migration"
	case golibvirt.DomainJobOperationStrSnapshot, golibvirt.DomainJobOperationStrSnapshotRevert, golibvirt.DomainJobOperationStrSnapshotDelete:
		return "snapshot"
	case golibvirt.DomainJobOperationStrDump:
		return "dump"
	case golibvirt.DomainJobOperationStrBackup:
		return "backup"
	}
	return "a job"
}
