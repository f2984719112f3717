package bundle

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"holdfast/internal/inventory/manifest"
	"holdfast/internal/lib/strictyaml"
	"holdfast/testbed/try"
)

// FuzzVerify: whatever the bytes are, nothing panics, and what is unpacked is
// below the directory and complete, or nothing is there at all.
func FuzzVerify(f *testing.F) {
	for _, c := range []Compression{None, Zstd, Gzip} {
		f.Add(build(f, sampleFiles(), c, nil))
	}
	for _, c := range hostile(f) {
		if len(c.data) < 64<<10 {
			f.Add(c.data)
		}
	}
	f.Add(plainTar(f, appctlFiles("x/")))
	f.Add(plainTar(f, map[string]string{"upgrade.sh": "x"}))
	o := Options{AllowUnsigned: true, MaxFiles: 100, MaxBytes: 1 << 20, free: func(string) (int64, error) { return 1 << 60, nil }}
	f.Fuzz(func(t *testing.T, data []byte) {
		rep, err := verify(data, o)
		var r *Refusal
		if err != nil && !errors.As(err, &r) {
			t.Fatalf("no refusal: %v", err)
		}
		top := t.TempDir()
		try.Must(t, os.Mkdir(filepath.Join(top, "in"), 0o755))
		_, uerr := Unpack(context.Background(), bytes.NewReader(data), filepath.Join(top, "in", "new"), o)
		if (err == nil) != (uerr == nil) {
			t.Fatalf("verify: %v, unpack: %v", err, uerr)
		}
		if left := ls(t, top); len(left) != 1 {
			t.Fatalf("outside: %q", left)
		}
		if got := ls(t, filepath.Join(top, "in")); err != nil && len(got) > 0 || err == nil && (len(got) != 1 || got[0] != "new") {
			t.Fatalf("the directory has %q after %v", got, err)
		}
		if err == nil && rep.Manifest.Check() != nil {
			t.Fatal("accepted with a wrong manifest")
		}
	})
}

func FuzzManifest(f *testing.F) {
	f.Add([]byte(sample))
	f.Add([]byte(minimal(fileOf("a", "content"))))
	f.Add([]byte("name: [x\n"))
	f.Add([]byte("modules: [{name: a, after: [a], actions: {check: {none: true}}}]\n"))
	f.Add([]byte("order: {stop: []}\nminSpaceGB: 1e3\nkernel: &a 0x10\nmixed: [*a]\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		m, faults := decode(text)
		if len(faults) == 0 {
			faults = check(m, nil)
		}
		for _, fault := range faults {
			if fault.Where() == "0:0" || fault.Want == "" || strings.Contains(fault.Error(), "\n") {
				t.Errorf("fault %#v", fault)
			}
		}
		if len(faults) > 0 {
			return
		}
		again, err := strictyaml.Encode(m)
		if err != nil {
			t.Fatal(err)
		}
		back, faults := decode(again)
		if len(faults) > 0 {
			t.Fatalf("%s\nread again: %v", again, faults)
		}
		twice, err := strictyaml.Encode(back)
		if err != nil || !bytes.Equal(again, twice) {
			t.Fatalf("%s\nwritten again:\n%s\n%v", again, twice, err)
		}
		for _, p := range manifest.Phases() {
			if got := m.InPhase(p); len(got) != len(m.Modules) {
				t.Errorf("%s has %d modules of %d", p, len(got), len(m.Modules))
			}
		}
	})
}

func FuzzWhiteList(f *testing.F) {
	f.Add(whiteText)
	f.Add("SOURCE-VERSION UPGRADE-MODE CHANGE_SYSTEM\r\n1.* offline,rollup true\r\n")
	f.Fuzz(func(t *testing.T, text string) {
		sources, err := parseWhiteList(text)
		if err != nil && strings.Contains(err.Error(), "\n") {
			t.Errorf("error of several lines: %q", err)
		}
		for _, s := range sources {
			if s.Version == "" || len(s.Modes) == 0 {
				t.Errorf("row %+v", s)
			}
		}
	})
}

func FuzzVersions(f *testing.F) {
	f.Add(versionsText)
	f.Fuzz(func(t *testing.T, text string) {
		a, err := parseVersions(text)
		if err == nil && (a.version == "" || a.name == "") {
			t.Errorf("%+v", a)
		}
	})
}
