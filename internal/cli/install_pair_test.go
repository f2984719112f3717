package cli

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"holdfast/internal/config"
	"holdfast/internal/fail"
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
	a := &app{env: Env{Stdout: said, Stderr: said}}
	cmd := a.installCmd()
	cmd.SetContext(t.Context())
	o, err := a.installOptions(cmd, file, "", "", false)
	if err != nil || o.Config.Type != config.PairConf {
		t.Fatalf("Type %q, %v: %s", o.Config.Type, err, said)
	}
	_, err = a.installOptions(cmd, file, "hosts.txt", "", false)
	var bad *fail.Error
	if !errors.As(err, &bad) || bad.Kind != fail.Invalid || !strings.Contains(err.Error(), `--hosts: value "hosts.txt"`) {
		t.Errorf("with --hosts: %v", err)
	}
}
