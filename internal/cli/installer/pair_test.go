package installer

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
	o, err := InstallOptions(a, cmd, file, "", "", false)
	if err != nil || o.Config.Type != config.PairConf {
		t.Fatalf("Type %q, %v: %s", o.Config.Type, err, said)
	}
	_, err = InstallOptions(a, cmd, file, "hosts.txt", "", false)
	var bad *fail.Error
	if !errors.As(err, &bad) || bad.Kind != fail.Invalid || !strings.Contains(err.Error(), `--hosts: value "hosts.txt"`) {
		t.Errorf("with --hosts: %v", err)
	}
}

// TestTheHostsOfAPairGetItsCommands, and no other hosts do.
func TestTheHostsOfAPairGetItsCommands(t *testing.T) {
	for kind, want := range map[string]bool{config.PairConf: true, config.FileConf: false} {
		var got bool
		a := &command.App{Env: command.Env{HostFiles: func(_ *cobra.Command, ofPair bool) ([]install.File, error) {
			got = ofPair
			return []install.File{{Path: install.Program}}, nil
		}}}
		cmd := installCmd(a)
		cmd.SetContext(t.Context())
		o := install.Options{Config: config.Cluster{Type: kind}}
		try.Must(t, Place(a, cmd, &o, &SSHFlags{}))
		if got != want || len(o.Files) != 1 || o.Files[0].Path != install.Program {
			t.Errorf("%s: %t, want %t; %+v", kind, got, want, o.Files)
		}
	}
}
