// Package proc reads the kernel's process table, proc(5), and holds on to
// processes by pidfd, so that neither a signal nor a wait can ever hit another
// process that got the same pid. It keeps no state and decides nothing.
//
// It also starts programs that are not Holdfast's own (Foreign), and small ones that answer soon
// (Run). The unit gives the agent a umask and limits that fit the agent and the store's member. A
// process inherits them, and with them a vendor's program would write files that nobody else can
// read, a database would have too little memory, and neither would leave a core dump. It also
// inherits that the kernel ends others first when the host has no memory left, which the agent may
// have because its own is limited. Programs that change nothing on the host and end soon need not
// be started as foreign ones.
package proc

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

// gone tells the errors of reading about a process that has ended.
func gone(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ESRCH)
}

// kernelThread is PF_KTHREAD of the flags in stat.
const kernelThread = 0x00200000

// ID names one process for good, until the kernel starts anew: pids are used
// again, start times are not.
type ID struct {
	PID     int
	Started uint64 // clock ticks since boot, field 22 of stat
}

// Proc is one process.
type Proc struct {
	ID
	PPID    int
	Session int
	Threads int    // that are left, the dead first one included
	Name    string // of the program, at most 15 bytes; it may hold anything
	State   byte   // R, S, D, T, t, Z, X, I
	Kernel  bool   // a thread of the kernel, not a program
}

// Dead reports whether the first thread has ended, as a rule the whole process:
// it only waits for its parent to collect the exit status. Table.Alive asks the
// other threads as well.
func (p Proc) Dead() bool { return p.State == 'Z' || p.State == 'X' }

// Stopped reports whether the process stands still by SIGSTOP or a debugger.
func (p Proc) Stopped() bool { return p.State == 'T' || p.State == 't' }

// parseStat reads a line of stat. The command's name stands in parentheses and may
// itself hold blanks and parentheses, so fields are counted from the last one.
func parseStat(data []byte) (Proc, error) {
	open, end := bytes.IndexByte(data, '('), bytes.LastIndexByte(data, ')')
	if open < 1 || end < open {
		return Proc{}, fmt.Errorf("no name in parentheses in %q", data)
	}
	fields := strings.Fields(string(data[end+1:])) // from the third on
	if len(fields) < 20 || len(fields[0]) != 1 {
		return Proc{}, fmt.Errorf("%d fields after the name, want 20 or more", len(fields))
	}
	p := Proc{Name: string(data[open+1 : end]), State: fields[0][0]}
	var flags uint64
	var errs [6]error
	p.PID, errs[0] = strconv.Atoi(strings.TrimSpace(string(data[:open])))
	p.PPID, errs[1] = strconv.Atoi(fields[1])
	p.Session, errs[2] = strconv.Atoi(fields[3])
	flags, errs[3] = strconv.ParseUint(fields[6], 10, 64)
	p.Threads, errs[4] = strconv.Atoi(fields[17])
	p.Started, errs[5] = strconv.ParseUint(fields[19], 10, 64)
	p.Kernel = flags&kernelThread != 0
	if err := errors.Join(errs[:]...); err != nil {
		return Proc{}, err
	}
	return p, nil
}

// Table is where a proc(5) file system is mounted. To read anything of a process
// but its state may hang while that process is stuck in the kernel.
type Table string

// Here is the process table of this process's PID namespace.
const Here Table = "/proc"

// Read returns the process with that pid. It wraps ErrGone when there is none.
func (t Table) Read(pid int) (Proc, error) {
	return readStat(pid, t.path(pid, "stat"))
}

func readStat(pid int, path string) (Proc, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return Proc{}, readError(pid, "stat", err)
	}
	p, err := parseStat(data)
	if err != nil {
		return Proc{}, fmt.Errorf("read the state of process %d: %s: %w", pid, path, err)
	}
	return p, nil
}

// Alive reports whether exactly this process still exists. A zombie counts as gone
// only when all its threads have ended: until then one of them may be writing. An
// error is no answer.
func (t Table) Alive(id ID) (bool, error) {
	p, err := t.Read(id.PID)
	switch {
	case errors.Is(err, ErrGone):
		return false, nil
	case err != nil:
		return false, err
	case p.ID != id || !p.Dead():
		return p.ID == id, nil
	}
	tasks, err := t.tasks(id.PID)
	if err != nil {
		return false, err
	}
	for _, task := range tasks {
		p, err := readStat(id.PID, filepath.Join(task, "stat"))
		if err != nil && !errors.Is(err, ErrGone) {
			return false, err
		}
		if err == nil && !p.Dead() {
			return true, nil
		}
	}
	return false, nil
}

// tasks are the directories of a process's threads; none when it is gone.
func (t Table) tasks(pid int) (all []string, err error) {
	dir := t.path(pid, "task")
	entries, err := os.ReadDir(dir)
	if err != nil && !gone(err) {
		return nil, readError(pid, "task", err)
	}
	for _, e := range entries {
		all = append(all, filepath.Join(dir, e.Name()))
	}
	return all, nil
}

// PIDs lists all processes, in ascending order.
func (t Table) PIDs() ([]int, error) {
	dir, err := os.Open(string(t))
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

// Owned reports whether the process belongs to the user of this process. It is
// false when the process is gone.
func (t Table) Owned(pid int) bool {
	info, err := os.Lstat(t.path(pid, ""))
	if err != nil {
		return false
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	return ok && int(st.Uid) == os.Geteuid()
}

// HasOpen reports whether a process has a descriptor of that name, such as
// pipe:[4711]. A process that is gone or dead has none.
func (t Table) HasOpen(pid int, name string) (bool, error) {
	return t.anyOpen(pid, "fd", func(path string) (bool, error) {
		to, err := os.Readlink(path)
		return to == name, err
	})
}

// HasInterface reports whether a process has the other end of a network interface open, as
// QEMU has of a tap device. A process that is gone or dead has none.
func (t Table) HasInterface(pid int, name string) (bool, error) {
	return t.anyOpen(pid, "fdinfo", func(path string) (bool, error) {
		text, err := os.ReadFile(path)
		return bytes.Contains(append([]byte("\n"), text...), []byte("\niff:\t"+name+"\n")), err
	})
}

// HugePages is how much memory of a process is in huge pages, KiB. A process that is gone has none.
func (t Table) HugePages(pid int) (kib int, err error) {
	kib, _, err = KiB(t.path(pid, "status"), "HugetlbPages")
	if gone(err) {
		return 0, nil
	}
	return kib, err
}

// KiB reads a line NAME: NUMBER kB of a file such as meminfo; false: there is none.
func KiB(file, name string) (kib int, found bool, err error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return 0, false, err
	}
	for line := range strings.Lines(string(text)) {
		if v, ok := strings.CutPrefix(line, name+":"); ok {
			if kib, err = strconv.Atoi(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(v), "kB"))); err != nil {
				return 0, false, fmt.Errorf("%s: %s: %w", file, name, err)
			}
			return kib, true, nil
		}
	}
	return 0, false, nil
}

// anyOpen reports whether one of a process's descriptors is what is looked for. One that can not be
// looked at was closed meanwhile, and is not it.
func (t Table) anyOpen(pid int, dir string, is func(path string) (bool, error)) (bool, error) {
	dir = t.path(pid, dir)
	fds, err := os.ReadDir(dir)
	if err != nil {
		p, readErr := t.Read(pid)
		if errors.Is(readErr, ErrGone) || readErr == nil && p.Dead() {
			return false, nil
		}
		return false, fmt.Errorf("read the descriptors of process %d: %w", pid, err)
	}
	for _, fd := range fds {
		if ok, err := is(filepath.Join(dir, fd.Name())); err == nil && ok {
			return true, nil
		}
	}
	return false, nil
}

// BootID is the kernel's name for the time since it was started.
func BootID() (string, error) {
	data, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", fmt.Errorf("read boot id: %w", err)
	}
	return strings.TrimSpace(string(data)), nil
}

func (t Table) path(pid int, name string) string {
	return filepath.Join(string(t), strconv.Itoa(pid), name)
}

func readError(pid int, name string, err error) error {
	if gone(err) {
		return fmt.Errorf("process %d: %w", pid, ErrGone)
	}
	return fmt.Errorf("read %s of process %d: %w", name, pid, err)
}
