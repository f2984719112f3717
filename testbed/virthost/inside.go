package virthost

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
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

	"holdfast/internal/host/libvirt"

	"golang.org/x/sys/unix"

	"holdfast/internal/lib/clock"
)

// hostEnv names the host's directory, and tells the test binary that it is one.
const hostEnv = "HOLDFAST_LIBVIRT_TEST_HOST"

// Request is one thing for the host to do; Timeout becomes the call's deadline.
type Request struct {
	Op      string
	Timeout time.Duration
	Text    string
	Number  int
}

// Reply is what came of it.
type Reply struct {
	Err    string // "": it succeeded
	Text   string
	Number int
	Took   time.Duration
	Seen   Sniffed
}

// question is what is sent; More is for what the package of the test adds.
type question struct {
	ID      int
	Request Request
	More    json.RawMessage
}

// Serve carries out on a host what the package of a test adds. What it returns besides the error is
// the answer's, too.
type Serve func(ctx context.Context, r Request, more json.RawMessage, a *Reply) (any, error)

// Main is the TestMain of a package that simulates hosts. make is called once on each host.
func Main(m *testing.M, make func(in *Inside) Serve) {
	if dir := os.Getenv(hostEnv); dir != "" {
		if err := runHost(dir, make); err != nil {
			fmt.Fprintln(os.Stderr, "host:", err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// Inside is a simulated host, seen from its first process.
type Inside struct {
	Dir string

	serve   Serve
	mu      sync.Mutex
	daemons map[string]int // name to pid
	cancel  context.CancelFunc
	sniff   *sniffer
}

// Cancellable is ctx until it is asked to "cancel".
func (h *Inside) Cancellable(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.cancel = cancel
	return ctx, cancel
}

// Spawn starts the test binary as another process of the host, with an environment variable, and returns its pid.
func (h *Inside) Spawn(name, variable string) (pid int, err error) {
	env := []string{variable}
	for _, e := range os.Environ() {
		if !strings.HasPrefix(e, hostEnv+"=") {
			env = append(env, e)
		}
	}
	attr := &os.ProcAttr{Env: env, Files: []*os.File{nil, os.Stderr, os.Stderr}}
	p, err := os.StartProcess("/proc/self/exe", []string{name}, attr)
	if err != nil {
		return 0, err
	}
	pid = p.Pid             // before it is released, which changes it
	return pid, p.Release() // reap collects it
}

func runHost(dir string, make func(in *Inside) Serve) error {
	if err := mountHost(dir); err != nil {
		return err
	}
	h := &Inside{Dir: dir, daemons: map[string]int{}}
	h.serve = make(h)
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
		var q question
		if err := json.Unmarshal(in.Bytes(), &q); err != nil {
			return err
		}
		go func() {
			a := h.answer(q)
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

func (h *Inside) startDaemon(name string) error {
	path, err := exec.LookPath(name)
	if err != nil {
		return err
	}
	log, err := os.OpenFile(filepath.Join(h.Dir, name+".out"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
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

// answer carries out one request.
func (h *Inside) answer(q question) answer {
	ctx, cancel := context.WithTimeout(context.Background(), q.Request.Timeout)
	defer cancel()
	a := answer{ID: q.ID}
	t0 := time.Now()
	known, err := h.do(ctx, q, &a.Reply)
	if !known {
		var more any
		more, err = h.serve(ctx, q.Request, q.More, &a.Reply)
		b, merr := json.Marshal(more)
		a.More, err = b, errors.Join(err, merr)
	}
	a.Reply.Took = time.Since(t0)
	if err != nil {
		a.Reply.Err = err.Error()
	}
	return a
}

// do carries out what this package knows.
func (h *Inside) do(ctx context.Context, q question, a *Reply) (known bool, err error) {
	r := q.Request
	switch r.Op {
	case "cancel": // what is Cancellable
		h.mu.Lock()
		cancel := h.cancel
		h.mu.Unlock()
		cancel()
	case "update tls":
		reaping.Lock()
		defer reaping.Unlock()
		err = libvirt.UpdateTLS(ctx, "/run/libvirt")
	case "presented": // by the libvirtd at Text
		a.Text, err = presented(ctx, r.Text)
	case "goroutines":
		a.Number = runtime.NumGoroutine()
	case "sniff": // frames on eth0 with the text in them
		h.sniff, err = newSniffer("eth0", r.Text)
	case "sniffed":
		a.Seen, err = h.sniff.end()
	case "set up":
		var s Setup
		if err = json.Unmarshal(q.More, &s); err == nil {
			err = setUp(ctx, r.Text, s)
		}
	case "ready": // virtlogd listens, and libvirtd answers
		err = ready(ctx)
	case "daemon":
		err = h.startDaemon(r.Text)
	case "signal": // a daemon
		h.mu.Lock()
		pid := h.daemons[r.Text]
		h.mu.Unlock()
		err = syscall.Kill(pid, syscall.Signal(r.Number))
	case "signal-pid":
		pid := 0
		if _, err = fmt.Sscan(r.Text, &pid); err == nil {
			err = syscall.Kill(pid, syscall.Signal(r.Number))
		}
	case "tmpfs": // of Number MiB
		if err = os.MkdirAll(r.Text, 0o755); err == nil {
			err = unix.Mount("tmpfs", r.Text, "tmpfs", 0, fmt.Sprintf("size=%dm", r.Number))
		}
	case "grow": // a tmpfs, to Number MiB
		err = unix.Mount("tmpfs", r.Text, "tmpfs", unix.MS_REMOUNT, fmt.Sprintf("size=%dm", r.Number))
	default:
		return false, nil
	}
	return true, err
}

func ready(ctx context.Context) error {
	for {
		logd, err := net.Dial("unix", "/run/libvirt/virtlogd-sock")
		if err == nil {
			err = logd.Close()
		}
		if err == nil {
			if err = Libvirtd(ctx, "answer", func(*golibvirt.Libvirt) error { return nil }); err == nil {
				return nil
			}
		}
		if !clock.Sleep(ctx, 20*time.Millisecond) {
			return err
		}
	}
}

// Libvirtd calls the libvirtd of the host, by a connection of its own.
func Libvirtd(ctx context.Context, what string, f func(*golibvirt.Libvirt) error) error {
	c := libvirt.NewClient("/run/libvirt/libvirt-sock", "")
	defer c.Close()
	return c.With(ctx, func(one *libvirt.Conn) error { return one.Call(ctx, what, f) })
}
