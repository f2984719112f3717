package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	sigKill      = unix.SIGKILL
	errNoProcess = unix.ESRCH
)

// hostFlags make the namespaces of a host.
const hostFlags = unix.CLONE_NEWNS | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC | unix.CLONE_NEWNET | unix.CLONE_NEWPID

// bootLimit is how long a host may take from power-on to a libvirtd that answers.
const bootLimit = patience

// On powers a host on and returns when its libvirtd answers. A host that is on
// is left alone. When the start fails the host is powered off again.
func (l *Lab) On(ctx context.Context, host string) error {
	if err := l.p.checkHost(host); err != nil {
		return err
	}
	d, err := l.launch(ctx, host)
	if err != nil || d == nil {
		return err
	}
	if err := l.boot(ctx, host, d); err != nil {
		err = fmt.Errorf("power on %s: %w%s", host, err, tail(l.p.disk(host, "init.log")))
		return errors.Join(err, d.abandon(), l.Crash(context.WithoutCancel(ctx), host))
	}
	return l.p.record(host, "ready", "")
}

// launch starts the host's PID 1 up to its gate and records it; nil when the
// host is on already.
func (l *Lab) launch(ctx context.Context, host string) (*detached, error) {
	d, err := l.hold(ctx, func(s *state) (*detached, error) {
		if s.on(host) {
			return nil, nil
		}
		hs := s.Hosts[host]
		// What is left of a host that ended by itself.
		if err := errors.Join(endProcess(ctx, hs.Hang), removeCgroup(ctx, l.p.cgroup(host))); err != nil {
			return nil, err
		}
		if err := l.p.writeDisk(host, s.Options); err != nil {
			return nil, err
		}
		spec := l.p.disk(host, "boot.json")
		if err := writeJSON(spec, l.p.bootSpec(host, s.Options)); err != nil {
			return nil, err
		}
		if err := os.WriteFile(l.p.disk(host, "daemons.json"), []byte("{}\n"), 0o644); err != nil {
			return nil, err
		}
		d, err := startDetached([]string{l.p.self(), initCommand, spec}, hostFlags, l.p.disk(host, "init.log"))
		if err != nil {
			return nil, err
		}
		s.Hosts[host] = hostState{Init: d.Process, Boots: hs.Boots + 1, Orders: hs.Orders}
		return d, makeCgroup(l.p.cgroup(host), d.PID)
	})
	if err != nil {
		return nil, fmt.Errorf("power on %s: %w", host, err)
	}
	return d, nil
}

// boot plugs the cable in, opens the gate and waits for libvirtd.
func (l *Lab) boot(ctx context.Context, host string, d *detached) error {
	s, err := loadState(l.p.Dir)
	if err != nil {
		return err
	}
	if err := l.p.plugCable(ctx, host, d.PID); err != nil {
		return err
	}
	if s.Options.Second {
		if err := l.p.plugSecond(ctx, host, d.PID); err != nil {
			return err
		}
	}
	if s.Options.Watchdogs {
		// The device is part of the machine: it is there before the system starts.
		if err := l.p.waitDevice(ctx, host); err != nil {
			return err
		}
	}
	if err := d.open(); err != nil {
		return err
	}
	if err := l.p.record(host, "on", fmt.Sprintf("pid %d", d.PID)); err != nil {
		return err
	}
	// libvirtd ends itself when one of its drivers does not come up, and is started
	// again: what counts is that it answers.
	socket := fmt.Sprintf("/proc/%d/root/run/libvirt/libvirt-sock", d.PID)
	var why error
	err = poll(ctx, bootLimit, "libvirtd's answer", func() (bool, error) {
		if !d.alive() {
			return false, errors.New("the host's PID 1 has ended")
		}
		if exists(socket) {
			_, why = l.Exec(ctx, host, "virsh", "-q", "-c", "qemu:///system", "uri")
			return why == nil, nil
		}
		return false, nil
	})
	if err != nil {
		return errors.Join(err, why)
	}
	return nil
}

// bootSpec is what PID 1 of the host has to know.
func (p plan) bootSpec(h string, o Options) bootSpec {
	daemons := []Daemon{{Name: "virtlogd", Argv: []string{"/usr/sbin/virtlogd"}, Restart: true}}
	if o.Locks {
		daemons = append(daemons, Daemon{Name: "virtlockd", Argv: []string{"/usr/sbin/virtlockd"}, Restart: true})
	}
	daemons = append(daemons, Daemon{Name: "libvirtd", Argv: []string{"/usr/sbin/libvirtd", "--listen"}, Restart: true})
	if o.Agents {
		daemons = append(daemons, Daemon{Name: AgentDaemon, Restart: true,
			Argv: []string{p.agentExe(o), "agent", "--config", AgentConfig}})
	}
	second, addr6 := "", ""
	if o.Second {
		second = p.secondAddr(h).String() + "/24"
	}
	if o.IPv6 {
		addr6 = p.addr6(p.hostAddr(h)).String() + "/64"
	}
	if o.Bare != "" {
		daemons = append(daemons, bareDaemons()...)
	}
	return bootSpec{
		Second: second, Addr6: addr6,
		Host: h, Addr: p.hostAddr(h).String() + "/24", MAC: p.hostMAC(h), Disk: p.disk(h),
		Shared: p.path("shared"), Watchdogs: p.path("wd"), Power: p.path("power"), Bin: p.path("bin"), Daemons: append(daemons, o.Daemons...),
		OwnSystem: o.OwnSystem,
	}
}

// tail is the end of a log, for an error message.
func tail(path string) string {
	raw, err := os.ReadFile(path)
	if err != nil || len(raw) == 0 {
		return ""
	}
	lines := strings.Split(strings.TrimSpace(string(raw)), "\n")
	return "; its log ends: " + strings.Join(lines[max(0, len(lines)-5):], " | ")
}

// Crash is a loss of power: the cable goes first (else the dying kernel's
// sockets would say goodbye, which no power loss does), then every process of
// the host at once. It needs no lock, so that nothing delays it, and returns
// when they are gone. A host that is off is no error.
func (l *Lab) Crash(ctx context.Context, host string) error {
	if err := l.p.checkHost(host); err != nil {
		return err
	}
	s, err := loadState(l.p.Dir)
	if err != nil {
		return err
	}
	hs, ok := s.Hosts[host]
	if !ok {
		return nil
	}
	wasOn := hs.Init.alive()
	if err := l.p.powerOff(ctx, host, hs); err != nil {
		return fmt.Errorf("crash %s: %w", host, err)
	}
	if wasOn {
		return l.p.record(host, "crash", "")
	}
	return nil
}

// powerOff ends all processes of a host and removes its control group.
func (p plan) powerOff(ctx context.Context, host string, hs hostState) error {
	var cable error
	if hs.Init.alive() {
		// Off with the power even if the cable can not be pulled.
		cable = p.pullCable(ctx, host)
	}
	err := errors.Join(cable, killGroup(ctx, hs.Init, p.cgroup(host)), endProcess(ctx, hs.Hang))
	// Several may take the power at once, and one of them, or another, may have
	// brought the host back already: what follows is its own then.
	if p.rebooted(host, hs) {
		return err
	}
	// Without power the watchdog's timer stops, too.
	err = errors.Join(err, p.disarm(ctx, host))
	return errors.Join(err, poll(ctx, patience, "the control group of "+host+" to be empty", func() (bool, error) {
		rerr := os.Remove(p.cgroup(host))
		return rerr == nil || errors.Is(rerr, fs.ErrNotExist) || p.rebooted(host, hs), nil
	}))
}

// rebooted reports whether the host was powered on since it was in this state.
func (p plan) rebooted(host string, hs hostState) bool {
	s, err := loadState(p.Dir)
	return err == nil && s.Hosts[host].Init != hs.Init
}

// Off powers a host off in order: its daemons are told to end. It waits until
// the host is off.
func (l *Lab) Off(ctx context.Context, host string) error {
	hs, err := l.running(host)
	if err != nil {
		return err
	}
	if err := hs.Init.signal(unix.SIGTERM); err != nil {
		return err
	}
	if err := hs.Init.waitGone(ctx, patience); err != nil {
		return fmt.Errorf("power off %s: %w", host, err)
	}
	return errors.Join(l.p.powerOff(ctx, host, hs), l.p.record(host, "off", ""))
}

// running is the state of a host that is on; an error if it is not.
func (l *Lab) running(host string) (hostState, error) {
	if err := l.p.checkHost(host); err != nil {
		return hostState{}, err
	}
	s, err := loadState(l.p.Dir)
	if err != nil {
		return hostState{}, err
	}
	if !s.on(host) {
		return hostState{}, fmt.Errorf("host %s is off", host)
	}
	return s.Hosts[host], nil
}

// RootPath is a file of a host that is on, such as a socket, as the machine sees it. It is refused while
// the host is frozen, where what listens would hang.
func (l *Lab) RootPath(host, file string) (string, error) {
	hs, err := l.running(host)
	if err != nil {
		return "", err
	}
	if frozen(l.p.cgroup(host)) {
		return "", fmt.Errorf("host %s is frozen", host)
	}
	return filepath.Join("/proc", strconv.Itoa(hs.Init.PID), "root", file), nil
}

// intoHost makes a process join the host's control group, so that it freezes
// and dies with the host, and its namespaces.
const intoHost = `echo 0 >"$1/cgroup.procs" || exit 125; pid=$2; shift 2
exec nsenter -t "$pid" -m -u -i -n -p -r -w -- "$@"`

// Command prepares a program that runs inside the host. The caller sets its
// streams. It is refused while the host is frozen, where it would hang.
func (l *Lab) Command(ctx context.Context, host string, argv ...string) (*exec.Cmd, error) {
	hs, err := l.running(host)
	if err != nil {
		return nil, err
	}
	if frozen(l.p.cgroup(host)) {
		return nil, fmt.Errorf("host %s is frozen", host)
	}
	args := append([]string{"-c", intoHost, "sh", l.p.cgroup(host), fmt.Sprint(hs.Init.PID)}, argv...)
	cmd := exec.CommandContext(ctx, "/bin/sh", args...)
	cmd.Dir = "/"
	cmd.Env = hostEnv(l.p.path("bin"))
	cmd.WaitDelay = time.Second
	return cmd, nil
}

// execLimit is for programs of whom nobody bounds the time.
const execLimit = 10 * time.Minute

// Exec runs a program inside the host and returns its output. Without a
// deadline of ctx it may take execLimit.
func (l *Lab) Exec(ctx context.Context, host string, argv ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, execLimit)
	defer cancel()
	cmd, err := l.Command(ctx, host, argv...)
	if err != nil {
		return "", err
	}
	// A group of its own, so that nothing of it outlives the deadline.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return unix.Kill(-cmd.Process.Pid, unix.SIGKILL) }
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		return stdout.String(), fmt.Errorf("on %s: run %s: %w: %s", host, strings.Join(argv, " "), err, strings.TrimSpace(stderr.String()))
	}
	return stdout.String(), nil
}

// hostEnv is the environment of everything that runs on a host.
func hostEnv(bin string) []string {
	return []string{
		"PATH=" + bin + ":/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
		"HOME=/root", "LC_ALL=C", "TERM=dumb",
	}
}
