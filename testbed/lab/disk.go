package lab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"runtime"

	"golang.org/x/sys/unix"
)

// Kinds of the guest's disk, for Options.Disk.
const (
	// DiskFile is the image in the shared folder. QEMU locks it, so a second
	// start of the guest is refused by whoever has it.
	DiskFile = "file"
	// DiskNBD is the same image, served to all hosts by one qemu-nbd on the
	// switch. Nobody locks it: any number of guests may run on it at once.
	DiskNBD = "nbd"
	// DiskOwn is the same image as DiskFile and a second one, in a domain of the
	// operator's own (DomainXML). It is for the agents' guest only.
	DiskOwn = "own"
	// DiskCeph is an image in the pool of a real Ceph cluster on the switch
	// (cephnode). Any number of guests may run on it at once, unless they are locked out.
	// It is for the agents' guest only.
	DiskCeph = "ceph"
)

const (
	qemuNBD    = "/usr/bin/qemu-nbd"
	diskPort   = 10809
	diskExport = "mnvm"
)

// diskAddr is where the disk's server listens.
func (p plan) diskAddr() netip.AddrPort { return netip.AddrPortFrom(p.switchAddr(), diskPort) }

// diskURL names the guest's disk, nbd://ADDRESS:PORT/EXPORT.
func (p plan) diskURL() string { return fmt.Sprintf("nbd://%s/%s", p.diskAddr(), diskExport) }

// DiskURL names the guest's disk, nbd://ADDRESS:PORT/EXPORT with a raw image
// inside, as hosts reach it. It is there with DiskNBD only.
func (l *Lab) DiskURL() string { return l.p.diskURL() }

// diskXML is the disk of StartGuest's guest.
func (p plan) diskXML(kind string) string {
	if kind != DiskNBD {
		return `<disk type='file' device='disk'><driver name='qemu' type='qcow2' cache='none'/>
      <source file='` + SharedDir + "/" + ImageName + `'/><target dev='vda' bus='virtio'/></disk>`
	}
	return fmt.Sprintf(`<disk type='network' device='disk'><driver name='qemu' type='raw' cache='none'/>
      <source protocol='nbd' name='%s'><host name='%s' port='%d'/></source><target dev='vda' bus='virtio'/></disk>`,
		diskExport, p.switchAddr(), diskPort)
}

// startDisk starts the disk's server, unless it is there, and waits until it
// takes connections.
func (l *Lab) startDisk(ctx context.Context) error {
	err := l.startHelper(ctx, diskCommand, l.p.path("disk.log"), func(s *state) *Process { return &s.Disk })
	if err != nil {
		return fmt.Errorf("start disk server: %w", err)
	}
	s, err := loadState(l.p.Dir)
	if err != nil {
		return err
	}
	err = poll(ctx, patience, "the disk's server", func() (bool, error) {
		if !s.Disk.alive() {
			return false, errors.New("qemu-nbd has ended")
		}
		conn, err := l.Dial(ctx, "tcp", l.p.diskAddr().String())
		if err != nil {
			return false, nil
		}
		return true, conn.Close()
	})
	if err != nil {
		return fmt.Errorf("start disk server: %w%s", err, tail(l.p.path("disk.log")))
	}
	return nil
}

// diskMain becomes the server of the guest's disk.
func diskMain(_ context.Context, dir string) error {
	if err := passGate(); err != nil {
		return err
	}
	l, err := Open(dir)
	if err != nil {
		return err
	}
	host, port, err := net.SplitHostPort(l.p.diskAddr().String())
	if err != nil {
		return fmt.Errorf("serve disk: %w", err)
	}
	return l.p.becomeInSwitch(qemuNBD, "--persistent", "--shared=0", "--bind="+host, "--port="+port,
		"--export-name="+diskExport, "--cache=none", "--format=qcow2", l.p.path("shared", ImageName))
}

// becomeInSwitch replaces this program by another one in the switch's network
// namespace. The pid stays, so it is the process that was recorded. It returns
// only when it fails.
func (p plan) becomeInSwitch(name string, args ...string) error {
	// The thread that calls exec is the one that goes on, in its namespace.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	netns, err := unix.Open(filepath.Join("/run/netns", p.netns()), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open the switch's namespace: %w", err)
	}
	if err := unix.Setns(netns, unix.CLONE_NEWNET); err != nil {
		return errors.Join(fmt.Errorf("enter the switch's namespace: %w", err), unix.Close(netns))
	}
	return fmt.Errorf("become %s: %w", name, unix.Exec(name, append([]string{name}, args...), hostEnv(p.path("bin"))))
}
