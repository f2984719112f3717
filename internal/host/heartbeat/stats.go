package heartbeat

import (
	"time"

	"holdfast/internal/cluster"
)

// Reason says why a datagram was dropped.
type Reason string

// Reasons. Those up to Forged say nothing about who sent it: anybody may have.
const (
	NoKey       Reason = "no-key"      // this host does not know the key yet, or has a useless one
	Malformed   Reason = "malformed"   // no heartbeat
	BadVersion  Reason = "version"     // a version that this program does not know
	Foreign     Reason = "foreign"     // of another cluster
	Forged      Reason = "forged"      // made with another key, or damaged on its way
	Misdirected Reason = "misdirected" // meant for another host
	Stranger    Reason = "stranger"    // its sender is not among the peers
	Replayed    Reason = "replayed"    // not newer than what its instance has sent before
	Replaced    Reason = "replaced"    // of an instance that another one has replaced
)

const accepted Reason = ""

// Stats are counters since Open.
type Stats struct {
	Sent        uint64            // datagrams that the kernel took
	SendErrors  uint64            // datagrams that it refused
	Accepted    uint64            // words taken in
	Dropped     map[Reason]uint64 // datagrams not taken in; reasons that never came are left out
	ReadErrors  uint64            // failed reads of the socket
	Stalls      uint64            // times that this process stood still and forgot what it had heard
	LastStalled time.Duration     // length of the last of them
}

// quiet is the least time between two lines in the log about the same trouble.
const quiet = time.Minute

// quieted remembers when a trouble was last logged. It is not safe for concurrent use.
type quieted map[string]cluster.Instant

// due reports whether a line about what may be written, and notes that it was.
func (h quieted) due(now cluster.Instant, what string) bool {
	last, known := h[what]
	if known && now.Sub(last) < quiet {
		return false
	}
	h[what] = now
	return true
}
