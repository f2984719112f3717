package proc

import (
	"context"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Umask is what services of a host have usually.
const Umask = 0o022

// confined are the limits that the unit lowers, all of them the soft ones: to the hard limit
// everybody may raise them again.
func confined() []int { return []int{unix.RLIMIT_DATA, unix.RLIMIT_CORE} }

// shell does in a new process what Unconfine does in this one, and becomes the program: no process of Go
// can do so for one that it starts, as umask and limits are those of all its threads.
const shell = `umask 022; ulimit -S -d "$(ulimit -H -d)"; ulimit -S -c "$(ulimit -H -c)"
read -r a </proc/self/oom_score_adj; [ "$a" -ge 0 ] || echo 0 >/proc/self/oom_score_adj
exec "$0" "$@"`

// Foreign is exec.CommandContext of a program that has the usual umask, the limits as they
// were before the unit lowered them, and no protection from the kernel's search for memory. Its process is the program,
// which a shell has become: for a moment after Start it may still be the shell. A program that is not there is an error
// of Start, as ever.
func Foreign(ctx context.Context, name string, args ...string) *exec.Cmd {
	path, err := exec.LookPath(name)
	if err != nil {
		return exec.CommandContext(ctx, name, args...) // its Start says so
	}
	return exec.CommandContext(ctx, "/bin/sh", slices.Concat([]string{"-c", shell, path}, args)...)
}

// Unconfine takes this process, and what it starts, out of all that.
func Unconfine() error {
	if err := unprotect("/proc/self/oom_score_adj"); err != nil {
		return err
	}
	unix.Umask(Umask)
	for _, what := range confined() {
		var l unix.Rlimit
		if err := unix.Getrlimit(what, &l); err != nil {
			return err
		}
		l.Cur = l.Max
		if err := unix.Setrlimit(what, &l); err != nil {
			return err
		}
	}
	return nil
}

// unprotect gives up, for this process and all that it starts, that others are ended
// before it when memory is short: an agent has that by its unit, and programs with the
// daemons that they leave behind would inherit it. A process may always do so.
func unprotect(file string) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	adj, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil || adj >= 0 {
		return err
	}
	return os.WriteFile(file, []byte("0"), 0)
}
