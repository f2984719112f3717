package drbd

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"holdfast/internal/lib/fail"
)

// Size is how many bytes a block device has that nobody uses: no file system of it is mounted, and
// no other device stands on it. fail.Refused: somebody does.
func Size(disk string) (bytes int64, err error) {
	fd, err := unix.Open(disk, unix.O_RDONLY|unix.O_EXCL|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.EBUSY) {
		return 0, fail.Errorf(fail.Refused, "%s is in use", disk).With("lsblk and /proc/mounts tell by what; or give another disk")
	}
	if err != nil {
		return 0, fmt.Errorf("open %s: %w", disk, err)
	}
	defer func() { err = errors.Join(err, unix.Close(fd)) }()
	bytes, err = unix.Seek(fd, 0, unix.SEEK_END)
	return bytes, err
}

// sysBlock has the disks of this host, as links to where they are attached.
const sysBlock = "/sys/block"

// LUNs are the disks of this host that a fabric has attached, by FC or iSCSI, but for those that the
// given paths lead to, and what those stand on.
func LUNs(except ...string) ([]string, error) { return luns(sysBlock, except) }

func luns(dir string, except []string) (out []string, err error) {
	var known []string
	for _, path := range except {
		if path == "" {
			continue
		}
		real, err := filepath.EvalSymlinks(path)
		if err != nil {
			continue // a file of this name has attached nothing
		}
		name := filepath.Base(real)
		known = append(known, name)
		below, err := filepath.Glob(filepath.Join(dir, name, "slaves", "*")) // of multipath
		if err != nil {
			return nil, err
		}
		for _, b := range below {
			known = append(known, filepath.Base(b))
		}
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		at, err := os.Readlink(filepath.Join(dir, e.Name()))
		if err != nil {
			return nil, err
		}
		// /devices/.../hostN/sessionN/... by iSCSI, /devices/.../rport-N:N-N/... by FC.
		fabric := slices.ContainsFunc(strings.Split(at, "/"), func(part string) bool {
			return strings.HasPrefix(part, "rport-") || strings.HasPrefix(part, "session")
		})
		if fabric && !slices.Contains(known, e.Name()) {
			out = append(out, "/dev/"+e.Name())
		}
	}
	return out, nil
}
