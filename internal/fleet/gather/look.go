// Package gather looks at this host for its report: guests, pools, hardware, networks and engines of
// databases. It decides nothing.
package gather

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"holdfast/internal/cluster"
	"holdfast/internal/host/libvirt/guests"
	"holdfast/internal/host/libvirt/pools"
	"holdfast/internal/inventory"
	"holdfast/internal/inventory/report"
	"holdfast/internal/job"
	"holdfast/internal/lib/clock"
	"holdfast/internal/lib/database"
)

// nodeFor is how long what the hardware offers is taken as known.
const nodeFor = 5 * time.Minute

// The memory that guests change is measured so often, for so long. QEMU samples some pages;
// the first time leaves guests in peace that start with the host.
const (
	measureEvery  = 10 * time.Minute
	measureWithin = time.Second
)

// Looker looks at this host.
type Looker struct {
	Fleet         *guests.Fleet
	Host          cluster.HostID
	Install       string // random id of the installation
	Boot          string // boot id
	Addr          string // of this host's libvirtd
	API           string // of the agent, "" when it is not served over TLS
	Agent         string // version of the agent
	Member        bool   // the host runs a member of the store
	Group         string // of hosts, among which its guests move
	InMaintenance func() bool
	Bundles       func() ([]string, error)
	Log           *slog.Logger
	// Certificates are those of this host; nil: it has none.
	Certificates func() []inventory.Certificate
	Waits        func(uuid string) string // why a guest that has come here does not run; "": nothing is known. nil: as ""

	mu     sync.Mutex
	node   guests.Node
	nodeAt time.Time
}

// Measure measures now and then how much memory guests change, until ctx ends. Look tells it.
// While the host is emptied, libvirtd lets nobody measure the guests that move.
func (l *Looker) Measure(ctx context.Context) {
	for clock.Sleep(ctx, measureEvery) {
		if l.InMaintenance() {
			continue
		}
		if _, err := l.Fleet.MeasureDirty(ctx, measureWithin); err != nil && ctx.Err() == nil {
			l.Log.Debug("the memory that guests change is not measured", "err", err)
		}
	}
}

// Look gives the host's record. With an error, it holds what could be found out.
func (l *Looker) Look(ctx context.Context) (report.Record, error) {
	r := report.Record{
		Host: inventory.Host{Name: l.Host, Group: l.Group, Boot: l.Boot, Install: l.Install,
			Maintenance: l.InMaintenance(), Kernel: Kernel(), Member: l.Member},
		Addr: l.Addr, API: l.API, Agent: l.Agent, Generation: job.Generation, CarriesLive: true, MigrateTLS: l.Fleet.MigrationSecurity().TLS,
	}
	var aerr, berr error
	r.Addrs, r.Links, aerr = addresses("/sys/class/net")
	engines, eerr := database.List("/opt")
	for _, e := range engines {
		r.Host.Engines = append(r.Host.Engines, inventory.Engine(e))
	}
	r.Bundles, berr = l.Bundles()
	node, nerr := l.hardware(ctx)
	// vCPUs are not bounded by the processors: hypervisors share them out.
	r.Host.MemoryMiB, r.Host.CPUModel = node.GuestMiB, node.CPUModel
	vms, verr := l.Fleet.List(ctx)
	r.Unobservable = verr != nil
	for _, vm := range vms {
		r.VMs = append(r.VMs, l.vm(vm))
	}
	all, perr := l.Fleet.Pools().List(ctx)
	r.Host.Pools = toldPools(all)
	if l.Certificates != nil {
		r.Certificates = l.Certificates()
	}
	return r, errors.Join(nerr, verr, perr, aerr, berr, eerr)
}

func (l *Looker) vm(v guests.VM) inventory.VM {
	if v.Protected {
		v.Fixed = nil // the agents make what it has on each host, its seed, themselves
	}
	halted := v.Halted()
	if l.Waits != nil {
		v.Busy = cmp.Or(l.Waits(v.UUID), v.Busy)
	}
	return inventory.VM{
		Name: v.Name, UUID: v.UUID, Host: l.Host, MemoryMiB: v.MemoryMiB, CPUs: v.VCPUs, Running: v.State != guests.VMOff,
		Dirty: v.Dirty, System: v.System, Fixed: v.Fixed, Busy: v.Busy, Halted: halted, Protected: v.Protected,
	}
}

func toldPools(pools []pools.Pool) (out []inventory.Pool) {
	for _, p := range pools {
		out = append(out, inventory.Pool{Name: p.Name, Kind: p.Kind, Shared: p.Shared, Paths: p.Paths, Active: p.Active, Transient: p.Transient})
	}
	return out
}

// hardware asks now and then: its answer is long and changes with the hardware.
func (l *Looker) hardware(ctx context.Context) (guests.Node, error) {
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

// addresses are the host's own, but for those that are good on this host only, and what
// their networks carry, MiB/s, where the kernel knows it (sys is /sys/class/net).
func addresses(sys string) (out []string, links map[string]int64, err error) {
	cards, err := net.Interfaces()
	links = map[string]int64{}
	for _, card := range cards {
		all, aerr := card.Addrs()
		err = errors.Join(err, aerr)
		for _, a := range all {
			if n, ok := a.(*net.IPNet); ok && n.IP.IsGlobalUnicast() {
				out = append(out, n.IP.String())
				if rate := carries(filepath.Join(sys, card.Name, "speed")); rate > 0 {
					links[n.IP.String()] = rate
				}
			}
		}
	}
	if err != nil {
		return nil, nil, fmt.Errorf("list the host's addresses: %w", err)
	}
	slices.Sort(out)
	return out, links, nil
}

// carries reads the speed of a card, Mbit/s, and returns what of it is left for data, MiB/s;
// 0 where the kernel does not know it, as of cards of virtual machines.
func carries(file string) int64 {
	text, err := os.ReadFile(file)
	if err != nil {
		return 0
	}
	speed, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
	if err != nil || speed < 0 {
		return 0
	}
	return speed * 11 / 100 // of 1,000 Mbit/s, 110 MiB/s
}

// Kernel is the release that runs.
func Kernel() string {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return "" // it fails for a bad address only
	}
	return strings.TrimRight(string(u.Release[:]), "\x00")
}
