package lab

import (
	"os"
	"path/filepath"
	"testing"
)

// TestProbed: what a host's libvirtd knows of the emulators the hosts of the next laboratory have.
func TestProbed(t *testing.T) {
	cache := t.TempDir()
	first, second := plan{Dir: t.TempDir(), Hosts: 2}, plan{Dir: t.TempDir(), Hosts: 2}
	file := func(p plan, h, name string) string { return filepath.Join(p.probed(h), name) }
	write := func(name, text string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	has := func(name, want string) {
		t.Helper()
		if text, err := os.ReadFile(name); string(text) != want || want != "" && err != nil {
			t.Errorf("%s: %q, %v, want %q", name, text, err, want)
		}
	}
	const whole = "<qemuCaps>\n</qemuCaps>\n"
	if err := first.giveProbed(cache, "h1"); err != nil || exists(first.probed("h1")) {
		t.Errorf("of an empty cache: %v", err)
	}
	write(file(first, "h1", "a.xml"), whole)
	write(file(first, "h2", "b.xml"), "<qemuCaps>\n")
	if err := first.keepProbed(Options{Cache: cache, OwnSystem: true}); err != nil || exists(filepath.Join(cache, probedDir)) {
		t.Errorf("of hosts with a system of their own: %v", err)
	}
	for range 2 {
		if err := first.keepProbed(Options{Cache: cache}); err != nil {
			t.Error(err)
		}
		if err := second.giveProbed(cache, "h1"); err != nil {
			t.Error(err)
		}
		has(file(second, "h1", "a.xml"), whole)
		has(file(second, "h1", "b.xml"), "")
	}
	write(file(first, "h2", "a.xml"), "<qemuCaps new=''>\n</qemuCaps>\n")
	if err := os.Remove(file(first, "h1", "a.xml")); err != nil {
		t.Fatal(err)
	}
	if err := first.keepProbed(Options{Cache: cache}); err != nil {
		t.Error(err)
	}
	if err := second.giveProbed(cache, "h1"); err != nil { // it has its own
		t.Error(err)
	}
	has(file(second, "h1", "a.xml"), whole)
	if err := second.giveProbed(cache, "h2"); err != nil {
		t.Error(err)
	}
	has(file(second, "h2", "a.xml"), "<qemuCaps new=''>\n</qemuCaps>\n")
}
