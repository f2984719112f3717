package cli

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"os"
	"strings"
	"testing"

	"holdfast/internal/cli/clitest"
	"holdfast/internal/inventory/invfile"
)

// TestInventoryPage plans the examples of docs/inventory.md with the commands there, and
// reads them as platform files, too.
func TestInventoryPage(t *testing.T) {
	page := clitest.Blocks(t, "../../docs/inventory.md")
	files, commands := page["yaml"], page["sh"]
	if len(files) != 3 || len(commands) != 3 {
		t.Fatalf("docs/inventory.md has %d files and %d commands: want three of each", len(files), len(commands))
	}
	t.Chdir(t.TempDir())
	write(t, "app/manifest.yaml", `name: app
version: "2.1.0"
upgradeFrom: [{version: "2.0.*", modes: [rolling]}]
modules: [{name: app, files: [ctl.sh], actions: {install: {run: [ctl.sh]}}}]
`)
	write(t, "app/ctl.sh", "#!/bin/sh\n")
	for _, command := range []string{"bundle keygen release --no-password", "bundle build app -o app-2.1.0.hfb --key release.key"} {
		if got := commandLine(t, "", strings.Fields(command)...); got.code != 0 {
			t.Fatal(got.err)
		}
	}
	writeTar(t, "upgrade.e0710.tar.gz", [][2]string{{"upgrade.e0710/upgrade.sh", "#!/bin/sh\n"}})
	writeTar(t, "cantian.tar", [][2]string{
		{"versions.yml", "Name: Storage software\nSYS:\n  Name: Engine\n  Version: 3.0.0.B039\n"},
		{"action/white_list.txt", "SOURCE-VERSION UPGRADE-MODE CHANGE_SYSTEM\n2.0.0.* offline,rollup false\n"},
		{"action/env.sh", "INSTALL_PATH=/opt/cantian\n"},
		{"action/appctl.sh", "#!/bin/bash\n"},
	})
	for i, command := range commands {
		words := strings.Fields(command)
		file := words[4] // holdfast upgrade plan --inventory FILE
		write(t, file, files[i])
		if got := commandLine(t, "", words[1:]...); got.code != 0 || !strings.Contains(got.out, " steps; guests that move: ") {
			t.Errorf("%s ended with %d:\n%s%s", command, got.code, got.out, got.err)
		}
		if _, err := invfile.LoadOverlay(file); err != nil {
			t.Errorf("as a platform file: %v", err)
		}
	}
}

// writeTar writes files with their contents, compressed if the name says so.
func writeTar(t *testing.T, name string, files [][2]string) {
	t.Helper()
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for _, f := range files {
		if err := w.WriteHeader(&tar.Header{Name: f[0], Mode: 0o755, Size: int64(len(f[1]))}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(f[1])); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	text := out.Bytes()
	if strings.HasSuffix(name, ".gz") {
		var small bytes.Buffer
		z := gzip.NewWriter(&small)
		if _, err := z.Write(text); err != nil {
			t.Fatal(err)
		}
		if err := z.Close(); err != nil {
			t.Fatal(err)
		}
		text = small.Bytes()
	}
	if err := os.WriteFile(name, text, 0o600); err != nil {
		t.Fatal(err)
	}
}
