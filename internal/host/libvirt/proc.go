package libvirt

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"holdfast/internal/cluster"
)

// proc is one process, told from a later one with the same pid by its start time.
type proc struct {
	pid     int
	started uint64 // clock ticks since boot, field 22 of proc(5)'s stat
}

// guestProc is a QEMU process of the guest, with what its command line tells.
type guestProc struct {
	proc
	epoch    cluster.Epoch // zero when it carries no token
	incoming bool          // it was started to receive a migration
}

// procTable reads a proc(5) file system.
type procTable struct {
	dir  string
	uuid string // canonical, lower case
	name string
	gate gate
}

// guests returns the QEMU processes of the guest that are not dead. An error
// means that the answer is not complete. Reading a command line can hang while
// that process is stuck in the kernel, hence the context.
func (t *procTable) guests(ctx context.Context) ([]guestProc, error) {
	return bounded(ctx, t.gate, "read the process table", func() ([]guestProc, error) {
		var found []guestProc
		err := t.each(t.isGuest, func(p proc, argv []string) {
			found = append(found, guestProc{proc: p, epoch: epochOf(argv), incoming: slices.Contains(argv, "-incoming")})
		})
		return found, err
	})
}

// daemons returns the processes of libvirt's daemon.
func (t *procTable) daemons(ctx context.Context) ([]proc, error) {
	return bounded(ctx, t.gate, "read the process table", func() ([]proc, error) {
		var found []proc
		err := t.each(isDaemon, func(p proc, _ []string) { found = append(found, p) })
		return found, err
	})
}

func isDaemon(argv []string) bool {
	exe := filepath.Base(argv[0])
	return exe == "libvirtd" || exe == "virtqemud"
}

// each calls f for every live process whose command line is wanted.
func (t *procTable) each(wanted func(argv []string) bool, f func(proc, []string)) error {
	dir, err := os.Open(t.dir)
	if err != nil {
		return err
	}
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return err
	}
	for _, n := range names {
		pid, err := strconv.Atoi(n)
		if err != nil {
			continue
		}
		argv, err := t.argv(pid)
		if err != nil {
			return err
		}
		if len(argv) == 0 || !wanted(argv) {
			continue
		}
		p, alive, err := t.stat(pid)
		if err != nil {
			return err
		}
		if alive {
			f(p, argv)
		}
	}
	return nil
}

// argv returns the command line of a process, none for a kernel thread and for
// a process that is gone. When the first thread of a process has ended before
// the others it shows none, so theirs is asked.
func (t *procTable) argv(pid int) ([]string, error) {
	base := filepath.Join(t.dir, strconv.Itoa(pid))
	b, err := os.ReadFile(filepath.Join(base, "cmdline"))
	if gone(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if len(b) > 0 {
		return splitArgs(b), nil
	}
	st, err := readStat(filepath.Join(base, "stat"))
	if gone(err) || err == nil && !st.dead() {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	tasks, err := os.ReadDir(filepath.Join(base, "task"))
	if gone(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	for _, task := range tasks {
		b, err := os.ReadFile(filepath.Join(base, "task", task.Name(), "cmdline"))
		if err != nil && !gone(err) {
			return nil, err
		}
		if len(b) > 0 {
			return splitArgs(b), nil
		}
	}
	return nil, nil
}

// alive reports whether exactly this process still exists. A zombie counts as
// gone only when all its threads have ended: until then one of them may be
// writing.
func (t *procTable) alive(p proc) (bool, error) {
	now, alive, err := t.stat(p.pid)
	if err != nil {
		return false, fmt.Errorf("look for process %d: %w", p.pid, err)
	}
	return alive && now.started == p.started, nil
}

func (t *procTable) stat(pid int) (p proc, alive bool, err error) {
	base := filepath.Join(t.dir, strconv.Itoa(pid))
	st, err := readStat(filepath.Join(base, "stat"))
	if gone(err) {
		return proc{}, false, nil
	}
	if err != nil {
		return proc{}, false, err
	}
	p = proc{pid, st.started}
	if !st.dead() {
		return p, true, nil
	}
	tasks, err := os.ReadDir(filepath.Join(base, "task"))
	if gone(err) {
		return proc{}, false, nil
	}
	if err != nil {
		return proc{}, false, err
	}
	for _, task := range tasks {
		st, err := readStat(filepath.Join(base, "task", task.Name(), "stat"))
		if err != nil && !gone(err) {
			return proc{}, false, err
		}
		if err == nil && !st.dead() {
			return p, true, nil
		}
	}
	return p, false, nil
}

// isGuest tells whether argv is that of QEMU running our guest.
func (t *procTable) isGuest(argv []string) bool {
	exe := filepath.Base(argv[0])
	if !strings.Contains(exe, "qemu") && !strings.Contains(exe, "kvm") {
		return false
	}
	for i := 1; i+1 < len(argv); i++ {
		switch argv[i] {
		case "-uuid":
			if strings.EqualFold(argv[i+1], t.uuid) {
				return true
			}
		case "-name":
			first, _, _ := strings.Cut(argv[i+1], ",")
			if first == "guest="+t.name {
				return true
			}
		}
	}
	return false
}

// epochOf finds the epoch in the token on the command line.
func epochOf(argv []string) cluster.Epoch {
	for i := 1; i+1 < len(argv); i++ {
		if argv[i] != "-smbios" {
			continue
		}
		for part := range strings.SplitSeq(argv[i+1], ",") {
			v, ok := strings.CutPrefix(part, "value="+tokenPrefix)
			if !ok {
				continue
			}
			if _, s, ok := strings.Cut(v, ":"); ok {
				if e, err := cluster.ParseEpoch(s); err == nil {
					return e
				}
			}
		}
	}
	return cluster.Epoch{}
}

func splitArgs(b []byte) []string {
	return strings.Split(string(bytes.TrimSuffix(b, []byte{0})), "\x00")
}

type procStat struct {
	state   byte
	started uint64
}

func (s procStat) dead() bool { return s.state == 'Z' || s.state == 'X' }

func readStat(path string) (procStat, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return procStat{}, err
	}
	// The name, in parentheses, may hold anything: count fields after the last one.
	i := bytes.LastIndexByte(b, ')')
	f := strings.Fields(string(b[i+1:]))
	if i < 0 || len(f) < 20 {
		return procStat{}, fmt.Errorf("%s: %q is not the form of proc(5)", path, b)
	}
	started, err := strconv.ParseUint(f[19], 10, 64)
	if err != nil {
		return procStat{}, fmt.Errorf("%s: start time: %w", path, err)
	}
	return procStat{f[0][0], started}, nil
}

// gone tells the errors of reading about a process that has ended.
func gone(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ESRCH)
}
