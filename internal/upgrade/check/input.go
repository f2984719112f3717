package check

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/cluster/version"
	"holdfast/internal/inventory"
	"holdfast/internal/inventory/fact"
	"holdfast/internal/inventory/manifest"
)

// When says at which point of an upgrade a check runs.
type When string

// Points of an upgrade.
const (
	Before  When = "before"  // before anything is begun
	Between When = "between" // hosts are about to be worked on or rebooted
	After   When = "after"   // all hosts are done
)

// Input is what checks look at. It is not changed.
type Input struct {
	When      When // empty: Before
	Manifest  *manifest.Manifest
	Inventory *inventory.Inventory
	Mode      manifest.Mode  // of the run: Rolling, Offline or Reboot; empty: Rolling
	Committed bool           // the upgrade is: its version is that of the hosts
	Back      bool           // the upgrade is rolled back: hosts that are done have From again
	Stay      bool           // guests stay on their hosts, unless these are rebooted
	From      string         // version before the upgrade; empty: the inventory's
	Scheme    version.Scheme // of the versions; empty: found out
	Facts     map[cluster.HostID]*fact.Facts
	Now       time.Time
	Policy    inventory.Policy            // for VMs that can not move live and have none of their own; empty: PolicyAsk
	Policies  map[string]inventory.Policy // by name of the VM; before its own
	Confirmed []string                    // rules whose condition an operator says is met
	HABefore  *bool                       // the platform's HA was on before the upgrade; nil: not known
	Store     *Quorum                     // of Holdfast's own store; nil: not asked
	Next      []cluster.HostID            // Between: hosts that are rebooted next
	Done      []cluster.HostID            // Between: hosts that are upgraded already
	Left      []cluster.HostID            // hosts that are left out of the upgrade
	Pin       []string                    // bridges that are to be pinned while their host is worked on
	Limits    Limits
}

// Quorum is how a group of voters stands.
type Quorum struct {
	Voters  int // 0: not known
	Healthy int
	Why     string // it is not known
}

// Limits of the checks. Zero values stand for the defaults.
type Limits struct {
	Skew      time.Duration // of clocks between hosts; 1 s
	BackupAge time.Duration // 24 h
	FactsAge  time.Duration // 1 h
	Threshold int           // O2CB heartbeat threshold; 61 = (120 s / 2 s) + 1
}

// O2CBThreshold is the heartbeat threshold for a time after which a host fences
// itself: a beat each 2 s, and the one that begins.
func O2CBThreshold(fence time.Duration) int { return int(fence/(2*time.Second)) + 1 }

func (l Limits) filled() Limits {
	if l.Skew == 0 {
		l.Skew = time.Second
	}
	if l.BackupAge == 0 {
		l.BackupAge = 24 * time.Hour
	}
	if l.FactsAge == 0 {
		l.FactsAge = time.Hour
	}
	if l.Threshold == 0 {
		l.Threshold = O2CBThreshold(120 * time.Second)
	}
	return l
}

// scene is an Input with what the checks look up again and again.
type scene struct {
	Input
	man *manifest.Manifest
	inv *inventory.Inventory
	vms map[cluster.HostID][]*inventory.VM // by host
	why map[cluster.HostID]string          // it has told nothing; Facts does not have it then
}

func newScene(in Input) *scene {
	s := &scene{Input: in, man: in.Manifest, inv: in.Inventory, vms: map[cluster.HostID][]*inventory.VM{}, why: map[cluster.HostID]string{}}
	if s.man == nil {
		s.man = &manifest.Manifest{}
	}
	if s.inv == nil {
		s.inv = &inventory.Inventory{}
	}
	if s.When == "" {
		s.When = Before
	}
	if s.Mode == "" {
		s.Mode = manifest.Rolling
	}
	if s.From == "" {
		s.From = s.inv.Version
	}
	if s.Scheme == "" {
		s.Scheme = detect(s.From, s.man)
	}
	s.Limits = in.Limits.filled()
	s.Facts = make(map[cluster.HostID]*fact.Facts, len(in.Facts))
	for h, f := range in.Facts {
		if f == nil {
			continue
		}
		if why, nothing := f.Unknown[fact.Nothing]; nothing {
			s.why[h] = why
		} else {
			s.Facts[h] = f
		}
	}
	for i := range s.inv.VMs {
		vm := &s.inv.VMs[i]
		s.vms[vm.Host] = append(s.vms[vm.Host], vm)
	}
	return s
}

// detect returns the first scheme that reads the installed version and all
// patterns of the bundle, "" when there is none. 2.0 may be of any scheme, so that
// of CAS needs one E number.
func detect(from string, m *manifest.Manifest) version.Scheme {
	release := func(v string) bool {
		x, err := version.Parse(version.CAS, v)
		return err == nil && !x.IsFamily()
	}
	for _, s := range version.Schemes() {
		_, err := version.Parse(s, from)
		ok := err == nil && (s != version.CAS || release(from) || release(m.Version))
		for _, p := range patterns(m) {
			if _, err := version.ParsePattern(s, p); err != nil {
				ok = false
			}
		}
		if ok {
			return s
		}
	}
	return ""
}

func patterns(m *manifest.Manifest) []string {
	ps := slices.Clone(m.Mixed)
	if m.FromRule == "" {
		for _, f := range m.UpgradeFrom {
			ps = append(ps, f.Version)
		}
	}
	return ps
}

// up calls f with each host that is not down, with its facts; nil: it has told
// nothing, which the check "facts" reports.
func (s *scene) up(f func(h *inventory.Host, facts *fact.Facts)) {
	for i := range s.inv.Hosts {
		if h := &s.inv.Hosts[i]; !h.Down {
			f(h, s.Facts[h.Name])
		}
	}
}

// told calls f with each host that is up and has told its facts.
func (s *scene) told(f func(h *inventory.Host, facts *fact.Facts)) {
	s.up(func(h *inventory.Host, facts *fact.Facts) {
		if facts != nil {
			f(h, facts)
		}
	})
}

// version returns the installed version of a host. Of one that is done, or that was left out of
// an upgrade, only its own word counts: the inventory may know what it had before. "": not known.
func (s *scene) version(h *inventory.Host) string {
	if f := s.Facts[h.Name]; f != nil && f.Version != "" && f.Unknown["version"] == "" {
		return f.Version
	}
	if s.Committed && s.done(h.Name) && !h.Unread {
		return s.to()
	}
	if s.done(h.Name) || h.Unread {
		return ""
	}
	if h.Version != "" {
		return h.Version
	}
	return s.inv.Version
}

// kernels returns the kernel that runs and the one that a reboot would start, "":
// not known.
func (s *scene) kernels(h *inventory.Host) (running, next string) {
	if f := s.Facts[h.Name]; f != nil && f.Unknown["kernel"] == "" && f.Kernel.Running != "" {
		return f.Kernel.Running, f.Kernel.Next
	}
	return h.Kernel, h.NextKernel
}

// to returns the version that hosts have when they are done.
func (s *scene) to() string {
	if s.Back {
		return s.From
	}
	return s.man.Version
}

// kernel returns the one that hosts must run when they are done, "": any.
func (s *scene) kernel() string {
	if s.Back {
		return "" // each its own, which its plan verifies
	}
	return s.man.Kernel
}

// empties reports whether hosts are emptied before they are worked on.
func (s *scene) empties() bool {
	return s.Mode != manifest.Offline && (s.man.RequiresReboot || !s.Stay)
}

// done reports whether a host must have the new version already.
func (s *scene) done(h cluster.HostID) bool {
	return s.When == After && !slices.Contains(s.Left, h) || s.When == Between && slices.Contains(s.Done, h)
}

// onHost is a finding about a host.
func onHost(h cluster.HostID, l Level, remedy, format string, args ...any) Finding {
	return Finding{Scope: ScopeHost, Where: string(h), Host: h, Level: l, Text: fmt.Sprintf(format, args...), Remedy: remedy}
}

// inCluster is a finding about the cluster.
func inCluster(l Level, remedy, format string, args ...any) Finding {
	return Finding{Scope: ScopeCluster, Level: l, Text: fmt.Sprintf(format, args...), Remedy: remedy}
}

// notKnown is a finding about a fact that a host could not tell; ok is false when
// it could.
func notKnown(h cluster.HostID, f *fact.Facts, fact string, l Level) (Finding, bool) {
	why, ok := f.Unknown[fact]
	if !ok {
		return Finding{}, false
	}
	return onHost(h, l, "find the reason on the host, then repeat the check", "can not tell %s: %s", factName(fact), why), true
}

// factName names a fact for people, by its name in Facts.Unknown.
func factName(fact string) string {
	return cmp.Or(map[string]string{
		"os": "its operating system", "version": "the installed version", "space": "the free space for bundles",
		"commands": "which commands it has", "python": "which modules Python has", "config": "the parameters of configuration files",
		"status": "the status of the product", "ha": "whether the platform's HA is on", "replication": "how the replication is",
		"lastBackup": "when the last backup was made", "kernel": "the kernel", "clock": "whether its clock is right",
		"o2cb": "the O2CB heartbeat threshold", "iscsi": "the iSCSI sessions", "fc": "the Fibre Channel ports", "maps": "the multipath devices",
		"mounts": "the mounted cluster file systems", "guests": "the addresses of its guests",
		"bridges": "the bridges of Open vSwitch", "met": "whether it has what modules need",
	}[fact], fact)
}

// keys returns the keys of a map, sorted.
func keys[K ~string, V any](m map[K]V) []K { return slices.Sorted(maps.Keys(m)) }

const shownNames = 10

// Names lists words for a text, not more than a few.
func Names[T ~string](ws []T) string {
	var b strings.Builder
	for i, w := range ws {
		if i == shownNames {
			fmt.Fprintf(&b, " and %d more", len(ws)-i)
			break
		}
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(string(w))
	}
	return b.String()
}
