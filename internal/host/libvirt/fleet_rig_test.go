package libvirt

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	golibvirt "github.com/digitalocean/go-libvirt"
)

// This file is what a simulated host carries out for the tests of the Fleet:
// calls of a Fleet of its own, and what guests and pools are set up with.

// fleetRequest holds what the requests of a Fleet need; each uses a part.
type fleetRequest struct {
	Options  FleetOptions
	UUID     string
	Name     string // of a guest or a pool
	Target   string
	Migrate  migrateRequest
	Shutdown ShutdownOptions
	Start    StartOptions
	XML      string
	Number   uint64
}

// migrateRequest is MigrateOptions without its function.
type migrateRequest struct {
	Data         string
	MiBps        uint64
	AutoConverge bool
	Direct       bool
	TLS          bool
	Unready      bool // MigrateOptions.Before fails, after a while
	Timeout      time.Duration
}

func (m migrateRequest) options() MigrateOptions {
	return MigrateOptions{Data: m.Data, MiBps: m.MiBps, AutoConverge: m.AutoConverge, Direct: m.Direct, TLS: m.TLS, Timeout: m.Timeout}
}

type fleetReply struct {
	VMs       []VM
	Pools     []Pool
	XML       string // of a pool
	Node      Node
	Place     Place
	Where     Where
	Progress  Progress // the last that was told
	Rates     map[string]float64
	Clean     bool
	Protected bool // the error is ErrProtected
	Running   bool // ErrRunning
	Bound     bool // ErrBound
	PoolBusy  bool // ErrPoolBusy
	Still     bool // ErrStill
	There     bool // MigrateOptions.There was called, after Before
}

func (h *simHost) doFleet(ctx context.Context, r request, a *reply) (err error) {
	h.mu.Lock()
	f := h.fleet
	h.mu.Unlock()
	q, out := r.Fleet, &a.Fleet
	switch r.Op {
	case "fleet-new":
		f, err = NewFleet(q.Options)
		h.mu.Lock()
		h.fleet = f
		h.mu.Unlock()
	case "fleet-close":
		err = f.Close()
	case "fleet-list":
		out.VMs, err = f.List(ctx)
	case "fleet-node":
		out.Node, err = f.Node(ctx)
	case "fleet-dirty":
		out.Rates, err = f.MeasureDirty(ctx, time.Second)
	case "fleet-migrate":
		out.Place, err = h.fleetMigrate(ctx, f, q, out)
	case "fleet-follow":
		out.Place, err = f.Follow(ctx, q.UUID, q.Name, func(p Progress) { out.Progress = p })
	case "fleet-abort":
		err = f.AbortMigration(ctx, q.UUID)
	case "fleet-where":
		out.Where, err = f.Whereabouts(ctx, q.UUID, q.Name)
	case "fleet-last":
		out.Progress, err = f.LastMigration(ctx, q.UUID)
	case "fleet-shutdown":
		out.Clean, err = f.Shutdown(ctx, q.UUID, q.Shutdown)
	case "fleet-start":
		err = f.Start(ctx, q.UUID, q.Start)
	case "fleet-resume":
		err = f.Resume(ctx, q.UUID)
	case "fleet-copy": // vda to the file Name
		err = f.CopyDisk(ctx, q.UUID, "vda", q.Name)
	case "fleet-own":
		a.Text, err = f.OwnAddress(ctx)
	case "fleet-reboot":
		err = f.Reboot(ctx, q.UUID, q.Shutdown.Wait)
	case "fleet-discard":
		err = f.Discard(ctx, q.UUID)
	case "fleet-autostart":
		err = f.SetAutostart(ctx, q.UUID, q.Number != 0)
	case "fleet-cold":
		err = f.ColdMove(ctx, q.UUID, q.Target, q.Shutdown)
	case "fleet-pools":
		out.Pools, err = f.Pools(ctx)
	case "fleet-start-pool":
		err = f.StartPool(ctx, q.Name)
	case "fleet-stop-pool":
		err = f.StopPool(ctx, q.Name)
	case "fleet-pool-xml":
		out.XML, err = f.PoolXML(ctx, q.Name)
	case "fleet-create-pool":
		err = f.CreatePool(ctx, q.XML)
	case "fleet-multipath-xml":
		out.XML, _, err = f.MultipathXML(q.XML)
	case "fleet-redefine":
		var changed bool
		changed, err = f.RedefineMultipath(ctx, q.Name)
		if changed {
			a.Number = 1
		}
	case "fleet-signal":
		err = signalQEMU(q.UUID, syscall.Signal(r.Number))
	case "fleet-mover":
		a.Number, err = startMover(q)
	case "fleet-setup":
		err = setUp(ctx, r.Text, q)
	default:
		return fmt.Errorf("unknown request %q", r.Op)
	}
	out.Protected, out.Running = errors.Is(err, ErrProtected), errors.Is(err, ErrRunning)
	out.Still = errors.Is(err, ErrStill)
	out.Bound, out.PoolBusy = errors.Is(err, ErrBound), errors.Is(err, ErrPoolBusy)
	return err
}

func (h *simHost) fleetMigrate(ctx context.Context, f *Fleet, q fleetRequest, out *fleetReply) (Place, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	h.mu.Lock()
	h.cancel = cancel
	h.mu.Unlock()
	opt := q.Migrate.options()
	opt.Progress = func(p Progress) { out.Progress = p }
	var before bool // is over
	opt.Before = func() error {
		if q.Migrate.Unready {
			time.Sleep(500 * time.Millisecond)
			return errors.New("not ready")
		}
		before = true
		return nil
	}
	opt.There = func() { out.There = before }
	return f.Migrate(ctx, q.UUID, q.Target, opt)
}

// signalQEMU finds a guest's process among those of this host only.
func signalQEMU(uuid string, s syscall.Signal) error {
	cmds, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		return err
	}
	for _, c := range cmds {
		b, err := os.ReadFile(c)
		if err != nil || !strings.Contains(string(b), "qemu-system") || !strings.Contains(string(b), uuid) {
			continue
		}
		pid := 0
		if _, err := fmt.Sscanf(c, "/proc/%d/cmdline", &pid); err != nil {
			return err
		}
		return syscall.Kill(pid, s)
	}
	return fmt.Errorf("no process of %s", uuid)
}

// moverEnv tells the test binary to be a process that migrates one guest, and
// which.
const moverEnv = "HOLDFAST_LIBVIRT_TEST_MOVER"

func startMover(q fleetRequest) (pid int, err error) {
	task, err := json.Marshal(q)
	if err != nil {
		return 0, err
	}
	env := []string{moverEnv + "=" + string(task)}
	for _, e := range os.Environ() {
		if !strings.HasPrefix(e, hostEnv+"=") {
			env = append(env, e)
		}
	}
	p, err := os.StartProcess("/proc/self/exe", []string{"mover"}, &os.ProcAttr{Env: env, Files: []*os.File{nil, os.Stderr, os.Stderr}})
	if err != nil {
		return 0, err
	}
	pid = p.Pid             // before it is released, which changes it
	return pid, p.Release() // reap collects it
}

func runMover(task string) error {
	var q fleetRequest
	if err := json.Unmarshal([]byte(task), &q); err != nil {
		return err
	}
	f, err := NewFleet(q.Options)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	_, err = f.Migrate(ctx, q.UUID, q.Target, q.Migrate.options())
	return err
}

// setUp does with libvirt what operators and backup programs do.
func setUp(ctx context.Context, what string, q fleetRequest) error {
	c, err := dial(ctx, "/run/libvirt/libvirt-sock")
	if err != nil {
		return err
	}
	defer c.close()
	return c.call(ctx, what, func(l *golibvirt.Libvirt) error {
		switch what {
		case "define": // @@ is Number quotes
			q.XML = strings.ReplaceAll(q.XML, "@@", strings.Repeat(`"`, int(q.Number)))
			_, err := l.DomainDefineXMLFlags(q.XML, 0)
			return err
		case "create":
			_, err := l.DomainCreateXML(q.XML, 0)
			return err
		case "define-pool":
			_, err := l.StoragePoolDefineXML(q.XML, 0)
			return err
		case "create-pool":
			_, err := l.StoragePoolCreateXML(q.XML, 0)
			return err
		case "pool-autostart":
			sp, err := l.StoragePoolLookupByName(q.Name)
			if err != nil {
				return err
			}
			return l.StoragePoolSetAutostart(sp, 1)
		}
		u, err := parseUUID(q.UUID)
		if err != nil {
			return err
		}
		dom, err := l.DomainLookupByUUID(u)
		if err != nil {
			return err
		}
		switch what {
		case "start":
			return l.DomainCreate(dom)
		case "suspend":
			return l.DomainSuspend(dom)
		case "destroy":
			return l.DomainDestroy(dom)
		case "undefine":
			return l.DomainUndefine(dom)
		case "save":
			return l.DomainManagedSave(dom, 0)
		case "snapshot":
			_, err := l.DomainSnapshotCreateXML(dom, q.XML, 0)
			return err
		case "copy":
			return l.DomainBlockCopy(dom, "vda", q.XML, nil, golibvirt.DomainBlockCopyTransientJob)
		case "backup":
			return l.DomainBackupBegin(dom, q.XML, nil, 0)
		case "plug": // in and out again, Number times
			for range q.Number {
				if err := l.DomainAttachDeviceFlags(dom, q.XML, uint32(golibvirt.DomainDeviceModifyLive)); err != nil {
					return err
				}
				if err := l.DomainDetachDeviceFlags(dom, q.XML, uint32(golibvirt.DomainDeviceModifyLive)); err != nil {
					return err
				}
			}
			return nil
		}
		return fmt.Errorf("unknown preparation %q", what)
	})
}
