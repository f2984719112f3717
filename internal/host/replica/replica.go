// Package replica is the vocabulary of drivers that keep one set of data on two nodes: one
// node, the primary, writes; the other, the replica, follows. Drivers are in the folders
// below. They decide nothing: who may become the primary, and whether a primary goes on
// without its replica, is the caller's, who has fenced the other node before it asks.
package replica

import (
	"context"
	"io"
	"time"
)

// Driver replicates one set of data. All methods can be called again after any of them has
// failed or was cut short; each ends with its context, except where a method says more. A
// method that changes something must not run on both nodes at once.
type Driver interface {
	// Prepare checks what only a restart can change, sets what else replication needs, and
	// makes its account. fail.Refused names what is wrong.
	Prepare(ctx context.Context) error
	// Promote makes this node the primary. The caller has proof that no other node is one.
	// fail.Refused, and nothing is changed, unless the claim proves that this node has, or
	// has received, everything that was acknowledged.
	Promote(ctx context.Context, c Claim) error
	// Demote makes this node stop writing at once; nil proves that it has. Its last
	// resort, to kill the server, outlasts ctx by 10 s at most.
	Demote(ctx context.Context) error
	// Status says how this node is. A server that runs and does not answer is no error.
	Status(ctx context.Context) (Status, error)
	// Resync makes this node, which must not be a primary, a replica. What it alone has is
	// saved first, and then lost.
	Resync(ctx context.Context, from Source) error
	// Detach ends replication. A node that may write goes on doing so, and waits for
	// nobody; one that may not stays as it is.
	Detach(ctx context.Context) error
}

// Role is what a node does with the data.
type Role string

// Roles.
const (
	Primary Role = "primary" // takes writes
	Replica Role = "replica" // follows a primary, takes no writes
	Idle    Role = "idle"    // takes no writes, follows nobody
	Silent  Role = "silent"  // its process runs and does not answer: it may write
	Down    Role = "down"    // no process
)

// Status is how a node is.
type Status struct {
	Role      Role          `json:"role"`
	Node      string        `json:"node,omitempty"`     // the driver's name of this node
	Run       string        `json:"run,omitempty"`      // of the server: another one after each start
	Relay     string        `json:"relay,omitempty"`    // of a replica: another one once it may have thrown away what it had received
	Of        string        `json:"of,omitempty"`       // of a replica: the primary's Node
	Receives  bool          `json:"receives"`           // a replica receives, or may do so again by itself
	Connected bool          `json:"connected"`          // a replica to its primary, a primary to a replica
	Lag       time.Duration `json:"lag,omitempty"`      // of a replica; whole seconds
	LagKnown  bool          `json:"lag_known"`          // Lag says something
	Guarantee Guarantee     `json:"guarantee"`          // of a primary
	Waits     bool          `json:"waits"`              // of a primary: commits wait for a replica, for as long as it takes
	Blocked   int           `json:"blocked"`            // sessions that wait for an acknowledgement
	Acked     uint64        `json:"acked"`              // of a primary: acknowledgements so far, by the run
	State     []Transaction `json:"state,omitempty"`    // the last one of each domain and server that is here
	Received  []Transaction `json:"received,omitempty"` // by a replica: the last one of each domain, applied or not
	Stray     []Transaction `json:"stray,omitempty"`    // of a replica: made on it, and not received from its primary
	Problem   string        `json:"problem,omitempty"`  // what replication, or the server, complains about
	Outage    string        `json:"outage,omitempty"`   // of a primary: why its clients can not use it, and what ends that
	// why a replica could lack what was acknowledged although all was received and applied: it is none then
	Lossy string `json:"lossy,omitempty"`
}

// Transaction is the place of one transaction: the Seq-th of a domain, made by a server.
type Transaction struct {
	Domain uint32 `json:"domain"`
	Server uint32 `json:"server"`
	Seq    uint64 `json:"seq"`
}

// Guarantee is a sample on a primary: may it, from here on, acknowledge what its replica
// does not have? A safe sample holds until the primary is told otherwise (Alone, Detach,
// or somebody's hand), also when the primary is dead.
type Guarantee struct {
	Safe    bool   `json:"safe"`
	Why     string `json:"why,omitempty"`     // it is not
	Primary string `json:"primary,omitempty"` // Node of the primary
	Run     string `json:"run,omitempty"`     // of the primary's server
	Replica string `json:"replica,omitempty"` // Node of the one replica that acknowledges
	Relay   string `json:"relay,omitempty"`   // of that replica, when it was proved that it has everything
}

// Claim is why a node may become the primary: the caller's last safe sample. The caller
// drops its samples before it lets a primary go on alone, and when another node was
// promoted. The zero Claim licenses nothing.
type Claim struct {
	License Guarantee `json:"license"`
}

// Source is the primary that a replica shall follow.
type Source struct {
	Host string // name or address
	Port int
	// Save is the path of a new file for what this node has and the primary does not, and of
	// one beside it, -end.sql, for what is cut off the end of its binary log;
	// mode 0600. Without it such a node is left as it is: fail.Refused.
	Save string
	// Seed writes a copy of the primary's data, as that primary's driver makes it. Before
	// the first byte it tells about how many will come, where that is known. nil: a node
	// that can not follow is left as it is: fail.Refused.
	Seed func(ctx context.Context, w io.Writer, about func(bytes int64) error) error
	// Aside says that the data of this node never were a copy of the primary's: they are
	// not looked at, and replaced by one. It is the path on the same file system to which
	// they are moved; nothing is there yet.
	Aside string
}

// Stage is what is done with a copy of the primary's data.
type Stage string

// Stages, in their order.
const (
	Receiving Stage = "receiving"
	Preparing Stage = "preparing" // all has come: it is made ready, and put on disk
	Copied    Stage = "copied"    // it is the data of this node
)

// Copy is how far a copy of the primary's data is.
type Copy struct {
	Stage Stage
	Begun time.Time
	Ended time.Time // of Copied
	Bytes int64     // received
	About int64     // bytes in all, as the primary has estimated before the first one; 0: not known
}

// Errant are the transactions that mine has and peer has not: of each domain and server the
// last one. Order counts for nothing.
func Errant(mine, peer []Transaction) []Transaction {
	var out []Transaction
	for _, t := range mine {
		if t.Seq > Last(peer, t.Domain, t.Server) {
			out = append(out, t)
		}
	}
	return out
}

// Last is the number of the last transaction of a domain and server; 0: there is none.
func Last(all []Transaction, domain, server uint32) uint64 {
	var seq uint64
	for _, t := range all {
		if t.Domain == domain && t.Server == server {
			seq = max(seq, t.Seq)
		}
	}
	return seq
}

// Covers reports whether a position, which has one transaction of each domain, is at least
// as far as another one in all its domains. Within a domain numbers only grow, whatever the
// server.
func Covers(position, other []Transaction) bool {
	for _, o := range other {
		covered := false
		for _, p := range position {
			covered = covered || p.Domain == o.Domain && p.Seq >= o.Seq
		}
		if !covered {
			return false
		}
	}
	return true
}
