package fleet

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"holdfast/internal/cluster"
	"holdfast/internal/host/libvirt"
	"holdfast/internal/upgrade"
)

// nodeFor is how long what the hardware offers is taken as known.
const nodeFor = 5 * time.Minute

// Looker looks at this host.
type Looker struct {
	Fleet   *libvirt.Fleet
	Host    cluster.HostID
	Install string // random id of the installation
	Boot    string // boot id
	Addr    string // of this host's libvirtd
	API     string // of the agent, "" when it is not served over TLS
	Agent   string // version of the agent
	Rests   func() bool

	mu     sync.Mutex
	node   libvirt.Node
	nodeAt time.Time
}

// Look gives the host's record. With an error, it holds what could be found out.
func (l *Looker) Look(ctx context.Context) (Record, error) {
	r := Record{
		Host: upgrade.Host{Name: l.Host, Boot: l.Boot, Install: l.Install, Maintenance: l.Rests(), Kernel: kernel()},
		Addr: l.Addr, API: l.API, Agent: l.Agent,
	}
	node, nerr := l.hardware(ctx)
	r.Host.MemoryMiB, r.Host.CPUs, r.Host.CPUModel = node.GuestMiB, node.CPUs, node.CPUModel
	vms, verr := l.Fleet.List(ctx)
	for _, vm := range vms {
		r.VMs = append(r.VMs, l.vm(vm))
	}
	pools, perr := l.Fleet.Pools(ctx)
	for _, p := range pools {
		r.Host.Pools = append(r.Host.Pools, upgrade.Pool{Name: p.Name, Kind: p.Kind, Shared: p.Shared, Paths: p.Paths, Active: p.Active})
	}
	return r, errors.Join(nerr, verr, perr)
}

func (l *Looker) vm(v libvirt.VM) upgrade.VM {
	return upgrade.VM{
		Name: v.Name, UUID: v.UUID, Host: l.Host, MemoryMiB: v.MemoryMiB, CPUs: v.VCPUs, Running: v.State != libvirt.VMOff,
		Dirty: v.Dirty, System: v.System, Fixed: v.Fixed, Busy: v.Busy, Protected: v.Protected,
	}
}

// hardware asks now and then: its answer is long and changes with the hardware.
func (l *Looker) hardware(ctx context.Context) (libvirt.Node, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if time.Since(l.nodeAt) < nodeFor {
		return l.node, nil
	}
	node, err := l.Fleet.Node(ctx)
	if err != nil {
		return l.node, fmt.Errorf("ask what the host has: %w", err)
	}
	l.node, l.nodeAt = node, time.Now()
	return node, nil
}

// kernel is the release that runs.
func kernel() string {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return "" // it fails for a bad address only
	}
	return strings.TrimRight(string(u.Release[:]), "\x00")
}
