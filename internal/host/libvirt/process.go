package libvirt

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"holdfast/internal/lib/proc"
)

// Process is a process of QEMU that runs a guest.
type Process struct {
	proc.ID
	Args []string // its command line
}

// Processes returns the QEMU processes of a guest that are not dead. An error means
// that the answer is not complete. Reading a command line can hang while that
// process is stuck in the kernel, hence the context and the gate.
func Processes(ctx context.Context, g Gate, table proc.Table, uuid, name string) ([]Process, error) {
	return Bounded(ctx, g, "read the process table", func() ([]Process, error) {
		var found []Process
		guest := func(argv []string) bool { return runs(argv, uuid, name) }
		err := EachProcess(table, guest, func(p proc.ID, argv []string) {
			found = append(found, Process{p, argv})
		})
		return found, err
	})
}

// EachProcess calls f for every live process whose command line is wanted.
func EachProcess(table proc.Table, wanted func(argv []string) bool, f func(p proc.ID, argv []string)) error {
	pids, err := table.PIDs()
	if err != nil {
		return err
	}
	for _, pid := range pids {
		argv, err := table.Args(pid)
		if err != nil && !errors.Is(err, proc.ErrGone) {
			return err
		}
		if len(argv) == 0 || !wanted(argv) {
			continue
		}
		p, err := table.Read(pid)
		if errors.Is(err, proc.ErrGone) {
			continue
		}
		if err != nil {
			return err
		}
		alive, err := table.Alive(p.ID)
		if err != nil {
			return fmt.Errorf("look for process %d: %w", pid, err)
		}
		if alive {
			f(p.ID, argv)
		}
	}
	return nil
}

// runs tells whether argv is that of QEMU running a guest.
func runs(argv []string, uuid, name string) bool {
	exe := filepath.Base(argv[0])
	if !strings.Contains(exe, "qemu") && !strings.Contains(exe, "kvm") {
		return false
	}
	for i := 1; i+1 < len(argv); i++ {
		switch argv[i] {
		case "-uuid":
			if strings.EqualFold(argv[i+1], uuid) {
				return true
			}
		case "-name":
			// A comma of the name itself is written twice: "mnvm,x" is another guest.
			rest, ok := strings.CutPrefix(argv[i+1], "guest="+name)
			if ok && (rest == "" || rest[0] == ',' && !strings.HasPrefix(rest, ",,")) {
				return true
			}
		}
	}
	return false
}
