package cli

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"holdfast/internal/cli/clitest"
	"holdfast/internal/cli/command"
	"holdfast/internal/upgrade/bundle"
)

// TestUnreadablePattern: a bundle with a pattern that no scheme of versions can
// read is refused by all commands that read one.
func TestUnreadablePattern(t *testing.T) {
	a := clitest.NewAgent(t)
	dir := t.TempDir()
	manifest := "name: app\nversion: \"1.1.0\"\nupgradeFrom:\n- {version: \"1.0..\", modes: [rolling]}\nmodules:\n- " +
		"name: app\n  files: [f]\n  actions:\n    install: {run: [f]}\n"
	tree := filepath.Join(dir, "tree")
	if err := os.Mkdir(tree, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"tree/manifest.yaml": manifest, "tree/f": "#!/bin/sh\n",
		"inv.yaml": "format: 1\nversion: \"1.0.0\"\nhosts:\n- {name: h1, memoryMiB: 1}\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	t.Chdir(dir)
	c, err := bundle.CompressionOf("odd.hfb")
	if err != nil {
		t.Fatal(err)
	}
	var odd bytes.Buffer
	if _, err := bundle.Build(t.Context(), tree, &odd, bundle.BuildOptions{Compression: c}); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile("odd.hfb", odd.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	run := func(args ...string) (int, string) {
		var out bytes.Buffer
		code := Main(append(args, "--socket", a.Socket),
			command.Env{Stdout: &out, Stderr: &out, Stdin: strings.NewReader("")})
		return code, out.String()
	}
	if code, out := run("bundle", "keygen", "k", "--no-password"); code != 0 {
		t.Fatal(out)
	}
	for _, args := range []string{
		"bundle build tree -o new.hfb", "bundle verify odd.hfb --allow-unsigned", "bundle show odd.hfb", "bundle sign odd.hfb --key k.key",
		"upgrade plan --inventory inv.yaml --bundle odd.hfb --allow-unsigned", "upgrade run --bundle odd.hfb --allow-unsigned --yes",
		"upgrade check --bundle odd.hfb --allow-unsigned",
	} {
		if code, out := run(strings.Fields(args)...); code != 2 ||
			!strings.Contains(out, `upgradeFrom[0].version: value "1.0..": want a pattern of versions`) {
			t.Errorf("%s ended with %d:\n%s", args, code, out)
		}
	}
	if now, err := os.ReadFile("odd.hfb"); err != nil || !bytes.Equal(now, odd.Bytes()) {
		t.Errorf("what was not signed has changed: %v", err)
	}
	if len(a.Upgrades.Asked()) > 0 {
		t.Error("the agent was asked")
	}
}
