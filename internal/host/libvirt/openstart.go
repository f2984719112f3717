package libvirt

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

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
		return errors.New("no process of libvirtd was seen when the start was asked for: restart the host, or remove that note by hand when nothing can start the guest any more")
	}
	d.log.Warn("libvirtd is ended, which has not answered a call to start the guest: nothing else proves that it will not be carried out", "processes", fmt.Sprint(daemons))
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
	err := t.each(isDaemon, func(p process, _ []string) {
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
