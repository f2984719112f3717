package upgrade_test

import (
	"encoding/json"
	"os"
	"reflect"
	"strings"
	"testing"

	"holdfast/internal/host/backup"
	"holdfast/internal/host/backup/array"
	"holdfast/internal/host/backup/files"
	"holdfast/internal/host/backup/lvm"
	"holdfast/internal/host/backup/mariadb"
	"holdfast/internal/host/backup/mariadb/ctbackup"
	"holdfast/internal/host/backup/qcow2"
	"holdfast/internal/inventory"
	"holdfast/internal/inventory/manifest"
	"holdfast/internal/upgrade"
)

// The planner and docs/inventory.md know the providers that there are, and the settings that they take.
func TestProvidersAreKnown(t *testing.T) {
	page, err := os.ReadFile("../../docs/inventory.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		provider backup.Provider
		options  any
	}{
		{files.Provider{}, files.Options{}}, {mariadb.Provider{}, mariadb.Options{}}, {ctbackup.Provider{}, ctbackup.Options{}},
		{qcow2.Provider{}, qcow2.Options{}}, {lvm.Provider{}, lvm.Options{}}, {array.Provider{}, array.Options{}},
	} {
		settings := map[string]string{}
		for _, f := range reflect.VisibleFields(reflect.TypeOf(c.options)) {
			if name, _, _ := strings.Cut(f.Tag.Get("json"), ","); name != "" && !f.Anonymous {
				settings[name] = "x"
				if !strings.Contains(string(page), "`"+name+"`") {
					t.Errorf("docs/inventory.md does not name the setting %s of %s", name, c.provider.Name())
				}
			}
		}
		name := c.provider.Name()
		if got := faultsOf(t, name, settings); len(got) > 0 {
			t.Errorf("%s with all of its settings: %v", name, got)
		}
		settings["more"] = "x"
		if got := faultsOf(t, name, settings); len(got) != 1 || !strings.Contains(got[0], "has no setting more") {
			t.Errorf("%s with one more: %v", name, got)
		}
	}
}

// faultsOf is what the planner finds wrong in a backup.
func faultsOf(t *testing.T, provider string, settings map[string]string) (out []string) {
	t.Helper()
	text, err := json.Marshal(settings)
	if err != nil {
		t.Fatal(err)
	}
	m := manifest.Manifest{
		Name: "app", Version: "2.0.0", UpgradeFrom: []manifest.Source{{Version: "1.*", Modes: []manifest.Mode{manifest.Offline}}},
		Modules: []manifest.Module{{Name: "m", Actions: manifest.Actions{Install: &manifest.Action{Run: []string{"x"}}}}},
	}
	inv := inventory.Inventory{Version: "1.0.0", Hosts: []inventory.Host{{Name: "h"}},
		Backups: map[string]inventory.BackupPlan{"b": {Provider: provider, Settings: text}}}
	p, err := upgrade.Build(m, inv, upgrade.Options{Mode: manifest.Offline, Backup: map[string]string{"m": "b"}})
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range p.Findings {
		if f.Level == upgrade.Block {
			out = append(out, f.Text)
		}
	}
	return out
}
