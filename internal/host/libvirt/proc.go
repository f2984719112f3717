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
	"holdfast/internal/lib/proc"
)

// process is one, told from a later one with the same pid by its start time.
type process proc.ID

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
	gate gate
}

// guests returns the QEMU processes of the guest that are not dead. An error
// means that the answer is not complete. Reading a command line can hang while
// that process is stuck in the kernel, hence the context.
func (t *procTable) guests(ctx context.Context) ([]guestProc, error) {
	return bounded(ctx, t.gate, "read the process table", func() ([]guestProc, error) {
		var found []guestProc
		err := t.each(t.isGuest, func(p process, argv []string) {
			found = append(found, guestProc{process: p, epoch: epochOf(argv), incoming: slices.Contains(argv, "-incoming")})
		})
		return found, err
	})
}

// daemons returns the processes of libvirt's daemon.
func (t *procTable) daemons(ctx context.Context) ([]process, error) {
	return bounded(ctx, t.gate, "read the process table", func() ([]process, error) {
		var found []process
		err := t.each(isDaemon, func(p process, _ []string) { found = append(found, p) })
		return found, err
	})
}

func isDaemon(argv []string) bool {
	exe := filepath.Base(argv[0])
	return exe == "libvirtd" || exe == "virtqemud"
}

// each calls f for every live process whose command line is wanted.
func (t *procTable) each(wanted func(argv []string) bool, f func(process, []string)) error {
	pids, err := t.dir.PIDs()
	if err != nil {
		return err
	}
	for _, pid := range pids {
		argv, err := t.dir.Args(pid)
		if err != nil && !errors.Is(err, proc.ErrGone) {
			return err
		}
		if len(argv) == 0 || !wanted(argv) {
			continue
		}
		p, err := t.dir.Read(pid)
		if errors.Is(err, proc.ErrGone) {
			continue
		}
		if err != nil {
			return err
		}
		alive, err := t.alive(process(p.ID))
		if err != nil {
			return err
		}
		if alive {
			f(process(p.ID), argv)
		}
	}
	return nil
}

// alive reports whether exactly this process still exists. A zombie counts as
// gone only when all its threads have ended: until then one of them may be
// writing.
func (t *procTable) alive(p process) (bool, error) {
	alive, err := t.dir.Alive(proc.ID(p))
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
