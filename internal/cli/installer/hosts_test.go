package installer

import (
	"testing"

	"holdfast/internal/cli/clitest"
	"holdfast/internal/config"
	"holdfast/testbed/try"
)

// TestTheHostsOfTheDocument: the list of hosts that docs/transition.md has is read.
func TestTheHostsOfTheDocument(t *testing.T) {
	text := clitest.Blocks(t, "../../../docs/transition.md")["text"][0]
	_, err := guestHosts("hosts.txt", text, config.Cluster{})
	try.Must(t, err)
}
