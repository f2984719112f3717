package libvirt

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"holdfast/testbed/need"
)

func TestConfValue(t *testing.T) {
	path := filepath.Join(t.TempDir(), "qemu.conf")
	text := "#lock_manager = \"sanlock\"\nuser = \"root\"\n lock_manager=\"lockd\" # comment\nlock_manager = " +
		"\"other\"\nsingle = 'a \"b\"'\nnumber = 1\nopen = \"x\n"
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	for key, want := range map[string]string{"lock_manager": "lockd", "single": `a "b"`, "none": ""} {
		if got, err := ConfValue(path, key); err != nil || got != want {
			t.Errorf("%s: %q, %v, want %q", key, got, err, want)
		}
	}
	for _, key := range []string{"number", "open"} {
		if got, err := ConfValue(path, key); err == nil {
			t.Errorf("%s: %q, want an error", key, got)
		}
	}
	if got, err := ConfValue(path+".no", "lock_manager"); err != nil || got != "" {
		t.Errorf("no file: %q, %v", got, err)
	}
}

func TestReadableByQEMU(t *testing.T) {
	need.Real(t, need.Root)
	u := Certificates{ConfDir: t.TempDir()}.User()
	if u == nil || u.Uid == "0" {
		t.Skip("missing: a user of QEMU's (Debian: libvirt-daemon-system)")
	}
	dir := filepath.Join("/tmp", "holdfast-"+filepath.Base(t.TempDir())+"-readable")
	path := filepath.Join(dir, "f")
	if err := errors.Join(os.MkdirAll(dir, 0o755), os.WriteFile(path, nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	if readableBy(u, path) {
		t.Error("readable by root alone, and said to be readable")
	}
	if err := os.Chmod(path, 0o644); err != nil || !readableBy(u, path) {
		t.Errorf("not readable by all: %v", err)
	}
	if err := os.Chmod(dir, 0o700); err != nil || readableBy(u, path) {
		t.Errorf("readable in a folder of root's: %v", err)
	}
}
