package watchdog

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"go/parser"
	"go/token"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"holdfast/internal/cluster"
	"holdfast/internal/lib/clock"
	"holdfast/testbed/need"
	"holdfast/testbed/try"
)

// hostClock is the clock of the test process.
var hostClock = clock.New()

// The test binary plays the holder and the client as processes of their own.
const envRole = "HOLDFAST_TEST_WATCHDOG_ROLE"

func TestMain(m *testing.M) {
	var err error
	switch os.Getenv(envRole) {
	case "holder":
		err = playHolder(os.Args[1:])
	case "client":
		err = playClient(os.Args[1:])
	default:
		os.Exit(m.Run())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func playHolder(args []string) error {
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGTERM)
	defer stop()
	timeout, err := time.ParseDuration(args[1])
	if err != nil {
		return err
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	return Run(ctx, HolderConfig{Device: args[0], Timeout: timeout, Socket: args[2], Log: log})
}

// playClient arms every 50 ms with a limit that far ahead, and prints each.
func playClient(args []string) error {
	ahead, err := time.ParseDuration(args[1])
	if err != nil {
		return err
	}
	for {
		until := hostClock.Now().Add(ahead)
		if _, err := Dial(args[0]).Arm(context.Background(), until); err != nil {
			return err
		}
		fmt.Println(int64(until))
		time.Sleep(50 * time.Millisecond)
	}
}

const (
	procW = 4 * time.Second // timeout; pets every 500 ms
)

// stand is a host with real processes, guarded by a simulated device.
type stand struct {
	t      *testing.T
	device string
	socket string
	fired  chan cluster.Instant
	client *Client
}

func newStand(t *testing.T) *stand {
	t.Helper()
	t.Parallel()
	dir := try.ShortDir(t)
	s := &stand{t: t, device: "unix:" + filepath.Join(dir, "dev"), socket: filepath.Join(dir, "holder"), fired: make(chan cluster.Instant, 9)}
	s.client = Dial(s.socket)
	ctx, cancel := context.WithCancel(context.Background())
	ready := make(chan struct{})
	done := make(chan error, 1)
	cfg := SimConfig{Socket: filepath.Join(dir, "dev"), OnFire: func() { s.fired <- hostClock.Now() }, Ready: func() { close(ready) }}
	go func() { done <- Simulate(ctx, cfg) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	<-ready
	return s
}

// proc is a process of the test binary.
type proc struct {
	*exec.Cmd
	out    *bytes.Buffer // standard error; read after wait
	exited chan struct{}
}

func (s *stand) spawn(role string, args ...string) *proc {
	s.t.Helper()
	return s.spawnTo(nil, role, args...)
}

// spawnTo is spawn with another standard error, if it is not nil.
func (s *stand) spawnTo(stderr *os.File, role string, args ...string) *proc {
	s.t.Helper()
	exe, err := os.Executable()
	if err != nil {
		s.t.Fatal(err)
	}
	p := &proc{Cmd: exec.Command(exe, args...), out: new(bytes.Buffer), exited: make(chan struct{})}
	p.Env = append(os.Environ(), envRole+"="+role)
	p.Stderr = p.out
	if stderr != nil {
		p.Stderr = stderr
	}
	p.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if role == "client" {
		p.Stdout = p.out
	}
	if err := p.Start(); err != nil {
		s.t.Fatal(err)
	}
	go func() {
		defer close(p.exited)
		// How it ended is in ProcessState; it is killed by a signal in most tests.
		var exit *exec.ExitError
		if err := p.Wait(); err != nil && !errors.As(err, &exit) {
			s.t.Errorf("wait for the %s: %v", role, err)
		}
	}()
	s.t.Cleanup(func() {
		p.end(unix.SIGKILL)
		if s.t.Failed() {
			s.t.Logf("%s said:\n%s", role, p.out)
		}
	})
	return p
}

// end sends the signal and waits for the end of the process.
func (p *proc) end(sig os.Signal) {
	_ = p.Process.Signal(sig) // it may have ended already
	<-p.exited
}

// holder starts a holder and waits until it answers.
func (s *stand) holder() *proc {
	s.t.Helper()
	p := s.spawn("holder", s.device, procW.String(), s.socket)
	try.Until(s.t, "the holder to answer", func() bool {
		_, err := s.client.Status(s.t.Context())
		return err == nil
	})
	return p
}

func (s *stand) arm(ahead time.Duration) cluster.Instant {
	s.t.Helper()
	until := hostClock.Now().Add(ahead)
	st, err := s.client.Arm(s.t.Context(), until)
	if err != nil || !st.Armed || st.Limit != until || st.Timeout != procW {
		s.t.Fatalf("arm: %+v, %v", st, err)
	}
	return until
}

// expectFire waits for the reset and checks that it did not come before an instant. That it came by
// another one is the matter of tests in virtual time: here the device is a process that may wait for its turn.
func (s *stand) expectFire(from, to cluster.Instant) {
	s.t.Helper()
	at := <-s.fired
	s.t.Logf("fired %v before the latest instant promised", to.Sub(at))
	if at < from {
		s.t.Errorf("fired %v after the earliest instant", at.Sub(from))
	}
}

// expectQuiet claims that nothing fires until then.
func (s *stand) expectQuiet(until cluster.Instant) {
	s.t.Helper()
	select {
	case at := <-s.fired:
		s.t.Errorf("fired %v before it could", until.Sub(at))
	case <-time.After(until.Sub(hostClock.Now())):
	}
}

func TestHolderKilledFires(t *testing.T) {
	need.Real(t)
	s := newStand(t)
	h := s.holder()
	s.arm(time.Minute)
	s.expectQuiet(hostClock.Now().Add(procW * 3 / 2))
	before := hostClock.Now()
	h.end(unix.SIGKILL)
	s.expectFire(before.Add(procW-2*procW/8), hostClock.Now().Add(procW))
}

func TestHolderTerminatedStaysArmed(t *testing.T) {
	need.Drill(t, "P1: a holder of a watchdog that is told to end leaves it armed, unless it was disarmed")
	s := newStand(t)
	h := s.holder()
	s.arm(time.Minute)
	before := hostClock.Now()
	h.end(unix.SIGTERM)
	if said := h.out.String(); h.ProcessState.ExitCode() != 1 || !strings.Contains(said, ErrLeftArmed.Error()) {
		t.Errorf("ended with %v and said %q, want %q", h.ProcessState, said, ErrLeftArmed)
	}
	s.expectFire(before.Add(procW-2*procW/8), hostClock.Now().Add(procW))
	h = s.holder()
	if err := s.client.Disarm(t.Context()); err != nil {
		t.Fatal(err)
	}
	h.end(unix.SIGTERM)
	if h.ProcessState.ExitCode() != 0 {
		t.Errorf("ended with %v, not armed", h.ProcessState)
	}
}

func TestClientKilledOrStopped(t *testing.T) {
	need.Drill(t, "P1: an agent that is killed or stands still, whose holder lives: the watchdog fires by its limit")
	for name, sig := range map[string]os.Signal{"killed": unix.SIGKILL, "stopped": unix.SIGSTOP} {
		t.Run(name, func(t *testing.T) {
			s := newStand(t)
			s.holder()
			const ahead = time.Second
			c := s.spawn("client", s.socket, ahead.String())
			// Kept for longer than limit + W of the first arming.
			s.expectQuiet(hostClock.Now().Add(ahead + procW + procW/2))
			if err := c.Process.Signal(sig); err != nil {
				t.Fatal(err)
			}
			stopped := hostClock.Now()
			st, err := s.client.Status(t.Context())
			if err != nil || !st.Armed {
				t.Fatalf("status: %+v, %v", st, err)
			}
			if age := stopped.Add(ahead).Sub(st.Limit); age < 0 {
				t.Errorf("limit is %v younger than the last that the client can have asked for", -age)
			}
			s.expectFire(st.Limit.Add(procW-2*procW/8), st.Limit.Add(procW))
		})
	}
}

func TestHolderRestartContinues(t *testing.T) {
	need.Drill(t, "P3: holders of a watchdog are killed one after the other, and the next one goes on to the same limit")
	s := newStand(t)
	h := s.holder()
	limit := s.arm(2 * procW)
	for range 3 {
		h.end(unix.SIGKILL)
		h = s.holder()
		st, err := s.client.Status(t.Context())
		if err != nil || !st.Armed || st.Limit != limit || st.Error != "" {
			t.Fatalf("next holder: %+v, %v", st, err)
		}
	}
	// Without pets by the new holders it would have fired by now + W.
	s.expectQuiet(limit.Add(procW - 2*procW/8))
	s.expectFire(limit, limit.Add(procW))
}

func TestHolderRestartDisarms(t *testing.T) {
	need.Drill(t, "P3: a watchdog whose holder was killed is disarmed by the next one")
	s := newStand(t)
	h := s.holder()
	limit := s.arm(procW / 4)
	try.Until(t, "the limit", func() bool { return hostClock.Now() > limit })
	h.end(unix.SIGKILL)
	s.holder()
	if err := s.client.Disarm(t.Context()); err != nil {
		t.Fatal(err)
	}
	if st, err := s.client.Status(t.Context()); err != nil || st.Armed || st.Limit != 0 {
		t.Errorf("status: %+v, %v", st, err)
	}
	s.expectQuiet(hostClock.Now().Add(procW + procW/2))
	if _, err := os.Stat(s.socket + ".armed"); err == nil {
		t.Error("the mark of an armed device is still there")
	}
}

// The reader of the holder's log dies, its terminal too: the holder lives on.
func TestHolderOutlivesItsReader(t *testing.T) {
	s := newStand(t)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	h := s.spawnTo(w, "holder", s.device, procW.String(), s.socket)
	if err := errors.Join(w.Close(), r.Close()); err != nil {
		t.Fatal(err)
	}
	try.Until(t, "the holder to answer", func() bool {
		_, err := s.client.Status(t.Context())
		return err == nil
	})
	if err := h.Process.Signal(unix.SIGHUP); err != nil {
		t.Fatal(err)
	}
	for range 3 { // each is logged
		s.arm(time.Minute)
		if err := s.client.Disarm(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}

func TestHolderRefusesSecond(t *testing.T) {
	s := newStand(t)
	s.holder()
	if fi, err := os.Stat(s.socket); err != nil || fi.Mode().Perm() != 0o600 {
		t.Errorf("socket: %v, %v, want mode 0600", fi, err)
	}
	second := s.spawn("holder", s.device, procW.String(), s.socket)
	<-second.exited
	if second.ProcessState.ExitCode() != 1 || !strings.Contains(second.out.String(), "does another holder run") {
		t.Errorf("a second holder ended with %v and said %q", second.ProcessState, second.out)
	}
	s.arm(time.Minute)
	if err := s.client.Disarm(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func TestClientErrors(t *testing.T) {
	s := newStand(t)
	if _, err := s.client.Status(t.Context()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no holder: %v", err)
	}
	h := s.holder()
	if _, err := s.client.Arm(t.Context(), 1); !errors.Is(err, ErrRefused) {
		t.Errorf("a limit in the past: %v, want ErrRefused", err)
	} else if n := strings.Count(err.Error(), ErrRefused.Error()); n != 1 {
		t.Errorf("%q says %d times who refused", err, n)
	}
	if err := h.Process.Signal(unix.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	until := hostClock.Now().Add(time.Minute)
	if _, err := s.client.Arm(ctx, until); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("holder stopped: %v, want DeadlineExceeded", err)
	}
	if err := h.Process.Signal(unix.SIGCONT); err != nil {
		t.Fatal(err)
	}
	if st, err := s.client.Status(t.Context()); err != nil || st.Armed {
		t.Errorf("the holder carried out what nobody waited for: %+v, %v", st, err)
	}
}

// What people may type with a socket tool.
func TestHolderLines(t *testing.T) {
	s := newStand(t)
	s.holder()
	conn, err := net.Dial("unix", s.socket)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	dec := json.NewDecoder(conn)
	until := int64(hostClock.Now().Add(30 * time.Second))
	for _, c := range []struct {
		line  string
		armed bool
		ok    bool
	}{
		{`{"format":1,"op":"status"}`, false, true},
		{`{"format":1,"op":"arm","limit_ns":` + strconv.FormatInt(until, 10) + `}`, true, true},
		{`{"format":1,"op":"arm","limit_ns":"soon"}`, true, false},
		{`nonsense`, true, false},
		{`{"op":"disarm"}`, true, false},
		{`{"format":1,"op":"status","new":1}`, true, true},
		{`{"format":1,"op":"disarm"}`, false, true},
		{`{"format":1,"op":"disarm"}`, false, true},
	} {
		if _, err := fmt.Fprintln(conn, c.line); err != nil {
			t.Fatal(err)
		}
		var st Status
		if err := dec.Decode(&st); err != nil {
			t.Fatal(err)
		}
		if st.Armed != c.armed || (st.Error == "") != c.ok || st.Refused == c.ok {
			t.Errorf("%s: %+v", c.line, st)
		}
	}
}

func TestHolderRefusesConfig(t *testing.T) {
	log := slog.New(slog.DiscardHandler)
	dir := try.ShortDir(t)
	base := HolderConfig{Device: "none", Timeout: time.Second, Socket: filepath.Join(dir, "h"), Log: log}
	for name, change := range map[string]func(*HolderConfig){
		"short timeout": func(c *HolderConfig) { c.Timeout = 200 * time.Millisecond },
		"bad device":    func(c *HolderConfig) { c.Device = "dog" },
		"no boot id":    func(c *HolderConfig) { c.BootIDFile = filepath.Join(dir, "nothing") },
		"no folder":     func(c *HolderConfig) { c.Socket = filepath.Join(dir, "no", "h") },
	} {
		cfg := base
		change(&cfg)
		if err := hold(t.Context(), cfg); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// A host without a watchdog can ask, and is told why it has no guard.
func TestHolderWithoutDevice(t *testing.T) {
	dir := try.ShortDir(t)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	cfg := HolderConfig{Device: "none", Timeout: time.Second, Socket: filepath.Join(dir, "h"), Log: slog.New(slog.DiscardHandler)}
	go func() { done <- hold(ctx, cfg) }()
	defer func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}()
	c := Dial(cfg.Socket)
	var st Status
	try.Until(t, "the holder to answer", func() (ok bool) {
		var err error
		st, err = c.Status(ctx)
		return err == nil
	})
	if st.Armed || st.Timeout != 0 || !strings.Contains(st.Error, ErrNoDevice.Error()) {
		t.Errorf("status: %+v", st)
	}
	st, err := c.Arm(ctx, hostClock.Now().Add(time.Second))
	if err == nil || errors.Is(err, ErrRefused) || st.Armed {
		t.Errorf("arm: %+v, %v", st, err)
	}
	if err := c.Disarm(ctx); err != nil {
		t.Errorf("disarm: %v", err)
	}
	if _, err := os.Stat(cfg.Socket + ".armed"); err == nil {
		t.Error("the next holder would believe that the device is armed")
	}
}

// The holder stays small only as long as this package does.
func TestImports(t *testing.T) {
	files, err := filepath.Glob("*.go")
	if err != nil || len(files) == 0 {
		t.Fatalf("files: %v, %v", files, err)
	}
	allowed := map[string]bool{"golang.org/x/sys/unix": true, "holdfast/internal/cluster": true,
		"holdfast/internal/lib/clock": true, "holdfast/internal/host/watchdog/keeper": true}
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ImportsOnly)
		if err != nil {
			t.Fatal(err)
		}
		for _, imp := range f.Imports {
			path, err := strconv.Unquote(imp.Path.Value)
			if err != nil {
				t.Fatal(err)
			}
			first, _, _ := strings.Cut(path, "/")
			outside := strings.Contains(first, ".") || first == "holdfast"
			if (outside && !allowed[path]) || path == "net/http" {
				t.Errorf("%s imports %s", name, path)
			}
		}
	}
}
