// Package packaging_test looks at what this folder ships: the packages, the unit of the
// agent, and the bundle that upgrades Holdfast itself.
package packaging_test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"holdfast/internal/inventory/manifest"
	"holdfast/internal/upgrade/bundle"
	"holdfast/testbed/need"
)

// TestUnit looks for the settings without which a restart of the agent would disturb
// what outlives it.
func TestUnit(t *testing.T) {
	raw, err := os.ReadFile("files/holdfast.service")
	if err != nil {
		t.Fatal(err)
	}
	section, have := "", map[string]string{}
	for line := range strings.Lines(string(raw)) {
		line = strings.TrimSpace(line)
		if key, value, ok := strings.Cut(line, "="); ok && !strings.HasPrefix(line, "#") {
			have[section+key] = value
		} else if strings.HasPrefix(line, "[") {
			section = line
		}
	}
	for key, want := range map[string]string{
		"[Service]KillMode": "process", "[Service]Delegate": "yes", "[Service]Restart": "always", "[Service]OOMPolicy": "continue",
		// The last three are soft limits or undone by what starts other programs: internal/lib/foreign.
		"[Service]OOMScoreAdjust": "-900", "[Service]LimitDATA": "1G:infinity", "[Service]LimitCORE": "0:infinity", "[Service]UMask": "0077",
		"[Unit]StartLimitIntervalSec": "0", "[Unit]Wants": "network-online.target", "[Install]WantedBy": "multi-user.target",
		"[Unit]ConditionPathExists": "/etc/holdfast/agent.json", "[Service]LogsDirectory": "holdfast",
		"[Service]ExecStart": "/opt/holdfast/bin/holdfast agent --config /etc/holdfast/agent.json",
	} {
		if have[key] != want {
			t.Errorf("%s=%q, want %q", key, have[key], want)
		}
	}
	after := strings.Fields(have["[Unit]After"])
	for _, unit := range []string{"network-online.target", "libvirtd.service"} {
		if !slices.Contains(after, unit) {
			t.Errorf("it does not begin after %s: %q", unit, after)
		}
	}
	// What programs of upgrades, which inherit it, could not live with.
	for _, key := range []string{"NoNewPrivileges", "ProtectSystem", "ProtectHome", "ProtectKernelModules",
		"PrivateTmp", "PrivateDevices", "DevicePolicy", "RestrictSUIDSGID",
		"RestrictNamespaces", "LockPersonality", "RestrictRealtime", "SystemCallArchitectures", "MemoryMax", "MemoryHigh", "RuntimeDirectory"} {
		if v, ok := have["[Service]"+key]; ok {
			t.Errorf("%s=%s", key, v)
		}
	}
}

// TestSystemdTakesTheUnits lets systemd judge the whole of each.
func TestSystemdTakesTheUnits(t *testing.T) {
	need.Real(t, need.Programs("systemd", "systemd-analyze"))
	for _, name := range []string{"holdfast.service", "holdfast-console.service"} {
		raw, err := os.ReadFile("files/" + name)
		if err != nil {
			t.Fatal(err)
		}
		unit := filepath.Join(t.TempDir(), name)
		write(t, unit, strings.ReplaceAll(string(raw), "/opt/holdfast/bin/holdfast", "/bin/true"), 0o644) // it wants to see the program
		if out, err := exec.CommandContext(t.Context(), "systemd-analyze", "verify", "--man=no",
			unit).CombinedOutput(); err != nil || bytes.Contains(out, []byte(name+":")) {
			t.Errorf("systemd-analyze verify: %v: %s", err, out)
		}
	}
}

func write(t *testing.T, file, text string, mode os.FileMode) {
	t.Helper()
	if err := os.WriteFile(file, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
}

// builder stands for holdfast: it copies the directory that it is to make a bundle of.
const builder = `#!/bin/sh
[ "$1 $2 $4" = "bundle build -o" ] || exit 9
cp -r "$3" "$5" && echo "${*}" >"$5.args"
`

// TestBundleScript makes the directory of a bundle, which must build.
func TestBundleScript(t *testing.T) {
	dir := t.TempDir()
	program, out := filepath.Join(dir, "holdfast"), filepath.Join(dir, "out", "holdfast-2.0.0.hfb")
	write(t, program, builder, 0o755)
	build := func(env []string, args ...string) error {
		cmd := exec.CommandContext(t.Context(), "./bundle.sh", args...)
		cmd.Env = append(os.Environ(), env...)
		if text, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("%w: %s", err, text)
		}
		return nil
	}
	if err := build(nil, program, "2.0.0", out, "release.key"); err != nil {
		t.Fatal(err)
	}
	if args, err := os.ReadFile(out + ".args"); err != nil || !strings.HasSuffix(string(args), "--key release.key\n") {
		t.Errorf("%s, %v", args, err)
	}
	rep, err := bundle.Build(t.Context(), out, &bytes.Buffer{}, bundle.BuildOptions{Compression: bundle.Zstd})
	if err != nil {
		t.Fatal(err)
	}
	m := rep.Manifest
	if m.Name != "holdfast" || m.Version != "2.0.0" || m.UpgradeFrom[0].Version != "<2.0.0" ||
		!slices.Equal(m.Mixed, []string{"<2.0.0"}) || len(m.Modules) != 1 {
		t.Errorf("%+v", m)
	}
	mod := &m.Modules[0]
	tree := manifest.FileTree{Source: "bin", Target: "/opt/holdfast/bin"}
	for _, phase := range []manifest.Phase{manifest.Backup, manifest.Install, manifest.Rollback, manifest.Commit} {
		if a := mod.Actions.Get(phase); a == nil || a.FileTree == nil || *a.FileTree != tree {
			t.Errorf("%s: %+v", phase, a)
		}
	}
	if a := mod.Actions.PostCheck; a == nil || !slices.Equal(a.Run, []string{"ctl/ctl.sh", "runs", "{version}", "2.0.0"}) {
		t.Errorf("%+v", a)
	}
	for _, f := range m.Files() {
		if f.Mode != "0755" {
			t.Errorf("%+v is no program", f)
		}
	}
	if err := build([]string{"FROM=1.9.*"}, program, "2.0.0", filepath.Join(dir, "narrow")); err != nil {
		t.Fatal(err)
	}
	if rep, err = bundle.Build(t.Context(), filepath.Join(dir, "narrow"), &bytes.Buffer{},
		bundle.BuildOptions{Compression: bundle.Zstd}); err != nil || rep.Manifest.UpgradeFrom[0].Version != "1.9.*" {
		t.Errorf("%v, %+v", err, rep)
	}
	for _, version := range []string{"dev", "5b783aa-dirty", "2.0.0|", ""} {
		if build(nil, program, version, filepath.Join(dir, "bad")) == nil {
			t.Errorf("version %q is taken", version)
		}
	}
}
