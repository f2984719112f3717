package libvirt

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	golibvirt "github.com/digitalocean/go-libvirt"
	"golang.org/x/sys/unix"

	"holdfast/internal/cluster"
	"holdfast/internal/host/ceph"
	"holdfast/internal/lib/clock"
)

// This file is the inside of a simulated host: the test binary again, as the
// first process of its own mount, PID, network, IPC and UTS namespaces. It starts
// a private libvirtd, and carries out on drivers of its own what the test asks
// for over its standard input. When that ends, so does it, and the kernel ends
// everything of the host with it.

// hostEnv names the host's directory, and tells the test binary that it is one.
const hostEnv = "HOLDFAST_LIBVIRT_TEST_HOST"

func TestMain(m *testing.M) {
	if task := os.Getenv(moverEnv); task != "" {
		if err := runMover(task); err != nil {
			fmt.Fprintln(os.Stderr, "mover:", err)
			os.Exit(1)
		}
		return
	}
	if dir := os.Getenv(hostEnv); dir != "" {
		if err := runHost(dir); err != nil {
			fmt.Fprintln(os.Stderr, "host:", err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// request is one thing for the host to do; Timeout becomes the call's deadline.
type request struct {
	ID      int
	Op      string
	Timeout time.Duration
	Spec    cluster.GuestSpec
	Text    string
	Number  int
	TLS     bool // the target has said that it can
	Fleet   fleetRequest
}

type reply struct {
	ID         int
	Err        string
	NotStarted bool
	NotProved  bool
	Guest      cluster.Guest
	Number     int
	Text       string
	Took       time.Duration
	Security   MigrationSecurity
	Seen       sniffed
	Fleet      fleetReply
}

type simHost struct {
	dir     string
	mu      sync.Mutex
	drv     *Driver
	fleet   *Fleet
	daemons map[string]int // name to pid
	cancel  context.CancelFunc
	sniff   *sniffer
	taken   taken
}

func runHost(dir string) error {
	if err := mountHost(dir); err != nil {
		return err
	}
	h := &simHost{dir: dir, daemons: map[string]int{}}
	go reap()
	daemons := []string{"virtlogd", "libvirtd"}
	if _, err := os.Stat("/etc/libvirt/virtlockd.conf"); err == nil {
		daemons = []string{"virtlogd", "virtlockd", "libvirtd"}
	}
	for _, d := range daemons {
		if err := h.startDaemon(d); err != nil {
			return err
		}
		if d == "virtlockd" { // libvirtd needs it at once
			if err := awaitSocket("/run/libvirt/virtlockd-sock"); err != nil {
				return err
			}
		}
	}
	out := json.NewEncoder(os.Stdout)
	var mu sync.Mutex
	in := bufio.NewScanner(os.Stdin)
	in.Buffer(nil, 1<<20)
	for in.Scan() {
		var r request
		if err := json.Unmarshal(in.Bytes(), &r); err != nil {
			return err
		}
		go func() {
			a := h.serve(r)
			mu.Lock()
			defer mu.Unlock()
			if err := out.Encode(a); err != nil {
				os.Exit(1) // nobody listens any more
			}
		}()
	}
	return in.Err()
}

// awaitSocket waits until a daemon listens.
func awaitSocket(path string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	for {
		c, err := net.Dial("unix", path)
		if err == nil {
			return c.Close()
		}
		if !clock.Sleep(ctx, 20*time.Millisecond) {
			return err
		}
	}
}

// reaping is held by who takes children in: reap, or who waits for one that it has started.
var reaping sync.Mutex

// reap takes in the orphans that fall to the first process of a PID namespace.
func reap() {
	c := make(chan os.Signal, 1)
	signal.Notify(c, syscall.SIGCHLD)
	for range c {
		reaping.Lock()
		for {
			if pid, err := syscall.Wait4(-1, nil, syscall.WNOHANG, nil); pid <= 0 || err != nil {
				break
			}
		}
		reaping.Unlock()
	}
}

func (h *simHost) startDaemon(name string) error {
	path, err := exec.LookPath(name)
	if err != nil {
		return err
	}
	log, err := os.OpenFile(filepath.Join(h.dir, name+".out"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	args := []string{path}
	if name == "libvirtd" {
		args = append(args, "--listen")
	}
	p, err := os.StartProcess(path, args, &os.ProcAttr{Files: []*os.File{nil, log, log}})
	if err != nil {
		return err
	}
	h.mu.Lock()
	h.daemons[name] = p.Pid
	h.mu.Unlock()
	return p.Release() // reap collects it
}

// serve carries out one request.
func (h *simHost) serve(r request) reply {
	ctx, cancel := context.WithTimeout(context.Background(), r.Timeout)
	defer cancel()
	a := reply{ID: r.ID}
	t0 := time.Now()
	err := h.do(ctx, r, &a)
	a.Took = time.Since(t0)
	if err != nil {
		a.Err = err.Error()
		a.NotStarted = errors.Is(err, cluster.ErrNotStarted)
		a.NotProved = errors.Is(err, cluster.ErrNotProved)
	}
	return a
}

func (h *simHost) do(ctx context.Context, r request, a *reply) (err error) {
	h.mu.Lock()
	d := h.drv
	h.mu.Unlock()
	switch r.Op {
	case "new":
		d, err = New(Options{
			MigrateURI: cmp.Or(r.Text, "qemu+tcp://%s/system"), RunDir: h.dir,
			Resource: cluster.MgmtVM, UUID: testUUID, Name: testName,
			Log: slog.New(slog.NewTextHandler(os.Stderr, nil)),
			RBD: func(r cluster.RBD) RBD { return ceph.New(ceph.Options{RBD: r}) },
		})
		h.mu.Lock()
		h.drv = d
		h.mu.Unlock()
		return err
	case "close":
		return d.Close()
	case "observe":
		a.Guest, err = d.Observe(ctx)
		return err
	case "check":
		return d.Check(ctx, r.Spec)
	case "start":
		return d.Start(ctx, r.Spec)
	case "start-late": // the deadline passes when libvirtd is about to be asked
		return d.Start(lateContext{ctx, filepath.Join(h.dir, "libvirt-start-"+testUUID+".json")}, r.Spec)
	case "shutdown":
		return d.Shutdown(ctx)
	case "password":
		return d.SetPassword(ctx, "root", "s3cret")
	case "kill":
		return d.Kill(ctx)
	case "migrate":
		return h.migrate(ctx, d, r)
	case "security":
		a.Security = d.MigrationSecurity()
		return nil
	case "update tls":
		reaping.Lock()
		defer reaping.Unlock()
		return UpdateTLS(ctx, "/run/libvirt")
	case "presented":
		var err error
		a.Text, err = presented(ctx, r.Text)
		return err
	case "resume":
		return d.Resume(ctx)
	case "cancel":
		h.cancel()
		return nil
	case "abort":
		return d.AbortMigration(ctx)
	case "wake":
		select {
		case <-d.Wake():
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	case "monitor": // what QEMU answers on its monitor
		return onDomain(ctx, func(l *golibvirt.Libvirt, dom golibvirt.Domain) (err error) {
			a.Text, err = l.QEMUDomainMonitorCommand(dom, r.Text, 1)
			return err
		})
	case "xml": // of the guest, as libvirt has it
		return onDomain(ctx, func(l *golibvirt.Libvirt, dom golibvirt.Domain) (err error) {
			a.Text, err = l.DomainGetXMLDesc(dom, golibvirt.DomainXMLFlags(r.Number))
			return err
		})
	case "command-line": // of the guest's process
		a.Text, err = commandLine(ctx)
		return err
	case "goroutines":
		a.Number = runtime.NumGoroutine()
		return nil
	}
	if strings.HasPrefix(r.Op, "fleet-") {
		return h.doFleet(ctx, r, a)
	}
	if r.Op == "sniffed" {
		a.Seen, err = h.sniff.end()
		return err
	}
	return h.doHost(ctx, r)
}

func (h *simHost) migrate(ctx context.Context, d *Driver, r request) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	h.mu.Lock()
	h.cancel = cancel
	h.mu.Unlock()
	return d.Migrate(ctx, r.Text, r.TLS)
}

// doHost does what concerns the host, not the driver.
func (h *simHost) doHost(ctx context.Context, r request) error {
	switch r.Op {
	case "ready": // virtlogd listens, and libvirtd answers
		for {
			logd, err := net.Dial("unix", "/run/libvirt/virtlogd-sock")
			if err == nil {
				err = logd.Close()
			}
			if err == nil {
				var c *conn
				if c, err = dial(ctx, "/run/libvirt/libvirt-sock"); err == nil {
					c.close()
					return nil
				}
			}
			if !clock.Sleep(ctx, 20*time.Millisecond) {
				return err
			}
		}
	case "daemon":
		return h.startDaemon(r.Text)
	case "tmpfs": // of Number MiB
		if err := os.MkdirAll(r.Text, 0o755); err != nil {
			return err
		}
		return unix.Mount("tmpfs", r.Text, "tmpfs", 0, fmt.Sprintf("size=%dm", r.Number))
	case "grow": // a tmpfs, to Number MiB
		return unix.Mount("tmpfs", r.Text, "tmpfs", unix.MS_REMOUNT, fmt.Sprintf("size=%dm", r.Number))
	case "vnc": // ADDRESS PASSWORD
		addr, password, _ := strings.Cut(r.Text, " ")
		return vncLogin(addr, password)
	case "serve-nbd": // IMAGE ADDRESS PORT ARGUMENT..., until the host ends
		return serveNBDHere(ctx, r.Text)
	case "signal": // a daemon
		h.mu.Lock()
		pid := h.daemons[r.Text]
		h.mu.Unlock()
		return syscall.Kill(pid, syscall.Signal(r.Number))
	case "signal-pid":
		pid := 0
		if _, err := fmt.Sscan(r.Text, &pid); err != nil {
			return err
		}
		return syscall.Kill(pid, syscall.Signal(r.Number))
	case "sniff": // frames on eth0 with the text in them
		var err error
		h.sniff, err = newSniffer("eth0", r.Text)
		return err
	case "slow-emulator": // asked what it can do, QEMU takes Number seconds
		return slowEmulator(h.dir, r.Number)
	case "note": // as an agent leaves it that dies during a start
		daemons, err := table("/proc").daemons(ctx)
		if err != nil {
			return err
		}
		note, err := openStartNote(h.dir, testUUID)
		if err != nil {
			return err
		}
		return note.begin(daemons, 0)
	case "speed": // of migrations, MiB/s
		return onDomain(ctx, func(l *golibvirt.Libvirt, dom golibvirt.Domain) error {
			return l.DomainMigrateSetMaxSpeed(dom, uint64(r.Number), 0)
		})
	case "answers": // does QEMU, and the guest run
		return onDomain(ctx, func(l *golibvirt.Libvirt, dom golibvirt.Domain) error {
			out, err := l.QEMUDomainMonitorCommand(dom, "info status", 1)
			if err == nil && !strings.Contains(out, "VM status: running") {
				err = errors.New(out)
			}
			return err
		})
	case "downtime": // that the end of a migration may take, ms
		return onDomain(ctx, func(l *golibvirt.Libvirt, dom golibvirt.Domain) error {
			return l.DomainMigrateSetMaxDowntime(dom, uint64(r.Number), 0)
		})
	}
	return h.doTaken(ctx, r)
}

// onDomain calls libvirtd about the guest, by a connection of its own.
func onDomain(ctx context.Context, f func(*golibvirt.Libvirt, golibvirt.Domain) error) error {
	c, err := dial(ctx, "/run/libvirt/libvirt-sock")
	if err != nil {
		return err
	}
	defer c.close()
	uuid, err := parseUUID(testUUID)
	if err != nil {
		return err
	}
	return c.call(ctx, "set a limit of migrations", func(l *golibvirt.Libvirt) error {
		return f(l, golibvirt.Domain{Name: testName, UUID: uuid})
	})
}

func commandLine(ctx context.Context) (string, error) {
	t := table("/proc")
	found, err := t.guests(ctx)
	if err != nil || len(found) != 1 {
		return "", fmt.Errorf("%d guests, %v", len(found), err)
	}
	argv, err := t.dir.Args(found[0].PID)
	return strings.Join(argv, " "), err
}

type mountStep struct {
	source, target, fstype string
	flags                  uintptr
	data                   string
}

// mountHost gives the host its own files: libvirt's directories below dir, and
// fresh /run, /dev (without kvm), /proc and /sys.
func mountHost(dir string) error {
	if err := mountPKI(dir); err != nil {
		return err
	}
	dev := filepath.Join(dir, "dev")
	steps := []mountStep{
		{"", "/", "", unix.MS_PRIVATE | unix.MS_REC, ""},
		{filepath.Join(dir, "etc"), "/etc/libvirt", "", unix.MS_BIND, ""},
		{filepath.Join(dir, "lib"), "/var/lib/libvirt", "", unix.MS_BIND, ""},
		{filepath.Join(dir, "cache"), "/var/cache/libvirt", "", unix.MS_BIND, ""},
		{filepath.Join(dir, "log"), "/var/log/libvirt", "", unix.MS_BIND, ""},
		{"tmpfs", "/run", "tmpfs", 0, "mode=755,size=64m"},
		{"tmpfs", dev, "tmpfs", 0, "mode=755,size=4m"},
		{"proc", "/proc", "proc", 0, ""},
		{"sysfs", "/sys", "sysfs", 0, ""},
	}
	for _, s := range steps {
		if err := unix.Mount(s.source, s.target, s.fstype, s.flags, s.data); err != nil {
			return fmt.Errorf("mount %s on %s: %w", s.source, s.target, err)
		}
	}
	if err := makeDev(dev); err != nil {
		return err
	}
	return unix.Mount(dev, "/dev", "", unix.MS_MOVE, "")
}

func makeDev(dev string) error {
	for _, d := range []struct {
		name         string
		major, minor uint32
	}{{"null", 1, 3}, {"zero", 1, 5}, {"full", 1, 7}, {"random", 1, 8}, {"urandom", 1, 9}, {"net/tun", 10, 200}} {
		path := filepath.Join(dev, d.name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := unix.Mknod(path, unix.S_IFCHR|0o666, int(unix.Mkdev(d.major, d.minor))); err != nil {
			return fmt.Errorf("make %s: %w", path, err)
		}
	}
	for _, s := range []mountStep{
		{"devpts", filepath.Join(dev, "pts"), "devpts", 0, "newinstance,ptmxmode=0666,mode=620"},
		{"tmpfs", filepath.Join(dev, "shm"), "tmpfs", 0, ""},
	} {
		if err := os.MkdirAll(s.target, 0o755); err != nil {
			return err
		}
		if err := unix.Mount(s.source, s.target, s.fstype, s.flags, s.data); err != nil {
			return fmt.Errorf("mount %s: %w", s.target, err)
		}
	}
	return os.Symlink("pts/ptmx", filepath.Join(dev, "ptmx"))
}
