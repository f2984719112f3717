package steps

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"holdfast/internal/host/libvirt/pools"
	"holdfast/internal/upgrade"
)

// libvirt forgets a transient pool when it is stopped, and with a reboot. Its XML is
// kept in a file before, of which it is made again. The file stays until the pool is
// detached once more: a second reboot, by hand, costs the pool as well.

// storageFile is where the XML of a pool is kept, below a line about the job that
// has kept it.
func storageFile(dir, pool string) string { return filepath.Join(dir, url.PathEscape(pool)+".xml") }

// storageMark is that line, which XML allows.
func storageMark(job string) string { return "<?holdfast-job " + url.PathEscape(job) + "?>\n" }

// storageKeep keeps what a pool that is about to be stopped is made of when it is
// transient. What was kept of another one of its name goes.
func storageKeep(ctx context.Context, h PoolHost, dir, job string, p pools.Pool) error {
	file := storageFile(dir, p.Name)
	if !p.Transient {
		return hostRemove(file)
	}
	text, err := h.XML(ctx, p.Name)
	if err == nil {
		err = os.MkdirAll(dir, 0o700)
	}
	if err == nil {
		err = hostReplace(file, []byte(storageMark(job)+text), 0o600, nil)
	}
	if err != nil {
		return fmt.Errorf("keep what the transient pool %s is made of: %w", p.Name, err)
	}
	return nil
}

// storageKept reads it again, "" when nothing is kept. What another job has kept
// does not count: the pool may have been given up, or moved, since.
func storageKept(dir, job, pool string) (string, error) {
	text, err := os.ReadFile(storageFile(dir, pool))
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("read what the transient pool %s is made of: %w", pool, err)
	}
	if out, ok := strings.CutPrefix(string(text), storageMark(job)); ok {
		return out, nil
	}
	return "", nil
}

// create makes a transient pool anew. An error: it is to be tried again.
func (a *storageAttaching) create(ctx context.Context, want upgrade.StoragePool) error {
	text, err := storageKept(a.dir, a.task.Job, want.Name)
	switch {
	case err != nil:
		return err
	case text == "":
		return fmt.Errorf("libvirt has no pool %s any more: define it, or create it, then retry this step", want.Name)
	}
	multi, changed := text, false
	if want.Multipath && !a.settled[want.Name] {
		multi, changed, err = a.host.MultipathXML(text)
		if err != nil && time.Now().Before(a.until) {
			return err
		}
		if err != nil {
			fmt.Fprintf(a.task.Log, "WARN pool %s stays on a single path: %v\n", want.Name, err)
			multi, changed = text, false
		}
	}
	switch err = a.host.Create(ctx, multi); {
	case err == nil && changed:
		fmt.Fprintf(a.task.Log, "pool %s: uses the multipath device now\n", want.Name)
	case err == nil:
	case !changed || ctx.Err() != nil || time.Now().Before(a.until):
		return err
	default: // better a single path than none
		if again := a.host.Create(ctx, text); again != nil {
			return errors.Join(err, again)
		}
		a.single[want.Name] = storageStays(want.Name, "a multipath device", err)
	}
	a.settled[want.Name] = true
	return nil
}

// renew stops a transient pool that somebody has made with the host, so that it is
// made anew on the multipath device, when it has a single path and there is such a
// device. An error: it is to be tried again.
func (a *storageAttaching) renew(ctx context.Context, p pools.Pool) error {
	if p.Paths == 1 && p.Mapper == "" {
		fmt.Fprintf(a.task.Log, "WARN pool %s stays on a single path: no multipath device is over its disk\n", p.Name)
	}
	if p.Paths != 1 || p.Mapper == "" {
		a.settled[p.Name] = true
		return nil
	}
	err := storageKeep(ctx, a.host, a.dir, a.task.Job, p)
	if err == nil {
		err = a.host.Stop(ctx, p.Name)
	}
	if err == nil || ctx.Err() != nil {
		return err
	}
	a.single[p.Name], a.settled[p.Name] = storageStays(p.Name, p.Mapper, err), true
	return nil
}

// storageStays is the error of a pool that stays on a single path without need.
func storageStays(pool, mapper string, err error) error {
	return fmt.Errorf("pool %s stays on a single path although %s is there: %w: see to it that nothing uses the "+
		"pool, then retry this step, or skip it", pool, mapper, err)
}
