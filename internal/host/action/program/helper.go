package program

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"time"

	"golang.org/x/sys/unix"

	"holdfast/internal/lib/proc"
)

// lockWait is how long the helper waits for its lock: a Probe holds it for a
// moment only.
const lockWait = 5 * time.Second

// readyFD is the helper's end of the pipe on which Start waits.
const readyFD = 3

// Main is the helper process: "start DIR" detaches one and ends, "run DIR" is it.
// The hidden command of the binary calls it with what follows its own name, and
// nothing else may be in that process.
func Main(args []string) error { return mainWith(args, nil) }

// mainWith is Main with a hook that is called at each stage.
func mainWith(args []string, hook func(stage string)) error {
	if len(args) != 2 || !filepath.IsAbs(args[1]) {
		return fmt.Errorf("step helper: got %q: want start or run, and an absolute directory", args)
	}
	switch args[0] {
	case "start":
		return detach(args[1])
	case "run":
		return help(args[1], hook)
	}
	return fmt.Errorf("step helper: got %q: want start or run", args[0])
}

// detach starts the helper in a session of its own and leaves it to init, so
// that nobody has to wait for it.
func detach(dir string) error {
	ready := os.NewFile(readyFD, "ready")
	log, err := os.OpenFile(filepath.Join(dir, fileLog), os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return fmt.Errorf("step helper: open its log: %w", err)
	}
	defer log.Close()
	marked, err := mark(dir)
	if err != nil {
		return fmt.Errorf("step helper: %w", err)
	}
	cmd := &exec.Cmd{
		Path: "/proc/self/exe",
		Args: append(append([]string{}, os.Args[:len(os.Args)-2]...), "run", dir),
		// A child that is forked and has not begun its program yet has this mark.
		Env:    append(os.Environ(), marked),
		Dir:    "/",
		Stdout: log, Stderr: log, ExtraFiles: []*os.File{ready},
		SysProcAttr: &unix.SysProcAttr{Setsid: true},
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("step helper: start it: %w", err)
	}
	return cmd.Process.Release()
}

// help is the life of the helper.
func help(dir string, hook func(string)) error {
	debug.SetGCPercent(20) // it may stay for hours
	if hook == nil {
		hook = func(string) {}
	}
	hook("helper")
	signal.Ignore(unix.SIGHUP, unix.SIGINT, unix.SIGPIPE, unix.SIGTTOU, unix.SIGTTIN)
	ready := os.NewFile(readyFD, "ready")
	if err := unix.CloseRange(readyFD, ^uint(0)>>32, unix.CLOSE_RANGE_CLOEXEC); err != nil {
		return fmt.Errorf("step helper: mark open files close-on-exec: %w", err)
	}
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("step helper: adopt orphans: %w", err)
	}
	if err := proc.Unconfine(); err != nil {
		return fmt.Errorf("step helper: make the program one that the unit does not confine: %w", err)
	}
	lock, err := mine(dir)
	if err != nil {
		return tell(ready, err)
	}
	s := &session{dir: dir, hook: hook, lock: lock, ready: ready}
	if err := s.prepare(); err != nil {
		return tell(ready, s.refuse(err))
	}
	hook("prepared")
	return s.run()
}

// tell says on the pipe why nothing was begun.
func tell(ready *os.File, err error) error {
	if err == nil {
		return ready.Close()
	}
	_, werr := io.WriteString(ready, err.Error())
	if errors.Is(werr, unix.EPIPE) {
		werr = nil // nobody waits any more; the state directory says it
	}
	return errors.Join(err, werr, ready.Close())
}

// mine takes the lock and makes sure that this directory was not used.
func mine(dir string) (*os.File, error) {
	lock, err := openLock(dir)
	if err != nil {
		return nil, err
	}
	for end := time.Now().Add(lockWait); ; time.Sleep(5 * time.Millisecond) {
		ok, err := takeLock(lock)
		if err != nil {
			return nil, errors.Join(err, lock.Close())
		}
		if ok {
			break
		}
		if time.Now().After(end) {
			return nil, errors.Join(fmt.Errorf("take lock: %w", ErrBegun), lock.Close())
		}
	}
	for _, name := range []string{fileClosed, fileBegun, fileExit} {
		used, err := exists(dir, name)
		if err == nil && used {
			err = fmt.Errorf("%s is there: %w", name, ErrBegun)
		}
		if err != nil {
			return nil, errors.Join(err, lock.Close())
		}
	}
	return lock, nil
}

// verify compares the program's file with what it must be.
func verify(f File) error {
	fd, err := unix.Open(f.Path, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return fmt.Errorf("open program %s: %w", f.Path, err)
	}
	file := os.NewFile(uintptr(fd), f.Path)
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return fmt.Errorf("look at program %s: %w", f.Path, err)
	}
	if !info.Mode().IsRegular() || info.Size() != f.Size {
		return fmt.Errorf("program %s is not what the manifest says: want a file of %d bytes, it has %d", f.Path, f.Size, info.Size())
	}
	h := sha256.New()
	if _, err := io.Copy(h, file); err != nil {
		return fmt.Errorf("read program %s: %w", f.Path, err)
	}
	if got := hex.EncodeToString(h.Sum(nil)); got != f.SHA256 {
		return fmt.Errorf("program %s is not what the manifest says: its hash is %s, want %s", f.Path, got, f.SHA256)
	}
	return nil
}
