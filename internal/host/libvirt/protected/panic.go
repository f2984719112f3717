package protected

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"golang.org/x/sys/unix"

	"holdfast/internal/cluster"
	"holdfast/internal/host/libvirt"
	"holdfast/internal/lib/domainxml"
)

// What becomes of a guest whose kernel panics (it tells by the pvpanic device):
//
//   - destroy: libvirt ends its process, so it is soon observed absent.
//   - coredump: libvirt first writes its memory into auto_dump_path of qemu.conf,
//     /var/lib/libvirt/qemu/dump unless set. While that takes, it is observed paused.
//     When the dump fails, libvirt 9.0 does not end the process at all. So where
//     there is no room for a dump at the start, destroy is taken instead, and the
//     log says so. Old dumps are never removed.
//   - preserve: its process stays, its CPUs stand still: it is observed paused,
//     and the log says why. Kill ends it.
const (
	panicDestroy  = "destroy"
	panicCoredump = "coredump"
	panicPreserve = "preserve"
)

// onCrash is libvirt's word for a policy.
func onCrash(policy string) (string, error) {
	switch policy {
	case "", panicDestroy:
		return "destroy", nil
	case panicCoredump:
		return "coredump-destroy", nil
	case panicPreserve:
		return "preserve", nil
	}
	return "", fmt.Errorf("panic policy %q: want %s, %s or %s", policy, panicDestroy, panicCoredump, panicPreserve)
}

// dumpMore is what a dump may take over the guest's memory: its devices' state
// and video memory.
const dumpMore = 64 << 20

// panicPolicy returns the policy that can be kept on this host. A dump that is
// not possible must not keep the guest from running.
func (d *Driver) panicPolicy(ctx context.Context, spec cluster.GuestSpec) string {
	if spec.OnPanic != panicCoredump {
		return spec.OnPanic
	}
	memory := spec.MemoryMiB
	if dom, err := domainxml.Parse(spec.Domain); err == nil {
		memory = dom.MemoryMiB()
	}
	if err := d.dumpRoom(ctx, uint64(memory)<<20+dumpMore); err != nil {
		d.log.Warn("a panic of the guest will leave no core dump", "err", err)
		return panicDestroy
	}
	return panicCoredump
}

// dumpRoom makes sure that a dump of so many bytes finds room.
func (d *Driver) dumpRoom(ctx context.Context, need uint64) error {
	dir, err := libvirt.ConfValue(filepath.Join(d.opt.ConfDir, "qemu.conf"), "auto_dump_path")
	if err != nil {
		return err
	}
	if dir == "" {
		dir = d.opt.DumpDir
	}
	free, err := libvirt.Bounded(ctx, d.files, "look for room for a core dump", func() (uint64, error) { return freeBytes(dir) })
	if err != nil {
		return err
	}
	if free < need {
		return fmt.Errorf("%s has %d MiB free, a dump may need %d MiB", dir, free>>20, need>>20)
	}
	return nil
}

// freeBytes is the room in a directory; libvirt makes it when it does not exist.
func freeBytes(dir string) (uint64, error) {
	for {
		var st unix.Statfs_t
		err := unix.Statfs(dir, &st)
		switch {
		case err == nil:
			return st.Bavail * uint64(st.Bsize), nil
		case !errors.Is(err, fs.ErrNotExist) || dir == filepath.Dir(dir):
			return 0, fmt.Errorf("%s: %w", dir, err)
		}
		dir = filepath.Dir(dir)
	}
}
