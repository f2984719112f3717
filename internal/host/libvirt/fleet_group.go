package libvirt

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"holdfast/internal/lib/proc"
)

// bare reports whether this host has no hypervisor, and may do without one: FleetOptions.Group.
// The socket of libvirtd is not there, and no emulator runs that an ended libvirtd has left.
func (f *Fleet) bare() (bool, error) {
	if f.opt.Group == nil {
		return false, nil
	}
	if _, err := os.Stat(f.opt.Socket); !errors.Is(err, fs.ErrNotExist) {
		return false, nil // an error of another kind is for the connection to tell
	}
	table := proc.Table(f.opt.ProcDir)
	pids, err := table.PIDs()
	if err != nil {
		return false, err
	}
	for _, pid := range pids {
		p, err := table.Read(pid)
		switch {
		case errors.Is(err, proc.ErrGone):
		case err != nil:
			return false, err
		case !p.Kernel && !p.Dead() && emulator(p.Name):
			return false, nil
		}
	}
	return true, nil
}

// emulator tells the programs of QEMU that run guests by their names: qemu-system-x86_64, qemu-kvm, kvm.
func emulator(name string) bool {
	return strings.HasPrefix(name, "qemu-system-") || name == "qemu-kvm" || name == "kvm"
}

// group appends what FleetOptions.Group lists.
func (f *Fleet) group(ctx context.Context, vms []VM) ([]VM, error) {
	if f.opt.Group == nil {
		return vms, nil
	}
	more, err := f.opt.Group(ctx)
	if err != nil {
		return nil, fmt.Errorf("list the guests: %w", err)
	}
	return append(vms, more...), nil
}
