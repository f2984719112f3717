package lab

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/moby/sys/mountinfo"
)

// freezerRoot finds where control groups that can freeze are made: version 2
// where it is mounted, else the freezer of version 1.
func freezerRoot() (string, error) {
	v2, v1, err := freezerRoots()
	if err != nil {
		return "", err
	}
	if v2 != "" {
		return v2, nil
	}
	if v1 != "" {
		return v1, nil
	}
	return "", errors.New("find control groups: neither cgroup2 nor the freezer of version 1 is mounted")
}

// freezerRoots are the mount points of both versions, "" where there is none.
func freezerRoots() (v2, v1 string, err error) {
	found, err := mountinfo.GetMounts(mountinfo.FSTypeFilter("cgroup", "cgroup2"))
	if err != nil {
		return "", "", fmt.Errorf("find control groups: %w", err)
	}
	for _, m := range found {
		switch {
		case m.FSType == "cgroup2":
			v2 = m.Mountpoint
		case slices.Contains(strings.Split(m.VFSOptions, ","), "freezer"):
			v1 = m.Mountpoint
		}
	}
	return v2, v1, nil
}

// makeCgroup makes a control group and puts the process into it; its
// descendants are born there.
func makeCgroup(path string, pid int) error {
	if err := os.Mkdir(path, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("make control group: %w", err)
	}
	if err := os.WriteFile(filepath.Join(path, "cgroup.procs"), []byte(strconv.Itoa(pid)), 0); err != nil {
		return fmt.Errorf("put process %d into its control group: %w", pid, err)
	}
	return nil
}

// freezerFile is the switch of a control group, and what to write and to read.
func freezerFile(path string, freeze bool) (file, word string) {
	if file = filepath.Join(path, "cgroup.freeze"); exists(file) {
		if freeze {
			return file, "1"
		}
		return file, "0"
	}
	file = filepath.Join(path, "freezer.state")
	if freeze {
		return file, "FROZEN"
	}
	return file, "THAWED"
}

// setFrozen freezes or thaws a control group and waits until all of it stands
// still or goes on.
func setFrozen(ctx context.Context, path string, freeze bool) error {
	file, word := freezerFile(path, freeze)
	if err := os.WriteFile(file, []byte(word), 0); err != nil {
		return fmt.Errorf("set %s to %s: %w", file, word, err)
	}
	return poll(ctx, patience, file+" to be "+word, func() (bool, error) {
		return frozen(path) == freeze, nil
	})
}

// frozen reports whether every process of the control group stands still. A
// group that can not be read is not frozen: it is gone.
func frozen(path string) bool {
	if raw, err := os.ReadFile(filepath.Join(path, "cgroup.events")); err == nil {
		return strings.Contains(string(raw), "frozen 1")
	}
	raw, err := os.ReadFile(filepath.Join(path, "freezer.state"))
	return err == nil && strings.TrimSpace(string(raw)) == "FROZEN"
}

// killGroup kills the PID 1 of a host, frozen or not, and waits until all of the
// host is gone.
func killGroup(ctx context.Context, init Process, path string) error {
	if err := init.signal(sigKill); err != nil {
		return err
	}
	if file := filepath.Join(path, "freezer.state"); exists(file) && init.alive() {
		// Version 1: a frozen process dies only when it is thawed.
		if err := os.WriteFile(file, []byte("THAWED"), 0); err != nil && init.alive() {
			return fmt.Errorf("thaw a host that was killed: %w", err)
		}
	}
	return init.waitGone(ctx, patience)
}

// removeCgroup removes an empty control group; the kernel may need a moment
// after its last process ended.
func removeCgroup(ctx context.Context, path string) error {
	return poll(ctx, patience, "control group "+path+" to be empty", func() (bool, error) {
		err := os.Remove(path)
		return err == nil || errors.Is(err, fs.ErrNotExist), nil
	})
}

// isNotExist reports whether there is no laboratory.
func isNotExist(err error) bool { return errors.Is(err, fs.ErrNotExist) }

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
