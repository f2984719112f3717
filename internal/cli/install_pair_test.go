package cli

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"holdfast/internal/cli/command"
	"holdfast/internal/config"
	"holdfast/internal/install"
	"holdfast/internal/lib/fail"
	"holdfast/testbed/try"
)

// TestInstallTakesAPair: its configuration is read, and hosts that run guests are refused.
func TestInstallTakesAPair(t *testing.T) {
	file := filepath.Join(t.TempDir(), "pair.json")
	text := `{"Type": "PairConf", "ChronyServers": ["192.0.2.9"], "Node": ["192.0.2.1 a", "192.0.2.2 b", "192.0.2.3 c"], "Pair": {"Nodes": ["a", "b"],
		"Database": {"Admin": {"User": "holdfast", "Credential": "file:/etc/holdfast/admin"}, "Replication": {"User": "replication", "Credential": "file:/etc/holdfast/replication"}},
		"Group": [{"Unit": "tomcat.service"}, {"VIP": "192.0.2.50/24"}]}}`
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	said := &strings.Builder{}
	a := &command.App{Env: command.Env{Stdout: said, Stderr: said}}
	cmd := installCmd(a)
	cmd.SetContext(t.Context())
	o, err := installOptions(a, cmd, file, "", "", false)
	if err != nil || o.Config.Type != config.PairConf {
		t.Fatalf("Type %q, %v: %s", o.Config.Type, err, said)
	}
	_, err = installOptions(a, cmd, file, "hosts.txt", "", false)
	var bad *fail.Error
	if !errors.As(err, &bad) || bad.Kind != fail.Invalid || !strings.Contains(err.Error(), `--hosts: value "hosts.txt"`) {
		t.Errorf("with --hosts: %v", err)
	}
}

// TestTheHostsOfAPairGetItsCommands by the names of the source, and no other hosts do.
func TestTheHostsOfAPairGetItsCommands(t *testing.T) {
	for kind, want := range map[string]string{
		config.PairConf: "crm ms_resource_stop.sh ms_resource_start.sh ms_recovery.sh ms_rm_sync_partition.sh drbd-overview", config.FileConf: "",
	} {
		a := &command.App{Env: command.Env{HostFiles: func(*cobra.Command) ([]install.File,
			error) {
			return []install.File{{Path: install.Program}}, nil
		}}}
		cmd := installCmd(a)
		cmd.SetContext(t.Context())
		o := install.Options{Config: config.Cluster{Type: kind}}
		try.Must(t, place(a, cmd, &o, &sshFlags{}))
		var links []string
		for _, f := range o.Files {
			if f.Path == install.Program {
				continue
			}
			if name, ok := strings.CutPrefix(f.Path, "/usr/sbin/"); ok && f.Link == install.Program && f.Once {
				links = append(links, name)
			} else {
				t.Errorf("%s: %+v", kind, f)
			}
		}
		if got := strings.Join(links, " "); got != want {
			t.Errorf("%s: %q, want %q", kind, got, want)
		}
	}
}
