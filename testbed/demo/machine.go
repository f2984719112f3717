package demo

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"holdfast/internal/cluster"
	"holdfast/internal/host/watchdog"
	"holdfast/internal/lib/clock"
)

const (
	restartDelay = 300 * time.Millisecond // until a service manager restarts an agent that has ended
	firmwareTime = 2 * time.Second        // from a reset to the start of the agent
	powerLimit   = 10 * time.Second       // for ending all processes of a host
)

// procMachine is a host made of processes: its, its power, its cables and its watchdog.
type procMachine struct {
	place
	exe   string
	marks *marks
	net   *network
	note  func(kind, text string) // records an event of this host
	op    chan struct{}           // holds one value while power changes

	mu       sync.Mutex
	on       bool
	cut      bool // its cables are pulled although it has power
	agent    int  // pid of the agent, 0 for none
	fired    int  // how often its watchdog has reset it
	off      context.CancelFunc
	finished chan struct{} // closed when the supervision of the agent has ended
}

func newProcMachine(p place, exe string, m *marks, n *network, note func(kind, text string)) *procMachine {
	return &procMachine{place: p, exe: exe, marks: m, net: n, note: note, op: make(chan struct{}, 1)}
}

// Name is the host's name.
func (m *procMachine) Name() cluster.HostID { return m.name }

// PowerOn starts a new life of the host: a new boot id, an empty run directory,
// the agent. It does nothing when the host is on. The agent is restarted until
// PowerOff, also after ctx has ended.
func (m *procMachine) PowerOn(ctx context.Context) error {
	if err := m.begin(ctx); err != nil {
		return err
	}
	defer m.end()
	m.mu.Lock()
	on := m.on
	m.mu.Unlock()
	if on {
		return nil
	}
	if err := m.boot(); err != nil {
		return fmt.Errorf("power on %s: %w", m.name, err)
	}
	life, off := context.WithCancel(context.WithoutCancel(ctx))
	finished := make(chan struct{})
	m.mu.Lock()
	m.on, m.off, m.finished = true, off, finished
	m.mu.Unlock()
	m.cables()
	go func() {
		defer close(finished)
		m.supervise(life)
	}()
	m.note("power-on", "power on")
	return nil
}

func (m *procMachine) boot() error {
	if err := os.RemoveAll(m.runDir); err != nil {
		return err
	}
	if err := os.MkdirAll(m.runDir, 0o700); err != nil {
		return err
	}
	return os.WriteFile(m.bootID, []byte(bootID()+"\n"), 0o600)
}

// bootID makes a random id in the form of /proc/sys/kernel/random/boot_id.
func bootID() string {
	var b [16]byte
	rand.Read(b[:]) // never fails
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

// PowerOff takes the power away: the cables go dead, all processes of the host
// end at once, its watchdog forgets that it was armed. It does nothing when the
// host is off.
func (m *procMachine) PowerOff(ctx context.Context) error {
	if err := m.begin(ctx); err != nil {
		return err
	}
	defer m.end()
	was, err := m.stop(ctx)
	if err == nil && was {
		err = watchdog.PowerCycle(ctx, m.device)
	}
	if err != nil {
		return fmt.Errorf("power off %s: %w", m.name, err)
	}
	return nil
}

// Discard ends the host for good. Its watchdog may be gone already.
func (m *procMachine) Discard(ctx context.Context) error {
	if err := m.begin(ctx); err != nil {
		return err
	}
	defer m.end()
	if _, err := m.stop(ctx); err != nil {
		return fmt.Errorf("discard %s: %w", m.name, err)
	}
	return nil
}

// stop ends all processes. was tells whether the host was on.
func (m *procMachine) stop(ctx context.Context) (was bool, err error) {
	m.mu.Lock()
	was, m.on = m.on, false
	off, finished := m.off, m.finished
	m.mu.Unlock()
	if !was {
		return false, nil
	}
	m.cables()
	off()
	ctx, cancel := context.WithTimeout(ctx, powerLimit)
	defer cancel()
	return true, m.killUntil(ctx, finished)
}

// killUntil kills until the supervision has ended, which may have been about to
// start an agent, and then once more.
func (m *procMachine) killUntil(ctx context.Context, finished <-chan struct{}) error {
	for {
		if err := m.marks.Kill(ctx, ofHost(m.name)); err != nil {
			return err
		}
		select {
		case <-finished:
			return m.marks.Kill(ctx, ofHost(m.name))
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// Cut pulls the host's cables or plugs them in again. It can not fail.
func (m *procMachine) Cut(_ context.Context, cut bool) error {
	m.mu.Lock()
	m.cut = cut
	m.mu.Unlock()
	m.cables()
	return nil
}

func (m *procMachine) cables() {
	if m.Reachable() {
		m.net.Heal(m.name)
	} else {
		m.net.Isolate(m.name)
	}
}

// Reachable reports whether the host is on and its cables are plugged in.
func (m *procMachine) Reachable() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.on && !m.cut
}

// Condition is the host's state.
func (m *procMachine) Condition() condition {
	m.mu.Lock()
	defer m.mu.Unlock()
	return condition{on: m.on, cut: m.cut, agent: m.agent != 0, fired: m.fired}
}

// KillAgent ends the agent alone, with SIGKILL.
func (m *procMachine) KillAgent(context.Context) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.agent == 0 {
		return fmt.Errorf("kill the agent of %s: it does not run", m.name)
	}
	// It is not collected while mu is held, so that the pid is its own.
	if err := unix.Kill(m.agent, unix.SIGKILL); err != nil {
		return fmt.Errorf("kill the agent of %s: %w", m.name, err)
	}
	return nil
}

// supervise keeps the agent running, as a service manager does, until ctx ends.
func (m *procMachine) supervise(ctx context.Context) {
	for ctx.Err() == nil {
		err := m.runAgent()
		if ctx.Err() != nil {
			return
		}
		m.note("agent-ended", fmt.Sprintf("agent has ended (%v), restarted in %v", reason(err), restartDelay))
		if !clock.Sleep(ctx, restartDelay) {
			return
		}
	}
}

func reason(err error) string {
	if err == nil {
		return "exit status 0"
	}
	return err.Error()
}

// runAgent runs the agent until it ends. It is a session of its own, so that
// Ctrl-C at the terminal reaches only the demo, and it dies with the demo.
func (m *procMachine) runAgent() error {
	out, err := os.OpenFile(m.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	cmd := exec.Command(m.exe, "agent", "--config", m.config)
	cmd.Dir = m.dir
	cmd.Env = append(os.Environ(), m.marks.env(m.name))
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGKILL}
	err = cmd.Start()
	if err = errors.Join(err, out.Close()); cmd.Process == nil {
		return err
	}
	m.marks.Own(cmd.Process.Pid)
	defer m.marks.Disown(cmd.Process.Pid)
	m.setAgent(cmd.Process.Pid)
	// The end is awaited without collecting it, so that KillAgent can never hit
	// another process of the same pid.
	waitErr := waitEnd(cmd.Process.Pid)
	m.setAgent(0)
	return errors.Join(err, waitErr, cmd.Wait())
}

func waitEnd(pid int) error {
	for {
		err := unix.Waitid(unix.P_PID, pid, nil, unix.WEXITED|unix.WNOWAIT, nil)
		if !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

func (m *procMachine) setAgent(pid int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.agent = pid
}

// watch plays the watchdog device of the host until ctx ends. It runs outside
// of the host, as hardware does. ready, if there is one, is called when the
// device can be opened.
func (m *procMachine) watch(ctx context.Context, ready func()) error {
	err := watchdog.Simulate(ctx, watchdog.SimConfig{
		Socket: m.device, Identity: "demo watchdog", Ready: ready, OnFire: func() { m.reset(ctx) },
	})
	if err != nil && ctx.Err() == nil {
		return fmt.Errorf("watchdog of %s: %w", m.name, err)
	}
	return nil
}

// reset is what the watchdog does: power off, and on again. A host without power
// has no watchdog either.
func (m *procMachine) reset(ctx context.Context) {
	m.mu.Lock()
	on := m.on
	if on {
		m.fired++
	}
	m.mu.Unlock()
	if !on {
		return
	}
	m.note("watchdog-fired", "watchdog has fired: the host is reset")
	err := m.PowerOff(ctx)
	if err == nil && !clock.Sleep(ctx, firmwareTime) {
		err = ctx.Err()
	}
	if err == nil {
		err = m.PowerOn(ctx)
	}
	if err != nil && ctx.Err() == nil {
		m.note("reset-failed", err.Error())
	}
}

func (m *procMachine) begin(ctx context.Context) error {
	select {
	case m.op <- struct{}{}:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("wait for the power switch of %s: %w", m.name, ctx.Err())
	}
}

func (m *procMachine) end() { <-m.op }
