package guests

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"

	golibvirt "github.com/digitalocean/go-libvirt"
	"libvirt.org/go/libvirtxml"

	"holdfast/internal/host/libvirt"
	"holdfast/internal/lib/proc"
)

// Node is what the host has for guests.
type Node struct {
	Hostname    string
	MemoryMiB   int64 // of the host
	GuestMiB    int64 // of that, for guests: less the reserve
	FreeMiB     int64 // free just now
	CPUs        int   // logical ones that are on
	Arch        string
	CPUModel    string // the nearest that libvirt knows
	CPUVendor   string
	CPUFeatures []string // that the CPU has beyond its model, sorted
	Libvirt     string   // version
	Hypervisor  string   // version of QEMU
}

// Node tells what the host has; nothing where it needs no hypervisor and has none.
func (f *Fleet) Node(ctx context.Context) (Node, error) {
	var n Node
	if bare, err := f.bare(); err != nil || bare {
		return n, err
	}
	var caps string
	err := f.client.Ask(ctx, "ask for the host", func(l *golibvirt.Libvirt) error {
		_, memory, cpus, _, _, _, _, _, err := l.NodeGetInfo()
		if err != nil {
			return err
		}
		n.MemoryMiB, n.CPUs = int64(memory>>10), int(cpus)
		free, err := l.NodeGetFreeMemory()
		if err != nil {
			return err
		}
		n.FreeMiB = int64(free >> 20)
		if n.Hostname, err = l.ConnectGetHostname(); err != nil {
			return err
		}
		lib, err := l.ConnectGetLibVersion()
		if err != nil {
			return err
		}
		qemu, err := l.ConnectGetVersion()
		if err != nil {
			return err
		}
		n.Libvirt, n.Hypervisor = version(lib), version(qemu)
		caps, err = l.ConnectGetCapabilities()
		return err
	})
	if err != nil {
		return Node{}, fmt.Errorf("look at the host: %w", libvirt.OneLine(err))
	}
	var c libvirtxml.Caps
	if err := c.Unmarshal(caps); err != nil {
		return Node{}, fmt.Errorf("read the host's capabilities: %w", err)
	}
	if cpu := c.Host.CPU; cpu != nil {
		n.Arch, n.CPUModel, n.CPUVendor = cpu.Arch, cpu.Model, cpu.Vendor
		for _, x := range cpu.FeatureFlags {
			n.CPUFeatures = append(n.CPUFeatures, x.Name)
		}
		slices.Sort(n.CPUFeatures)
	}
	n.GuestMiB = max(0, n.MemoryMiB-f.reserve(n.MemoryMiB))
	return n, nil
}

// defaultReserve of memory for the host, MiB.
const defaultReserve = 2048

func (f *Fleet) reserve(total int64) int64 {
	if f.opt.ReserveMiB > 0 {
		return f.opt.ReserveMiB
	}
	return min(defaultReserve, total/4)
}

// bare reports whether this host has no hypervisor, and may do without one: Options.Group.
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

// group appends what Options.Group lists.
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
