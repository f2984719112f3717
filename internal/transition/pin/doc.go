// Package pin plans how the traffic of an Open vSwitch bridge goes on while whoever programs the
// bridge deletes its flows and writes them anew: a copy of all flows and groups in spare tables, with
// one entry per port in table 0 above everything else. (docs/adr/0059)
//
// It is pure: it reads what ovs-ofctl prints and writes the lines of an OpenFlow bundle. The
// sequence of looking, applying and reading back is in the folder bridge.
package pin

import (
	"fmt"
	"time"
)

// Cookie is on all flows of a pin: "holdfast" in ASCII.
const Cookie uint64 = 0x686f6c6466617374

// EntryPriority is that of the flows in table 0 that lead to the copy, the highest there is.
const EntryPriority = 65535

// Tables are 0 to LastTable; 254 is used by Open vSwitch itself, and 255 stands for any.
const LastTable = 253

// Groups of a pin have the ids FirstGroup to LastGroup. They are recognised by that alone, as
// groups have no cookie.
const (
	FirstGroup uint32 = 0x686f0000
	LastGroup  uint32 = 0x686fffff
)

// How long a pin may hold. OpenFlow counts it in whole seconds, in 16 bits.
const (
	MinFor     = 10 * time.Second
	MaxFor     = 4 * time.Hour
	DefaultFor = 5 * time.Minute
)

// copyLonger is how many seconds the copy outlives its entries, so that no entry ever leads to
// tables that are empty already.
const copyLonger = 10

// Dump is what a bridge has.
type Dump struct {
	Flows  []Flow
	Groups []Group
	Ports  []Port
}

// Port is a port of a bridge.
type Port struct {
	Number string `json:"number"` // as ovs-ofctl prints it: 1 to 65279, or LOCAL
	Name   string `json:"name"`
}

// Read reads what `ovs-ofctl --no-names dump-flows`, `dump-groups` and `dump-ports-desc` print.
// Errors name the line that is not understood.
func Read(flows, groups, ports string) (Dump, error) {
	var d Dump
	var err error
	if d.Flows, err = ParseFlows(flows); err != nil {
		return d, fmt.Errorf("dump-flows: %w", err)
	}
	if d.Groups, err = ParseGroups(groups); err != nil {
		return d, fmt.Errorf("dump-groups: %w", err)
	}
	if d.Ports, err = ParsePorts(ports); err != nil {
		return d, fmt.Errorf("dump-ports-desc: %w", err)
	}
	return d, nil
}

// Ours are the flows of a pin.
func (d Dump) Ours() []Flow { return d.flows(true) }

// Theirs are the flows of everybody else.
func (d Dump) Theirs() []Flow { return d.flows(false) }

func (d Dump) flows(ours bool) []Flow {
	var out []Flow
	for _, f := range d.Flows {
		if (f.Cookie == Cookie) == ours {
			out = append(out, f)
		}
	}
	return out
}

// Entries counts the flows of a pin that lead to its copy: a bridge is pinned while it has one.
func (d Dump) Entries() (n int) {
	for _, f := range d.Flows {
		if f.entry() {
			n++
		}
	}
	return n
}

// Left is how long the entries of a pin still hold, to the second; 0: there are none.
func (d Dump) Left() time.Duration {
	for _, f := range d.Flows {
		if f.entry() {
			return max(0, time.Duration(f.Hard)*time.Second-f.Age).Round(time.Second)
		}
	}
	return 0
}

func (f Flow) entry() bool {
	return f.Cookie == Cookie && f.Table == 0 && f.Priority == EntryPriority
}

// Order is what an operator asks of a bridge.
type Order struct {
	Bridge string
	For    time.Duration // how long a pin holds
	DryRun bool          // only plan
	Force  bool          // end a pin although flows are missing
}

// Result is what became of an order.
type Result struct {
	Bridge  string   `json:"bridge"`
	Pinned  bool     `json:"pinned"`
	Ports   int      `json:"ports"`             // entries in table 0
	Flows   int      `json:"flows"`             // copied
	Groups  int      `json:"groups"`            // copied
	Left    int      `json:"seconds_left"`      // until the entries end by themselves
	Removed int      `json:"removed,omitempty"` // flows of a pin that were taken away
	Damage  *Damage  `json:"damage,omitempty"`  // of a pin from which somebody had taken flows away
	Notes   []string `json:"notes,omitempty"`
	Plan    []string `json:"plan,omitempty"` // the lines of the bundle, when only planned
}
