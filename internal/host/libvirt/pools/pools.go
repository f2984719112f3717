package pools

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	golibvirt "github.com/digitalocean/go-libvirt"
	"github.com/moby/sys/mountinfo"
	"libvirt.org/go/libvirtxml"

	"holdfast/internal/host/libvirt"
)

// Pool is a storage pool of this host's libvirt.
type Pool struct {
	Name      string
	UUID      string
	Kind      string // libvirt's type (dir, fs, netfs, iscsi, logical, rbd...); of a dir or fs with a cluster file system that, as ocfs2
	Active    bool
	Autostart bool
	Transient bool     // libvirt forgets it when it is stopped, and with a reboot
	Target    string   // path of its volumes, "" for none
	Devices   []string // block devices, iSCSI targets or HOST:DIRECTORY that it is made of
	Shared    bool     // other hosts use it at the same time
	Paths     int      // ways to the device with the fewest; 1 is a single path; 0: does not apply, or not known
	Mapper    string   // with Paths 1: the multipath device that it could use, "" for none
	Why       string   // what could not be found out, for people
}

// Options of Pools.
type Options struct {
	Client *libvirt.Client
	// Shared are directories and devices, with all below them, that are the same on every host although their kind
	// does not tell it.
	Shared  []string
	ProcDir string
	SysDir  string
	DevDir  string
	// Bare reports whether this host has no hypervisor, and may do without one.
	Bare func() (bool, error)
	// Users names the guests with a process that have a disk in a pool.
	Users func(ctx context.Context, p Pool) ([]string, error)
}

// Pools are the storage pools of a host.
type Pools struct {
	opt     Options
	storage storage
}

// New returns those of the host whose libvirtd the client calls.
func New(opt Options) *Pools {
	return &Pools{opt: opt, storage: storage{
		proc: opt.ProcDir, sys: opt.SysDir, dev: opt.DevDir, shared: opt.Shared, gate: libvirt.NewGate(),
	}}
}

// Declared reports whether a path was said to be the same on every host.
func (h *Pools) Declared(path string) bool { return h.storage.declared(path) }

// ErrBusy: the pool is active or used, by running guests for one.
var ErrBusy = errors.New("the pool is in use")

const (
	// poolLimit is how long starting or stopping a pool may take: it mounts or logs in.
	changeLimit = 2 * time.Minute
	// poolListLimit bounds a list of all pools.
	listLimit = time.Minute
)

// List returns the pools of the host.
func (h *Pools) List(ctx context.Context) ([]Pool, error) {
	ctx, cancel := context.WithTimeout(ctx, libvirt.Share(ctx, listLimit))
	defer cancel()
	if bare, err := h.opt.Bare(); err != nil || bare {
		return nil, err
	}
	mounts, err := h.storage.mounts()
	if err != nil {
		return nil, fmt.Errorf("list the pools: %w", err)
	}
	var out []Pool
	err = h.opt.Client.With(ctx, func(c *libvirt.Conn) error {
		all, err := pools(ctx, c, 0)
		if err != nil {
			return err
		}
		active, err := pools(ctx, c, golibvirt.ConnectListStoragePoolsActive)
		if err != nil {
			return err
		}
		kept, err := pools(ctx, c, golibvirt.ConnectListStoragePoolsPersistent)
		if err != nil {
			return err
		}
		auto, err := pools(ctx, c, golibvirt.ConnectListStoragePoolsAutostart)
		if err != nil {
			return err
		}
		for _, sp := range all {
			def, err := definitionOf(ctx, c, sp)
			if libvirt.HasCode(err, golibvirt.ErrNoStoragePool) {
				continue // gone meanwhile
			}
			if err != nil {
				return err
			}
			p := h.storage.facts(ctx, mounts, def)
			p.UUID = libvirt.FormatUUID(sp.UUID)
			p.Active = slices.ContainsFunc(active, same(sp))
			p.Transient = !slices.ContainsFunc(kept, same(sp))
			p.Autostart = slices.ContainsFunc(auto, same(sp))
			out = append(out, p)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list the pools: %w", libvirt.OneLine(err))
	}
	return out, nil
}

func same(a golibvirt.StoragePool) func(golibvirt.StoragePool) bool {
	return func(b golibvirt.StoragePool) bool { return a.UUID == b.UUID }
}

func pools(ctx context.Context, c *libvirt.Conn, which golibvirt.ConnectListAllStoragePoolsFlags) (out []golibvirt.StoragePool, err error) {
	err = c.Call(ctx, "ask for the pools", func(l *golibvirt.Libvirt) (err error) {
		out, _, err = l.ConnectListAllStoragePools(1, which)
		return err
	})
	return out, err
}

// definitionOf reads what a pool is defined as, not what a start has found out.
func definitionOf(ctx context.Context, c *libvirt.Conn, sp golibvirt.StoragePool) (libvirtxml.StoragePool, error) {
	var def libvirtxml.StoragePool
	text, err := xmlOf(ctx, c, sp)
	if err != nil {
		return def, err
	}
	if err := def.Unmarshal(text); err != nil {
		return def, fmt.Errorf("read the definition of pool %s: %w", sp.Name, err)
	}
	return def, nil
}

func xmlOf(ctx context.Context, c *libvirt.Conn, sp golibvirt.StoragePool) (text string, err error) {
	err = c.Call(ctx, "read the definition of pool "+sp.Name, func(l *golibvirt.Libvirt) (err error) {
		text, err = l.StoragePoolGetXMLDesc(sp, golibvirt.StorageXMLInactive)
		return err
	})
	return text, err
}

// facts tells what a definition and the host's devices say of a pool.
func (s storage) facts(ctx context.Context, mounts []*mountinfo.Info, def libvirtxml.StoragePool) Pool {
	p := Pool{Name: def.Name, Kind: def.Type}
	if def.Target != nil {
		p.Target = def.Target.Path
	}
	src := def.Source
	if src == nil {
		src = &libvirtxml.StoragePoolSource{}
	}
	for _, d := range src.Device {
		p.Devices = append(p.Devices, d.Path)
	}
	format := ""
	if src.Format != nil {
		format = src.Format.Type
	}
	switch def.Type {
	case "netfs":
		p.Shared = true
		for _, h := range src.Host {
			if src.Dir != nil {
				p.Devices = append(p.Devices, h.Name+":"+src.Dir.Path)
			}
		}
	case "iscsi":
		p.Shared = true
		p.Paths = s.sessionsOf(&p)
	case "iscsi-direct", "rbd", "gluster", "sheepdog", "vstorage", "mpath":
		p.Shared = true
	case "scsi":
		p.Shared = src.Adapter != nil && src.Adapter.Type == "fc_host"
	case "fs":
		p.Shared = sharedFS(format)
		if p.Shared {
			p.Kind = format
		}
		s.lookAtDevices(&p)
	case "logical", "disk":
		p.Shared = s.lookAtDevices(&p)
	case "dir":
		s.lookAtDirectory(ctx, mounts, &p)
	}
	return p
}

// lookAtDevices finds the pool's ways to its devices, and whether other hosts
// reach all of them.
func (s storage) lookAtDevices(p *Pool) (shared bool) {
	shared = len(p.Devices) > 0
	for i, path := range p.Devices {
		d, err := s.device(path)
		if err != nil {
			p.Why = err.Error()
			p.Paths, p.Mapper = 0, ""
			return false
		}
		shared = shared && d.Shared
		if i == 0 || d.Paths < p.Paths {
			p.Paths, p.Mapper = d.Paths, d.Mapper
		}
	}
	return shared
}

// lookAtDirectory finds what file system a directory is in; a cluster file
// system is on a device with paths.
func (s storage) lookAtDirectory(ctx context.Context, mounts []*mountinfo.Info, p *Pool) {
	fstype, shared, err := s.file(ctx, mounts, p.Target)
	if err != nil {
		p.Why = err.Error()
		return
	}
	p.Shared = shared
	if !sharedFS(fstype) {
		return
	}
	p.Kind = fstype
	if m := mountOf(mounts, p.Target); m.FSType == fstype && strings.HasPrefix(m.Source, "/dev/") {
		p.Devices = []string{m.Source}
		s.lookAtDevices(p)
	}
}

// sessionsOf counts the iSCSI sessions to the pool's target; each is a path.
func (s storage) sessionsOf(p *Pool) int {
	all, err := s.sessions()
	if err != nil {
		p.Why = err.Error()
		return 0
	}
	n := 0
	for _, one := range all {
		if slices.Contains(p.Devices, one.target) {
			n++
		}
	}
	return n
}

// find looks a pool up and tells whether it is active.
func find(ctx context.Context, c *libvirt.Conn, name string) (sp golibvirt.StoragePool, active bool, err error) {
	err = c.Call(ctx, "look up pool "+name, func(l *golibvirt.Libvirt) (err error) {
		var is int32
		if sp, err = l.StoragePoolLookupByName(name); err == nil {
			is, err = l.StoragePoolIsActive(sp)
		}
		active = is != 0
		return err
	})
	return sp, active, err
}

// Start starts a pool: it is mounted, logged in or scanned. nil also when it
// is active already.
func (h *Pools) Start(ctx context.Context, name string) error {
	return libvirt.Doing("start pool", name, h.set(ctx, name, true, func(l *golibvirt.Libvirt, sp golibvirt.StoragePool) error {
		return l.StoragePoolCreate(sp, 0)
	}))
}

// Stop stops a pool: it is unmounted or logged out, and its content stays. It
// refuses, with ErrBusy, while guests that have a process use the pool, or the
// host itself a disk of an iSCSI pool. nil also when it is not active.
func (h *Pools) Stop(ctx context.Context, name string) error {
	users, err := h.users(ctx, name)
	if err == nil && len(users) > 0 {
		err = fmt.Errorf("%w by %s", ErrBusy, strings.Join(users, ", "))
	}
	if err == nil {
		err = h.set(ctx, name, false, func(l *golibvirt.Libvirt, sp golibvirt.StoragePool) error {
			return l.StoragePoolDestroy(sp)
		})
	}
	return libvirt.Doing("stop pool", name, err)
}

// set makes a pool active or not, and looks after a lost answer what became
// of it.
func (h *Pools) set(ctx context.Context, name string, want bool,
	do func(*golibvirt.Libvirt, golibvirt.StoragePool) error,
) error {
	limit, cancel := context.WithTimeout(ctx, libvirt.Share(ctx, changeLimit))
	defer cancel()
	err := h.opt.Client.With(limit, func(c *libvirt.Conn) error {
		sp, active, err := find(limit, c, name)
		if err != nil || active == want {
			return err
		}
		return c.Call(limit, "ask libvirtd", func(l *golibvirt.Libvirt) error { return do(l, sp) })
	})
	if err == nil {
		return nil
	}
	return h.became(ctx, name, want, err)
}

// users names the guests with a process that have a disk in the pool, and
// what the host does with the disks of an iSCSI pool.
func (h *Pools) users(ctx context.Context, name string) ([]string, error) {
	pools, err := h.List(ctx)
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(pools, func(p Pool) bool { return p.Name == name })
	if i < 0 {
		return nil, fmt.Errorf("libvirt has no pool %s", name)
	}
	guests, err := h.opt.Users(ctx, pools[i])
	if err != nil {
		return nil, err
	}
	var users []string
	if pools[i].Kind == "iscsi" { // the host may use its disks, too
		for _, target := range pools[i].Devices {
			u, err := h.storage.users(target)
			if err != nil {
				return nil, err
			}
			users = append(users, u...)
		}
	}
	return append(users, guests...), nil
}

// Holds reports that a disk is in the pool: its kind, and where its content is, as [Source] has them. Paths in
// /dev are shared by many pools, so there only the pool's own devices and volumes count.
func (p Pool) Holds(kind, source string) bool {
	if kind == "volume" {
		return strings.HasPrefix(source, p.Name+"/")
	}
	for _, target := range p.Devices { // by the names that udev gives
		if p.Kind == "iscsi" && strings.Contains(source, "-iscsi-"+target+"-") {
			return true
		}
	}
	dev := p.Target == "/dev" || strings.HasPrefix(p.Target, "/dev/disk") || strings.HasPrefix(p.Target, "/dev/mapper")
	return p.Target != "" && !dev && strings.HasPrefix(source, "/") && below(source, p.Target) ||
		slices.Contains(p.Devices, source)
}

// RedefineMultipath makes a pool use the multipath device over the disk that it
// uses now by a single path. The pool must be stopped. The definition is replaced
// in one step, so that a pool never gets lost on the way. nil also when all its
// devices are multipath devices already; changed tells whether it did something.
func (h *Pools) RedefineMultipath(ctx context.Context, name string) (changed bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, libvirt.Share(ctx, changeLimit))
	defer cancel()
	err = h.opt.Client.With(ctx, func(c *libvirt.Conn) error {
		sp, active, err := find(ctx, c, name)
		if err != nil {
			return err
		}
		def, err := definitionOf(ctx, c, sp)
		if err != nil {
			return err
		}
		if changed, err = h.useMultipath(&def); err != nil || !changed {
			return err
		}
		if active {
			return fmt.Errorf("%w: stop it first", ErrBusy)
		}
		text, err := def.Marshal()
		if err != nil {
			return fmt.Errorf("write its definition: %w", err)
		}
		return c.Call(ctx, "define it", func(l *golibvirt.Libvirt) error {
			_, err := l.StoragePoolDefineXML(text, 0)
			return err
		})
	})
	return changed && err == nil, libvirt.Doing("redefine pool", name, err)
}

func (h *Pools) useMultipath(def *libvirtxml.StoragePool) (changed bool, err error) {
	switch def.Type {
	case "fs", "logical", "disk":
	default:
		return false, fmt.Errorf("it is of kind %s: only fs, logical and disk pools name a device", def.Type)
	}
	if def.Source == nil || len(def.Source.Device) == 0 {
		return false, errors.New("it names no device")
	}
	for i := range def.Source.Device {
		d := &def.Source.Device[i]
		mapper, err := h.storage.multipath(d.Path)
		if err != nil {
			return false, err
		}
		changed = changed || mapper != d.Path
		d.Path = mapper
	}
	return changed, nil
}

// XML returns what a pool is defined as: what Create and virsh pool-create
// make it of again. It has the pool's UUID, and no passwords.
func (h *Pools) XML(ctx context.Context, name string) (text string, err error) {
	ctx, cancel := context.WithTimeout(ctx, libvirt.Share(ctx, changeLimit))
	defer cancel()
	err = h.opt.Client.With(ctx, func(c *libvirt.Conn) error {
		sp, _, err := find(ctx, c, name)
		if err == nil {
			text, err = xmlOf(ctx, c, sp)
		}
		return err
	})
	return text, libvirt.Doing("read the definition of pool", name, err)
}

// Create makes a transient pool, active, of its XML. nil also when a pool of its
// name is active already.
func (h *Pools) Create(ctx context.Context, text string) error {
	var def libvirtxml.StoragePool
	if err := def.Unmarshal(text); err != nil {
		return fmt.Errorf("make a pool: read its definition: %w", err)
	}
	limit, cancel := context.WithTimeout(ctx, libvirt.Share(ctx, changeLimit))
	defer cancel()
	err := h.opt.Client.With(limit, func(c *libvirt.Conn) error {
		_, active, err := find(limit, c, def.Name)
		if active || err != nil && !libvirt.HasCode(err, golibvirt.ErrNoStoragePool) {
			return err
		}
		return c.Call(limit, "ask libvirtd", func(l *golibvirt.Libvirt) error {
			_, err := l.StoragePoolCreateXML(text, 0)
			return err
		})
	})
	if err != nil { // the answer may have been lost
		err = h.became(ctx, def.Name, true, err)
	}
	return libvirt.Doing("make pool", def.Name, err)
}

// MultipathXML changes the XML of a pool as RedefineMultipath changes a pool. changed
// tells whether it is another one.
func (h *Pools) MultipathXML(text string) (out string, changed bool, err error) {
	var def libvirtxml.StoragePool
	if err = def.Unmarshal(text); err != nil {
		return "", false, fmt.Errorf("read the definition of a pool: %w", err)
	}
	if changed, err = h.useMultipath(&def); err != nil || !changed {
		return text, false, libvirt.Doing("use multipath for pool", def.Name, err)
	}
	if out, err = def.Marshal(); err != nil {
		return "", false, fmt.Errorf("write the definition of pool %s: %w", def.Name, err)
	}
	return out, true, nil
}

// became returns nil when a pool is as it was wanted after all, done by a call
// whose answer was lost or by somebody else at the same time, and else cause.
func (h *Pools) became(ctx context.Context, name string, want bool, cause error) error {
	var active bool
	err := h.opt.Client.Ask(ctx, "look at it again", func(l *golibvirt.Libvirt) error {
		sp, err := l.StoragePoolLookupByName(name)
		if libvirt.HasCode(err, golibvirt.ErrNoStoragePool) {
			return nil
		}
		if err != nil {
			return err
		}
		is, err := l.StoragePoolIsActive(sp)
		active = is != 0
		return err
	})
	if err == nil && active == want {
		return nil
	}
	return errors.Join(cause, err)
}
