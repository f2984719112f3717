package report

import (
	"fmt"

	"holdfast/internal/cluster"
)

// AgentAt is where the agent of a host is reached, https://HOST:PORT, by what hosts have reported.
func AgentAt(seen map[cluster.HostID]Seen, host cluster.HostID) (string, error) {
	target, known := seen[host]
	switch {
	case !known:
		return "", fmt.Errorf("no host %s reports", host)
	case target.API == "":
		return "", fmt.Errorf("the agent of %s is not reached over the network: set api.listen in its settings", host)
	}
	return target.API, nil
}
