package cli

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"holdfast/internal/cli/clitest"
	"holdfast/internal/cli/command"
	"holdfast/internal/install"
	"holdfast/internal/lib/fail"
)

// TestDoctorAsksTheAgentForItsSettings: it looks at the host by the settings of the agent that
// answers. Where none does, the usual file is meant, or the one that is named.
func TestDoctorAsksTheAgentForItsSettings(t *testing.T) {
	a := clitest.NewAgent(t)
	dir := filepath.Dir(a.Socket)
	file := filepath.Join(dir, "agent.json")
	settings := fmt.Sprintf(`{"host": "node1", "addr": "10.0.0.11", "cluster": "prod", "run_dir": %q, "guests_only": true,
		"store": {"endpoints": ["https://10.0.0.12:2379"]}, "tls": {"ca": "/ca", "cert": "/cert", "key": "/key"}}`, dir)
	if err := os.WriteFile(file, []byte(settings), 0o600); err != nil {
		t.Fatal(err)
	}
	a.SetConfig(`{}`, "", clitest.Time())
	var asked install.Query
	doctor := func(args ...string) (string, error) {
		asked = install.Query{}
		var out bytes.Buffer
		root := New(command.Env{Stdout: &out, Stderr: &out, Stdin: strings.NewReader(""),
			Facts: func(_ context.Context, q install.Query) (*install.Facts, error) {
				asked = q
				if q.Settings == "" {
					return &install.Facts{Root: true, Systemd: true, Memory: 1 << 20}, nil
				}
				return &install.Facts{Installed: &install.Installed{Host: "node1", Active: q.Runs}}, nil
			}})
		root.SetArgs(append([]string{"doctor", "--socket", a.Socket}, args...))
		err := root.ExecuteContext(t.Context())
		return out.String(), err
	}
	out, err := doctor()
	if asked.Settings != file || !asked.Runs || strings.Contains(out, "agent: it does not run") {
		t.Errorf("with an agent: asked by %q, runs %t: %v: %s", asked.Settings, asked.Runs, err, out)
	}
	if err := a.Stop(); err != nil {
		t.Fatal(err)
	}
	// Where the usual file is not there either, the host is looked at all the same, its libvirt, too.
	if out, err := doctor(); err != nil || asked.Socket == "" || len(asked.Ports) == 0 ||
		!strings.Contains(out, "there is no "+install.SettingsFile) || !strings.Contains(out, "holdfast install -c cluster.json --check") {
		t.Errorf("without an agent: %v: %s", err, out)
	}
	if out, err := doctor("--config", file+".none"); fail.ExitCode(err) != fail.ExitInvalid {
		t.Errorf("with a file that is not there: %v: %s", err, out)
	}
	out, err = doctor("--config", file)
	if asked.Settings != file || asked.Runs || fail.ExitCode(err) != fail.ExitFailed || !strings.Contains(out, "agent: it does not run") {
		t.Errorf("without an agent, with its settings: asked by %q, runs %t: %v: %s", asked.Settings, asked.Runs, err, out)
	}
}
