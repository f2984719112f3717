// Package proctable reads the kernel's process table in /proc and holds on to
// processes by pidfd, so that neither a signal nor a wait can ever hit another
// process that got the same pid. It keeps no state and decides nothing.
package proctable

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// ErrGone says that the process does not exist any more.
var ErrGone = errors.New("process is gone")

// kernelThread is PF_KTHREAD of the flags in /proc/PID/stat.
const kernelThread = 0x00200000

// Proc is one process. PID and Started together name it for good: pids are
// used again, start times are not.
type Proc struct {
	PID     int
	PPID    int
	State   byte   // as in proc(5): R, S, D, T, t, Z, X, I
	Kernel  bool   // a thread of the kernel, not a program
	Started uint64 // clock ticks since boot, field 22 of proc(5) stat
}

// Dead reports whether nothing of the process runs any more: it only waits for
// its parent to collect the exit status.
func (p Proc) Dead() bool { return p.State == 'Z' || p.State == 'X' }

// Stopped reports whether the process stands still by SIGSTOP or a debugger.
func (p Proc) Stopped() bool { return p.State == 'T' || p.State == 't' }

// Same reports whether p and q are the same process.
func (p Proc) Same(q Proc) bool { return p.PID == q.PID && p.Started == q.Started }

// Read returns the process with that pid. It wraps ErrGone when there is none.
func Read(pid int) (Proc, error) {
	data, err := os.ReadFile(path(pid, "stat"))
	if err != nil {
		return Proc{}, readError(pid, "stat", err)
	}
	p, err := parseStat(data)
	if err != nil {
		return Proc{}, fmt.Errorf("read the state of process %d: %w", pid, err)
	}
	return p, nil
}

// parseStat reads a line of proc(5) stat. The command's name stands in
// parentheses and may itself hold blanks and parentheses.
func parseStat(data []byte) (Proc, error) {
	open, end := bytes.IndexByte(data, '('), bytes.LastIndexByte(data, ')')
	if open < 1 || end < open {
		return Proc{}, fmt.Errorf("no name in parentheses in %q", data)
	}
	fields := strings.Fields(string(data[end+1:]))
	if len(fields) < 20 || len(fields[0]) != 1 {
		return Proc{}, fmt.Errorf("%d fields after the name, want 20 or more", len(fields))
	}
	pid, err1 := strconv.Atoi(strings.TrimSpace(string(data[:open])))
	ppid, err2 := strconv.Atoi(fields[1])
	flags, err3 := strconv.ParseUint(fields[6], 10, 64)
	started, err4 := strconv.ParseUint(fields[19], 10, 64)
	if err := errors.Join(err1, err2, err3, err4); err != nil {
		return Proc{}, err
	}
	return Proc{PID: pid, PPID: ppid, State: fields[0][0], Kernel: flags&kernelThread != 0, Started: started}, nil
}

// PIDs lists all processes, in ascending order.
func PIDs() ([]int, error) {
	dir, err := os.Open("/proc")
	if err != nil {
		return nil, fmt.Errorf("list processes: %w", err)
	}
	names, err := dir.Readdirnames(-1)
	if err = errors.Join(err, dir.Close()); err != nil {
		return nil, fmt.Errorf("list processes: %w", err)
	}
	pids := make([]int, 0, len(names))
	for _, name := range names {
		if pid, err := strconv.Atoi(name); err == nil {
			pids = append(pids, pid)
		}
	}
	slices.Sort(pids)
	return pids, nil
}

// Image is what a process was started with.
type Image struct {
	Args []string
	Env  []string
}

// ReadImage returns the arguments and the environment. Both are empty for a
// process that is dead, that belongs to the kernel, or that is in the middle of
// exec: look again a moment later. A process whose environment may not be read
// has an empty one. It wraps ErrGone when there is no such process.
func ReadImage(pid int) (Image, error) {
	args, err := readList(pid, "cmdline")
	if err != nil {
		return Image{}, err
	}
	env, err := readList(pid, "environ")
	// Newer kernels say "no such process" for the environment of a dead one.
	if err != nil && !errors.Is(err, fs.ErrPermission) && !errors.Is(err, ErrGone) {
		return Image{}, err
	}
	return Image{Args: args, Env: env}, nil
}

// Empty reports whether nothing could be read.
func (m Image) Empty() bool { return len(m.Args) == 0 && len(m.Env) == 0 }

// Flag returns the argument that follows name.
func (m Image) Flag(name string) (string, bool) {
	i := slices.Index(m.Args, name)
	if i < 0 || i+1 >= len(m.Args) {
		return "", false
	}
	return m.Args[i+1], true
}

// Getenv returns the value of an environment variable.
func (m Image) Getenv(name string) (string, bool) {
	for _, kv := range m.Env {
		if k, v, ok := strings.Cut(kv, "="); ok && k == name {
			return v, true
		}
	}
	return "", false
}

// Owned reports whether the process belongs to the user of this process. It is
// false when the process is gone.
func Owned(pid int) bool {
	info, err := os.Lstat(path(pid, ""))
	if err != nil {
		return false
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	return ok && int(st.Uid) == os.Geteuid()
}

func readList(pid int, name string) ([]string, error) {
	data, err := os.ReadFile(path(pid, name))
	if err != nil {
		return nil, readError(pid, name, err)
	}
	text := strings.TrimRight(string(data), "\x00")
	if text == "" {
		return nil, nil
	}
	return strings.Split(text, "\x00"), nil
}

func readError(pid int, name string, err error) error {
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("process %d: %w", pid, ErrGone)
	}
	return fmt.Errorf("read %s of process %d: %w", name, pid, err)
}

func path(pid int, name string) string {
	return filepath.Join("/proc", strconv.Itoa(pid), name)
}
