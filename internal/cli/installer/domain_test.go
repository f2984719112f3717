package installer

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"

	"holdfast/internal/cli/command"
	"holdfast/internal/config"
)

// Hosts get the operator's domain with the configuration: the file that it comes from
// is on the machine that installs.
func TestInstallSendsTheDomain(t *testing.T) {
	ar, err := txtar.ParseFile("../testdata/config_domain.txtar")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for _, f := range ar.Files {
		if err := os.WriteFile(filepath.Join(dir, filepath.Base(f.Name)), f.Data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	a := &command.App{Env: command.Env{Stdout: &strings.Builder{}, Stderr: &strings.Builder{}}}
	cmd := installCmd(a)
	cmd.SetContext(t.Context())
	o, err := InstallOptions(a, cmd, filepath.Join(dir, "own.json"), "", "", false)
	if err != nil {
		t.Fatal(err)
	}
	sent, faults, _ := config.Parse("cluster.json", o.ConfigText, config.Options{}) // which reads no other file
	if len(faults) > 0 || !strings.Contains(string(sent.DomainXML), "data.img") || sent.DomainXML != o.Config.DomainXML {
		t.Errorf("sent: %v\n%s", config.Faults(faults), o.ConfigText)
	}
}
