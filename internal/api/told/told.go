// Package told says a status in words: what a terminal and the console show of it, line by line, is the same. It decides
// nothing; texts of hosts and people are cleaned, and whole texts are English until they are shown.
package told

import (
	"fmt"
	"strings"

	"holdfast/internal/cluster"
	"holdfast/internal/cluster/reason"
)

// Tone says how a text is meant.
type Tone int

// Tones.
const (
	Plain Tone = iota
	Good
	Warn
	Bad
)

// Line is a text with what it is about. The label is "" where it goes on.
type Line struct {
	Label string
	Tone  Tone
	Text  string
}

// Cell is a field of a table.
type Cell struct {
	Text string
	Tone Tone
}

// Host is a row of the table of hosts.
type Host struct {
	Name  cluster.HostID
	Cells []Cell // as Heads
	Notes []Line // what is to be said of it beside them
}

// Report is a status in words.
type Report struct {
	Cluster, Store Line
	Heads          []string
	Hosts          []Host
	Notes          []Line // on hosts, one after the other, and on all of them
	Kept           Line   // the management VM, or the services of a pair
	Why            []Line // it is so
	Takeover       Line   // what the loss of its host would mean, or means
	Rest           []Line // what is wanted and waited for
}

// Unread reports that no record of the store has been read yet: nothing is known, also not that nobody has it.
func Unread(s cluster.Status) bool { return !s.Connected && s.Owner.State == "" && len(s.Hosts) == 0 }

// Status says a status in words. tr translates the few words that stand inside a sentence; nil: it does not.
func Status(s cluster.Status, tr func(string) string) Report {
	if tr == nil {
		tr = func(s string) string { return s }
	}
	r := Report{
		Cluster: Line{"cluster", Plain, fmt.Sprintf("%s, seen from %s at %s", Or(s.Cluster, "(no id)"),
			Or(s.Self, "(no name)"), WallClock(s.Time))},
		Heads: []string{"HOST", "ADDRESS", "STATE", "ROLE", KeptHead(s.OfPair()), "WATCHDOG", "G", "ABLE"},
	}
	if s.Connected {
		r.Store = Line{"store", Plain, "connected, " + coordinator(s)}
	} else {
		age := "; what follows may be old"
		if o := Old(s); o != "" {
			age = fmt.Sprintf("; what follows is %s old", o)
		}
		r.Store = Line{"store", Bad, "no quorum: " + Or(s.StoreError, "not connected") + age}
	}
	hosts := Hosts(s)
	for _, h := range hosts {
		n := notes(s, h)
		r.Hosts = append(r.Hosts, Host{h.Name, row(s, h), n})
		r.Notes = append(r.Notes, n...)
	}
	r.Notes = append(r.Notes, memory(hosts)...)
	unread := Unread(s)
	r.Kept = keptLine(s, tr)
	r.Takeover = Takeover(s.Takeover, unread, silentHolder(s))
	if why := reason.Said(s.Owner.Reason, reason.Reason{Code: s.Owner.ReasonCode.Code, Args: s.Owner.ReasonCode.Args.Named()}); why != "" {
		r.Why = append(r.Why, Line{"reason", Plain, Clean(why)})
	}
	if s.Owner.Proof.Kind != cluster.ProofNone {
		r.Why = append(r.Why, Line{"proof", Plain, proof(s.Owner.Proof, tr)})
	}
	if !unread {
		r.Rest = append(r.Rest, want(s))
	}
	if len(s.Pending) > 0 {
		r.Rest = append(r.Rest, Line{"restart", Warn,
			"takes effect at the next start of the management VM: " + Clean(strings.Join(s.Pending, ", "))})
	}
	if s.Waiting != "" {
		r.Rest = append(r.Rest, Line{"waiting", Warn, Clean(s.Waiting)})
	}
	return r
}
