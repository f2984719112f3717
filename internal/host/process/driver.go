package process

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"holdfast/internal/cluster"
	"holdfast/internal/lib/proc"
)

// Names of the environment variables that mark the processes of a guest.
const (
	EnvGuest = "HOLDFAST_GUEST" // UUID
	EnvEpoch = "HOLDFAST_EPOCH" // generation.sequence
	EnvHost  = "HOLDFAST_HOST"
)

// SocketName is the name of the guest's unix socket in Options.Dir.
const SocketName = "guest.sock"

// errMigrate is why Migrate always fails.
var errMigrate = errors.New("the process driver can not migrate live")

// Options says what the guest is and where.
type Options struct {
	Command  []string           // program and first arguments; the driver adds --host, --epoch, --uuid, --socket and --shared
	Dir      string             // of this host alone: the guest's socket, its log and the start lock
	Shared   string             // directory that all hosts share, stands for the image's
	Host     cluster.HostID     // this host
	Resource cluster.ResourceID // what is started
	UUID     string             // of the guest, the same on every host
	Log      *slog.Logger
}

// Driver starts, watches and ends the guest of one host. Its methods may be used
// concurrently.
type Driver struct {
	opt  Options
	wake chan struct{}
	op   chan struct{} // holds one value while a Start or a Kill is under way

	mu      sync.Mutex
	closed  bool
	watched map[proc.ID]*proc.Handle
	wg      sync.WaitGroup // watchers
}

// New returns a driver. It makes Options.Dir.
func New(opt Options) (*Driver, error) {
	if len(opt.Command) == 0 || opt.Host == "" || opt.UUID == "" {
		return nil, fmt.Errorf("process driver: command %q, host %q, uuid %q: none may be empty", opt.Command, opt.Host, opt.UUID)
	}
	if err := os.MkdirAll(opt.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("process driver: make its directory: %w", err)
	}
	if opt.Log == nil {
		opt.Log = slog.New(slog.DiscardHandler)
	}
	return &Driver{
		opt: opt, wake: make(chan struct{}, 1), op: make(chan struct{}, 1),
		watched: map[proc.ID]*proc.Handle{},
	}, nil
}

// Observe reads the process table. GuestAbsent means that no process of the
// guest exists on this host and that none is about to be made by an earlier
// start.
func (d *Driver) Observe(ctx context.Context) (cluster.Guest, error) {
	found, err := d.find(ctx)
	if err != nil {
		return cluster.Guest{State: cluster.GuestUnknown}, err
	}
	if len(found) == 0 {
		return cluster.Guest{State: cluster.GuestAbsent}, nil
	}
	for _, g := range found {
		if err := d.watch(g.proc); err != nil {
			return cluster.Guest{State: cluster.GuestUnknown}, err
		}
	}
	first := oldest(found)
	state := cluster.GuestRunning
	if first.proc.Stopped() {
		state = cluster.GuestPaused
	}
	return cluster.Guest{State: state, Epoch: first.epoch, PID: first.proc.PID, Started: first.proc.Started}, nil
}

// Wake delivers a value when the guest was started or when a process of it that
// Start or Observe has seen ended.
func (d *Driver) Wake() <-chan struct{} { return d.wake }

// Check tells whether the command can be run and the shared directory is there.
func (d *Driver) Check(ctx context.Context, spec cluster.GuestSpec) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("check the guest's command: %w", err)
	}
	if _, err := exec.LookPath(d.opt.Command[0]); err != nil {
		return fmt.Errorf("check the guest's command: %w", err)
	}
	info, err := os.Stat(d.opt.Shared)
	if err != nil {
		return fmt.Errorf("check the shared directory: %w", err)
	}
	if !info.IsDir() {
		return fmt.Errorf("check the shared directory: %s is not a directory", d.opt.Shared)
	}
	if spec.UUID != "" && spec.UUID != d.opt.UUID {
		return fmt.Errorf("check the guest: uuid %q asked for, this driver runs %q", spec.UUID, d.opt.UUID)
	}
	return nil
}

// Start starts the guest as a session of its own, so that it outlives this
// process. Every error wraps cluster.ErrNotStarted: the kernel tells at once
// whether the program runs.
func (d *Driver) Start(ctx context.Context, spec cluster.GuestSpec) error {
	err := d.start(ctx, spec)
	if err != nil {
		return fmt.Errorf("start the guest with epoch %s: %w: %w", spec.Epoch, cluster.ErrNotStarted, err)
	}
	d.signal()
	return nil
}

func (d *Driver) start(ctx context.Context, spec cluster.GuestSpec) error {
	if err := d.Check(ctx, spec); err != nil {
		return err
	}
	if err := d.begin(ctx); err != nil {
		return err
	}
	defer d.end()
	found, err := d.find(ctx)
	if err != nil {
		return err
	}
	if len(found) > 0 {
		return fmt.Errorf("it already runs as process %d with epoch %s", found[0].proc.PID, found[0].epoch)
	}
	unlock, err := d.lock(ctx, unix.LOCK_EX)
	if err != nil {
		return err
	}
	pid, err := d.spawn(spec)
	if err = errors.Join(err, unlock()); err != nil {
		return err
	}
	d.opt.Log.Info("guest started", "pid", pid, "epoch", spec.Epoch.String())
	return nil
}

// spawn runs the command. The lock file, which the caller holds, is open in the
// new process until its exec: that is what makes the moment between fork and
// exec visible to Observe, even if this process dies in it.
func (d *Driver) spawn(spec cluster.GuestSpec) (pid int, err error) {
	// What this process itself has inherited without the close-on-exec flag must
	// not live on in the guest.
	if err := unix.CloseRange(3, 1<<31-1, unix.CLOSE_RANGE_CLOEXEC); err != nil {
		return 0, fmt.Errorf("set close-on-exec: %w", err)
	}
	out, err := os.OpenFile(filepath.Join(d.opt.Dir, "guest.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	args := append(d.opt.Command[1:len(d.opt.Command):len(d.opt.Command)],
		"--host", string(d.opt.Host), "--epoch", spec.Epoch.String(), "--uuid", d.opt.UUID,
		"--socket", filepath.Join(d.opt.Dir, SocketName), "--shared", d.opt.Shared)
	cmd := exec.Command(d.opt.Command[0], args...)
	cmd.Dir = d.opt.Dir
	cmd.Env = append(os.Environ(), EnvGuest+"="+d.opt.UUID, EnvEpoch+"="+spec.Epoch.String(), EnvHost+"="+string(d.opt.Host))
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	pid = cmd.Process.Pid
	// From here on it is watched and collected by pidfd, like one that an earlier
	// agent started. It runs, so trouble with that is no failure of the start.
	if err := errors.Join(d.watchPID(pid), cmd.Process.Release()); err != nil {
		d.opt.Log.Warn("guest started but not watched", "pid", pid, "error", err)
	}
	return pid, nil
}

// Shutdown sends SIGTERM to the guest.
func (d *Driver) Shutdown(ctx context.Context) error {
	found, err := d.find(ctx)
	if err != nil {
		return fmt.Errorf("shut down the guest: %w", err)
	}
	for _, g := range found {
		if err := d.send(g, unix.SIGTERM); err != nil {
			return fmt.Errorf("shut down the guest: %w", err)
		}
	}
	return nil
}

// Kill ends every process of the guest on this host with SIGKILL and waits until
// none is left. Every error wraps cluster.ErrNotProved.
func (d *Driver) Kill(ctx context.Context) error {
	if err := d.kill(ctx); err != nil {
		return fmt.Errorf("kill the guest: %w: %w", cluster.ErrNotProved, err)
	}
	return nil
}

func (d *Driver) kill(ctx context.Context) error {
	if err := d.begin(ctx); err != nil {
		return err
	}
	defer d.end()
	for {
		found, err := d.find(ctx)
		if err != nil || len(found) == 0 {
			return err
		}
		for _, g := range found {
			if err := d.killOne(ctx, g); err != nil {
				return err
			}
		}
		// Look again: one of them may have started another in between.
	}
}

func (d *Driver) killOne(ctx context.Context, g guest) error {
	h, err := proc.Here.Open(g.proc.ID)
	if errors.Is(err, proc.ErrGone) {
		return nil
	}
	if err != nil {
		return err
	}
	err = h.Signal(unix.SIGKILL)
	if errors.Is(err, proc.ErrGone) {
		err = nil
	}
	if err == nil {
		err = h.Wait(ctx)
	}
	if err == nil {
		err = h.Reap()
	}
	return errors.Join(err, h.Close())
}

func (d *Driver) send(g guest, sig unix.Signal) error {
	err := proc.Here.Signal(g.proc.ID, sig)
	if errors.Is(err, proc.ErrGone) {
		return nil
	}
	return err
}

// Migrate always fails: a process can not move to another host.
func (d *Driver) Migrate(context.Context, string, bool) error { return errMigrate }

// Resume always fails: no migration can have brought a process here.
func (d *Driver) Resume(context.Context) error { return errMigrate }

// AbortMigration has nothing to do.
func (d *Driver) AbortMigration(context.Context) error { return nil }

// Close stops watching. The guest goes on.
func (d *Driver) Close() error {
	d.mu.Lock()
	d.closed = true
	var errs []error
	for _, h := range d.watched {
		errs = append(errs, h.Close())
	}
	clear(d.watched)
	d.mu.Unlock()
	d.wg.Wait()
	return errors.Join(errs...)
}

// begin waits until no other Start or Kill is under way.
func (d *Driver) begin(ctx context.Context) error {
	select {
	case d.op <- struct{}{}:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("wait for another operation on the guest: %w", ctx.Err())
	}
}

func (d *Driver) end() { <-d.op }

func (d *Driver) signal() {
	select {
	case d.wake <- struct{}{}:
	default: // one is waiting to be read already
	}
}
