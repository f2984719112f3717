// Package evacuate is the vocabulary of emptying a host: which guests move where and how, the
// arguments of the steps that do it, and the plan of a job that empties one host. It is pure;
// package drain below it moves guests.
package evacuate

import "holdfast/internal/cluster"

// Kinds of steps, each with the type of its arguments.
const (
	KindDrain   = "drain"   // DrainArgs: the host takes no guests any more, and those that run leave
	KindUndrain = "undrain" // UndrainArgs: the host takes guests again
)

// How says in which way a guest moves.
type How string

// Ways to move.
const (
	Live      How = "live"
	Cold      How = "cold"      // shut down, moved, started
	Protected How = "protected" // the management VM: Holdfast migrates it under its own rules
)

// Move is a guest that goes from one host to another.
type Move struct {
	VM        string         `json:"vm"`
	UUID      string         `json:"uuid,omitempty"`
	From      cluster.HostID `json:"from,omitempty"` // where it is; empty: on the host of the step
	To        cluster.HostID `json:"to"`
	How       How            `json:"how"`
	MemoryMiB int64          `json:"memoryMiB"`
}

// DrainArgs are the arguments of drain. Guests that run on the host and are
// neither in Moves nor in Stay were not there when the plan was made.
type DrainArgs struct {
	Moves    []Move           `json:"moves,omitempty"`   // the largest first
	Stay     []string         `json:"stay,omitempty"`    // names of guests that a later step shuts down
	Targets  []cluster.HostID `json:"targets,omitempty"` // that may receive guests; none: all
	Network  string           `json:"network,omitempty"` // CIDR over which guests move
	Parallel int              `json:"parallel"`          // moves at once from this host, so that all hosts keep to the cluster's bound
}

// UndrainArgs are the arguments of undrain. With Back, guests return and nothing
// else is done.
type UndrainArgs struct {
	Back        []Move `json:"back,omitempty"`        // To is this host
	Maintenance bool   `json:"maintenance,omitempty"` // the host took no guests before, and takes none now
	Network     string `json:"network,omitempty"`     // CIDR over which guests move
	Parallel    int    `json:"parallel,omitempty"`
	Total       int    `json:"total,omitempty"`
}
