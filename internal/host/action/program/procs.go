package program

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"holdfast/internal/lib/proc"
)

// statOf reads one entry, proc(5); ok is false for a process that is gone.
func statOf(pid int) (p proc.Proc, ok bool) {
	p, err := proc.Here.Read(pid)
	return p, err == nil // else gone; there is no other reason as root, and none to act upon otherwise
}

// table reads the process table.
func table() ([]proc.Proc, error) {
	pids, err := proc.Here.PIDs()
	if err != nil {
		return nil, err
	}
	var out []proc.Proc
	for _, pid := range pids {
		if p, ok := statOf(pid); ok {
			out = append(out, p)
		}
	}
	return out, nil
}

// descendants returns the living processes below a process, which adopts the
// orphans among them, and those of a control group ("": none).
func descendants(root int, cgroup string) ([]proc.Proc, error) {
	all, err := table()
	if err != nil {
		return nil, err
	}
	below := map[int][]proc.Proc{}
	for _, p := range all {
		below[p.PPID] = append(below[p.PPID], p)
	}
	var out []proc.Proc
	seen := map[int]bool{root: true}
	for todo := []int{root}; len(todo) > 0; {
		pid := todo[0]
		todo = todo[1:]
		for _, p := range below[pid] {
			if seen[p.PID] {
				continue
			}
			seen[p.PID] = true
			todo = append(todo, p.PID)
			if !p.Dead() {
				out = append(out, p)
			}
		}
	}
	members, err := cgroupMembers(cgroup)
	if err != nil {
		return nil, err
	}
	for _, p := range all {
		if members[p.PID] && !seen[p.PID] && !p.Dead() {
			out = append(out, p)
		}
	}
	return out, nil
}

// marked returns the living processes whose environment has the mark.
func marked(mark string) ([]proc.Proc, error) {
	all, err := table()
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(all, func(p proc.Proc) bool {
		if p.Dead() {
			return true
		}
		env, err := proc.Here.Env(p.PID)
		return err != nil || !slices.Contains(env, mark)
	}), nil
}

// signalProc sends a signal to that very process and to none that has got its
// number since. A process that is gone is no error; one of another user is
// left, and shows up as still running.
func signalProc(p proc.Proc, sig unix.Signal) error {
	err := proc.Here.Signal(p.ID, sig)
	if errors.Is(err, proc.ErrGone) || errors.Is(err, unix.EPERM) {
		return nil
	}
	return err
}

// signalAll sends a signal to processes.
func signalAll(ps []proc.Proc, sig unix.Signal) error {
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
		if p.PID == but {
			continue
		}
		// One that is gone or of another user has nothing that could be seen.
		if open, err := proc.Here.HasOpen(p.PID, link); err == nil && open {
			out[p.PID] = true
		}
	}
	return out, nil
}

func seenAs(p proc.Proc) Process { return Process{PID: p.PID, Start: p.Started, Name: p.Name} }

// names lists processes for people, at most ten.
func names(ps []proc.Proc) string {
	var out []string
	for i, p := range ps {
		if i == 10 {
			out = append(out, fmt.Sprintf("and %d more", len(ps)-i))
			break
		}
		out = append(out, fmt.Sprintf("%d (%s)", p.PID, p.Name))
	}
	return strings.Join(out, ", ")
}
