package guests

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	golibvirt "github.com/digitalocean/go-libvirt"
	"libvirt.org/go/libvirtxml"

	"holdfast/internal/host/libvirt"
	"holdfast/internal/host/libvirt/migration"
	"holdfast/internal/host/libvirt/pools"
	"holdfast/internal/lib/clock"
)

// VMState is how a guest stands.
type VMState string

// States of a guest.
const (
	VMRunning VMState = "running"
	VMPaused  VMState = "paused" // it has a process, and its CPUs stand still
	VMOff     VMState = "off"
)

// VM is a guest of this host, with what decides how it can be moved.
type VM struct {
	Name       string
	UUID       string // canonical form, lower case
	State      VMState
	MemoryMiB  int64 // that it may use
	VCPUs      int
	Persistent bool // libvirt keeps its definition while it is off
	Autostart  bool // libvirt starts it with the host. A migration loses this: see SetAutostart
	Protected  bool // of Options.Protected
	Agent      bool // its guest agent is connected
	System     string
	CPUMode    string // custom, host-model, host-passthrough, maximum; "" for libvirt's default
	CPUModel   string // of CPUMode custom
	HostCPU    bool   // it sees the host's own CPU: it moves live only between hosts with the same one
	Disks      []Disk
	HostDevs   []string // devices of the host that it has, for people
	Snapshots  bool     // it has snapshots or checkpoints, which libvirt keeps
	Saved      bool     // off, with its memory saved on this host
	Dirty      float64  // MiB/s that it changed when that was last measured (MeasureDirty); 0: not known
	Job        string   // what libvirtd does with it: migration, snapshot, backup...; "" for nothing
	Arriving   bool     // with Job migration: it comes here. Nothing can be done with it until it is there, or gone again
	Fixed      []string // why it can not move live at all, for people
	Bound      []string // why it can not be started on another host either, for people
	Busy       string   // why it can not move just now: Job, block job, paused; "" for nothing

	known bool // its definition was read
}

// Disk is a disk, CD or floppy of a guest.
type Disk struct {
	Target   string // vda
	Device   string // disk, cdrom, floppy, lun
	Kind     string // file, block, network, volume, dir...
	Source   string // path, POOL/VOLUME, or PROTOCOL:NAME; "" when empty
	FS       string // type of the file system, or protocol; of a volume the pool's kind
	Shared   bool   // all of it, with its backing files, is there on other hosts, too
	ReadOnly bool
}

const (
	// listLimit bounds a listing of a host.
	listLimit = 60 * time.Second
	// oneLimit bounds the questions about one guest, whose QEMU may hang.
	oneLimit = 3 * time.Second
	// askers is how many guests are asked about at the same time.
	askers = 4
)

// List returns all guests of the host, the protected one among them. libvirtd is
// asked six questions about all, and per guest one, or when it runs three and one
// more for each of its disks. A guest about which there is no answer in 3 s (its QEMU
// hangs) is listed as busy, with what is known.
func (f *Fleet) List(ctx context.Context) ([]VM, error) {
	if bare, err := f.bare(); err != nil {
		return nil, fmt.Errorf("list the guests: %w", err)
	} else if bare {
		return f.group(ctx, nil)
	}
	ctx, cancel := context.WithTimeout(ctx, libvirt.Share(ctx, listLimit))
	defer cancel()
	var vms []VM
	var doms []golibvirt.Domain
	err := f.client.With(ctx, func(c *libvirt.Conn) (err error) {
		vms, doms, err = f.survey(ctx, c)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("list the guests: %w", libvirt.OneLine(err))
	}
	look := f.pools.Look(ctx)
	gone := make([]bool, len(vms))
	f.each(ctx, len(vms), func(c *libvirt.Conn, i int) error {
		err := f.examine(ctx, c, doms[i], &vms[i], look)
		gone[i] = libvirt.HasCode(err, golibvirt.ErrNoDomain)
		return err
	}, func(i int, err error) {
		if !gone[i] {
			vms[i].Busy = "libvirtd does not tell about it (does its QEMU hang?): " + libvirt.OneLine(err).Error()
		}
	})
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("list the guests: %w", err)
	}
	out := vms[:0]
	for i, vm := range vms {
		if !gone[i] {
			out = append(out, vm)
		}
	}
	return f.group(ctx, out)
}

// each calls do for 0..n-1, a few at a time. Each worker has a connection of its
// own and a new one after a failure; failed hears of failures.
func (f *Fleet) each(ctx context.Context, n int, do func(c *libvirt.Conn, i int) error, failed func(i int, err error)) {
	next := make(chan int)
	var wg sync.WaitGroup
	for range min(n, askers) {
		wg.Go(func() {
			var c *libvirt.Conn
			defer func() {
				if c != nil {
					f.client.Drop(c)
				}
			}()
			for i := range next {
				var err error
				if c == nil {
					c, err = f.client.Connect(ctx)
				}
				if err == nil {
					err = do(c, i)
				}
				if err == nil {
					continue
				}
				failed(i, err)
				if c != nil && !libvirt.Answered(err) {
					f.client.Drop(c)
					c = nil
				}
			}
		})
	}
	for i := range n {
		next <- i
	}
	close(next)
	wg.Wait()
}

// survey asks what can be asked about all guests at once, and what needs no
// answer of any QEMU.
func (f *Fleet) survey(ctx context.Context, c *libvirt.Conn) ([]VM, []golibvirt.Domain, error) {
	var vms []VM
	var doms []golibvirt.Domain
	at := map[golibvirt.UUID]int{}
	err := c.Call(ctx, "ask for the states of all guests", func(l *golibvirt.Libvirt) error {
		all, err := l.ConnectGetAllDomainStats(nil, uint32(golibvirt.DomainStatsState), uint32(golibvirt.ConnectGetAllDomainsStatsNowait))
		for _, r := range all {
			vm := VM{Name: r.Dom.Name, UUID: libvirt.FormatUUID(r.Dom.UUID)}
			vm.Protected = f.protected[vm.UUID]
			vm.setState(r.Params)
			at[r.Dom.UUID] = len(vms)
			vms, doms = append(vms, vm), append(doms, r.Dom)
		}
		return err
	})
	if err != nil {
		return nil, nil, err
	}
	for _, q := range []struct {
		which golibvirt.ConnectListAllDomainsFlags
		mark  func(*VM)
	}{
		{golibvirt.ConnectListDomainsPersistent, func(v *VM) { v.Persistent = true }},
		{golibvirt.ConnectListDomainsAutostart, func(v *VM) { v.Autostart = true }},
		{golibvirt.ConnectListDomainsManagedsave, func(v *VM) { v.Saved = true }},
		{golibvirt.ConnectListDomainsHasSnapshot, func(v *VM) { v.Snapshots = true }},
		{golibvirt.ConnectListDomainsHasCheckpoint, func(v *VM) { v.Snapshots = true }},
	} {
		err := c.Call(ctx, "ask for kinds of guests", func(l *golibvirt.Libvirt) error {
			some, _, err := l.ConnectListAllDomains(1, q.which)
			for _, d := range some {
				if i, ok := at[d.UUID]; ok {
					q.mark(&vms[i])
				}
			}
			return err
		})
		if err != nil {
			return nil, nil, err
		}
	}
	return vms, doms, nil
}

func (v *VM) setState(params []golibvirt.TypedParam) {
	var state, reason uint64
	for _, p := range params {
		switch p.Field {
		case golibvirt.DomainStatsStateState:
			state = libvirt.Number(p)
		case golibvirt.DomainStatsStateReason:
			reason = libvirt.Number(p)
		}
	}
	v.State, v.Busy = vmState(golibvirt.DomainState(state), golibvirt.DomainPausedReason(reason))
}

// busyHalted is VM.Busy of a guest that stands still because somebody said so, or
// since it arrived.
const busyHalted = "paused"

// Halted reports whether a guest stands still, complete, until it is resumed: not in the middle of
// something, and not by an error.
func (v VM) Halted() bool { return v.State == VMPaused && v.Busy == busyHalted }

// vmState translates libvirt's state, and says what it forbids for now.
func vmState(state golibvirt.DomainState, reason golibvirt.DomainPausedReason) (VMState, string) {
	switch state {
	case golibvirt.DomainRunning, golibvirt.DomainBlocked:
		return VMRunning, ""
	case golibvirt.DomainPmsuspended:
		return VMRunning, "suspended by itself"
	case golibvirt.DomainShutdown:
		return VMRunning, "shutting down"
	case golibvirt.DomainCrashed:
		return VMPaused, "its kernel has panicked"
	case golibvirt.DomainPaused:
		switch reason {
		case golibvirt.DomainPausedMigration, golibvirt.DomainPausedPostcopy:
			return VMPaused, "migration"
		case golibvirt.DomainPausedPostcopyFailed:
			return VMPaused, "a migration broke off in the middle of the guest"
		case golibvirt.DomainPausedIoerror:
			return VMPaused, "paused by an I/O error"
		case golibvirt.DomainPausedStartingUp:
			return VMPaused, "start"
		}
		return VMPaused, busyHalted
	}
	return VMOff, ""
}

// examine asks what libvirtd tells about one guest only.
func (f *Fleet) examine(ctx context.Context, c *libvirt.Conn, dom golibvirt.Domain, vm *VM, look *pools.Look) error {
	ctx, cancel := context.WithTimeout(ctx, oneLimit)
	defer cancel()
	before := *vm
	err := f.examineOnce(ctx, c, dom, vm, look)
	for range 2 { // a disk that its definition has may be detached before it is asked about
		if !libvirt.HasCode(err, golibvirt.ErrInvalidArg) {
			break
		}
		*vm = before
		err = f.examineOnce(ctx, c, dom, vm, look)
	}
	return err
}

func (f *Fleet) examineOnce(ctx context.Context, c *libvirt.Conn, dom golibvirt.Domain, vm *VM, look *pools.Look) error {
	var text string
	if err := c.Call(ctx, "read its definition", func(l *golibvirt.Libvirt) (err error) {
		text, err = l.DomainGetXMLDesc(dom, 0)
		return err
	}); err != nil {
		return err
	}
	var def libvirtxml.Domain
	if err := def.Unmarshal(text); err != nil {
		vm.Fixed = append(vm.Fixed, fmt.Sprintf("its definition can not be read: %v", err))
		vm.Bound = append(vm.Bound, vm.Fixed...)
		return nil
	}
	vm.describe(&def, look)
	vm.known = true
	if vm.State == VMOff {
		return nil
	}
	return vm.askLive(ctx, c, dom, &def)
}

// askLive asks for what is under way with a guest that has a process.
func (v *VM) askLive(ctx context.Context, c *libvirt.Conn, dom golibvirt.Domain, def *libvirtxml.Domain) error {
	var op migration.Operation
	err := c.Call(ctx, "ask what is under way", func(l *golibvirt.Libvirt) (err error) {
		op, err = migration.OperationOf(l, dom)
		return err
	})
	if err != nil {
		return err
	}
	if v.Job = op.String(); v.Job != "" {
		v.Busy = v.Job
	}
	if v.Arriving = op.Incoming; v.Arriving {
		return nil // libvirtd would let the other questions wait for the migration's end
	}
	for _, d := range writable(def) {
		block := ""
		if d.Mirror != nil {
			block = d.Mirror.Job // pivots or is ended only when somebody says so
		} else if err := c.Call(ctx, "ask for block jobs", func(l *golibvirt.Libvirt) error {
			found, kind, _, _, _, err := l.DomainGetBlockJobInfo(dom, d.Target.Dev, 0)
			if found != 0 {
				block = blockJob(golibvirt.DomainBlockJobType(kind))
			}
			return err
		}); err != nil {
			return err
		}
		if block != "" && v.Busy == "" {
			v.Busy = fmt.Sprintf("block job (%s of %s)", block, d.Target.Dev)
		}
	}
	return c.Call(ctx, "ask for its dirty rate", func(l *golibvirt.Libvirt) error {
		rate, _, err := dirtyRate(l, dom)
		v.Dirty = rate
		return err
	})
}

// dirtyRate reads what was measured last; ok tells that no measurement is under way.
func dirtyRate(l *golibvirt.Libvirt, dom golibvirt.Domain) (rate float64, ok bool, err error) {
	all, err := l.ConnectGetAllDomainStats([]golibvirt.Domain{dom}, uint32(golibvirt.DomainStatsDirtyrate),
		uint32(golibvirt.ConnectGetAllDomainsStatsNowait))
	if err != nil || len(all) == 0 {
		return 0, true, err
	}
	status := golibvirt.DomainDirtyrateUnstarted
	for _, p := range all[0].Params {
		switch p.Field {
		case golibvirt.DomainStatsDirtyrateCalcStatus:
			status = golibvirt.DomainDirtyRateStatus(libvirt.Number(p))
		case golibvirt.DomainStatsDirtyrateMegabytesPerSecond: // MiB, in QEMU's code
			rate = float64(libvirt.Number(p))
		}
	}
	if status != golibvirt.DomainDirtyrateMeasured {
		rate = 0
	}
	return rate, status != golibvirt.DomainDirtyrateMeasuring, nil
}

func blockJob(kind golibvirt.DomainBlockJobType) string {
	switch kind {
	case golibvirt.DomainBlockJobTypePull:
		return "pull"
	case golibvirt.DomainBlockJobTypeCopy:
		return "copy"
	case golibvirt.DomainBlockJobTypeCommit, golibvirt.DomainBlockJobTypeActiveCommit:
		return "commit"
	case golibvirt.DomainBlockJobTypeBackup:
		return "backup"
	}
	return "job"
}

// writable returns the disks that a block job can work on.
func writable(def *libvirtxml.Domain) []libvirtxml.DomainDisk {
	var out []libvirtxml.DomainDisk
	if def.Devices == nil {
		return nil
	}
	for _, d := range def.Devices.Disks {
		if (d.Device == "disk" || d.Device == "") && d.ReadOnly == nil && d.Source != nil && d.Target != nil {
			out = append(out, d)
		}
	}
	return out
}

// MeasureDirty measures for a time, 1 to 60 s, how much memory each running
// guest changes, MiB/s by UUID; List tells it from then on. Guests that can not be
// measured, and protected ones, are left out.
func (f *Fleet) MeasureDirty(ctx context.Context, window time.Duration) (map[string]float64, error) {
	seconds := int32((window + time.Second - 1) / time.Second)
	if seconds < 1 || seconds > 60 {
		return nil, fmt.Errorf("measure dirty rates: window of %v: want 1 s to 60 s", window)
	}
	if bare, err := f.bare(); err != nil || bare {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, libvirt.Share(ctx, window+listLimit))
	defer cancel()
	var vms []VM
	var doms []golibvirt.Domain
	if err := f.client.With(ctx, func(c *libvirt.Conn) (err error) {
		vms, doms, err = f.survey(ctx, c)
		return err
	}); err != nil {
		return nil, fmt.Errorf("measure dirty rates: %w", libvirt.OneLine(err))
	}
	measured := make([]bool, len(doms))
	leftOut := func(i int, err error) {
		f.opt.Log.Debug("a dirty rate can not be measured", "guest", vms[i].Name, "err", err)
	}
	f.each(ctx, len(doms), func(c *libvirt.Conn, i int) error {
		if vms[i].State != VMRunning || vms[i].Protected {
			return nil
		}
		limit, cancel := context.WithTimeout(ctx, oneLimit)
		defer cancel()
		err := c.Call(limit, "measure", func(l *golibvirt.Libvirt) error {
			return l.DomainStartDirtyRateCalc(doms[i], seconds, 0)
		})
		measured[i] = err == nil
		return err
	}, leftOut)
	if !clock.Sleep(ctx, time.Duration(seconds)*time.Second) {
		return nil, fmt.Errorf("measure dirty rates: %w", ctx.Err())
	}
	rates := make([]float64, len(doms))
	f.each(ctx, len(doms), func(c *libvirt.Conn, i int) error {
		if !measured[i] {
			return nil
		}
		measured[i] = false
		limit, cancel := context.WithTimeout(ctx, oneLimit)
		defer cancel()
		var err error
		rates[i], err = awaitRate(limit, c, doms[i])
		measured[i] = err == nil
		return err
	}, leftOut)
	out := map[string]float64{}
	for i, ok := range measured {
		if ok {
			out[vms[i].UUID] = rates[i]
		}
	}
	return out, ctx.Err()
}

// awaitRate waits for the end of a measurement.
func awaitRate(ctx context.Context, c *libvirt.Conn, dom golibvirt.Domain) (float64, error) {
	for {
		var rate float64
		var ok bool
		err := c.Call(ctx, "ask for its dirty rate", func(l *golibvirt.Libvirt) (err error) {
			rate, ok, err = dirtyRate(l, dom)
			return err
		})
		if err != nil || ok {
			return rate, err
		}
		if !clock.Sleep(ctx, 50*time.Millisecond) {
			return 0, errors.Join(errors.New("the measurement does not end"), ctx.Err())
		}
	}
}
