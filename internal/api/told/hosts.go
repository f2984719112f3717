package told

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"holdfast/internal/cluster"
)

// Hosts are those of a status, by name; never nil.
func Hosts(s cluster.Status) []cluster.HostStatus {
	hosts := slices.Clone(s.Hosts)
	slices.SortFunc(hosts, func(x, y cluster.HostStatus) int { return cmp.Compare(x.Name, y.Name) })
	if hosts == nil {
		hosts = []cluster.HostStatus{}
	}
	return hosts
}

// How much is known of a host.
const (
	Active  = "active"
	Cut     = "cut"     // it is the one that answers, without a quorum
	Unknown = "unknown" // its record was read, and may be as old as the one before
	Silent  = "silent"
)

// HostState says how much is known of a host.
func HostState(s cluster.Status, h cluster.HostStatus) string {
	switch {
	case cutOff(s, h):
		return Cut
	case h.Alive:
		return Active
	case h.Expelled.IsZero() && h.Silent < s.Timings.Lease:
		return Unknown
	}
	return Silent
}

// cutOff reports whether a host is the one that answers, and does not reach the store: it knows itself all the same.
func cutOff(s cluster.Status, h cluster.HostStatus) bool { return h.Name == s.Self && !s.Connected }

// InMaintenance reports whether a host is in maintenance.
func InMaintenance(s cluster.Status, h cluster.HostID) bool {
	return slices.Contains(s.Want.Maintenance, h)
}

// row is a host's line of the table.
func row(s cluster.Status, h cluster.HostStatus) []Cell {
	now := HostState(s, h)
	state := map[string]Cell{Active: {"alive", Good}, Cut: {"cut " + Ago(h.Silent), Bad},
		Unknown: {"unknown", Warn}, Silent: {"silent " + Ago(h.Silent), Bad}}[now]
	role := "member"
	if h.Coordinator {
		role = "coord"
	}
	guest := Cell{Or(h.Guest, "unknown"), Plain}
	switch {
	case !h.Alive && !h.Expelled.IsZero():
		guest.Text = "stopped"
	case h.Guest == cluster.GuestRunning:
		guest.Tone = Good
	}
	dog, guard := Cell{Or(h.Watchdog, "unnamed"), Plain}, Secs(h.Guard)
	switch {
	case h.HandsOff:
		dog, guard = Cell{"disarmed", Warn}, "-"
	case h.Guard == 0:
		dog, guard = Cell{"none", Bad}, "-"
	}
	able := Cell{"yes", Plain}
	switch {
	case !h.Fit && !h.Alive && now != Cut:
		able = Cell{"-", Plain}
	case !h.Fit || now == Cut: // it starts nothing without a quorum
		able = Cell{"no", Bad}
	case InMaintenance(s, h.Name):
		able = Cell{"no", Warn}
	}
	return []Cell{{Clean(h.Name), Plain}, {Clean(h.Addr), Plain}, state, {role, Plain}, guest, dog, {guard, Plain}, able}
}

// AddrWidth is what every IPv4 address fits; a longer address may be cut in a table and is said in full below it.
const AddrWidth = 15

// notes are what is to be said of a host beside the table.
func notes(s cluster.Status, h cluster.HostStatus) []Line {
	var out []Line
	add := func(tone Tone, format string, args ...any) {
		out = append(out, Line{"", tone, fmt.Sprintf(format, args...)})
	}
	name := Clean(h.Name)
	if h.Unhealthy != "" {
		add(Bad, "%s: %s", name, Clean(h.Unhealthy))
	}
	if len(h.Addr) > AddrWidth {
		add(Plain, "%s: address %s", name, Clean(h.Addr))
	}
	if !h.Fit && (h.Alive || cutOff(s, h)) || h.Why != "" {
		add(Warn, "%s: %s", name, Or(h.Why, "not able to run it; its agent gives no reason"))
	}
	if InMaintenance(s, h.Name) {
		add(Warn, "%s: in maintenance, no guest is started or moved there; end it by: holdfast host enable %s", name, name)
	}
	if h.Alive && h.Vote != "" && h.Vote != cluster.Votes && h.Vote != cluster.NoMember {
		add(Warn, "%s: %s", name, Clean(h.Vote))
	}
	switch {
	case h.Fenced != "":
		add(Warn, "%s: switched off by a fence device in epoch %s; power it on", name, h.Expelled)
	case !h.Expelled.IsZero():
		add(Warn, "%s: what it ran before the takeover to epoch %s is proved stopped; it takes part again when it has "+
			"nothing of it", name, h.Expelled)
	}
	return out
}

// memory tells between which hosts the guest's memory travels encrypted. Where none has certificates for it, there is
// nothing to tell apart.
func memory(hosts []cluster.HostStatus) []Line {
	var without []string
	for _, h := range hosts {
		if !h.MigrateTLS {
			without = append(without, Clean(h.Name))
		}
	}
	switch {
	case len(without) == len(hosts):
		return nil
	case len(without) == 0:
		return []Line{{"memory", Plain, "by TLS between all hosts"}}
	}
	return []Line{{"memory", Warn, "in clear to and from " + strings.Join(without, ", ") + ", by TLS between the others"}}
}

// IfNotOff says what a wrong word leads to that a host is off.
func IfNotOff(h cluster.HostID, pair bool) string {
	if pair {
		return fmt.Sprintf("If host %s is not off, both nodes will serve at once, and writes are lost.", Clean(h))
	}
	return fmt.Sprintf("If host %s is not off, two hosts will write to one disk.", Clean(h))
}
