package guests

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"holdfast/internal/host/libvirt/migration"
	"holdfast/internal/host/libvirt/pools"
	"holdfast/testbed/rfb"
	"holdfast/testbed/virthost"
)

// This file is what a simulated host carries out for the tests of this package: calls of a Fleet of its own.

func TestMain(m *testing.M) {
	if task := os.Getenv(moverEnv); task != "" {
		if err := runMover(task); err != nil {
			fmt.Fprintln(os.Stderr, "mover:", err)
			os.Exit(1)
		}
		return
	}
	virthost.Main(m, func(in *virthost.Inside) virthost.Serve { return (&simHost{Inside: in}).serve })
}

// fleetRequest holds what the requests of a Fleet need; each uses a part.
type fleetRequest struct {
	Options  Options
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
	Pools     []pools.Pool
	XML       string // of a pool
	Node      Node
	Place     Place
	Where     Where
	Progress  migration.Progress // the last that was told
	Rates     map[string]float64
	Clean     bool
	Protected bool // the error is errProtected
	Running   bool // ErrRunning
	Bound     bool // errBound
	PoolBusy  bool // pools.ErrBusy
	Still     bool // ErrStill
	There     bool // MigrateOptions.There was called, after Before
}

// simHost is a simulated host, seen from inside.
type simHost struct {
	*virthost.Inside
	mu    sync.Mutex
	fleet *Fleet
}

func (h *simHost) serve(ctx context.Context, r virthost.Request, more json.RawMessage, a *virthost.Reply) (any, error) {
	var q fleetRequest
	if err := json.Unmarshal(more, &q); err != nil {
		return nil, err
	}
	var out fleetReply
	err := h.do(ctx, r, q, a, &out)
	out.Protected, out.Running = errors.Is(err, errProtected), errors.Is(err, ErrRunning)
	out.Still = errors.Is(err, ErrStill)
	out.Bound, out.PoolBusy = errors.Is(err, errBound), errors.Is(err, pools.ErrBusy)
	return out, err
}

func (h *simHost) do(ctx context.Context, r virthost.Request, q fleetRequest, a *virthost.Reply,
	out *fleetReply,
) (err error) {
	h.mu.Lock()
	f := h.fleet
	h.mu.Unlock()
	switch r.Op {
	case "new":
		f, err = New(q.Options)
		h.mu.Lock()
		h.fleet = f
		h.mu.Unlock()
	case "close":
		err = f.Close()
	case "list":
		out.VMs, err = f.List(ctx)
	case "node":
		out.Node, err = f.Node(ctx)
	case "dirty":
		out.Rates, err = f.MeasureDirty(ctx, time.Second)
	case "migrate":
		out.Place, err = h.fleetMigrate(ctx, f, q, out)
	case "follow":
		out.Place, err = f.Follow(ctx, q.UUID, q.Name, func(p migration.Progress) { out.Progress = p })
	case "abort":
		err = f.AbortMigration(ctx, q.UUID)
	case "where":
		out.Where, err = f.Whereabouts(ctx, q.UUID, q.Name)
	case "shutdown":
		out.Clean, err = f.Shutdown(ctx, q.UUID, q.Shutdown)
	case "start":
		err = f.Start(ctx, q.UUID, q.Start)
	case "resume":
		err = f.Resume(ctx, q.UUID)
	case "copy": // vda to the file Name
		err = f.CopyDisk(ctx, q.UUID, "vda", q.Name)
	case "own":
		a.Text, err = f.OwnAddress(ctx)
	case "reboot":
		err = f.Reboot(ctx, q.UUID, q.Shutdown.Wait)
	case "screen": // its size and its name; a key is pressed there
		var c net.Conn
		if c, err = f.OpenScreen(ctx, q.UUID); err == nil {
			var w, h int
			var name string
			w, h, name, err = rfb.Look(c)
			a.Text = fmt.Sprintf("%d x %d, %s", w, h, name)
			err = errors.Join(err, c.Close())
		}
	case "discard":
		err = f.Discard(ctx, q.UUID)
	case "autostart":
		err = f.SetAutostart(ctx, q.UUID, q.Number != 0)
	case "cold":
		err = f.ColdMove(ctx, q.UUID, q.Target, q.Shutdown)
	case "pools":
		out.Pools, err = f.Pools().List(ctx)
	case "start-pool":
		err = f.Pools().Start(ctx, q.Name)
	case "stop-pool":
		err = f.Pools().Stop(ctx, q.Name)
	case "pool-xml":
		out.XML, err = f.Pools().XML(ctx, q.Name)
	case "create-pool":
		err = f.Pools().Create(ctx, q.XML)
	case "multipath-xml":
		out.XML, _, err = f.Pools().MultipathXML(q.XML)
	case "redefine":
		var changed bool
		changed, err = f.Pools().RedefineMultipath(ctx, q.Name)
		if changed {
			a.Number = 1
		}
	case "signal-guest":
		err = signalQEMU(q.UUID, syscall.Signal(r.Number))
	case "mover":
		a.Number, err = h.startMover(q)
	default:
		return fmt.Errorf("unknown request %q", r.Op)
	}
	return err
}

func (h *simHost) fleetMigrate(ctx context.Context, f *Fleet, q fleetRequest, out *fleetReply) (Place, error) {
	ctx, cancel := h.Cancellable(ctx)
	defer cancel()
	opt := q.Migrate.options()
	opt.Progress = func(p migration.Progress) { out.Progress = p }
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

func (h *simHost) startMover(q fleetRequest) (pid int, err error) {
	task, err := json.Marshal(q)
	if err != nil {
		return 0, err
	}
	return h.Spawn("mover", moverEnv+"="+string(task))
}

func runMover(task string) error {
	var q fleetRequest
	if err := json.Unmarshal([]byte(task), &q); err != nil {
		return err
	}
	f, err := New(q.Options)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	_, err = f.Migrate(ctx, q.UUID, q.Target, q.Migrate.options())
	return err
}
