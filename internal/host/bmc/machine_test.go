package bmc

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"holdfast/testbed/try"
)

// Of the device of every rig.
const (
	rightPassword = "s3cret-Pass"
	viewPassword  = "view-Pass"
	machineID     = "a1b2c3d4-e5f6-4789-abcd-0123456789ab"
	otherID       = "ffb2c3d4-e5f6-4789-abcd-0123456789ab"
)

// socketEnv makes this test binary the program that ipmi_sim calls.
const socketEnv = "HOLDFAST_TEST_MACHINE"

func TestMain(m *testing.M) {
	if socket := os.Getenv(socketEnv); socket != "" {
		os.Exit(chassisProgram(socket, os.Args[1:]))
	}
	os.Exit(m.Run())
}

// chassisProgram is ipmi_sim's chassis control: `get power` or `set power 0|1`.
func chassisProgram(socket string, args []string) int {
	answer, err := askMachine(socket, strings.Trim(strings.Join(args, " "), `"`))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	fmt.Print(answer)
	return 0
}

func askMachine(socket, request string) (string, error) {
	c, err := net.DialTimeout("unix", socket, 5*time.Second)
	if err != nil {
		return "", err
	}
	defer c.Close()
	if _, err := fmt.Fprintln(c, strings.ReplaceAll(request, `"`, "")); err != nil {
		return "", err
	}
	b, err := io.ReadAll(c)
	if err != nil {
		return "", err
	}
	answer, ok := strings.CutPrefix(string(b), "ok ")
	if !ok {
		return "", fmt.Errorf("the machine says %q", b)
	}
	return answer, nil
}

// machine is what a device switches: a real process.
type machine struct {
	t  *testing.T
	mu sync.Mutex

	proc   *exec.Cmd
	gone   chan struct{} // closed when proc has ended
	orders []bool

	stuck  bool          // takes orders and does nothing
	late   time.Duration // does them so much later
	refuse bool          // fails orders

	asked   int             // times that the device asked for the state since the last order
	onState func(asked int) // called then
	onOrder func()          // called when an order comes, before it is done
}

func newMachine(t *testing.T) *machine {
	m := &machine{t: t}
	if err := m.start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.kill()
	})
	return m
}

func (m *machine) start() error {
	m.proc = exec.Command("sleep", "600")
	m.proc.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := m.proc.Start(); err != nil {
		return err
	}
	gone := make(chan struct{})
	m.gone = gone
	go func(p *exec.Cmd) {
		_ = p.Wait() // it is killed
		close(gone)
	}(m.proc)
	return nil
}

func (m *machine) kill() {
	_ = m.proc.Process.Kill() // it may be gone
	<-m.gone
}

// set tells how the machine behaves from now on.
func (m *machine) set(f func(m *machine)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	f(m)
}

// lives looks at the process itself.
func (m *machine) lives() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.on()
}

func (m *machine) on() bool {
	select {
	case <-m.gone:
		return false
	default:
		return m.proc.Process.Signal(syscall.Signal(0)) == nil
	}
}

// state is what a device calls.
func (m *machine) state() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.asked++; m.onState != nil && len(m.orders) > 0 {
		m.onState(m.asked)
	}
	return m.on()
}

// ordered is how many orders have come.
func (m *machine) ordered() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.orders)
}

// order is what a device calls.
func (m *machine) order(on bool) error {
	m.mu.Lock()
	m.orders, m.asked = append(m.orders, on), 0
	before := m.onOrder
	m.mu.Unlock()
	if before != nil {
		before()
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case m.refuse:
		return errors.New("power rail fault")
	case m.stuck:
		return nil
	case m.late > 0:
		t := time.AfterFunc(m.late, func() {
			m.mu.Lock()
			defer m.mu.Unlock()
			if err := m.do(on); err != nil {
				m.t.Error(err)
			}
		})
		m.t.Cleanup(func() { t.Stop() })
		return nil
	}
	return m.do(on)
}

func (m *machine) do(on bool) error {
	if m.on() == on {
		return nil
	}
	if on {
		return m.start()
	}
	m.kill()
	return nil
}

// serve answers the programs of other processes at a socket.
func (m *machine) serve() (socket string) {
	dir, err := os.MkdirTemp("", "bmc") // t.TempDir's names are too long for a socket
	if err != nil {
		m.t.Fatal(err)
	}
	socket = filepath.Join(dir, "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		m.t.Fatal(err)
	}
	var all sync.WaitGroup
	all.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			all.Go(func() { m.answer(c) })
		}
	})
	m.t.Cleanup(func() {
		_ = l.Close()
		all.Wait()
		_ = os.RemoveAll(dir)
	})
	return socket
}

func (m *machine) answer(c net.Conn) {
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	line, err := bufio.NewReader(c).ReadString('\n')
	if err != nil {
		return
	}
	switch line = strings.TrimSpace(line); {
	case line == "get power":
		fmt.Fprintf(c, "ok power:%s\n", map[bool]string{true: "1", false: "0"}[m.state()])
	case line == "set power 0" || line == "set power 1":
		if err := m.order(line == "set power 1"); err != nil {
			fmt.Fprint(c, "failed: ", err)
			return
		}
		fmt.Fprint(c, "ok ")
	default:
		fmt.Fprintf(c, "failed: unknown request %q", line)
	}
}

// secret writes a password file.
func secret(t *testing.T, password string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(path, []byte(password+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// device makes the device of o, with changes.
func device(t *testing.T, o Options, edit ...func(*Options)) *Device {
	t.Helper()
	for _, f := range edit {
		f(&o)
	}
	d, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// generous is a time for what takes a moment.
const generous = 2 * time.Minute

func within(t *testing.T, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

// untilAsked is a context that ends when the device has asked for the state n
// times since the last order: the end of a time that is neither too short on a
// busy machine nor longer than it must be.
func (m *machine) untilAsked(t *testing.T, n int) context.Context {
	t.Helper()
	ctx, cancel := context.WithCancel(within(t, generous))
	t.Cleanup(cancel)
	m.set(func(m *machine) {
		m.onState = func(asked int) {
			if asked >= n {
				cancel()
			}
		}
	})
	return ctx
}

// noneLeft checks that f leaves no goroutine of a client behind. The devices of
// the rigs have goroutines of their own, so all of them can not be counted.
func noneLeft(t *testing.T, f func()) {
	t.Helper()
	f()
	try.Until(t, "the end of all goroutines of clients", func() bool { return len(clients()) == 0 })
}

// clients are the stacks of the goroutines that a session may start.
func clients() []string {
	buf := make([]byte, 1<<20)
	all := strings.Split(string(buf[:runtime.Stack(buf, true)]), "\n\n")
	return slices.DeleteFunc(all, func(stack string) bool {
		for _, of := range []string{"go-ipmi/pkg/client.", "net/http.(*persistConn)", "net/http.(*Transport)", "bmc.(*wire)", "bmc.(*rest)"} {
			if strings.Contains(stack, of) {
				return false
			}
		}
		return true
	})
}

// run starts a program that the test's end ends.
func run(t *testing.T, env []string, dir, name string, args ...string) (ended <-chan struct{}) {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.WaitDelay = time.Second
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		_ = cmd.Wait() // it is killed
		close(done)
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // it may be gone
		<-done
		if t.Failed() {
			t.Logf("%s:\n%s", name, out.String())
		}
	})
	return done
}

// missing skips the test when a program or Python module of a Debian package is.
func missing(t *testing.T, debian string, probe ...string) {
	t.Helper()
	if _, err := exec.LookPath(probe[0]); err == nil {
		if len(probe) == 1 || exec.Command(probe[0], probe[1:]...).Run() == nil {
			return
		}
	}
	t.Skipf("missing: the Debian package %s", debian)
}
