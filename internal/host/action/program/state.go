package program

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"holdfast/internal/lib/durable"
)

// Names in the directory of an attempt, beside the numbers of its commands.
const (
	fileOf          = "of"
	fileOwed        = "owed"
	fileLogged      = "logged"
	fileCredentials = "credentials"
	dirCheck        = "check"
)

// Names in the directory of a command.
const (
	fileSpec   = "spec.json"
	fileClosed = "closed"
	fileBegun  = "begun.json"
	fileMain   = "main.json"
	fileOutput = "output"
	fileExit   = "exit.json"
	fileStop   = "stop"
	fileLock   = "lock"
	fileLog    = "helper.log"
)

// attemptState is written before the program is forked.
type attemptState struct {
	Boot   string    `json:"boot"`
	Began  time.Time `json:"began"`
	Cgroup string    `json:"cgroup,omitempty"` // directory of the control group
}

// writeJSON replaces a file as a whole and puts it on disk.
func writeJSON(dir, name string, v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode %s: %w", name, err)
	}
	return durable.WriteFile(filepath.Join(dir, name), append(data, '\n'), 0o600)
}

// readJSON reads a file; ok is false when it is not there.
func readJSON(dir, name string, v any) (ok bool, err error) {
	data, err := os.ReadFile(filepath.Join(dir, name))
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("read %s: %w", name, err)
	}
	if err := json.Unmarshal(data, v); err != nil {
		return false, fmt.Errorf("read %s: %w", filepath.Join(dir, name), err)
	}
	return true, nil
}

// exited is what exit.json says of a program that ended by itself, whatever its exit
// code. Agents of other versions read it, too.
const exited State = "exited"

// readExit reads how a program has ended; ok is false when that is not recorded.
func readExit(dir string) (r Result, ok bool, err error) {
	ok, err = readJSON(dir, fileExit, &r)
	if r.State == exited {
		if r.State = Done; r.Exit != 0 {
			r.State = Failed
		}
	}
	return r, ok, err
}

func exists(dir, name string) (bool, error) {
	_, err := os.Lstat(filepath.Join(dir, name))
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("look for %s: %w", name, err)
	}
	return true, nil
}

// exitRoom is the size of exit.json, bytes. The room is taken before the
// program begins, so that a full disk does not make its end unknown.
const exitRoom = 32 << 10

func reserveExit(dir string) error {
	f, err := os.OpenFile(filepath.Join(dir, fileExit+".new"), os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("take room for %s: %w", fileExit, err)
	}
	_, err = f.Write(bytes.Repeat([]byte{' '}, exitRoom))
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("take room for %s: %w", fileExit, err)
	}
	return nil
}

// writeExit fills the room and shows it.
func writeExit(dir string, r Result) error {
	data, err := json.Marshal(r)
	if err == nil && len(data) > exitRoom {
		r.Leftovers = nil // the one part without a bound of its own
		r.Why = r.Why[:min(len(r.Why), 4<<10)] + " (the list of processes is left out)"
		data, err = json.Marshal(r)
	}
	if err != nil {
		return fmt.Errorf("encode %s: %w", fileExit, err)
	}
	f, err := os.OpenFile(filepath.Join(dir, fileExit+".new"), os.O_WRONLY|os.O_CREATE, 0o600)
	if err != nil {
		return fmt.Errorf("write %s: %w", fileExit, err)
	}
	_, err = f.WriteAt(data, 0)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("write %s: %w", fileExit, err)
	}
	return durable.Rename(f.Name(), filepath.Join(dir, fileExit))
}

// openLock opens the lock file. The lock itself belongs to the open file, so it
// ends with the process at the latest; no child inherits it.
func openLock(dir string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, fileLock), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open lock: %w", err)
	}
	return f, nil
}

// takeLock reports whether the lock was free.
func takeLock(f *os.File) (bool, error) {
	err := unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, &unix.Flock_t{Type: unix.F_WRLCK})
	if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EACCES) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("take lock: %w", err)
	}
	return true, nil
}

// locked reports whether somebody else has the lock, and takes nothing.
func locked(dir string) (bool, error) {
	f, err := os.OpenFile(filepath.Join(dir, fileLock), os.O_RDWR, 0)
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("open lock: %w", err)
	}
	defer f.Close()
	l := unix.Flock_t{Type: unix.F_WRLCK}
	if err := unix.FcntlFlock(f.Fd(), unix.F_OFD_GETLK, &l); err != nil {
		return false, fmt.Errorf("look at lock: %w", err)
	}
	return l.Type != unix.F_UNLCK, nil
}

// markVar is the variable that says to which attempt a process belongs.
const markVar = "HOLDFAST_STEP"

// mark is the entry in the environment of everything that the program starts.
// Device and inode are in it because the same path may be there twice, in mount
// namespaces.
func mark(dir string) (string, error) {
	var st unix.Stat_t
	if err := unix.Stat(dir, &st); err != nil {
		return "", fmt.Errorf("look at state directory %s: %w", dir, err)
	}
	return fmt.Sprintf("%s=%d:%d:%s", markVar, st.Dev, st.Ino, dir), nil
}
