package lab

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"slices"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// restartDelay is the pause before a daemon that ended is started again.
const restartDelay = 300 * time.Millisecond

// stopLimit is how long each daemon may take to end at an orderly power-off.
const stopLimit = 5 * time.Second

// Daemon is a program that PID 1 of a host starts at power-on, with its output
// in HostDir/log/NAME.log.
type Daemon struct {
	Name    string   `json:"name"` // letters, digits and dashes
	Argv    []string `json:"argv"`
	Env     []string `json:"env,omitempty"`     // NAME=VALUE, beside PATH, HOME and LC_ALL
	Restart bool     `json:"restart,omitempty"` // start it again 300 ms after it ended, however it ended
}

var daemonName = regexp.MustCompile(`^[a-z][a-z0-9-]*$`)

func (d Daemon) check() error {
	if !daemonName.MatchString(d.Name) || len(d.Argv) == 0 {
		return fmt.Errorf("daemon %q: want a name of small letters, digits and dashes, and a program", d.Name)
	}
	return nil
}

// supervisor starts daemons and reaps every process that ends in the host. All
// of it happens in the goroutine of run, so a child can not be reaped before it
// is known.
type supervisor struct {
	boot bootSpec
	pids map[string]int       // running daemons
	due  map[string]time.Time // when an ended daemon starts again
	log  *slog.Logger
}

func newSupervisor(b bootSpec) *supervisor {
	log := slog.New(slog.NewTextHandler(os.Stderr, nil)).With("host", b.Host)
	return &supervisor{boot: b, pids: map[string]int{}, due: map[string]time.Time{}, log: log}
}

// run starts all daemons and returns after SIGTERM, when they have ended.
func (s *supervisor) run() error {
	signals := make(chan os.Signal, 16)
	signal.Notify(signals, syscall.SIGCHLD, syscall.SIGTERM)
	defer signal.Stop(signals)
	for _, d := range s.boot.Daemons {
		s.due[d.Name] = time.Time{}
	}
	if err := s.startDue(); err != nil {
		return err
	}
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		timer.Reset(s.wait())
		select {
		case sig := <-signals:
			if sig == syscall.SIGTERM {
				return s.stop(signals)
			}
			if err := s.reap(); err != nil {
				return err
			}
		case <-timer.C:
			if err := s.startDue(); err != nil {
				return err
			}
		}
	}
}

// wait is the time until the next start; an hour when none is due.
func (s *supervisor) wait() time.Duration {
	next := time.Hour
	for _, at := range s.due {
		next = min(next, max(0, time.Until(at)))
	}
	return next
}

// startDue starts what is due, in the order of the specification.
func (s *supervisor) startDue() error {
	for _, d := range s.boot.Daemons {
		at, ok := s.due[d.Name]
		if !ok || time.Now().Before(at) {
			continue
		}
		delete(s.due, d.Name)
		pid, err := s.start(d)
		if err != nil {
			s.log.Error("daemon does not start", "daemon", d.Name, "err", err)
			s.again(d)
			continue
		}
		s.pids[d.Name] = pid
		s.log.Info("daemon started", "daemon", d.Name, "pid", pid)
	}
	return s.publish()
}

func (s *supervisor) again(d Daemon) {
	if d.Restart {
		s.due[d.Name] = time.Now().Add(restartDelay)
	}
}

// start starts one daemon in a session of its own.
func (s *supervisor) start(d Daemon) (int, error) {
	out, err := os.OpenFile(filepath.Join(HostDir, "log", d.Name+".log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return 0, fmt.Errorf("start %s: %w", d.Name, err)
	}
	defer out.Close()
	cmd := exec.Command(d.Argv[0], d.Argv[1:]...)
	cmd.Dir = "/"
	// What a killed one leaves among its temporary files goes with the host.
	cmd.Env = append(append(hostEnv(s.boot.Bin), "TMPDIR=/dev/shm"), d.Env...)
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return 0, fmt.Errorf("start %s: %w", d.Name, err)
	}
	pid := cmd.Process.Pid
	// reap waits for it, not os/exec.
	if err := cmd.Process.Release(); err != nil {
		return 0, fmt.Errorf("start %s: %w", d.Name, err)
	}
	return pid, nil
}

// reap takes all children that have ended, daemons and orphans alike.
func (s *supervisor) reap() error {
	changed := false
	for {
		var ws unix.WaitStatus
		pid, err := unix.Wait4(-1, &ws, unix.WNOHANG, nil)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil || pid <= 0 {
			break // no child, or none that has ended
		}
		for _, d := range s.boot.Daemons {
			if s.pids[d.Name] == pid {
				s.log.Info("daemon ended", "daemon", d.Name, "pid", pid, "exit", ws.ExitStatus(), "signal", ws.Signal())
				delete(s.pids, d.Name)
				s.again(d)
				changed = true
			}
		}
	}
	if !changed {
		return nil
	}
	return s.publish()
}

// publish writes the daemons' pids for those outside.
func (s *supervisor) publish() error {
	all := map[string]int{}
	for _, d := range s.boot.Daemons {
		all[d.Name] = s.pids[d.Name]
	}
	return writeJSON(filepath.Join(s.boot.Disk, "daemons.json"), all)
}

// stop ends the daemons, last first. What is left dies with PID 1.
func (s *supervisor) stop(signals <-chan os.Signal) error {
	s.log.Info("power off")
	clear(s.due)
	for _, d := range slices.Backward(s.boot.Daemons) {
		pid, ok := s.pids[d.Name]
		if !ok {
			continue
		}
		if err := unix.Kill(pid, unix.SIGTERM); err != nil && !errors.Is(err, unix.ESRCH) {
			return fmt.Errorf("stop %s: %w", d.Name, err)
		}
		limit := time.NewTimer(stopLimit)
		for ended := false; !ended; {
			select {
			case <-signals:
				if err := s.reap(); err != nil {
					return err
				}
				clear(s.due)
				_, ok := s.pids[d.Name]
				ended = !ok
			case <-limit.C:
				s.log.Warn("daemon does not end", "daemon", d.Name, "pid", pid)
				ended = true
			}
		}
		limit.Stop()
	}
	return nil
}

// daemons reads what publish wrote: name to pid inside the host, 0 for one that
// does not run.
func (p plan) daemons(h string) (map[string]int, error) {
	raw, err := os.ReadFile(p.disk(h, "daemons.json"))
	if errors.Is(err, fs.ErrNotExist) {
		return map[string]int{}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read daemons of %s: %w", h, err)
	}
	m := map[string]int{}
	if err := json.Unmarshal(raw, &m); err != nil {
		return nil, fmt.Errorf("read daemons of %s: %w", h, err)
	}
	return m, nil
}
