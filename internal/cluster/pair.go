package cluster

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// PairStatus is the state of a two-node pair, as its nodes have told the store.
type PairStatus struct {
	Time      time.Time  `json:"time"`
	Nodes     []PairNode `json:"nodes"`  // the two, as configured
	Voters    []PairHost `json:"voters"` // hosts that vote in the store and never run the group
	Set       bool       `json:"set"`    // the pair was set up: there is a record of its copies
	Owner     Owner      `json:"owner"`
	Want      Want       `json:"want"`
	InSync    []HostID   `json:"complete"`          // nodes whose copies have every acknowledged write
	Guarantee Guarantee  `json:"guarantee"`         // never two writers, and no acknowledged write is lost
	Takeover  Takeover   `json:"takeover"`          // whether the loss of the active node would be answered
	Waiting   string     `json:"waiting,omitempty"` // what the cluster waits for, in a sentence
	Arbiter   string     `json:"arbiter,omitempty"` // of two voters without a third: how they are, as the node that answers sees it
}

// Guarantee is what a pair promises by its arbiter.
type Guarantee string

// Guarantees.
const (
	Safe       Guarantee = "safe"        // a node runs the group only with proof that the other does not
	BestEffort Guarantee = "best effort" // two nodes that do not see each other may both run it
)

// PairHost is a host of a pair.
type PairHost struct {
	Host  HostID `json:"host"`
	Alive bool   `json:"alive"` // its agent has renewed within the lease
	Off   bool   `json:"off"`   // it is not alive, and a fence device has shown it off
}

// PeerStatus is what a node of a pair without a third voter says of itself to the other one
// (package arbiter).
type PeerStatus struct {
	Gen       uint64 `json:"gen"`     // generation of its store; 0: it has none
	From      uint64 `json:"from"`    // the generation that it was formed from; 0: it is the first
	Role      string `json:"role"`    // empty, joining, two, single
	WasActive bool   `json:"held"`    // who formed it had the group
	Won       bool   `json:"won"`     // it has won its generation, and forms the next
	Machine   string `json:"machine"` // UUID of its hardware, lower case; "": not known
	Whole     bool   `json:"whole"`   // both vote, and it could go on alone
	Keep      HostID `json:"keep"`    // the node whose data a person wants to keep, after both went on alone; "": nobody has said it
}

// PairNode is one of the two nodes.
type PairNode struct {
	PairHost
	PairReport
}

// PairReport is what a node tells of itself.
type PairReport struct {
	Time     time.Time     `json:"time"` // when it was written; it is written when it changes
	Role     string        `json:"role"` // of its copy: active, standby, off, unknown
	Linked   bool          `json:"linked"`
	Waits    bool          `json:"waits"` // active: commits are acknowledged when the standby has them, not before
	Fit      bool          `json:"fit"`   // its copy could be promoted now
	Why      string        `json:"why,omitempty"`
	Lag      time.Duration `json:"lag"` // standby: of what it has applied, whole seconds, ns
	LagKnown bool          `json:"lag_known"`
	Data     string        `json:"data"` // path of its copy
	Problem  string        `json:"problem,omitempty"`
	Outage   bool          `json:"outage,omitempty"`  // active: its clients can not use it, and Problem says why
	Lasting  bool          `json:"lasting,omitempty"` // Problem keeps the standby from having everything until a person ends it
	// what can be lost although the copy is whole: tables of engines without transactions, accounts that bypass
	// replication
	Weak    []string     `json:"weak,omitempty"`
	Members []PairMember `json:"members"`
	Times   PairTimes    `json:"times"`
	Copy    *PairCopy    `json:"copy,omitempty"` // of the other node's data, that is under way or was made last; nil: none
	// Compared is how this node's rows were to those of the other one; nil: it was never found out of this copy.
	Compared *PairCompared `json:"compared,omitempty"`
	// Partition is the file system beside the data; nil: there is none on the node.
	Partition *PairPartition `json:"partition,omitempty"`
}

// PairPartition is a node's copy of the file system beside the data of a pair.
type PairPartition struct {
	Name    string `json:"name"`
	Disk    string `json:"disk"`
	Mount   string `json:"mount"`             // directory where the active node has it
	State   string `json:"state"`             // checked, refused, making, ready, leaving
	Bytes   int64  `json:"bytes"`             // of the disk; 0: not known
	Role    string `json:"role"`              // active, standby, off, unknown
	Copy    string `json:"copy"`              // how the node's copy is, in DRBD's words: UpToDate, Inconsistent, ...
	Linked  bool   `json:"linked"`            // the other node's copy is connected, and both have the same
	Percent int    `json:"percent"`           // that both have in common; below 100 until they are the same
	Problem string `json:"problem,omitempty"` // what keeps the node from having it as it should be
}

// States of a PairPartition.
const (
	PartitionChecked = "checked" // the disk could be given to it; nothing was changed
	PartitionRefused = "refused" // the disk can not be given to it; nothing was changed
	PartitionMaking  = "making"  // the disk is made ready
	PartitionReady   = "ready"   // it is part of the group
	PartitionLeaving = "leaving" // it is taken away
)

// PartitionMount is above the directory of a partition for which none is named.
const PartitionMount = "/srv/"

// PartitionOrder asks for a partition.
type PartitionOrder struct {
	Name  string
	Disk  string // path of a block device, the same on both nodes
	Mount string // directory
}

// PairCopy is how far a copy of the other node's data is.
type PairCopy struct {
	Stage   string        `json:"stage"`           // receiving, preparing, copied
	Elapsed time.Duration `json:"elapsed"`         // until the report, or the end
	Bytes   int64         `json:"bytes"`           // received
	About   int64         `json:"about,omitempty"` // bytes in all, as the other node has estimated before; 0: not known
	Percent int           `json:"percent"`         // of About, below 100 until all is received; never goes backwards
	Rate    int64         `json:"rate,omitempty"`  // bytes per second of the last seconds, of the whole copy when it is received; 0: not known
	Left    time.Duration `json:"left,omitempty"`  // until all is received; 0: not known
}

// Copied is the stage of a copy that is the data of its node.
const Copied = "copied"

// PairTimes are the moments at which the group last left a node, and came to it, by the clock
// of that node.
type PairTimes struct {
	Asked    time.Time `json:"asked,omitzero"`    // it was asked to go to the other node
	Stopped  time.Time `json:"stopped,omitzero"`  // its services and addresses were stopped
	Handed   time.Time `json:"handed,omitzero"`   // the other node may take it, and has all data
	Taken    time.Time `json:"taken,omitzero"`    // it may run here
	Promoted time.Time `json:"promoted,omitzero"` // the copy takes writes
	Active   time.Time `json:"served,omitzero"`   // all services run
}

// PairMember is a member of the group on a node.
type PairMember struct {
	Name  string `json:"name"`
	VIP   string `json:"vip,omitempty"` // its address, when it is a virtual one
	State string `json:"state"`         // up, down, failed, unknown
}

// Health says how well a pair does.
type Health string

// Healths, the best first.
const (
	Healthy  Health = "healthy"  // the group serves, and the other node could take it over
	Degraded Health = "degraded" // it serves, and its loss would not be answered
	Broken   Health = "down"     // it does not serve
)

// Active is the node on which the group serves: all of it is up; nil: on none.
func (p PairStatus) Active() *PairNode {
	for i, n := range p.Nodes {
		up := n.Alive && n.Role == "active" && p.Owner.Host == n.Host
		for _, m := range n.Members {
			up = up && m.State == "up"
		}
		if up {
			return &p.Nodes[i]
		}
	}
	return nil
}

// holder is the node that has the group and lives; "": none, or the group is to leave it.
func (p PairStatus) holder() HostID {
	for _, n := range p.Nodes {
		if n.Alive && n.Host == p.Owner.Holder() && p.Owner.State != Migrating {
			return n.Host
		}
	}
	return ""
}

// starting says what does not run yet where the group is to run; "": nothing is known of that.
func (p PairStatus) starting() string {
	for _, n := range p.Nodes {
		if n.Host != p.Owner.Host {
			continue
		}
		for _, m := range n.Members {
			if m.State == "down" {
				return fmt.Sprintf("the services start on %s: %s does not run yet", n.Host, m.Name)
			}
			if m.State != "up" {
				return string(n.Host) + ": " + m.Name + " is " + m.State
			}
		}
	}
	return ""
}

// colon leads to a text, when there is one.
func colon(text string) string {
	if text == "" {
		return ""
	}
	return ": " + text
}

// LagLimit is how far a standby may be behind in applying what it has received: a takeover takes so much longer.
const LagLimit = 10 * time.Second

// Compared is the newest comparison of the rows of both nodes; nil: there was none of these copies.
func (p PairStatus) Compared() (newest *PairCompared) {
	for _, n := range p.Nodes {
		if c := n.Compared; c != nil && (newest == nil || c.Ended.After(newest.Ended)) {
			newest = c
		}
	}
	return newest
}

// RunsNowhere is why a pair is down of which nothing else is known.
const RunsNowhere = "the group runs on no node"

// Health says how well the pair does, and why not better: never without a reason when it is not healthy.
func (p PairStatus) Health() (h Health, why []string) {
	active := p.Active()
	switch {
	case !p.Set:
		return Broken, []string{"the pair is not set up"}
	case !p.Want.Run && active == nil:
		return Broken, []string{"it was asked to stop"}
	case active == nil && p.Waiting != "":
		why = append(why, p.Waiting)
	case active == nil:
		if s := p.starting(); s != "" {
			why = append(why, s)
		}
	}
	holder := p.holder()
	for i := range p.Nodes {
		switch n := &p.Nodes[i]; {
		case n.Off:
			why = append(why, string(n.Host)+" was shown off by its fence device: switch it on when it is in order")
		case !n.Alive:
			why = append(why, string(n.Host)+" is silent")
		case active == nil && holder != "" && n.Host != holder && n.Problem == "": // it holds nothing up: the other node has the group
		case n != active && n.Why != "":
			why = append(why, string(n.Host)+": "+n.Why+colon(n.Problem)) // which may be why
		case n != active && p.Set && !slices.Contains(p.InSync, n.Host): // what it tells may be of before it was made new
			why = append(why, string(n.Host)+" does not have every acknowledged write")
		case n != active && active != nil && n.Role == "off":
			why = append(why, string(n.Host)+": its copy does not run"+colon(n.Problem))
		case n != active && active != nil && !n.Linked:
			why = append(why, string(n.Host)+": its copy does not follow"+colon(n.Problem))
		case n.Problem != "":
			why = append(why, string(n.Host)+": "+n.Problem)
		case n != active && n.LagKnown && n.Lag > LagLimit:
			why = append(why, fmt.Sprintf("%s is %s behind in applying what it has received, and a takeover would wait for that", n.Host, n.Lag))
		}
	}
	for _, v := range p.Voters {
		if !v.Alive {
			why = append(why, string(v.Host)+" is silent")
		}
	}
	if c := p.Compared(); c != nil && len(c.Differ) > 0 {
		const most = 3
		what := strings.Join(c.Differ[:min(len(c.Differ), most)], "; ")
		if n := len(c.Differ) - most; n > 0 {
			what += fmt.Sprintf("; and %d more", n)
		}
		why = append(why, "the rows of the nodes differ: "+what)
	}
	if active != nil && len(why) == 0 && !p.Takeover.Possible {
		why = append(why, p.Takeover.Why)
	}
	switch {
	case active == nil && len(why) == 0:
		return Broken, []string{RunsNowhere}
	case active == nil:
		return Broken, why
	case len(why) > 0:
		return Degraded, why
	}
	return Healthy, nil
}

// RowsQuery asks a node of a pair for rows of a table, or, without one, for its tables.
type RowsQuery struct {
	Database string
	Table    string
	After    []string // key of the row before the first one, as in RowsPart.Last; none: from the first one on
	Until    []string // of the last one; none: as many as Limit
	Limit    int      // 0, and no Until: to the end
	Each     bool     // digests of each row
}

// RowsPart are rows of a table.
type RowsPart struct {
	Tables []RowsTable // that were asked for
	Gone   bool        // there is no such table
	Shape  string      // of the table: its columns and its key
	Left   string      // why its rows can not be compared; "": they can
	Slow   bool        // so many rows take too long to read
	Last   []string    // key of the last row; none: there is no further one
	Count  int64
	Digest uint64
	Rows   []RowsRow
	At     string // all that is in these rows was written by this position of the binary log
}

// RowsTable is a table of a node.
type RowsTable struct {
	Database string
	Table    string
	Left     string // as in RowsPart
}

// String is its name for people.
func (t RowsTable) String() string { return t.Database + "." + t.Table }

// RowsRow is a row of a table.
type RowsRow struct {
	Key    string // for people
	Digest string
}

// PairCompared is how the last comparison of a standby's rows with those of the active node ended.
type PairCompared struct {
	Ended  time.Time `json:"ended"`
	Tables int       `json:"tables"`           // that were compared
	Rows   int64     `json:"rows"`             // of these
	Differ []string  `json:"differ"`           // what differs for good, some of it by name; none: nothing does
	Left   []string  `json:"left,omitempty"`   // what was not compared, and why
	Failed string    `json:"failed,omitempty"` // why the try after it did not end; "": there was none, or it is under way
}
