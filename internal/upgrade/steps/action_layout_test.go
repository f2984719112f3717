package steps

import (
	"archive/tar"
	"bytes"
	"testing"

	"holdfast/internal/inventory/manifest"
	"holdfast/internal/upgrade/bundle"
	"holdfast/internal/upgrade/cache"
)

// actionManifest is the manifest that is made for a package of another layout.
func actionManifest(t *testing.T, files map[string]string) *manifest.Manifest {
	t.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, name := range []string{"versions.yml", "action/appctl.sh", "action/white_list.txt", "action/env.sh", "upgrade.e0303/upgrade.sh"} {
		text, ok := files[name]
		if !ok {
			continue
		}
		if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Size: int64(len(text)), Mode: 0o755,
			Format: tar.FormatUSTAR}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	rep, err := bundle.Verify(t.Context(), &buf, bundle.Options{AllowUnsigned: true})
	if err != nil {
		t.Fatal(err)
	}
	return rep.Manifest
}

// What was written for an operator at a terminal gets one, and nothing else does.
func TestActionTerminalByLayout(t *testing.T) {
	appctl := actionManifest(t, map[string]string{
		"versions.yml": "Product: P\nVersion: 2.0.0.B1\n", "action/appctl.sh": "x",
		"action/white_list.txt": "SOURCE-VERSION UPGRADE-MODE CHANGE_SYSTEM\n2.0.0.* offline,rollup false\n",
		"action/env.sh":         "INSTALL_PATH=/opt/db\n",
	})
	cas := actionManifest(t, map[string]string{"upgrade.e0303/upgrade.sh": "x"})
	own := &manifest.Manifest{Modules: []manifest.Module{{Name: "db", Actions: manifest.Actions{
		Install: &manifest.Action{Run: []string{"db/upgrade.sh"}},
		Start:   &manifest.Action{Run: []string{"db/appctl.sh"}}, Stop: &manifest.Action{None: true},
	}}}}
	for _, x := range []struct {
		m    *manifest.Manifest
		want bool
	}{{appctl, true}, {cas, true}, {own, false}} {
		n := 0
		for i := range x.m.Modules {
			for _, p := range manifest.Phases() {
				a := x.m.Modules[i].Actions.Get(p)
				if a == nil {
					continue
				}
				n++
				s := &actionStep{staged: cache.Staged{Manifest: x.m}, do: a}
				if got := s.terminal(); got != x.want {
					t.Errorf("%s, %s of module %s (%v): %v", x.m.Name, p, x.m.Modules[i].Name, a.Run, got)
				}
			}
		}
		if n == 0 {
			t.Errorf("%s has no actions", x.m.Name)
		}
	}
}
