package proc

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Args returns the command line of a process, none for a thread of the kernel and
// for one that has ended. When the first thread of a process has ended before the
// others it shows none, so theirs is asked. It wraps ErrGone when there is no such
// process.
func (t Table) Args(pid int) ([]string, error) {
	b, err := os.ReadFile(t.path(pid, "cmdline"))
	if err != nil {
		return nil, readError(pid, "cmdline", err)
	}
	if len(b) > 0 {
		return split(b), nil
	}
	if p, err := t.Read(pid); err != nil || !p.Dead() {
		return nil, err
	}
	tasks, err := t.tasks(pid)
	if err != nil {
		return nil, err
	}
	for _, task := range tasks {
		b, err := os.ReadFile(filepath.Join(task, "cmdline"))
		if err != nil && !gone(err) {
			return nil, fmt.Errorf("read the command line of process %d: %w", pid, err)
		}
		if len(b) > 0 {
			return split(b), nil
		}
	}
	return nil, nil
}

// Env returns the environment with which a process was started. It wraps ErrGone
// when there is no such process.
func (t Table) Env(pid int) ([]string, error) { return t.list(pid, "environ") }

// Image is what a process was started with.
type Image struct {
	Args []string
	Env  []string
}

// ReadImage returns the arguments and the environment. Both are empty for a
// process that is dead, that belongs to the kernel, or that is in the middle of
// exec: look again a moment later. A process whose environment may not be read
// has an empty one. It wraps ErrGone when there is no such process.
func (t Table) ReadImage(pid int) (Image, error) {
	args, err := t.list(pid, "cmdline")
	if err != nil {
		return Image{}, err
	}
	env, err := t.Env(pid)
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

// list reads strings that each end with a zero byte. A process may have blanked
// them: zero bytes at the end are nothing.
func (t Table) list(pid int, name string) ([]string, error) {
	data, err := os.ReadFile(t.path(pid, name))
	if err != nil {
		return nil, readError(pid, name, err)
	}
	data = bytes.TrimRight(data, "\x00")
	if len(data) == 0 {
		return nil, nil
	}
	return split(data), nil
}

func split(b []byte) []string {
	return strings.Split(string(bytes.TrimSuffix(b, []byte{0})), "\x00")
}
