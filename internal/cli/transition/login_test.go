package transition

import (
	"os"
	"testing"

	"holdfast/internal/cli/clitest"
	"holdfast/testbed/try"
)

// TestTheLoginOfTheDocument: the file for OpenStack's API that docs/transition.md has is read.
func TestTheLoginOfTheDocument(t *testing.T) {
	text := clitest.Blocks(t, "../../../docs/transition.md")["sh"][0]
	t.Chdir(t.TempDir())
	try.Must(t, os.WriteFile("openrc", []byte(text), 0o600))
	_, err := loginFrom("openrc")
	try.Must(t, err)
}
