package lab

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// probedDir is the folder of Options.Cache with what libvirtds have found out about the machine's emulators: one
// that needs an emulator for the first time asks it for all that it can do, which takes more than a second of a
// processor. What is of another emulator, libvirt or kernel libvirtd does not take, and asks itself.
const probedDir = "emulators"

// probed is where a host's libvirtd keeps it.
func (p plan) probed(h string) string { return p.disk(h, "var-cache-libvirt/qemu/capabilities") }

// giveProbed gives a host that was never on what the cache has.
func (p plan) giveProbed(cache, h string) error {
	files, err := filepath.Glob(filepath.Join(cache, probedDir, "*.xml"))
	if err != nil || len(files) == 0 || exists(p.probed(h)) {
		return err
	}
	err = os.MkdirAll(p.probed(h), 0o755)
	for _, f := range files {
		if err == nil {
			err = copyFile(f, filepath.Join(p.probed(h), filepath.Base(f)), 0o600)
		}
	}
	if err != nil {
		return fmt.Errorf("give %s what is known of the emulators: %w", h, err)
	}
	return nil
}

// keepProbed puts into the cache what the hosts, which are off, have found out.
func (p plan) keepProbed(o Options) error {
	if o.OwnSystem {
		return nil // its emulator may be another one
	}
	for _, h := range p.hosts() {
		files, err := filepath.Glob(filepath.Join(p.probed(h), "*.xml"))
		if err != nil {
			return err
		}
		for _, f := range files {
			if err := keep(f, filepath.Join(o.Cache, probedDir, filepath.Base(f))); err != nil {
				return fmt.Errorf("keep what %s knows of the emulators: %w", h, err)
			}
		}
	}
	return nil
}

// keep copies a file of libvirtd's, unless it is there or was cut short. Several may do so at once.
func keep(from, to string) error {
	text, err := os.ReadFile(from)
	if err != nil || !bytes.HasSuffix(bytes.TrimSpace(text), []byte("</qemuCaps>")) {
		return err
	}
	if was, err := os.ReadFile(to); err == nil && bytes.Equal(was, text) {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	tmp, err := os.CreateTemp(filepath.Dir(to), "new-*")
	if err != nil {
		return err
	}
	_, err = tmp.Write(text)
	if err = errors.Join(err, tmp.Close()); err == nil {
		err = os.Rename(tmp.Name(), to)
	}
	if err != nil {
		return errors.Join(err, os.Remove(tmp.Name()))
	}
	return nil
}
