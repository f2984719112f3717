package upgrade

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/cluster/version"
	"holdfast/internal/inventory"
	"holdfast/internal/inventory/manifest"
)

// Options say how an operator wants an upgrade to go.
type Options struct {
	Mode           manifest.Mode `json:"mode"`                    // empty: the bundle's DefaultMode
	MaxUnavailable Limit         `json:"maxUnavailable,omitzero"` // hosts out of service at once; zero: 1
	// hosts that come first and must succeed before any other is begun
	Canary           int                         `json:"canary,omitempty"`
	PauseAfterWave   bool                        `json:"pauseAfterWave,omitempty"`
	FailureBudget    int                         `json:"failureBudget,omitempty"` // hosts that may fail before the run pauses
	Window           Window                      `json:"window,omitzero"`         // no new host is begun outside of it
	ApprovePerHost   bool                        `json:"approvePerHost,omitempty"`
	Targets          []cluster.HostID            `json:"targets,omitempty"`          // that may receive guests; none: all
	MigrationNetwork string                      `json:"migrationNetwork,omitempty"` // over which guests move, a CIDR
	ParallelPerHost  int                         `json:"parallelPerHost,omitempty"`  // migrations at once from one host; 0: 2
	ParallelTotal    int                         `json:"parallelTotal,omitempty"`    // migrations at once in the cluster; 0: 8
	MoveBack         bool                        `json:"moveBack,omitempty"`         // guests return to their host when it is done
	KeepGuests       bool                        `json:"keepGuests,omitempty"`       // rolling without a reboot: guests stay where they are
	Policies         map[string]inventory.Policy `json:"policies,omitempty"`         // by name of the VM, see PolicyOf
	DefaultPolicy    inventory.Policy            `json:"defaultPolicy,omitempty"`    // of VMs that can not move live and have none; empty: ask
	// these come first; the others as the inventory lists them
	Order []cluster.HostID `json:"order,omitempty"`
	Drop  []cluster.HostID `json:"drop,omitempty"`  // left out: neither changed nor receiving guests
	Last  cluster.HostID   `json:"last,omitempty"`  // the coordinator's host
	Probe bool             `json:"probe,omitempty"` // measure lost packets of guests for the whole run
	// packets; a host whose guests, one of them, lose as many while it is worked on has failed; 0: none; with Probe
	// only
	LossLimit int64 `json:"lossLimit,omitempty"`
	// Open vSwitch bridges that forward as before while a host is worked on; rolling with KeepGuests only
	Pin       []string          `json:"pin,omitempty"`
	Backup    map[string]string `json:"backup,omitempty"`    // provider by name of the module
	Confirmed []string          `json:"confirmed,omitempty"` // rules whose condition an operator says is met
	Run       string            `json:"run,omitempty"`       // the upgrade's id, by whoever submits it
	SHA256    string            `json:"sha256,omitempty"`    // of the bundle's file, by whoever submits it
}

// Limit is a number of hosts or a part of them.
type Limit struct {
	Count   int // hosts
	Percent int // of the hosts of the plan; counts when it is not 0
}

// Of returns the limit for n hosts, at least 1.
func (l Limit) Of(n int) int {
	if l.Percent > 0 {
		return max(1, n*l.Percent/100)
	}
	return max(1, l.Count)
}

// MarshalText writes 3 or 10%.
func (l Limit) MarshalText() ([]byte, error) {
	if l.Percent > 0 {
		return []byte(strconv.Itoa(l.Percent) + "%"), nil
	}
	return []byte(strconv.Itoa(l.Count)), nil
}

// UnmarshalText reads 3 or 10%.
func (l *Limit) UnmarshalText(text []byte) error {
	number, percent := strings.CutSuffix(string(text), "%")
	n, err := strconv.Atoi(number)
	if err != nil || n < 1 || percent && n > 100 {
		return fmt.Errorf("want a number of hosts such as 3, or a part of them from 1%% to 100%%")
	}
	*l = Limit{Count: n}
	if percent {
		*l = Limit{Percent: n}
	}
	return nil
}

// Window is a time of the day by the wall clock, from 0 to 1439 minutes after
// midnight. It may go over midnight. From and To alike is the whole day.
type Window struct{ From, To int }

const dayMinutes = 24 * 60

// Open reports whether t is in the window, in the zone of t.
func (w Window) Open(t time.Time) bool {
	at := t.Hour()*60 + t.Minute()
	switch {
	case w.From == w.To:
		return true
	case w.From < w.To:
		return w.From <= at && at < w.To
	}
	return at >= w.From || at < w.To
}

// String writes 22:00-05:30.
func (w Window) String() string {
	return fmt.Sprintf("%02d:%02d-%02d:%02d", w.From/60, w.From%60, w.To/60, w.To%60)
}

// MarshalText writes 22:00-05:30.
func (w Window) MarshalText() ([]byte, error) { return []byte(w.String()), nil }

// UnmarshalText reads 22:00-05:30.
func (w *Window) UnmarshalText(text []byte) error {
	from, to, ok := strings.Cut(string(text), "-")
	a, errA := time.Parse("15:04", from)
	b, errB := time.Parse("15:04", to)
	if !ok || errA != nil || errB != nil {
		return fmt.Errorf("want a time of the day such as 22:00-05:30")
	}
	*w = Window{a.Hour()*60 + a.Minute(), b.Hour()*60 + b.Minute()}
	return nil
}

// Defaults of Options.
const (
	defaultPerHost = 2
	defaultTotal   = 8
)

// fill puts defaults in place of nothing.
func (o *Options) fill() {
	if o.MaxUnavailable == (Limit{}) {
		o.MaxUnavailable = Limit{Count: 1}
	}
	if o.ParallelPerHost == 0 {
		o.ParallelPerHost = defaultPerHost
	}
	if o.ParallelTotal == 0 {
		o.ParallelTotal = defaultTotal
	}
	if o.DefaultPolicy == "" {
		o.DefaultPolicy = inventory.PolicyAsk
	}
}

// Check returns the first thing that makes no sense for the bundle and the inventory, so
// that nobody needs to be asked for more. What speaks against an upgrade that makes sense,
// Build finds.
func (o Options) Check(m *manifest.Manifest, inv *inventory.Inventory) error {
	o.fill()
	if err := o.checkNumbers(); err != nil {
		return err
	}
	if err := o.checkNames(inv); err != nil {
		return err
	}
	hosts := len(inv.Hosts) - len(o.Drop)
	o.Mode = cmp.Or(o.Mode, m.DefaultMode())
	switch {
	case !slices.Contains(manifest.Modes(), o.Mode):
		return fmt.Errorf("--mode %q: want rolling, offline or reboot", o.Mode)
	case fitsAllHosts(m, o.Mode) != nil:
		return fitsAllHosts(m, o.Mode)
	case o.Window != Window{} && o.Window.From == o.Window.To:
		return fmt.Errorf("--window %s: want two different times", o.Window)
	case o.Canary > hosts:
		return fmt.Errorf("--canary %d: want at most the %d hosts of the upgrade", o.Canary, hosts)
	}
	for _, module := range slices.Sorted(maps.Keys(o.Backup)) {
		by := o.Backup[module]
		_, known := providers()[by]
		_, described := inv.Backups[by]
		switch {
		case m.Module(module) == nil:
			return fmt.Errorf("--backup %s=%s: the bundle has no module of that name, only %s", module, by, strings.Join(moduleNames(m), ", "))
		case by != "" && !known && !described:
			return fmt.Errorf("--backup %s=%s: want one of the inventory's backups, or a provider: %s", module, by,
				strings.Join(slices.Sorted(maps.Keys(providers())), ", "))
		}
	}
	named := callable(inv.VMs)
	for _, vm := range slices.Sorted(maps.Keys(o.Policies)) {
		if p := o.Policies[vm]; !knownPolicy(p) {
			return fmt.Errorf("--policy %s=%s: want ask, stop, cold or skip", vm, p)
		}
		if !named[vm] {
			return fmt.Errorf("--policy %s=%s: no host reports a VM of that UUID, place (HOST/NAME) or name", vm, o.Policies[vm])
		}
	}
	return nil
}

// CheckVersion refuses an installed version, that of a field or flag, that is not written as that of the bundle. A
// bundle whose own version can not be read is for the plan to refuse.
func CheckVersion(m *manifest.Manifest, field, installed string) error {
	if _, err := version.Detect(m.Version); err != nil {
		return nil
	}
	if _, err := version.Detect(m.Version, installed); err != nil {
		return fmt.Errorf("%s %q: want one that is written as that of the bundle, %s", field, installed, m.Version)
	}
	return nil
}

func moduleNames(m *manifest.Manifest) (out []string) {
	for _, mod := range m.Modules {
		out = append(out, mod.Name)
	}
	return out
}

// checkNumbers returns the first thing that makes no sense whatever the cluster is.
func (o *Options) checkNumbers() error {
	for _, n := range []struct {
		flag  string
		value int
	}{
		{"canary", o.Canary}, {"failure-budget", o.FailureBudget}, {"parallel-per-host", o.ParallelPerHost},
		{"parallel-total", o.ParallelTotal}, {"max-unavailable", min(o.MaxUnavailable.Count, o.MaxUnavailable.Percent)},
	} {
		if n.value < 0 {
			return fmt.Errorf("--%s %d: want 0 or more", n.flag, n.value)
		}
	}
	if o.MaxUnavailable.Percent > 100 {
		return fmt.Errorf("--max-unavailable %d%%: want at most 100%%", o.MaxUnavailable.Percent)
	}
	if w := o.Window; min(w.From, w.To) < 0 || max(w.From, w.To) >= dayMinutes {
		return fmt.Errorf("--window %d to %d: want minutes after midnight, below %d", w.From, w.To, dayMinutes)
	}
	if p := o.DefaultPolicy; !knownPolicy(p) {
		return fmt.Errorf("--default-policy %q: want ask, stop, cold or skip", p)
	}
	return nil
}

// checkNames wants hosts that there are, each once in a list.
func (o *Options) checkNames(inv *inventory.Inventory) error {
	known := make(map[cluster.HostID]bool, len(inv.Hosts))
	for i := range inv.Hosts {
		known[inv.Hosts[i].Name] = true
	}
	for _, l := range []struct {
		flag string
		list []cluster.HostID
	}{{"order", o.Order}, {"drop", o.Drop}, {"target", o.Targets}, {"last", []cluster.HostID{o.Last}}} {
		for i, h := range l.list {
			if !known[h] && h != "" {
				return fmt.Errorf("--%s %q: want a host of the inventory: %s", l.flag, h, someHosts(inv))
			}
			if slices.Contains(l.list[:i], h) {
				return fmt.Errorf("--%s %q: want each host once", l.flag, h)
			}
		}
	}
	return nil
}

// someHosts names the hosts of the inventory, some of many.
func someHosts(inv *inventory.Inventory) string {
	const most = 10
	var names []string
	for i := range inv.Hosts[:min(len(inv.Hosts), most)] {
		names = append(names, string(inv.Hosts[i].Name))
	}
	out := strings.Join(names, ", ")
	if n := len(inv.Hosts) - most; n > 0 {
		out += fmt.Sprintf(" and %d more", n)
	}
	return out
}

func knownPolicy(p inventory.Policy) bool {
	return slices.Contains([]inventory.Policy{inventory.PolicyAsk, inventory.PolicyStop, inventory.PolicyCold, inventory.PolicySkip}, p)
}
