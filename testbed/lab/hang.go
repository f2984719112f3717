package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// HangStorage makes the shared storage hang for one host, as a dead NFS server
// does: every access to SharedDir blocks in state D and ends only with SIGKILL.
// With DiskNBD and DiskCeph it does what HangDisk does, too, so that the I/O of its guest
// hangs. What already has a file of the folder open, such as QEMU with
// DiskFile, goes on. UnhangStorage ends it; blocked accesses then fail with
// ENOTCONN. A loss of power frees the folder. Freeze fails while an access is
// blocked.
func (l *Lab) HangStorage(ctx context.Context, host string) error {
	hs, err := l.running(host)
	if err != nil {
		return err
	}
	s, err := loadState(l.p.Dir)
	if err == nil && (s.Options.Disk == DiskNBD || s.Options.Disk == DiskCeph) {
		err = l.addCut(ctx, cut{From: host, Only: onlyDisk})
	}
	if err == nil {
		err = l.cover(ctx, host, hs.Init)
	}
	if err != nil {
		return fmt.Errorf("hang storage of %s: %w", host, err)
	}
	return l.p.record(host, "hang", "storage")
}

// UnhangStorage ends HangStorage and HangDisk.
func (l *Lab) UnhangStorage(ctx context.Context, host string) error {
	if err := l.p.checkHost(host); err != nil {
		return err
	}
	err := l.change(ctx, func(s *state) error {
		hs := s.Hosts[host]
		if err := hs.Hang.signal(unix.SIGTERM); err != nil {
			return err
		}
		err := hs.Hang.waitGone(ctx, patience)
		if err == nil {
			hs.Hang = Process{}
			s.Hosts[host] = hs
		}
		return err
	})
	if err = errors.Join(err, l.freeDisk(ctx, host)); err != nil {
		return fmt.Errorf("end hang of the storage of %s: %w", host, err)
	}
	return l.p.record(host, "unhang", "storage")
}

// HangDisk makes the guest's disk alone hang for one host, with DiskNBD or DiskCeph: every
// frame between the host and the port of the disk's server is dropped, in both
// directions. Nothing is refused, and the shared folder answers. It outlasts a
// loss of power; UnhangDisk ends it, Heal does not.
func (l *Lab) HangDisk(ctx context.Context, host string) error {
	if _, err := l.running(host); err != nil {
		return err
	}
	s, err := loadState(l.p.Dir)
	switch {
	case err != nil:
	case s.Options.Disk != DiskNBD && s.Options.Disk != DiskCeph:
		err = fmt.Errorf("the guest's disk is a file of the shared folder: hang the storage, or make the laboratory "+
			"with disk %q or %q", DiskNBD, DiskCeph)
	default:
		err = l.addCut(ctx, cut{From: host, Only: onlyDisk})
	}
	if err != nil {
		return fmt.Errorf("hang disk of %s: %w", host, err)
	}
	return l.p.record(host, "hang", "disk")
}

// UnhangDisk ends HangDisk.
func (l *Lab) UnhangDisk(ctx context.Context, host string) error {
	if err := l.p.checkHost(host); err != nil {
		return err
	}
	if err := l.freeDisk(ctx, host); err != nil {
		return fmt.Errorf("end hang of the disk of %s: %w", host, err)
	}
	return l.p.record(host, "unhang", "disk")
}

// freeDisk lets the disk's traffic with the host pass again.
func (l *Lab) freeDisk(ctx context.Context, host string) error {
	return l.changeCuts(ctx, func(cuts []cut) []cut {
		return slices.DeleteFunc(cuts, func(c cut) bool { return c.Only == onlyDisk && c.From == host })
	})
}

// cover starts the process that holds a file system which never answers over
// the host's shared folder, unless it is there, and waits for it.
func (l *Lab) cover(ctx context.Context, host string, init Process) error {
	log := l.p.disk(host, "hang.log")
	d, err := release(l.hold(ctx, func(s *state) (*detached, error) {
		hs := s.Hosts[host]
		if hs.Hang.alive() {
			return nil, nil
		}
		d, err := startDetached([]string{l.p.self(), hangCommand, l.p.disk(host)}, 0, log)
		if err == nil {
			hs.Hang = d.Process
			s.Hosts[host] = hs
		}
		return d, err
	}))
	if err != nil || d == nil {
		return err
	}
	err = poll(ctx, patience, "the folder to hang", func() (bool, error) {
		if !d.alive() {
			return false, errors.New("the process that holds it has ended")
		}
		mounts, err := os.ReadFile(fmt.Sprintf("/proc/%d/mountinfo", init.PID))
		return strings.Contains(string(mounts), hungSource), err
	})
	if err != nil {
		return fmt.Errorf("%w%s", err, tail(log))
	}
	return nil
}

// hungSource is the name of the silent file system in the list of mounts.
const hungSource = "holdfast-lab-hung"

// hangMain covers the shared folder of one host until SIGTERM. It lives outside
// of the host, but for one thread in the host's mount namespace; the host's loss
// of power ends it.
func hangMain(ctx context.Context, disk string) error {
	if err := passGate(); err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGTERM)
	defer stop()
	host := filepath.Base(disk)
	s, err := loadState(filepath.Dir(filepath.Dir(disk)))
	if err != nil {
		return err
	}
	ended := make(chan error)
	go func() {
		// Locked for good: the thread ends with the goroutine and takes its
		// place in the namespace along.
		runtime.LockOSThread()
		ended <- holdCover(ctx, s.Hosts[host].Init)
	}()
	return <-ended
}

// holdCover mounts FUSE without ever answering the kernel. Every request then
// waits for the first answer, which never comes.
func holdCover(ctx context.Context, init Process) error {
	// Of the machine: the host has no such device.
	fuse, err := unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open /dev/fuse: %w", err)
	}
	// Closed by the end of the process, after the folder is uncovered: what
	// still waits then fails.
	ns, err := unix.Open(fmt.Sprintf("/proc/%d/ns/mnt", init.PID), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open the host's mount namespace: %w", err)
	}
	defer unix.Close(ns)
	if err := unix.Unshare(unix.CLONE_FS); err != nil {
		return fmt.Errorf("leave the other threads: %w", err)
	}
	if err := unix.Setns(ns, unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("enter the host's mount namespace: %w", err)
	}
	options := fmt.Sprintf("fd=%d,rootmode=40000,user_id=0,group_id=0,allow_other", fuse)
	if err := mount(hungSource, SharedDir, "fuse", 0, options); err != nil {
		return err
	}
	<-ctx.Done()
	if err := unix.Unmount(SharedDir, unix.MNT_DETACH); err != nil {
		return fmt.Errorf("uncover the folder: %w", err)
	}
	return nil
}
