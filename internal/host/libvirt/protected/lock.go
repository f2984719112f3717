package protected

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"

	golibvirt "github.com/digitalocean/go-libvirt"
	"libvirt.org/go/libvirtxml"

	"holdfast/internal/cluster"
	"holdfast/internal/host/libvirt"
)

// The lock manager is a second line of defence, beside QEMU's image locks: with
// GuestSpec.Lockspace set, the guest's definition holds a lease, which virtlockd
// takes before the guest's CPUs run and keeps until its process has ended. The
// lease is a file in the lockspace, named by the domain's UUID, with an fcntl(2)
// lock on it. So it works for every kind of image, and between hosts when the
// lockspace lies on storage that carries such locks (NFS does). Nothing of the
// safety argument rests on it.
//
// libvirt chooses its lock manager per daemon, not per domain, and ignores the
// leases of a daemon that has none. So every host needs, before its libvirtd is
// started,
//
//	/etc/libvirt/qemu.conf:        lock_manager = "lockd"
//	/etc/libvirt/qemu-lockd.conf:  file_lockspace_dir = "/the/lockspace"
//
// and a directory of that name on the shared storage, owned by root. Check and
// Start refuse when that is not so. What to know besides:
//
//   - virtlockd must not be restarted while libvirtd runs: it forgets its
//     locks, silently, and its lockspace, and refuses every start until libvirtd is
//     restarted too. SIGUSR1 makes it run a new binary and forget nothing.
//   - The end of QEMU releases the lock, with or without libvirtd. The end of a
//     whole host does so when the file server has noticed: with NFS 4 that takes a
//     lease period, 90 s unless set otherwise, in which starts elsewhere are refused.
//   - A migration takes the lock along. libvirt 9.0 also carries one out to a
//     host without a lock manager, where the guest then runs without its lock; it is
//     Check of the target that finds this.

// maxLease is the longest lockspace, in bytes: libvirt takes no longer path.
const maxLease = 1024

// leases are the leases that the guest must hold to run.
func leases(spec cluster.GuestSpec) []libvirtxml.DomainLease {
	if spec.Lockspace == "" {
		return nil
	}
	// virtlockd puts the lockspace together again as target path + "/" + name.
	dir, name := filepath.Split(spec.Lockspace)
	return []libvirtxml.DomainLease{{
		Lockspace: name,
		Key:       leaseKey(spec),
		Target:    &libvirtxml.DomainLeaseTarget{Path: strings.TrimSuffix(dir, "/")},
	}}
}

func leaseKey(spec cluster.GuestSpec) string { return strings.ToLower(spec.UUID) }

func checkLockspace(dir string) error {
	if dir == "" {
		return nil
	}
	if !filepath.IsAbs(dir) || filepath.Clean(dir) != dir || filepath.Dir(dir) == "/" || len(dir) > maxLease ||
		strings.ContainsFunc(dir, isControl) {
		return fmt.Errorf("lockspace %q: want a clean absolute path below another directory, as /srv/shared/locks", dir)
	}
	return nil
}

// checkLocks makes sure that the libvirtd that runs here takes the lease.
func (d *Driver) checkLocks(ctx context.Context, spec cluster.GuestSpec) error {
	if spec.Lockspace == "" {
		return nil
	}
	if err := checkLockspace(spec.Lockspace); err != nil {
		return err
	}
	return errors.Join(
		d.checkLockDir(ctx, spec.Lockspace),
		d.checkLockManager(ctx, spec.Lockspace),
		d.checkVirtlockd(ctx),
	)
}

func (d *Driver) checkLockDir(ctx context.Context, dir string) error {
	_, err := libvirt.Bounded(ctx, d.files, "look at the lockspace (does its file server answer?)", func() (struct{}, error) {
		st, err := os.Stat(dir)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return struct{}{}, fmt.Errorf("lockspace %s does not exist on this host: make the directory, or mount the shared one", dir)
		case err == nil && !st.IsDir():
			return struct{}{}, fmt.Errorf("lockspace %s is not a directory", dir)
		}
		return struct{}{}, err
	})
	return err
}

// checkLockManager looks at the running daemon for the lock manager, since its
// file may have been changed after it was started. For the lockspace there is
// only the file; when the daemon has another one, it refuses the start.
func (d *Driver) checkLockManager(ctx context.Context, lockspace string) error {
	qemu, lockd := filepath.Join(d.opt.ConfDir, "qemu.conf"), filepath.Join(d.opt.ConfDir, "qemu-lockd.conf")
	manager, err := libvirt.ConfValue(qemu, "lock_manager")
	if err != nil {
		return err
	}
	dir, err := libvirt.ConfValue(lockd, "file_lockspace_dir")
	if err != nil {
		return err
	}
	if manager != "lockd" || dir != lockspace {
		return fmt.Errorf(`libvirt on this host does not lock the guest in %s: write lock_manager = "lockd" into %s (now %q) and file_lockspace_dir = "%s" into %s (now %q), then systemctl restart libvirtd`,
			lockspace, qemu, manager, lockspace, lockd, dir)
	}
	daemons, err := d.procs.daemons(ctx)
	if err != nil {
		return err
	}
	seen, err := libvirt.Bounded(ctx, d.procs.gate, "look for libvirtd's lock manager",
		func() (lockPlugin, error) { return d.procs.lockPlugin(daemons) })
	switch {
	case err != nil:
		return err
	case !seen.daemon:
		return errors.New("no libvirtd is seen in the process table, so it is not known whether it locks: systemctl start libvirtd")
	case !seen.loaded:
		return fmt.Errorf("the libvirtd that runs on this host has no lock manager yet, %s was changed after it was "+
			"started: systemctl restart libvirtd", qemu)
	}
	return nil
}

// lockPlugin is what is seen of libvirt's plug-in for virtlockd in root's
// daemons; a user's own daemon runs no guest of ours.
type lockPlugin struct {
	daemon bool // there is one
	loaded bool // all of them have loaded it
}

func (t *procTable) lockPlugin(daemons []process) (lockPlugin, error) {
	seen := lockPlugin{loaded: true}
	for _, p := range daemons {
		base := filepath.Join(string(t.dir), strconv.Itoa(p.PID))
		st, err := os.Stat(base)
		if gone(err) {
			continue
		}
		if err != nil {
			return seen, err
		}
		if sys, ok := st.Sys().(*syscall.Stat_t); ok && sys.Uid != 0 {
			continue
		}
		maps, err := os.ReadFile(filepath.Join(base, "maps"))
		if gone(err) {
			continue
		}
		if err != nil {
			return seen, err
		}
		seen.daemon = true
		seen.loaded = seen.loaded && strings.Contains(string(maps), "/lock-driver/lockd.so")
	}
	return seen, nil
}

func (d *Driver) checkVirtlockd(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, libvirt.Share(ctx, libvirt.ConnectLimit))
	defer cancel()
	c, err := new(net.Dialer).DialContext(ctx, "unix", filepath.Join(filepath.Dir(d.opt.Socket), "virtlockd-sock"))
	if err != nil {
		return fmt.Errorf("virtlockd does not answer (systemctl enable --now virtlockd.socket, then systemctl restart libvirtd): %w", err)
	}
	if err := c.Close(); err != nil {
		return fmt.Errorf("hang up on virtlockd: %w", err)
	}
	return nil
}

// makeLease makes the lease's file: virtlockd makes none for a lease that the
// domain names itself. It stays for ever, and is empty.
func (d *Driver) makeLease(ctx context.Context, spec cluster.GuestSpec) error {
	if spec.Lockspace == "" {
		return nil
	}
	_, err := libvirt.Bounded(ctx, d.files, "make the lease (does its file server answer?)", func() (struct{}, error) {
		f, err := os.OpenFile(filepath.Join(spec.Lockspace, leaseKey(spec)), os.O_CREATE|os.O_RDWR, 0o600)
		if err != nil {
			return struct{}{}, err
		}
		return struct{}{}, f.Close()
	})
	return err
}

// imageLocked is what QEMU says of an image that another process has open (locking in block/file-posix.c).
var imageLocked = regexp.MustCompile(`Failed to get (shared )?"\w+( \w+)?" lock`)

// explainLock says of a refusal by virtlockd or by QEMU's lock of the image what it means.
func explainLock(err error) error {
	switch {
	case libvirt.HasCode(err, golibvirt.ErrResourceBusy):
		return fmt.Errorf("%w: it holds the lease: %w", cluster.ErrInUse, err)
	case err != nil && imageLocked.MatchString(err.Error()):
		return fmt.Errorf("%w: %w", cluster.ErrInUse, err)
	case err != nil && strings.Contains(err.Error(), "Lockspace for path"):
		return fmt.Errorf("%w (virtlockd was restarted alone, or qemu-lockd.conf was changed: systemctl restart libvirtd)", err)
	}
	return err
}
