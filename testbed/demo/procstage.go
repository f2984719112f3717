package demo

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"holdfast/internal/cluster"
	"holdfast/internal/lib/proc"
)

// cleanupLimit bounds the end of a run of processes; usually it takes a few ms.
const cleanupLimit = 10 * time.Second

// procStage is the stage without root: hosts are sets of processes.
type procStage struct {
	witness
	opt  Options
	tell func(lines ...string)

	layout   *layout
	marks    *marks
	net      *network
	machines []*procMachine
	agents   map[cluster.HostID]Agent
	guests   map[cluster.HostID]*guestClient
	cleanup  []func() error // in reverse order

	mu    sync.Mutex
	procs []markedProc // of the VM, at the last look
}

func newProcStage(opt Options, w witness, tell func(lines ...string)) *procStage {
	return &procStage{witness: w, opt: opt, tell: tell,
		agents: map[cluster.HostID]Agent{}, guests: map[cluster.HostID]*guestClient{}}
}

func (s *procStage) Driver() string { return "process" }

func procLimits() limits {
	return limits{run: 5 * time.Minute, boot: 2 * time.Minute, powerBack: time.Minute, rejoin: time.Minute,
		noise: 250 * time.Millisecond}
}

func (s *procStage) Machines() []machine {
	var all []machine
	for _, m := range s.machines {
		all = append(all, m)
	}
	return all
}

func (s *procStage) Agents() map[cluster.HostID]Agent { return s.agents }

func (s *procStage) Console(host cluster.HostID) (url, ca string) {
	for _, p := range s.layout.places {
		if p.name == host {
			return "https://" + netip.AddrPortFrom(p.outside, s.layout.ports.console).String(), s.layout.caFile()
		}
	}
	return "", ""
}

func (s *procStage) Kept() string {
	if s.opt.Keep {
		return s.layout.dir
	}
	return ""
}

func (s *procStage) Prepare(ctx context.Context) error {
	exe, err := filepath.Abs(s.opt.Exe)
	if err != nil {
		return err
	}
	run := randomID()
	if s.layout, err = newLayout(s.opt.Dir, run); err != nil {
		return err
	}
	remove := s.layout.dir
	if s.opt.Keep {
		remove = ""
	} else {
		s.later(func() error { return removeRun(remove, run) })
	}
	self, err := filepath.Abs(s.opt.Self)
	if err != nil {
		return err
	}
	if err := s.layout.write(self); err != nil {
		return err
	}
	j, err := startJanitor(self, run, remove)
	if err != nil {
		return err
	}
	s.later(j.Close)
	if err := s.adoptOrphans(); err != nil {
		return err
	}
	s.marks = newMarks(run)
	s.later(s.killAll)
	s.net = newNetwork(ownerOf(s.marks), slog.New(slog.DiscardHandler))
	s.later(s.net.Close)
	if err := s.connect(ctx); err != nil {
		return err
	}
	if err := s.build(exe); err != nil {
		return err
	}
	s.explain()
	return nil
}

// adoptOrphans makes this process the parent of processes whose own has ended,
// so that it can collect them; they would stay as zombies where nobody does.
func (s *procStage) adoptOrphans() error {
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("become the parent of orphans: %w", err)
	}
	s.later(func() error { return unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0) })
	return nil
}

// connect lays the cables: one relay per port of each host.
func (s *procStage) connect(ctx context.Context) error {
	for _, p := range s.layout.places {
		for _, port := range s.layout.ports.all() {
			listener, err := new(net.ListenConfig).Listen(ctx, "tcp", netip.AddrPortFrom(p.outside, port).String())
			if err != nil {
				return fmt.Errorf("open a relay for %s: %w", p.name, err)
			}
			s.net.Relay(ctx, p.name, listener, netip.AddrPortFrom(p.inside, port).String(), port == s.layout.ports.console)
		}
	}
	return nil
}

func (s *procStage) build(exe string) error {
	for _, p := range s.layout.places {
		note := func(kind, text string) { s.note(fromDemo, kind, p.name, text) }
		s.machines = append(s.machines, newProcMachine(p, exe, s.marks, s.net, note))
		s.guests[p.name] = newGuestClient(filepath.Join(p.runDir, "guest", "guest.sock"))
		a, err := s.opt.Dial(p.agentSocket())
		if err != nil {
			return fmt.Errorf("reach the agent of %s: %w", p.name, err)
		}
		s.agents[p.name] = a
	}
	return nil
}

func (s *procStage) explain() {
	s.tell(
		"driver: process. The VM is a small HTTP service, so that this needs neither",
		"        root nor packages; agents, store, elections, watchdog logic and proofs",
		"        are the real ones. Cables are relays that can be cut, the watchdog",
		"        device is simulated.",
		"files:  "+s.layout.dir, "")
}

// later registers a step of the clean-up.
func (s *procStage) later(f func() error) { s.cleanup = append(s.cleanup, f) }

func (s *procStage) Close() error {
	var errs []error
	for i := len(s.cleanup) - 1; i >= 0; i-- {
		errs = append(errs, s.cleanup[i]())
	}
	return errors.Join(errs...)
}

// killAll ends all processes of the run. Its deadline is its own, since the
// run's context may have ended already.
func (s *procStage) killAll() error {
	ctx, cancel := context.WithTimeout(context.Background(), cleanupLimit)
	defer cancel()
	var errs []error
	for _, m := range s.machines {
		errs = append(errs, m.Discard(ctx))
	}
	errs = append(errs, s.marks.Kill(ctx, anyHost))
	if found, err := s.marks.Scan(); err != nil {
		errs = append(errs, err)
	} else {
		errs = append(errs, s.marks.Collect(found))
	}
	return errors.Join(errs...)
}

func (s *procStage) LastWords(host cluster.HostID) string {
	for _, m := range s.machines {
		if m.name == host {
			return lastLine(m.log)
		}
	}
	return ""
}

// CrashVM kills the VM's process.
func (s *procStage) CrashVM(context.Context) error {
	s.mu.Lock()
	procs := s.procs
	s.mu.Unlock()
	if len(procs) != 1 {
		return fmt.Errorf("crash the VM: %d processes of it run, want 1", len(procs))
	}
	if err := proc.Here.Signal(procs[0].ID, unix.SIGKILL); err != nil {
		return fmt.Errorf("crash the VM: %w", err)
	}
	s.note(fromDemo, "crash", procs[0].Host, "the VM's process is killed")
	return nil
}
