package engine

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/inventory"
	"holdfast/internal/inventory/manifest"
	"holdfast/internal/upgrade"
)

// plant is a model of a platform that is upgraded: what is on its hosts and where
// its guests are. It outlives agents, and goes on by itself: programs run to their
// end and guests finish to move whatever becomes of the agent that began it.
type plant struct {
	mu       sync.Mutex
	manifest *manifest.Manifest
	plan     *upgrade.Plan // that is carried out
	job      string
	plantState
	kids    map[string]*kid  // programs, by step
	effects map[string]int   // of the job that runs, by step
	moving  map[string]*trip // guests on their way
	bad     []string         // what must not happen, and did
}

// plantState is what a platform is like between two jobs.
type plantState struct {
	Version   string // of the cluster
	Committed bool
	HA        bool
	Active    cluster.HostID // of the pair
	Guests    map[string]*plantGuest
	Hosts     map[cluster.HostID]*plantHost
	Modules   map[string]*plantModule // by HOST/MODULE, /MODULE what is there once
	Backups   map[string]string       // by HOST/MODULE: the run that made it
	Restored  map[string]string       // by HOST/MODULE: the job that did
	FailsOn   cluster.HostID          // where the post-check of module base fails
}

type plantGuest struct {
	Host  cluster.HostID
	Runs  bool
	Stops int
	VM    inventory.VM
}

type plantHost struct {
	Kernel, Next string // that runs, and that starts next
	Rests        bool   // takes no guests
	Pair         bool   // the hot-standby services are healthy
	Pools        map[string]bool
	Multipath    map[string]bool
	Staged       bool
	Threshold    int
	Mark         rebootOrder
}

// rebootOrder is kept before a reboot is ordered.
type rebootOrder struct {
	Job, Step, Boot string
	Attempt         int
	At              time.Time
}

type plantModule struct {
	Version string
	Runs    bool
}

// kid is a program that was begun for a step.
type kid struct {
	attempt int
	owed    int // until that attempt nobody was told how it ended
	state   string
	over    chan struct{}
}

// trip is a guest on its way.
type trip struct {
	to   cluster.HostID
	cold bool
	over chan struct{} // arrived, or stays
}

const (
	plantOld    = "E0218H06"
	plantNew    = "E0306"
	kernelOld   = "4.1.0"
	kernelNew   = "4.14.0"
	plantMemory = 24 << 10 // of a host, MiB
	guestMemory = 4 << 10
	template    = "templates" // names of pools
	shared      = "shared"
	local       = "local"

	rebootTakes    = 1200 * time.Millisecond
	rebootPatience = 3 * time.Second // after an order, before nobody can tell whether it will be obeyed
)

// plantHosts are the hosts: h1 coordinates in the beginning, m1 and m2 are a pair.
func plantHosts() []cluster.HostID { return []cluster.HostID{"h1", "h2", "m1", "m2"} }

// plantBundle has three modules: one that a provider backs up and restores, whose
// programs outlive agents and leave traces; one whose actions are done once in the
// cluster and can not be told afterwards; and one whose actions may be repeated.
func plantBundle() *manifest.Manifest {
	traced := func() *manifest.Action { return &manifest.Action{Run: []string{"do"}} }
	once := func() *manifest.Action { return &manifest.Action{Run: []string{"do"}, Once: true} }
	again := func() *manifest.Action { return &manifest.Action{Run: []string{"do"}, Idempotent: true} }
	return &manifest.Manifest{
		Name: "platform", Version: plantNew, RequiresReboot: true, Kernel: kernelNew,
		UpgradeFrom: []manifest.Source{{Version: "E02*", Modes: []manifest.Mode{manifest.Offline, manifest.Rolling}}},
		Modules: []manifest.Module{
			{Name: "base", Actions: manifest.Actions{Stop: traced(), Install: traced(), Start: traced(), PostCheck: traced()}},
			{Name: "schema", RunsOn: "manager", After: []string{"base"}, CanRollback: true, Actions: manifest.Actions{
				PreCheck: once(), Backup: once(), Install: once(), Rollback: once(), Commit: once(),
			}},
			{Name: "web", After: []string{"schema"}, CanRollback: true, Actions: manifest.Actions{
				Stop: again(), Backup: again(), Install: again(), Start: again(), Rollback: again(), Commit: again(),
			}},
		},
	}
}

func newPlant() *plant {
	s := plantState{
		Version: plantOld, HA: true, Active: "m1", Guests: map[string]*plantGuest{}, Hosts: map[cluster.HostID]*plantHost{},
		Modules: map[string]*plantModule{"/schema": {Version: plantOld, Runs: true}}, Backups: map[string]string{}, Restored: map[string]string{},
	}
	for i, h := range plantHosts() {
		s.Hosts[h] = &plantHost{
			Kernel: kernelOld, Next: kernelOld, Pair: h[0] == 'm', Multipath: map[string]bool{},
			Pools: map[string]bool{template: true, shared: true, local: true}, Threshold: 31,
		}
		for _, m := range []string{"base", "web"} {
			s.Modules[string(h)+"/"+m] = &plantModule{Version: plantOld, Runs: true}
		}
		for k := range 2 {
			name := fmt.Sprintf("g%d", 2*i+k+1)
			s.Guests[name] = &plantGuest{Host: h, Runs: true,
				VM: inventory.VM{Name: name, UUID: "uuid-" + name, MemoryMiB: guestMemory, Running: true}}
		}
	}
	s.Guests["g1"].VM.Protected = true
	s.Guests["g4"].VM.Fixed, s.Guests["g4"].VM.Policy = []string{"host device"}, inventory.PolicyStop
	s.Guests["g6"].VM.Fixed, s.Guests["g6"].VM.Policy = []string{"local disk"}, inventory.PolicyCold
	return plantOf(s)
}

// plantOf is a plant that begins in a state, of which it has a copy.
func plantOf(s plantState) *plant {
	text, err := json.Marshal(s)
	p := &plant{manifest: plantBundle()}
	if err == nil {
		err = json.Unmarshal(text, &p.plantState)
	}
	if err != nil {
		panic(err)
	}
	return p
}

// begin forgets what the last job has left in memory.
func (p *plant) begin(plan *upgrade.Plan, job string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.plan, p.job = plan, job
	p.kids, p.effects, p.moving = map[string]*kid{}, map[string]int{}, map[string]*trip{}
}

func (p *plant) fault(format string, args ...any) {
	p.bad = append(p.bad, fmt.Sprintf(format, args...))
}

// inventory is what the agents would report, with what people know.
func (p *plant) inventory() inventory.Inventory {
	p.mu.Lock()
	defer p.mu.Unlock()
	inv := inventory.Inventory{
		Cluster: "c", Version: p.Version,
		HA: &inventory.Switch{Off: []string{"/ha", "off"}, On: []string{"/ha", "on"}, Status: []string{"/ha", "status"}},
		Pair: &inventory.Pair{Nodes: []cluster.HostID{"m1", "m2"}, Active: p.Active,
			Switch: []string{"/pair", "switch"}, Stop: []string{"/pair", "stop"}, Start: []string{"/pair", "start"},
			Status: []string{"/pair", "status"}},
		Backups: map[string]inventory.BackupPlan{"trees": {Provider: "files", Settings: json.RawMessage(`{"paths":["/opt/base"]}`)}},
	}
	for _, name := range plantHosts() {
		h := p.Hosts[name]
		roles := []inventory.Role{inventory.RoleHost}
		if name[0] == 'm' {
			roles = append(roles, inventory.RoleManager)
		}
		x := inventory.Host{
			Name: name, Roles: roles, MemoryMiB: plantMemory, Version: p.Modules[string(name)+"/base"].Version,
			Kernel: h.Kernel, Install: "i-" + string(name),
			Maintenance: h.Rests, Member: name != "m2",
		}
		for _, pool := range []inventory.Pool{{Name: template, Kind: "nfs", Use: "template"},
			{Name: shared, Kind: "ocfs2", Shared: true, Paths: 1}, {Name: local, Kind: "dir"}} {
			pool.Active = h.Pools[pool.Name]
			if h.Multipath[pool.Name] {
				pool.Paths = 2
			}
			x.Pools = append(x.Pools, pool)
		}
		inv.Hosts = append(inv.Hosts, x)
	}
	for _, name := range slices.Sorted(maps.Keys(p.Guests)) {
		g := p.Guests[name]
		v := g.VM
		v.Host, v.Running = g.Host, g.Runs
		inv.VMs = append(inv.VMs, v)
	}
	return inv
}

// look says what is wrong with the platform. All hosts but mixed, which may be
// between two versions, must have one version with all that belongs to it: this one,
// or "" for any.
func (p *plant) look(version string, mixed []cluster.HostID) (out []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	out = append(out, p.bad...)
	say := func(format string, args ...any) { out = append(out, fmt.Sprintf(format, args...)) }
	if !p.HA {
		say("HA is off")
	}
	for _, name := range slices.Sorted(maps.Keys(p.Guests)) {
		if g := p.Guests[name]; !g.Runs {
			say("guest %s does not run", name)
		}
	}
	for name, h := range p.Hosts {
		between := slices.Contains(mixed, name)
		for pool, on := range h.Pools {
			if !on {
				say("%s: pool %s is detached", name, pool)
			}
		}
		if name[0] == 'm' && !h.Pair {
			say("%s: the services of the pair do not run", name)
		}
		if between {
			continue
		}
		want := version
		if want == "" {
			want = p.Modules[string(name)+"/base"].Version
		}
		if h.Rests {
			say("%s takes no guests", name)
		}
		for _, m := range []string{"base", "web"} {
			if x := p.Modules[string(name)+"/"+m]; x.Version != want || !x.Runs {
				say("%s: module %s has version %s (runs: %v), want %s", name, m, x.Version, x.Runs, want)
			}
		}
		kernel := map[string]string{plantOld: kernelOld, plantNew: kernelNew}[want]
		if h.Kernel != kernel || h.Next != kernel {
			say("%s runs kernel %s, next is %s, want %s", name, h.Kernel, h.Next, kernel)
		}
	}
	if s := p.Modules["/schema"]; version != "" && s.Version != version {
		say("module schema has version %s, want %s", s.Version, version)
	}
	slices.Sort(out)
	return out
}

// stops says which guests were stopped more often than allowed.
func (p *plant) stops(allowed func(g *plantGuest) int) (out []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, name := range slices.Sorted(maps.Keys(p.Guests)) {
		if g := p.Guests[name]; g.Stops > allowed(g) {
			out = append(out, fmt.Sprintf("guest %s was stopped %d times, at most %d is right", name, g.Stops, allowed(g)))
		}
	}
	return out
}

// What happens on the platform. The callers hold mu.

// send lets a guest begin to move. It arrives by itself.
func (p *plant) send(vm string, to cluster.HostID, cold bool) {
	g := p.Guests[vm]
	if p.moving[vm] != nil || !g.Runs {
		p.fault("guest %s is sent to %s while it runs (%v) or moves (%v)", vm, to, g.Runs, p.moving[vm] != nil)
	}
	t := &trip{to, cold, make(chan struct{})}
	p.moving[vm] = t
	if cold {
		g.Runs = false
		g.Stops++
	}
	time.AfterFunc(150*time.Millisecond, func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.moving[vm] != t {
			return // it was stopped
		}
		delete(p.moving, vm)
		close(t.over)
		g.Host, g.Runs = to, true
		p.arrived(vm, to)
	})
}

func (p *plant) arrived(vm string, at cluster.HostID) {
	h, n := p.Hosts[at], 0
	for _, g := range p.Guests {
		if g.Host == at {
			n++
		}
	}
	switch {
	case h.Rests:
		p.fault("guest %s comes to %s, which takes no guests", vm, at)
	case !h.Pools[shared] || !h.Pools[template]:
		p.fault("guest %s comes to %s, which is without storage", vm, at)
	case n*guestMemory > plantMemory:
		p.fault("guest %s comes to %s, which has no memory for it", vm, at)
	}
}

// stay stops the move of a guest.
func (p *plant) stay(vm string) {
	if t := p.moving[vm]; t != nil {
		delete(p.moving, vm)
		close(t.over)
		p.Guests[vm].Runs = true
	}
}

// running are the guests that run on a host.
func (p *plant) running(h cluster.HostID) (out []string) {
	for _, name := range slices.Sorted(maps.Keys(p.Guests)) {
		if g := p.Guests[name]; g.Host == h && g.Runs {
			out = append(out, name)
		}
	}
	return out
}

// restarts lets a host go down and come back.
func (p *plant) restarts(name cluster.HostID) {
	h := p.Hosts[name]
	for _, vm := range p.running(name) {
		p.fault("%s is rebooted while guest %s runs there", name, vm)
		p.Guests[vm].Runs = false
		p.Guests[vm].Stops++
	}
	for vm, t := range p.moving {
		if t.to == name {
			p.fault("%s is rebooted while guest %s comes there", name, vm)
		}
	}
	if h.Pools[template] || h.Pools[shared] {
		p.fault("%s is rebooted with shared storage", name)
	}
	if mode := p.plan.Options.Mode; mode != manifest.Offline && p.Active == name {
		p.fault("%s is rebooted and is the active manager", name)
	}
	p.withoutHA("a reboot of " + string(name))
	h.Kernel, h.Pair = h.Next, false
	for step, k := range p.kids {
		if strings.HasPrefix(step, string(name)+"/") && k.state == "runs" {
			k.state = "gone"
			close(k.over)
		}
	}
}

// withoutHA wants HA off, where the mode says so.
func (p *plant) withoutHA(what string) {
	if p.HA && p.plan.Options.Mode != manifest.Rolling {
		p.fault("%s while HA is on", what)
	}
}

// backUp makes a backup. One of the new version is worth nothing.
func (p *plant) backUp(key, run string) {
	if v := p.Modules[key].Version; v != plantOld {
		p.fault("%s is backed up by run %s while it has version %s", key, run, v)
	}
	p.Backups[key] = run
}

// acts is the effect of a module's action on a host.
func (p *plant) acts(h cluster.HostID, a upgrade.ActionArgs) {
	mod := p.manifest.Module(a.Module)
	key := string(h) + "/" + a.Module
	if do := mod.Actions.Get(a.Phase); do != nil && do.Once { // nil: a restore
		key = "/" + a.Module
	}
	m := p.Modules[key]
	change := func(version, kernel string) {
		if m.Runs && mod.Actions.Stop != nil {
			p.fault("%s: %s of %s while it runs", h, a.Phase, a.Module)
		}
		if made := p.Backups[key]; made == "" || made != a.Run {
			p.fault("%s: %s of %s with the backup of run %q, which has one of %q", h, a.Phase, a.Module, a.Run, made)
		}
		m.Version = version
		if a.Module == "base" {
			p.Hosts[h].Next = kernel
		}
	}
	if !p.Hosts[h].Staged && p.plan.Purpose != upgrade.ForCommit {
		p.fault("%s: %s of %s without its bundle", h, a.Phase, a.Module)
	}
	switch a.Phase {
	case manifest.Stop:
		p.withoutHA("stop of " + key)
		m.Runs = false
	case manifest.Backup:
		p.backUp(key, a.Run)
	case manifest.Install:
		change(a.To, kernelNew)
	case manifest.Rollback:
		change(a.From, kernelOld)
	case manifest.Start:
		m.Runs = true
	case manifest.PostCheck:
		if !m.Runs {
			p.fault("%s: %s of %s, which does not run", h, a.Phase, a.Module)
		}
	case manifest.Commit:
		if !p.Committed {
			p.fault("%s: %s of %s before the version is raised", h, a.Phase, a.Module)
		}
	}
}
