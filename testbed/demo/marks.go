package demo

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"holdfast/internal/cluster"
	"holdfast/internal/host/process"
	"holdfast/internal/lib/clock"
	"holdfast/internal/lib/proc"
)

// markEnv is the environment variable that says to which run of the demo and to
// which host a process belongs: RUN:HOST. Children inherit it.
const markEnv = "HOLDFAST_DEMO"

// settleTime is how old a process must be, since it was first seen, to be looked
// at for the last time: between fork and exec it shows its parent's environment,
// during exec none. Later its identity can not change any more, since everything
// that carries a mark descends from processes that carry it.
const settleTime = time.Second

// markedProc is a process of one of the demo's hosts.
type markedProc struct {
	proc.Proc
	Host  cluster.HostID
	Guest bool          // it is the VM
	Epoch cluster.Epoch // of the VM

	Socket string // of the VM
}

// marks finds the processes of one run. It remembers what it knows of each, so
// that a scan every 20 ms costs little.
type marks struct {
	run string

	mu    sync.Mutex
	known map[int]*markEntry
	own   map[int]bool
}

type markEntry struct {
	first   time.Time // when the pid was first seen
	settled bool      // it was looked at settleTime after that or later
	marked  bool
	proc    markedProc // when marked
}

func newMarks(run string) *marks {
	return &marks{run: run, known: map[int]*markEntry{}, own: map[int]bool{}}
}

// env is the environment entry that marks a process of the host.
func (m *marks) env(host cluster.HostID) string {
	return markEnv + "=" + m.run + ":" + string(host)
}

// Scan returns the marked processes, the dead ones that nobody has collected
// included.
func (m *marks) Scan() ([]markedProc, error) {
	pids, err := proc.Here.PIDs()
	if err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	now := time.Now()
	next := make(map[int]*markEntry, len(pids))
	var found []markedProc
	for _, pid := range pids {
		e := m.known[pid]
		if e == nil {
			e = &markEntry{first: now}
		}
		// A scan may come late: its age alone does not say that a process was seen
		// after its exec.
		fresh := !e.settled
		e.settled = now.Sub(e.first) >= settleTime
		if err := m.refresh(pid, e, fresh); err != nil {
			if errors.Is(err, proc.ErrGone) {
				continue
			}
			return nil, err
		}
		next[pid] = e
		if e.marked {
			found = append(found, e.proc)
		}
	}
	m.known = next
	return found, nil
}

// refresh brings an entry up to date; fresh reads the process's image anew.
func (m *marks) refresh(pid int, e *markEntry, fresh bool) error {
	if fresh && pid != os.Getpid() && proc.Here.Owned(pid) {
		img, err := proc.Here.ReadImage(pid)
		if err != nil {
			return err
		}
		// A process that has died since shows nothing: what it was stays known.
		if !img.Empty() {
			e.marked = m.identify(img, &e.proc)
		}
	}
	if !e.marked {
		return nil
	}
	p, err := proc.Here.Read(pid)
	if err != nil {
		return err
	}
	if e.proc.PID != 0 && e.proc.ID != p.ID { // the pid was used again within one scan
		*e = markEntry{first: time.Now()}
		return nil
	}
	e.proc.Proc = p
	return nil
}

func (m *marks) identify(img proc.Image, p *markedProc) bool {
	value, _ := img.Getenv(markEnv)
	run, host, ok := strings.Cut(value, ":")
	if !ok || run != m.run {
		return false
	}
	p.Host = cluster.HostID(host)
	_, p.Guest = img.Getenv(process.EnvGuest)
	p.Socket, _ = img.Flag("--socket")
	if text, ok := img.Getenv(process.EnvEpoch); ok {
		// A wrong one stays 0.0: the table shows it, nothing depends on it.
		p.Epoch, _ = cluster.ParseEpoch(text)
	}
	return true
}

// Kill ends every process that match selects with SIGKILL, all at once as a
// power cut does, until none that lives is left. It fails when ctx ends before.
func (m *marks) Kill(ctx context.Context, match func(markedProc) bool) error {
	for clean := 0; clean < 2; {
		// Marks without a memory look at every process anew.
		found, err := newMarks(m.run).Scan()
		if err != nil {
			return err
		}
		var living []markedProc
		for _, p := range found {
			if match(p) && !p.Dead() {
				living = append(living, p)
			}
		}
		if clean++; len(living) > 0 {
			clean = 0
		}
		if err := m.killAll(ctx, living); err != nil {
			return err
		}
		// A process in the middle of exec shows no mark: look again a moment later.
		if !clock.Sleep(ctx, 2*time.Millisecond) {
			return fmt.Errorf("kill processes: %w", ctx.Err())
		}
	}
	return nil
}

func (m *marks) killAll(ctx context.Context, procs []markedProc) error {
	var handles []*proc.Handle
	var errs []error
	for _, p := range procs {
		h, err := proc.Here.Open(p.ID)
		if err == nil {
			handles = append(handles, h)
			err = h.Signal(unix.SIGKILL)
		}
		if !errors.Is(err, proc.ErrGone) {
			errs = append(errs, err)
		}
	}
	for _, h := range handles {
		err := h.Wait(ctx)
		if err == nil && !m.isOwn(h.ID().PID) {
			err = h.Reap()
		}
		errs = append(errs, err, h.Close())
	}
	return errors.Join(errs...)
}

// Own tells that a process is a child that this process waits for itself; Disown
// ends that.
func (m *marks) Own(pid int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.own[pid] = true
}

// Disown is to be called after the process was waited for.
func (m *marks) Disown(pid int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.own, pid)
}

func (m *marks) isOwn(pid int) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.own[pid]
}

// Collect takes the exit status of orphans that came to this process, so that no
// zombie stays.
func (m *marks) Collect(found []markedProc) error {
	var errs []error
	for _, p := range found {
		if !p.Dead() || p.PPID != os.Getpid() || m.isOwn(p.PID) {
			continue
		}
		h, err := proc.Here.Open(p.ID)
		if errors.Is(err, proc.ErrGone) {
			continue
		}
		if err == nil {
			err = errors.Join(h.Reap(), h.Close())
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// ofHost selects the processes of one host.
func ofHost(host cluster.HostID) func(markedProc) bool {
	return func(p markedProc) bool { return p.Host == host }
}

// anyHost selects all processes of the run.
func anyHost(markedProc) bool { return true }
