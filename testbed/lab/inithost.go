package lab

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// bootSpec is what PID 1 of a host reads at power-on.
type bootSpec struct {
	Host      string   `json:"host"`
	Addr      string   `json:"addr"`             // with prefix length
	Addr6     string   `json:"addr6,omitempty"`  // of IPv6, likewise; "": none
	MAC       string   `json:"mac"`              // of br0
	Second    string   `json:"second,omitempty"` // address of eth1, with prefix length; "": there is none
	Disk      string   `json:"disk"`             // folder that survives
	Shared    string   `json:"shared"`
	Watchdogs string   `json:"watchdogs"`
	Power     string   `json:"power"`
	Bin       string   `json:"bin"`
	Daemons   []Daemon `json:"daemons"`
	OwnSystem bool     `json:"own_system,omitempty"` // its own view of the machine's system
}

// hostInit is PID 1 of a host: it makes the host's view of the machine, starts
// the daemons and supervises them until SIGTERM.
func hostInit(ctx context.Context, specPath string) error {
	if os.Getpid() != 1 {
		return errors.New("this command is PID 1 of a laboratory's host, started by the laboratory itself")
	}
	if err := passGate(); err != nil {
		return err
	}
	raw, err := os.ReadFile(specPath)
	if err != nil {
		return fmt.Errorf("read boot specification: %w", err)
	}
	var b bootSpec
	if err := json.Unmarshal(raw, &b); err != nil {
		return fmt.Errorf("read boot specification %s: %w", specPath, err)
	}
	if err := steps(b.mountDisk, b.mountDev, b.mountKernel, b.setBootID,
		func() error { return b.configure(ctx) }); err != nil {
		return fmt.Errorf("boot %s: %w", b.Host, err)
	}
	return newSupervisor(b).run()
}

func mount(source, target, kind string, flags uintptr, data string) error {
	if err := unix.Mount(source, target, kind, flags, data); err != nil {
		return fmt.Errorf("mount %s on %s: %w", source, target, err)
	}
	return nil
}

func bind(source, target string) error { return mount(source, target, "", unix.MS_BIND, "") }

// bindNew binds a folder or file to a target that it makes.
func bindNew(source, target string) error {
	if err := os.MkdirAll(target, 0o755); err != nil {
		return fmt.Errorf("make mount point: %w", err)
	}
	return bind(source, target)
}

// mountDisk puts the host's own folders in place of the machine's. Nothing of
// it is seen outside: propagation is switched off first.
func (b bootSpec) mountDisk() error {
	d := func(name string) string { return filepath.Join(b.Disk, name) }
	return steps(
		func() error { return mount("none", "/", "", unix.MS_REC|unix.MS_PRIVATE, "") },
		b.mountSystem,
		func() error { return bind(d("etc-libvirt"), "/etc/libvirt") },
		func() error { return bind(d("var-lib-libvirt"), "/var/lib/libvirt") },
		func() error { return bind(d("var-cache-libvirt"), "/var/cache/libvirt") },
		func() error { return bind(d("var-log-libvirt"), "/var/log/libvirt") },
		func() error { return bind(d("hosts"), "/etc/hosts") },
		func() error { return mount("tmpfs", filepath.Dir(SharedDir), "tmpfs", 0, "mode=755,size=1m") },
		func() error { return bindNew(b.Shared, SharedDir) },
		func() error { return bindNew(d("srv"), HostDir) },
		func() error { return bindNew(b.Watchdogs, WatchdogDir) },
		func() error { return bindNew(b.Power, PowerDir) },
		func() error {
			return mount("tmpfs", "/run", "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=755,size=64m")
		},
		func() error { return errors.Join(os.Mkdir("/run/lock", 0o1777), os.Mkdir("/run/libvirt", 0o755)) },
	)
}

// mountDev makes a /dev of the host's own, without /dev/kvm: libvirt and QEMU
// then choose emulation, the same on every machine.
func (b bootSpec) mountDev() error {
	if err := mount("tmpfs", "/dev", "tmpfs", unix.MS_NOSUID, "mode=755,size=1m"); err != nil {
		return err
	}
	for _, dir := range []string{"/dev/pts", "/dev/shm", "/dev/net"} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			return fmt.Errorf("make device folder: %w", err)
		}
	}
	nodes := []struct {
		name         string
		major, minor uint32
	}{{"null", 1, 3}, {"zero", 1, 5}, {"full", 1, 7}, {"random", 1, 8}, {"urandom", 1, 9}, {"tty", 5, 0}, {"net/tun", 10, 200}}
	for _, n := range nodes {
		path := "/dev/" + n.name
		if err := unix.Mknod(path, unix.S_IFCHR|0o666, int(unix.Mkdev(n.major, n.minor))); err != nil {
			return fmt.Errorf("make device %s: %w", path, err)
		}
		if err := os.Chmod(path, 0o666); err != nil {
			return fmt.Errorf("make device: %w", err)
		}
	}
	links := [][2]string{{"pts/ptmx", "/dev/ptmx"}, {"/proc/self/fd", "/dev/fd"}, {"fd/0", "/dev/stdin"},
		{"fd/1", "/dev/stdout"}, {"fd/2", "/dev/stderr"}}
	for _, ln := range links {
		if err := os.Symlink(ln[0], ln[1]); err != nil {
			return fmt.Errorf("make device link: %w", err)
		}
	}
	return steps(
		func() error { return mount("devpts", "/dev/pts", "devpts", 0, "newinstance,ptmxmode=0666,mode=620") },
		func() error { return mount("tmpfs", "/dev/shm", "tmpfs", 0, "") },
	)
}

// mountKernel mounts /proc of the host's PID namespace and /sys of its network
// namespace (libvirt reads /sys/class/net). The old ones go first, so that no
// control group is listed among the host's mounts.
func (b bootSpec) mountKernel() error {
	for _, fs := range [][2]string{{"proc", "/proc"}, {"sysfs", "/sys"}} {
		if err := unix.Unmount(fs[1], unix.MNT_DETACH); err != nil {
			return fmt.Errorf("unmount the machine's %s: %w", fs[1], err)
		}
		if err := mount(fs[0], fs[1], fs[0], unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
			return err
		}
	}
	return nil
}

// setBootID covers the kernel's boot id, which all hosts would share, by one of
// this power-on.
func (b bootSpec) setBootID() error {
	var r [16]byte
	rand.Read(r[:])              // never fails, by its documentation
	r[6], r[8] = r[6]&0x0f|0x40, // version 4
		r[8]&0x3f|0x80 // RFC 4122 variant
	id := fmt.Sprintf("%x-%x-%x-%x-%x\n", r[0:4], r[4:6], r[6:8], r[8:10], r[10:16])
	if err := os.WriteFile("/run/boot_id", []byte(id), 0o444); err != nil {
		return fmt.Errorf("make boot id: %w", err)
	}
	return bind("/run/boot_id", "/proc/sys/kernel/random/boot_id")
}

// configure sets the host's name and its network: eth0, the cable, and the
// guests' taps are ports of br0, which has the host's address.
func (b bootSpec) configure(ctx context.Context) error {
	if err := unix.Sethostname([]byte(b.Host)); err != nil {
		return fmt.Errorf("set host name: %w", err)
	}
	commands := [][]string{
		{"link", "set", "lo", "up"},
		{"link", "add", "br0", "address", b.MAC, "type", "bridge", "stp_state", "0", "forward_delay", "0"},
		{"link", "set", "eth0", "master", "br0", "up"},
		{"addr", "add", b.Addr, "dev", "br0"},
		{"link", "set", "br0", "up"},
	}
	if b.Addr6 != "" {
		commands = append(commands, []string{"addr", "add", b.Addr6, "dev", "br0", "nodad"})
	}
	if b.Second != "" {
		commands = append(commands, []string{"addr", "add", b.Second, "dev", "eth1"}, []string{"link", "set", "eth1", "up"})
	}
	for _, args := range commands {
		if _, err := run(ctx, "ip", args...); err != nil {
			return err
		}
	}
	return nil
}
