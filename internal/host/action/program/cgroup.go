package program

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
)

// placeCgroup says where the control group (version 2) of a program is to be: below that of this
// process, when groups may be made there, as in the root group and in one that its manager has
// delegated. It is "" where they may not.
func placeCgroup(name string) string {
	own, ok := ownCgroup()
	if !ok {
		return ""
	}
	return filepath.Join(own, name)
}

// makeCgroup makes a control group. It returns "" when that is not allowed; the tree of processes
// is then followed by parentage alone.
func makeCgroup(dir string) string {
	if dir == "" || os.Mkdir(dir, 0o755) != nil {
		return "" // read-only, or a relic: nothing depends on it
	}
	return dir
}

// ownCgroup returns the directory of this process's group if children may be
// made in it.
func ownCgroup() (string, bool) {
	mount, ok := cgroupMount()
	if !ok {
		return "", false
	}
	data, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return "", false
	}
	for line := range strings.Lines(string(data)) {
		path, ok := strings.CutPrefix(strings.TrimSpace(line), "0::")
		if !ok {
			continue
		}
		dir := filepath.Join(mount, path)
		return dir, path == "/" || delegated(dir)
	}
	return "", false
}

// delegated reports whether systemd has left a group to its owner.
func delegated(dir string) bool {
	for _, attr := range []string{"user.delegate", "trusted.delegate"} {
		value := make([]byte, 8)
		if n, err := unix.Getxattr(dir, attr, value); err == nil && string(value[:n]) == "1" {
			return true
		}
	}
	return false
}

// cgroupMount finds where the file system of control groups is mounted.
func cgroupMount() (string, bool) {
	found, err := mountinfo.GetMounts(func(m *mountinfo.Info) (skip, stop bool) {
		whole := m.FSType == "cgroup2" && m.Root == "/"
		return !whole, whole
	})
	if err != nil || len(found) == 0 {
		return "", false
	}
	return found[0].Mountpoint, true
}

// cgroupMembers returns the processes of a group; none for no group and for one
// that is gone.
func cgroupMembers(dir string) (map[int]bool, error) {
	if dir == "" {
		return nil, nil
	}
	data, err := os.ReadFile(filepath.Join(dir, "cgroup.procs"))
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ENODEV) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list control group: %w", err)
	}
	out := map[int]bool{}
	for s := bufio.NewScanner(bytes.NewReader(data)); s.Scan(); {
		if pid, err := strconv.Atoi(s.Text()); err == nil && pid > 0 {
			out[pid] = true
		}
	}
	return out, nil
}

// killCgroup kills all processes of a group in one go. Kernels before 5.14 can
// not; the walk over the process table does it there.
func killCgroup(dir string) error {
	if dir == "" {
		return nil
	}
	err := os.WriteFile(filepath.Join(dir, "cgroup.kill"), []byte("1"), 0)
	if err != nil && !errors.Is(err, os.ErrNotExist) && !errors.Is(err, unix.ENODEV) {
		return fmt.Errorf("kill control group: %w", err)
	}
	return nil
}

// dropWait bounds how long processes that are ending may keep a group.
const dropWait = 2 * time.Second

// dropCgroup removes a group. What lives in it is left running and goes back to
// the group above, from which it came.
func dropCgroup(dir string) error {
	if dir == "" {
		return nil
	}
	for end := time.Now().Add(dropWait); ; time.Sleep(time.Millisecond) {
		err := unix.Rmdir(dir)
		if err == nil || errors.Is(err, unix.ENOENT) {
			return nil
		}
		// One that is ending keeps the group and is not listed, and what is moved may fork meanwhile.
		if !errors.Is(err, unix.EBUSY) || time.Now().After(end) {
			return fmt.Errorf("remove control group: %w", err)
		}
		members, err := cgroupMembers(dir)
		if err != nil {
			return err
		}
		for pid := range members {
			// Fails for a process that has just ended; the group's removal tells the rest.
			_ = os.WriteFile(filepath.Join(filepath.Dir(dir), "cgroup.procs"), []byte(strconv.Itoa(pid)), 0)
		}
	}
}
