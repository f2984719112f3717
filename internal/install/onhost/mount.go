package onhost

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/moby/sys/mountinfo"

	"holdfast/internal/install"
)

// mountOf says on which mount a directory lies, and whether the system mounts it
// when it boots.
func mountOf(dir string) (*install.Mount, error) {
	st, err := os.Stat(dir)
	if err == nil && !st.IsDir() {
		err = fmt.Errorf("%s is no directory", dir)
	}
	if err != nil {
		return nil, err
	}
	real, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return nil, err
	}
	all, err := mountinfo.GetMounts(mountinfo.ParentsFilter(real))
	if err != nil {
		return nil, fmt.Errorf("read the mounts: %w", err)
	}
	var best *mountinfo.Info
	for _, m := range all { // of equals the last one covers the others
		if best == nil || len(m.Mountpoint) >= len(best.Mountpoint) {
			best = m
		}
	}
	if best == nil {
		return nil, fmt.Errorf("%s lies on no mount", dir)
	}
	m := &install.Mount{Dir: best.Mountpoint, Kind: best.FSType, Source: best.Source}
	m.AtBoot = m.Dir == "/" || atBoot(m.Dir)
	return m, nil
}

// atBoot looks for a mount point where systems keep their mounts: fstab(5), units
// of systemd, and the script rc.local.
func atBoot(dir string) bool {
	if raw, err := os.ReadFile("/etc/fstab"); err == nil {
		for line := range strings.Lines(string(raw)) {
			f := strings.Fields(line)
			if len(f) > 3 && !strings.HasPrefix(f[0], "#") && filepath.Clean(f[1]) == dir && !strings.Contains(","+f[3]+",", ",noauto,") {
				return true
			}
		}
	}
	for _, units := range []string{"/etc/systemd/system/*.mount", "/usr/lib/systemd/system/*.mount", "/etc/systemd/system/*.automount"} {
		names, _ := filepath.Glob(units) // the patterns are right
		for _, name := range names {
			if raw, err := os.ReadFile(name); err == nil && bytes.Contains(raw, []byte("\nWhere="+dir+"\n")) {
				return true
			}
		}
	}
	for _, script := range []string{"/etc/rc.local", "/etc/rc.d/rc.local"} {
		raw, err := os.ReadFile(script)
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(raw)) {
			f := strings.Fields(line)
			if len(f) > 2 && f[0] == "mount" && filepath.Clean(f[len(f)-1]) == dir {
				return true
			}
		}
	}
	return false
}

// nonce writes a file of the shared directory, or compares it. A file system that
// caches names may show it late to other hosts, so each run has another name.
func nonce(n install.Nonce) error {
	if n.Write {
		f, err := os.OpenFile(n.File, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
		if err != nil {
			return fmt.Errorf("write a file there: %w", err)
		}
		_, err = f.WriteString(n.Value)
		if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
			return fmt.Errorf("write a file there: %w", errors.Join(err, os.Remove(n.File)))
		}
		return nil
	}
	if n.Remove {
		if err := os.Remove(n.File); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove the file: %w", err)
		}
		return nil
	}
	raw, err := os.ReadFile(n.File)
	if errors.Is(err, fs.ErrNotExist) {
		return errors.New("a file that another host wrote there is not seen here: it is not the same directory")
	}
	if err != nil {
		return fmt.Errorf("read a file that another host wrote there: %w", err)
	}
	if string(raw) != n.Value {
		return errors.New("a file that another host wrote there has another content here")
	}
	return writable(filepath.Dir(n.File))
}

// writable makes sure that this host may write there, too.
func writable(dir string) error {
	file := filepath.Join(dir, ".holdfast-install-"+rand.Text())
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		return fmt.Errorf("write a file there: %w", err)
	}
	return os.Remove(file)
}
