package libvirt

import (
	"context"
	"errors"

	"holdfast/internal/lib/proc"
)

// awaitEnd wakes the driver's user when the process has ended. It returns then,
// or when the driver is closed.
func (d *Driver) awaitEnd(p process) {
	defer d.poke()
	h, err := d.procs.dir.Open(proc.ID(p))
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
	return t.dir.Kill(ctx, proc.ID(p))
}
