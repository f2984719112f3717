package guests

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"

	golibvirt "github.com/digitalocean/go-libvirt"

	"holdfast/internal/host/libvirt"
	"holdfast/internal/host/libvirt/migration"
	"holdfast/internal/host/libvirt/pools"
)

// Options of a Fleet.
type Options struct {
	Socket     string   // of libvirtd; default /run/libvirt/libvirt-sock
	URI        string   // of a libvirtd on another host, instead of Socket: qemu+tls or qemu+tcp. Of that host no logs and processes are seen
	MigrateURI string   // connection URI of a move's target, %s stands for its address; default qemu+tls://%s/system
	MigrateTLS string   // whether guests' memory travels encrypted: migration.TLSAuto (default), TLSRequired or TLSOff
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
	opt       Options
	client    *libvirt.Client
	pools     *pools.Pools
	leave     migration.Settings
	protected map[string]bool
}

var (
	// ErrRunning: the guest was asked to shut down and still runs.
	ErrRunning   = errors.New("the guest still runs")
	errProtected = errors.New("the guest is protected by Holdfast, which moves it itself")
	errBound     = errors.New("the guest is bound to this host")
)

// New returns a Fleet. libvirtd need not be there yet.
func New(opt Options) (*Fleet, error) {
	opt.Socket = cmp.Or(opt.Socket, "/run/libvirt/libvirt-sock")
	opt.ProcDir = cmp.Or(opt.ProcDir, "/proc")
	opt.SysDir = cmp.Or(opt.SysDir, "/sys")
	opt.DevDir = cmp.Or(opt.DevDir, "/dev")
	opt.LogDir = cmp.Or(opt.LogDir, "/var/log/libvirt/qemu")
	if opt.Log == nil {
		opt.Log = slog.New(slog.DiscardHandler)
	}
	leave, err := migration.New(opt.MigrateURI, opt.MigrateTLS, libvirt.NewCertificates(opt.ConfDir, opt.PKIDir))
	if err != nil {
		return nil, err
	}
	f := &Fleet{opt: opt, leave: leave, client: libvirt.NewClient(opt.Socket, opt.URI), protected: map[string]bool{}}
	f.pools = pools.New(pools.Options{
		Client: f.client, Shared: opt.Shared, ProcDir: opt.ProcDir, SysDir: opt.SysDir, DevDir: opt.DevDir,
		Bare: f.bare, Users: f.usersOf,
	})
	for _, u := range opt.Protected {
		if _, err := libvirt.ParseUUID(u); err != nil {
			return nil, fmt.Errorf("protected guest: %w", err)
		}
		f.protected[strings.ToLower(u)] = true
	}
	return f, nil
}

// Close ends all calls under way, and later ones at once. What libvirtd does,
// a migration for one, goes on.
func (f *Fleet) Close() error {
	f.client.Close()
	return nil
}

// Pools are the storage pools of this host, which stay while its guests use them.
func (f *Fleet) Pools() *pools.Pools { return f.pools }

// usersOf names the guests with a process that have a disk in a pool.
func (f *Fleet) usersOf(ctx context.Context, p pools.Pool) ([]string, error) {
	vms, err := f.List(ctx)
	if err != nil {
		return nil, err
	}
	var users []string
	for _, v := range vms {
		switch {
		case v.State == VMOff:
		case !v.known:
			users = append(users, v.Name+" (it may: its disks are not known)")
		case slices.ContainsFunc(v.Disks, func(d Disk) bool { return p.Holds(d.Kind, d.Source) }):
			users = append(users, v.Name)
		}
	}
	return users, nil
}

// log is the file of a domain's log; an empty one when that is on another host, and for a name that libvirt does not take.
func (f *Fleet) log(name string) string {
	if f.opt.URI != "" || strings.Contains(name, "/") {
		return os.DevNull
	}
	return filepath.Join(f.opt.LogDir, name+".log")
}

// find looks a guest up that may be touched.
func (f *Fleet) find(ctx context.Context, uuid string) (golibvirt.Domain, error) {
	if f.protected[strings.ToLower(uuid)] {
		return golibvirt.Domain{}, errProtected
	}
	return f.lookup(ctx, uuid)
}

func (f *Fleet) lookup(ctx context.Context, uuid string) (golibvirt.Domain, error) {
	u, err := libvirt.ParseUUID(uuid)
	if err != nil {
		return golibvirt.Domain{}, err
	}
	var dom golibvirt.Domain
	err = f.client.Ask(ctx, "look up the guest", func(l *golibvirt.Libvirt) error {
		dom, err = l.DomainLookupByUUID(u)
		return err
	})
	return dom, err
}

// MigrationSecurity looks at the certificates of this host. It reads five small files:
// ask every 10 s, not more often.
func (f *Fleet) MigrationSecurity() migration.Security { return f.leave.Security() }
