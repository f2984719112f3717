package program

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// proc is an entry of the process table.
type proc struct {
	pid, parent int
	start       uint64
	name        string
	zombie      bool
}

// statOf reads one entry, proc(5); ok is false for a process that is gone.
func statOf(pid int) (p proc, ok bool) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return proc{}, false // gone; there is no other reason as root, and none to act upon otherwise
	}
	// The name may hold spaces and parentheses: fields are counted from the last one.
	open, end := bytes.IndexByte(data, '('), bytes.LastIndex(data, []byte(") "))
	if open < 0 || end < open {
		return proc{}, false
	}
	fields := strings.Fields(string(data[end+2:]))
	if len(fields) < 20 {
		return proc{}, false
	}
	parent, perr := strconv.Atoi(fields[1])
	start, serr := strconv.ParseUint(fields[19], 10, 64)
	if perr != nil || serr != nil {
		return proc{}, false
	}
	return proc{pid, parent, start, string(data[open+1 : end]), fields[0] == "Z" || fields[0] == "X"}, true
}

// table reads the process table.
func table() ([]proc, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, fmt.Errorf("list processes: %w", err)
	}
	var out []proc
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue // not a process
		}
		if p, ok := statOf(pid); ok {
			out = append(out, p)
		}
	}
	return out, nil
}

// descendants returns the living processes below a process, which adopts the
// orphans among them, and those of a control group ("": none).
func descendants(root int, cgroup string) ([]proc, error) {
	all, err := table()
	if err != nil {
		return nil, err
	}
	below := map[int][]proc{}
	for _, p := range all {
		below[p.parent] = append(below[p.parent], p)
	}
	var out []proc
	seen := map[int]bool{root: true}
	for todo := []int{root}; len(todo) > 0; {
		pid := todo[0]
		todo = todo[1:]
		for _, p := range below[pid] {
			if seen[p.pid] {
				continue
			}
			seen[p.pid] = true
			todo = append(todo, p.pid)
			if !p.zombie {
				out = append(out, p)
			}
		}
	}
	members, err := cgroupMembers(cgroup)
	if err != nil {
		return nil, err
	}
	for _, p := range all {
		if members[p.pid] && !seen[p.pid] && !p.zombie {
			out = append(out, p)
		}
	}
	return out, nil
}

// marked returns the living processes whose environment has the mark.
func marked(mark string) ([]proc, error) {
	all, err := table()
	if err != nil {
		return nil, err
	}
	want := []byte("\x00" + mark + "\x00")
	return slices.DeleteFunc(all, func(p proc) bool {
		if p.zombie {
			return true
		}
		env, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", p.pid))
		return err != nil || !bytes.Contains(append([]byte{0}, env...), want)
	}), nil
}

// signalProc sends a signal to that very process and to none that has got its
// number since. A process that is gone is no error; one of another user is
// left, and shows up as still running.
func signalProc(p proc, sig unix.Signal) error {
	fd, err := unix.PidfdOpen(p.pid, 0)
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("open process %d: %w", p.pid, err)
	}
	defer unix.Close(fd)
	if now, ok := statOf(p.pid); !ok || now.start != p.start {
		return nil
	}
	err = unix.PidfdSendSignal(fd, sig, nil, 0)
	if err != nil && !errors.Is(err, unix.ESRCH) && !errors.Is(err, unix.EPERM) {
		return fmt.Errorf("send %v to process %d: %w", sig, p.pid, err)
	}
	return nil
}

// signalAll sends a signal to processes.
func signalAll(ps []proc, sig unix.Signal) error {
	var err error
	for _, p := range ps {
		err = errors.Join(err, signalProc(p, sig))
	}
	return err
}

// holders returns which of the processes of this machine have a file open, by
// the name that /proc gives it, such as pipe:[4711].
func holders(link string, but int) (map[int]bool, error) {
	all, err := table()
	if err != nil {
		return nil, err
	}
	out := map[int]bool{}
	for _, p := range all {
		if p.pid != but && hasOpen(p.pid, link) {
			out[p.pid] = true
		}
	}
	return out, nil
}

// hasOpen reports whether a process has a file open. One that is gone or of
// another user has nothing that could be seen.
func hasOpen(pid int, link string) bool {
	dir := fmt.Sprintf("/proc/%d/fd", pid)
	fds, err := os.ReadDir(dir)
	if err != nil {
		return false
	}
	for _, fd := range fds {
		if got, err := os.Readlink(filepath.Join(dir, fd.Name())); err == nil && got == link {
			return true
		}
	}
	return false
}

func seenAs(p proc) Process { return Process{PID: p.pid, Start: p.start, Name: p.name} }

// names lists processes for people, at most ten.
func names(ps []proc) string {
	var out []string
	for i, p := range ps {
		if i == 10 {
			out = append(out, fmt.Sprintf("and %d more", len(ps)-i))
			break
		}
		out = append(out, fmt.Sprintf("%d (%s)", p.pid, p.name))
	}
	return strings.Join(out, ", ")
}
