package check

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"holdfast/internal/cluster"
)

// Level says how bad a finding is.
type Level string

// Levels. Fail stops an upgrade, Warn and Info do not.
const (
	OK   Level = "ok"
	Info Level = "info"
	Warn Level = "warn"
	Fail Level = "fail"
)

// Levels lists all levels, the worst first.
func Levels() []Level { return []Level{Fail, Warn, Info, OK} }

func (l Level) rank() int { return slices.Index(Levels(), l) }

// Scope says what a finding is about.
type Scope string

// Scopes. Finding.Where names which one of them.
const (
	ScopeCluster Scope = "cluster"
	ScopeGroup   Scope = "group"
	ScopeHost    Scope = "host"
	ScopeVM      Scope = "vm"
	ScopePool    Scope = "pool"
)

func (s Scope) rank() int {
	return slices.Index([]Scope{ScopeCluster, ScopeGroup, ScopeHost, ScopePool, ScopeVM}, s)
}

// Finding is one thing that a check says.
type Finding struct {
	Check  string         `json:"check"` // id of the check
	Scope  Scope          `json:"scope"`
	Where  string         `json:"where,omitempty"` // name of the group, host, VM or pool; "" for the cluster
	Host   cluster.HostID `json:"host,omitempty"`  // on which it is, for hosts, VMs and pools
	Level  Level          `json:"level"`
	Text   string         `json:"text"`             // what was found
	Remedy string         `json:"remedy,omitempty"` // what to do about it
}

// Sort orders findings: the worst first, then the widest scope, then by names.
func Sort(fs []Finding) {
	slices.SortStableFunc(fs, func(a, b Finding) int {
		return cmp.Or(
			a.Level.rank()-b.Level.rank(),
			a.Scope.rank()-b.Scope.rank(),
			cmp.Compare(a.Host, b.Host),
			cmp.Compare(a.Where, b.Where),
			cmp.Compare(a.Check, b.Check),
			cmp.Compare(a.Text, b.Text),
		)
	})
}

// Count tells how many findings of each level there are.
func Count(fs []Finding) map[Level]int {
	n := map[Level]int{}
	for _, f := range fs {
		n[f.Level]++
	}
	return n
}

// Worst returns the worst level among findings, OK when there are none.
func Worst(fs []Finding) Level {
	w := OK
	for _, f := range fs {
		if f.Level.rank() < w.rank() {
			w = f.Level
		}
	}
	return w
}

// Report is what a round of checks has found.
type Report struct {
	Title    string    `json:"title"` // for people; empty: by When
	When     When      `json:"when"`
	Cluster  string    `json:"cluster,omitempty"`
	From     string    `json:"from,omitempty"` // version before the upgrade
	To       string    `json:"to,omitempty"`   // version of the bundle
	Bundle   string    `json:"bundle,omitempty"`
	Unsigned bool      `json:"unsigned,omitempty"` // the bundle has no signature
	Began    time.Time `json:"began"`
	Ended    time.Time `json:"ended"` // its location is the one in which times are shown
	Hosts    []HostRow `json:"hosts"` // that were looked at
	Findings []Finding `json:"findings"`
	Losses   []Loss    `json:"losses,omitempty"` // of packets, per guest, during the upgrade
	State    string    `json:"state,omitempty"`  // of the cluster after a run: normal, rollup, prepared...
	Steps    *Steps    `json:"steps,omitempty"`  // of the run; nil: there was none
	Failures []Failure `json:"failures,omitempty"`
}

// HostRow is a host of a report.
type HostRow struct {
	Name    cluster.HostID `json:"name"`
	Group   string         `json:"group,omitempty"`
	Local   bool           `json:"local,omitempty"` // the one that made the report
	Version string         `json:"version,omitempty"`
	Kernel  string         `json:"kernel,omitempty"`
	Note    string         `json:"note,omitempty"` // for people: rebooted, left out, rolled back...
}

// Loss is what a guest's probe has lost during the upgrade.
type Loss struct {
	Guest     string `json:"guest"`
	Sent      int64  `json:"sent"`      // packets
	Lost      int64  `json:"lost"`      // packets
	LongestMS int64  `json:"longestMs"` // longest time without an answer, ms

	UnwatchedMS int64  `json:"unwatchedMs,omitempty"` // of the run, in which nobody pinged it, ms
	Note        string `json:"note,omitempty"`        // why there is little to tell
}

// title names a report that has no title of its own.
func (r *Report) title() string {
	if r.Title != "" {
		return r.Title
	}
	verb := r.verb()
	return strings.ToUpper(verb[:1]) + verb[1:]
}

// verb is what was done: pre-check, check or post-check.
func (r *Report) verb() string {
	switch r.When {
	case Before:
		return "pre-check"
	case After:
		return "post-check"
	default:
		return "check"
	}
}

// Rows makes the rows of a report from an inventory and what the hosts have told.
func Rows(in Input, local cluster.HostID) []HostRow {
	s := newScene(in)
	var rows []HostRow
	for i := range s.inv.Hosts {
		h := &s.inv.Hosts[i]
		r := HostRow{Name: h.Name, Group: h.Group, Local: h.Name == local, Version: s.version(h)}
		r.Kernel, _ = s.kernels(h)
		switch {
		case h.Down:
			r.Note = "down"
		case h.Maintenance:
			r.Note = "in maintenance"
		}
		if h.Unread && r.Version == "" {
			unread := "version unknown, " + orUnknown(cmp.Or(h.Version, s.inv.Version)) + " before an upgrade"
			if r.Note != "" {
				unread += ", " + r.Note
			}
			r.Note = unread
		}
		rows = append(rows, r)
	}
	return rows
}

// byLevel puts the worst first and keeps the order otherwise.
func byLevel[T any](xs []T, level func(T) Level) {
	slices.SortStableFunc(xs, func(a, b T) int { return level(a).rank() - level(b).rank() })
}
