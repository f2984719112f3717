package protected

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"holdfast/internal/cluster"
	"holdfast/internal/host/libvirt"
	"holdfast/internal/lib/proc"
)

// process is one, told from a later one with the same pid by its start time.
type process = proc.ID

// guestProc is a QEMU process of the guest, with what its command line tells.
type guestProc struct {
	process
	epoch    cluster.Epoch // zero when it carries no token
	incoming bool          // it was started to receive a migration
}

// procTable reads a process(5) file system.
type procTable struct {
	dir  proc.Table
	uuid string // canonical, lower case
	name string
	gate libvirt.Gate
}

// guests returns the QEMU processes of the guest that are not dead. An error
// means that the answer is not complete.
func (t *procTable) guests(ctx context.Context) ([]guestProc, error) {
	all, err := libvirt.Processes(ctx, t.gate, t.dir, t.uuid, t.name)
	var found []guestProc
	for _, p := range all {
		incoming := slices.Contains(p.Args, "-incoming")
		found = append(found, guestProc{process: p.ID, epoch: epochOf(p.Args), incoming: incoming})
	}
	return found, err
}

// daemons returns the processes of libvirt's daemon.
func (t *procTable) daemons(ctx context.Context) ([]process, error) {
	return libvirt.Bounded(ctx, t.gate, "read the process table", func() ([]process, error) {
		var found []process
		err := libvirt.EachProcess(t.dir, isDaemon, func(p process, _ []string) { found = append(found, p) })
		return found, err
	})
}

func isDaemon(argv []string) bool {
	exe := filepath.Base(argv[0])
	return exe == "libvirtd" || exe == "virtqemud"
}

// alive reports whether exactly this process still exists. A zombie counts as
// gone only when all its threads have ended: until then one of them may be
// writing.
func (t *procTable) alive(p process) (bool, error) {
	alive, err := t.dir.Alive(p)
	if err != nil {
		return false, fmt.Errorf("look for process %d: %w", p.PID, err)
	}
	return alive, nil
}

// epochOf finds the epoch in the token on the command line.
func epochOf(argv []string) cluster.Epoch {
	for i := 1; i+1 < len(argv); i++ {
		if argv[i] != "-smbios" {
			continue
		}
		for part := range strings.SplitSeq(argv[i+1], ",") {
			v, ok := strings.CutPrefix(part, "value="+libvirt.TokenPrefix)
			if !ok {
				continue
			}
			if _, s, ok := strings.Cut(v, ":"); ok {
				if e, err := cluster.ParseEpoch(s); err == nil {
					return e
				}
			}
		}
	}
	return cluster.Epoch{}
}

// gone tells the errors of reading about a process that has ended.
func gone(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ESRCH)
}

// awaitEnd wakes the driver's user when the process has ended. It returns then,
// or when the driver is closed.
func (d *Driver) awaitEnd(p process) {
	defer d.poke()
	h, err := d.procs.dir.Open(p)
	if err != nil {
		if !errors.Is(err, proc.ErrGone) {
			d.log.Warn("the end of the guest's process is noticed by polling only", "pid", p.PID, "err", err)
		}
		return
	}
	defer h.Close()
	if !d.addWait(h) {
		return
	}
	defer d.dropWait(h)
	// Its only error is that Close closed the handle: then nobody waits for a wake.
	_ = h.Wait(context.Background())
}

func (d *Driver) addWait(h *proc.Handle) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.ended {
		d.waits[h] = struct{}{}
	}
	return !d.ended
}

func (d *Driver) dropWait(h *proc.Handle) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.waits, h)
}

// end kills one process and waits until it is gone, all its threads included.
func (t *procTable) end(ctx context.Context, p process) error {
	return t.dir.Kill(ctx, p)
}
