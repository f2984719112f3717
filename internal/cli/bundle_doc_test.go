package cli

import (
	"archive/tar"
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"holdfast/internal/cli/command"
	"holdfast/internal/host/action/program"
	"holdfast/internal/inventory/manifest"
)

// TestBundlePage builds the example of docs/bundle.md with the commands there.
func TestBundlePage(t *testing.T) {
	page, err := os.ReadFile("../../docs/bundle.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks := regexp.MustCompile("(?s)```(?:yaml|sh)\n(.*?)```").FindAllSubmatch(page, -1)
	if len(blocks) != 4 {
		t.Fatalf("docs/bundle.md has %d blocks, want a manifest, commands, a credentials file and a platform file", len(blocks))
	}
	secrets := filepath.Join(t.TempDir(), "credentials.yaml")
	if err := os.WriteFile(secrets, blocks[2][1], 0o600); err != nil {
		t.Fatal(err)
	}
	if c, err := program.ReadCredentials(secrets); err != nil || len(c.Expect) != 2 || c.Silence == 0 {
		t.Errorf("the credentials file is read as %+v, %v", c, err)
	}
	t.Chdir(t.TempDir())
	for name, text := range map[string]string{
		"manifest.yaml": string(blocks[0][1]), "database/ctl.sh": "#!/bin/sh\n", "database/db.json": "{}", "web/index.html": "<p>\n",
	} {
		file := filepath.Join("app", name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	var out bytes.Buffer
	for line := range strings.Lines(string(blocks[1][1])) {
		words := strings.Fields(line)
		if code := Main(words[1:], command.Env{Stdout: &out, Stderr: &out, Stdin: strings.NewReader("")}); code != 0 {
			t.Errorf("%s ended with %d", line, code)
		}
	}
	if !strings.Contains(out.String(), "app-2.1.0.hfb: app 2.1.0, signed with key ") {
		t.Errorf("the commands said:\n%s", out.String())
	}
	planCAS(t, blocks[3][1])
	for _, word := range manifest.Placeholders() {
		if !bytes.Contains(page, []byte("`"+word+"`")) {
			t.Errorf("docs/bundle.md does not name %s", word)
		}
	}
}

// planCAS plans a package of CAS for the hosts of a platform file, with nothing else known.
func planCAS(t *testing.T, platform []byte) {
	t.Helper()
	var pack bytes.Buffer
	w := tar.NewWriter(&pack)
	err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: "upgrade.e0710/upgrade.sh", Mode: 0o755, Format: tar.FormatUSTAR})
	if err := errors.Join(err, w.Close(), os.WriteFile("cas.tar", pack.Bytes(), 0o644),
		os.WriteFile("cas.yaml", append(platform, "version: E0705\n"...), 0o644)); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	code := Main(strings.Fields("upgrade plan --inventory cas.yaml --bundle cas.tar --allow-unsigned"),
		command.Env{Stdout: &out, Stderr: &out, Stdin: strings.NewReader("")})
	if code != 0 || !strings.Contains(out.String(), "cas E0710: reboot upgrade of 2 hosts, from E0705") ||
		!strings.Contains(out.String(), "active-manager cvm1: upgrade.e0710/upgrade.sh runs here, once") {
		t.Errorf("the plan for CAS ended with %d:\n%s", code, out.String())
	}
}
