package libvirt

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
	"holdfast/internal/procfs"
)

// proc is one process, told from a later one with the same pid by its start time.
type proc procfs.ID

// guestProc is a QEMU process of the guest, with what its command line tells.
type guestProc struct {
	proc
	epoch    cluster.Epoch // zero when it carries no token
	incoming bool          // it was started to receive a migration
}

// procTable reads a proc(5) file system.
type procTable struct {
	dir  procfs.Table
	uuid string // canonical, lower case
	name string
	gate gate
}

// guests returns the QEMU processes of the guest that are not dead. An error
// means that the answer is not complete. Reading a command line can hang while
// that process is stuck in the kernel, hence the context.
func (t *procTable) guests(ctx context.Context) ([]guestProc, error) {
	return bounded(ctx, t.gate, "read the process table", func() ([]guestProc, error) {
		var found []guestProc
		err := t.each(t.isGuest, func(p proc, argv []string) {
			found = append(found, guestProc{proc: p, epoch: epochOf(argv), incoming: slices.Contains(argv, "-incoming")})
		})
		return found, err
	})
}

// daemons returns the processes of libvirt's daemon.
func (t *procTable) daemons(ctx context.Context) ([]proc, error) {
	return bounded(ctx, t.gate, "read the process table", func() ([]proc, error) {
		var found []proc
		err := t.each(isDaemon, func(p proc, _ []string) { found = append(found, p) })
		return found, err
	})
}

func isDaemon(argv []string) bool {
	exe := filepath.Base(argv[0])
	return exe == "libvirtd" || exe == "virtqemud"
}

// each calls f for every live process whose command line is wanted.
func (t *procTable) each(wanted func(argv []string) bool, f func(proc, []string)) error {
	pids, err := t.dir.PIDs()
	if err != nil {
		return err
	}
	for _, pid := range pids {
		argv, err := t.dir.Args(pid)
		if err != nil && !errors.Is(err, procfs.ErrGone) {
			return err
		}
		if len(argv) == 0 || !wanted(argv) {
			continue
		}
		p, err := t.dir.Read(pid)
		if errors.Is(err, procfs.ErrGone) {
			continue
		}
		if err != nil {
			return err
		}
		alive, err := t.alive(proc(p.ID))
		if err != nil {
			return err
		}
		if alive {
			f(proc(p.ID), argv)
		}
	}
	return nil
}

// alive reports whether exactly this process still exists. A zombie counts as
// gone only when all its threads have ended: until then one of them may be
// writing.
func (t *procTable) alive(p proc) (bool, error) {
	alive, err := t.dir.Alive(procfs.ID(p))
	if err != nil {
		return false, fmt.Errorf("look for process %d: %w", p.PID, err)
	}
	return alive, nil
}

// isGuest tells whether argv is that of QEMU running our guest.
func (t *procTable) isGuest(argv []string) bool {
	exe := filepath.Base(argv[0])
	if !strings.Contains(exe, "qemu") && !strings.Contains(exe, "kvm") {
		return false
	}
	for i := 1; i+1 < len(argv); i++ {
		switch argv[i] {
		case "-uuid":
			if strings.EqualFold(argv[i+1], t.uuid) {
				return true
			}
		case "-name":
			// A comma of the name itself is written twice: "mnvm,x" is another guest.
			rest, ok := strings.CutPrefix(argv[i+1], "guest="+t.name)
			if ok && (rest == "" || rest[0] == ',' && !strings.HasPrefix(rest, ",,")) {
				return true
			}
		}
	}
	return false
}

// epochOf finds the epoch in the token on the command line.
func epochOf(argv []string) cluster.Epoch {
	for i := 1; i+1 < len(argv); i++ {
		if argv[i] != "-smbios" {
			continue
		}
		for part := range strings.SplitSeq(argv[i+1], ",") {
			v, ok := strings.CutPrefix(part, "value="+tokenPrefix)
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
