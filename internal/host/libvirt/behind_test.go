package libvirt

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"holdfast/testbed/need"
)

// TestBehind: what lies behind images that qemu-img makes is found, and missed when it is gone.
func TestBehind(t *testing.T) {
	need.Real(t, need.Programs("qemu-utils", "qemu-img"))
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	run(t, "qemu-img", "create", "-q", "-f", "qcow2", at("base"), "4M")
	run(t, "qemu-img", "create", "-q", "-f", "qcow2", "-b", "base", "-F", "qcow2", at("middle"))
	run(t, "qemu-img", "create", "-q", "-f", "qcow2", "-b", at("middle"), "-F", "qcow2", at("top"))
	run(t, "qemu-img", "create", "-q", "-f", "qcow2", "-o", "data_file="+at("data")+",data_file_raw=on", at("apart"), "4M")
	run(t, "qemu-img", "create", "-q", "-f", "qcow2", "-o", "compat=0.10", "-b", "base", "-F", "qcow2", at("old"))
	run(t, "qemu-img", "create", "-q", "-f", "raw", at("raw"), "4M")
	for _, c := range []struct{ image, gone string }{
		{"base", ""}, {"raw", ""}, {"middle", "base"}, {"top", "base"}, {"top", "middle"}, {"apart", "data"}, {"old", "base"},
	} {
		if err := checkBehind("disk", at(c.image)); err != nil {
			t.Errorf("%s: %v", c.image, err)
		}
		if c.gone == "" {
			continue
		}
		if err := os.Rename(at(c.gone), at("away")); err != nil {
			t.Fatal(err)
		}
		if err := checkBehind("disk", at(c.image)); err == nil || !strings.Contains(err.Error(), at(c.gone)+" does not exist on this host") {
			t.Errorf("%s without %s: %v", c.image, c.gone, err)
		}
		if err := os.Rename(at("away"), at(c.gone)); err != nil {
			t.Fatal(err)
		}
	}
}

// TestBehindDamaged: headers that make no sense end, with an error or with nothing.
func TestBehindDamaged(t *testing.T) {
	path := filepath.Join(t.TempDir(), "i")
	for name, edit := range map[string]func(b []byte){
		"a name of 4 GiB":         func(b []byte) { copy(b[8:], "\x00\x00\x00\x00\x00\x00\x00\x08\xff\xff\xff\xff") },
		"a name behind the end":   func(b []byte) { copy(b[8:], "\x7f\x00\x00\x00\x00\x00\x00\x08\x00\x00\x00\x10") },
		"extensions for ever":     func(b []byte) { b[79] = qcow2Data; b[103] = 104; b[107] = 1 },
		"extensions past the end": func(b []byte) { b[79] = qcow2Data; copy(b[100:], "\xff\xff\xff\xff") },
	} {
		b := make([]byte, 112)
		copy(b, "QFI\xfb\x00\x00\x00\x03")
		edit(b)
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := checkBehind("disk", path); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if err := os.WriteFile(path, []byte("QFI\xfb"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := checkBehind("disk", path); err != nil {
		t.Errorf("a short one: %v", err)
	}
}
