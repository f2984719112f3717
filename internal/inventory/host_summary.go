package inventory

import (
	"time"

	"holdfast/internal/cluster"
)

// Summary is a host as its own reports tell of it.
type Summary struct {
	Name    cluster.HostID
	Addr    string
	Agent   string        // version of its agent
	Up      bool          // its last report is not old
	Silent  time.Duration // since the agent that answers has seen a report of it
	Guests  int           // that run there
	Problem string        // what it can not find out, "" for nothing
	// Certificates of the host; nil: it has none, or its agent does not tell.
	Certificates []Certificate
}
