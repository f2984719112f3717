package try

import (
	"os"
	"os/exec"
	"testing"
)

// umaskVar marks the process that UnderUmask has begun.
const umaskVar = "HOLDFAST_TEST_UMASK"

// UnderUmask runs the test that calls it first in a process of its own with the umask 077 of
// the agent's unit, as a umask is the whole process's. Only there it returns true.
func UnderUmask(t *testing.T) bool {
	t.Helper()
	if os.Getenv(umaskVar) != "" {
		return true
	}
	cmd := exec.CommandContext(t.Context(), "/bin/sh", "-c", `umask 077; exec "$0" "$@"`, os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.Env = append(os.Environ(), umaskVar+"=1")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("under the umask 077: %v\n%s", err, out)
	}
	return false
}
