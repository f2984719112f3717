package protected

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"time"

	"holdfast/internal/host/libvirt"
	"holdfast/internal/lib/clock"
)

// This file learns what became of a call to start the guest that nobody has the
// answer of. libvirtd can not be asked: it knows no domain while the call waits
// for a free worker, and while the definition is read, which may take as long as
// it takes to probe what an emulator can do. No other call is held up behind it. So
// the outcome is known by the answer, by the guest's process, or by the end of the
// daemons that have the call.

const (
	// orphanLimit is how long a start that an earlier agent process called, or whose
	// connection broke, may stay open. A start takes 0.3 s.
	orphanLimit = 10 * time.Second
	// answerWait is how long Kill waits for the answer to a start under way: a
	// fraction of the least G.
	answerWait = time.Second
	// endLimit is how long libvirtd may take to end in the background, until that is told
	// and tried again: while it hangs in the kernel, it does not.
	endLimit = 5 * time.Second
	// settleEvery is how often it is looked whether a start is open that nobody
	// waits for.
	settleEvery = 500 * time.Millisecond
)

// startOpen reports whether libvirtd may still start the guest. When every
// daemon that had the call is gone, it can not: a QEMU that was forked already
// waits for a word of its parent before it begins, and ends without it. One that
// has had the word is still to be seen as a copy of its parent, until it is QEMU.
func (d *Driver) startOpen() (bool, error) {
	set, daemons := d.start.get()
	if !set {
		return false, nil
	}
	for _, p := range daemons {
		alive, err := d.procs.alive(p)
		if err != nil {
			return true, err
		}
		if alive {
			return true, nil
		}
	}
	if len(daemons) == 0 {
		return true, nil // none was found then, so nothing can be said of them now
	}
	forked, err := d.procs.forked()
	if err != nil || forked {
		return true, err
	}
	if err := d.start.clear(); err != nil {
		return true, err
	}
	return false, nil
}

// settle learns the outcome of open starts in the background, until ctx ends.
func (d *Driver) settle(ctx context.Context) {
	var since time.Time // when it was seen first that nobody waits for the open start
	told := ""
	for clock.Sleep(ctx, settleEvery) {
		open, err := d.startOpen()
		if err == nil && (!open || d.flying.Load() > 0) {
			since, told = time.Time{}, ""
			continue
		}
		if since.IsZero() {
			since = time.Now()
		}
		if err == nil {
			err = d.settleOrphan(ctx, time.Since(since) >= orphanLimit)
		}
		if ctx.Err() != nil {
			return
		}
		if err != nil && err.Error() != told { // once, not at every look
			told = err.Error()
			d.log.Warn("the outcome of the guest's start stays open", "err", err)
		}
		d.poke()
	}
}

// settleOrphan looks what an open start has become that nobody waits for. When it is
// late, the daemons that have the call are ended.
func (d *Driver) settleOrphan(ctx context.Context, late bool) error {
	s, err := d.process(ctx)
	if err != nil {
		return err
	}
	if s != nil && !s.incoming {
		return d.start.clear() // nobody else could start it meanwhile
	}
	if !late {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, endLimit)
	defer cancel()
	return d.endDaemons(ctx)
}

// endDaemons kills the daemons that have the call of an open start: then nothing
// comes of it any more but what is in the process table. Guests do not notice, and
// the service manager starts libvirtd again, as after any crash of it.
func (d *Driver) endDaemons(ctx context.Context) error {
	_, daemons := d.start.get()
	if len(daemons) == 0 {
		return errors.New("no process of libvirtd was seen when the start was asked for: restart the host, or remove " +
			"that note by hand when nothing can start the guest any more")
	}
	d.log.Warn("libvirtd is ended, which has not answered a call to start the guest: nothing else proves that it "+
		"will not be carried out", "processes", fmt.Sprint(daemons))
	for _, p := range daemons {
		if err := d.procs.end(ctx, p); err != nil {
			return fmt.Errorf("end libvirtd: %w", err)
		}
	}
	return nil
}

// forked reports whether a process is there that is still a copy of libvirtd: it
// was forked, by one that may have ended since, and has not become another program
// yet. Such a copy has one thread, a daemon at work has many.
func (t *procTable) forked() (bool, error) {
	var found bool
	var failed error
	err := libvirt.EachProcess(t.dir, isDaemon, func(p process, _ []string) {
		threads, err := os.ReadDir(filepath.Join(string(t.dir), strconv.Itoa(p.PID), "task"))
		if err != nil && !gone(err) {
			failed = err
		}
		found = found || len(threads) == 1
	})
	return found, errors.Join(err, failed)
}

// ofRoot keeps the processes of root: a user's own libvirtd can not be called over
// the system's socket.
func (t *procTable) ofRoot(found []process) ([]process, error) {
	var out []process
	for _, p := range found {
		st, err := os.Stat(filepath.Join(string(t.dir), strconv.Itoa(p.PID)))
		if gone(err) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if sys, ok := st.Sys().(*syscall.Stat_t); !ok || sys.Uid == 0 {
			out = append(out, p)
		}
	}
	return out, nil
}

// errStartOpen: libvirtd may still start the guest.
var errStartOpen = errors.New("a start of the guest is under way, its outcome is open")

// startNote remembers that libvirtd was asked to start the guest and has not
// answered. A frozen libvirtd carries the call out when it thaws, even when the
// caller is long gone; so until the outcome is known, an empty process table
// proves nothing. The note is kept in a file as well, for the agent that comes
// after one that died meanwhile.
type startNote struct {
	path string // "" for none

	mu      sync.Mutex
	set     bool
	daemons []process // libvirt's daemons when it was set: the call dies with them
	kills   int       // so many times Kill was called
}

// errKilled: Kill was called while the start was being prepared.
var errKilled = errors.New("the guest was killed meanwhile")

// killed counts a call of Kill: a start that was called before it and has not
// set the note will not set it any more, so Kill's proof holds.
func (n *startNote) killed() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.kills++
}

// generation is what begin wants to have from the start's beginning.
func (n *startNote) generation() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.kills
}

type noteFile struct {
	Daemons []noteProc `json:"daemons"`
}

type noteProc struct {
	PID     int    `json:"pid"`
	Started uint64 `json:"started"` // clock ticks since boot
}

// openStartNote reads the note that an earlier driver left, if any.
func openStartNote(dir, uuid string) (*startNote, error) {
	n := &startNote{}
	if dir == "" {
		return n, nil
	}
	n.path = filepath.Join(dir, "libvirt-start-"+uuid+".json")
	b, err := os.ReadFile(n.path)
	if errors.Is(err, fs.ErrNotExist) {
		return n, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the note of an open start: %w", err)
	}
	var f noteFile
	if err := json.Unmarshal(b, &f); err != nil {
		return nil, fmt.Errorf("read the note of an open start in %s: %w", n.path, err)
	}
	n.set = true
	for _, p := range f.Daemons {
		n.daemons = append(n.daemons, process(p))
	}
	return n, nil
}

// begin sets the note. It fails when one is set, or when Kill was called since
// generation was asked.
func (n *startNote) begin(daemons []process, generation int) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	switch {
	case n.set:
		return errStartOpen
	case n.kills != generation:
		return errKilled
	}
	if n.path != "" {
		if err := writeNote(n.path, daemons); err != nil {
			return err
		}
	}
	n.set, n.daemons = true, daemons
	return nil
}

func writeNote(path string, daemons []process) error {
	var f noteFile
	for _, p := range daemons {
		f.Daemons = append(f.Daemons, noteProc(p))
	}
	b, err := json.Marshal(f)
	if err != nil {
		return fmt.Errorf("write the note of an open start: %w", err)
	}
	// Renamed into place: a note cut short would keep the next driver from coming up.
	if err := os.WriteFile(path+".new", b, 0o600); err != nil {
		return fmt.Errorf("write the note of an open start: %w", err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		return fmt.Errorf("write the note of an open start: %w", err)
	}
	return nil
}

// clear removes the note: the outcome is known. When the file can not be
// removed the note stays, which is safe.
func (n *startNote) clear() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if !n.set {
		return nil
	}
	if n.path != "" {
		if err := os.Remove(n.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove the note of an open start: %w", err)
		}
	}
	n.set, n.daemons = false, nil
	return nil
}

// get returns whether the note is set, and the daemons that have the call.
func (n *startNote) get() (bool, []process) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.set, n.daemons
}
