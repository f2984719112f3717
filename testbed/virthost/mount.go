package virthost

import (
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

type mountStep struct {
	source, target, fstype string
	flags                  uintptr
	data                   string
}

// mountHost gives the host its own files: libvirt's directories below dir, and
// fresh /run, /dev (without kvm), /proc and /sys.
func mountHost(dir string) error {
	if err := mountPKI(dir); err != nil {
		return err
	}
	dev := filepath.Join(dir, "dev")
	steps := []mountStep{
		{"", "/", "", unix.MS_PRIVATE | unix.MS_REC, ""},
		{filepath.Join(dir, "etc"), "/etc/libvirt", "", unix.MS_BIND, ""},
		{filepath.Join(dir, "lib"), "/var/lib/libvirt", "", unix.MS_BIND, ""},
		{filepath.Join(dir, "cache"), "/var/cache/libvirt", "", unix.MS_BIND, ""},
		{filepath.Join(dir, "log"), "/var/log/libvirt", "", unix.MS_BIND, ""},
		{"tmpfs", "/run", "tmpfs", 0, "mode=755,size=64m"},
		{"tmpfs", dev, "tmpfs", 0, "mode=755,size=4m"},
		{"proc", "/proc", "proc", 0, ""},
		{"sysfs", "/sys", "sysfs", 0, ""},
	}
	for _, s := range steps {
		if err := unix.Mount(s.source, s.target, s.fstype, s.flags, s.data); err != nil {
			return fmt.Errorf("mount %s on %s: %w", s.source, s.target, err)
		}
	}
	if err := makeDev(dev); err != nil {
		return err
	}
	return unix.Mount(dev, "/dev", "", unix.MS_MOVE, "")
}

func makeDev(dev string) error {
	for _, d := range []struct {
		name         string
		major, minor uint32
	}{{"null", 1, 3}, {"zero", 1, 5}, {"full", 1, 7}, {"random", 1, 8}, {"urandom", 1, 9}, {"net/tun", 10, 200}} {
		path := filepath.Join(dev, d.name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := unix.Mknod(path, unix.S_IFCHR|0o666, int(unix.Mkdev(d.major, d.minor))); err != nil {
			return fmt.Errorf("make %s: %w", path, err)
		}
	}
	for _, s := range []mountStep{
		{"devpts", filepath.Join(dev, "pts"), "devpts", 0, "newinstance,ptmxmode=0666,mode=620"},
		{"tmpfs", filepath.Join(dev, "shm"), "tmpfs", 0, ""},
	} {
		if err := os.MkdirAll(s.target, 0o755); err != nil {
			return err
		}
		if err := unix.Mount(s.source, s.target, s.fstype, s.flags, s.data); err != nil {
			return fmt.Errorf("mount %s: %w", s.target, err)
		}
	}
	return os.Symlink("pts/ptmx", filepath.Join(dev, "ptmx"))
}
