package supervise

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// errGone means that a process ended before it could be watched.
var errGone = errors.New("process is gone")

// process is a running child, own or adopted.
type process struct {
	id  ident
	fd  *os.File  // pidfd: readable when the process has ended, never another process
	cmd *exec.Cmd // nil: adopted, not a child of this process
}

// watch opens a process and makes sure that it is still the one meant.
func watch(id ident) (*process, error) {
	fd, err := unix.PidfdOpen(id.PID, unix.PIDFD_NONBLOCK)
	if errors.Is(err, unix.ESRCH) {
		return nil, errGone
	}
	if err != nil {
		return nil, fmt.Errorf("open process %d: %w", id.PID, err)
	}
	f := os.NewFile(uintptr(fd), "pidfd:"+strconv.Itoa(id.PID))
	// Only now can the id not be given to another process any more.
	now, err := identOf(id.PID)
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	if now != id {
		return nil, errors.Join(errGone, f.Close())
	}
	return &process{id: id, fd: f}, nil
}

// watchChild watches a child that was just started. When that is impossible the
// child is ended, as it could not be kept.
func watchChild(cmd *exec.Cmd) (*process, error) {
	pid := cmd.Process.Pid
	start, _, err := stat(pid) // also of a child that has ended: it is not waited for yet
	if err == nil {
		var boot string
		if boot, err = bootID(); err == nil {
			var fd int
			if fd, err = unix.PidfdOpen(pid, unix.PIDFD_NONBLOCK); err == nil {
				return &process{id: ident{pid, start, boot}, fd: os.NewFile(uintptr(fd), "pidfd:"+strconv.Itoa(pid)), cmd: cmd}, nil
			}
		}
	}
	err = fmt.Errorf("open child %d: %w", pid, err)
	if kerr := cmd.Process.Kill(); kerr != nil {
		return nil, errors.Join(err, fmt.Errorf("kill child %d: %w", pid, kerr))
	}
	if _, werr := cmd.Process.Wait(); werr != nil {
		return nil, errors.Join(err, fmt.Errorf("wait for child %d: %w", pid, werr))
	}
	return nil, err
}

// wait waits until the process has ended (ended is true, exit says how) or ctx
// is over.
func (p *process) wait(ctx context.Context) (exit string, ended bool, err error) {
	ended, err = p.awaitEnd(ctx)
	if err != nil {
		return "", false, fmt.Errorf("watch process %d: %w", p.id.PID, err)
	}
	if !ended {
		return "", false, nil
	}
	exit, err = p.reap()
	return exit, true, err
}

func (p *process) awaitEnd(ctx context.Context) (ended bool, err error) {
	conn, err := p.fd.SyscallConn()
	if err != nil {
		return false, err
	}
	if err := p.fd.SetReadDeadline(time.Time{}); err != nil {
		return false, err
	}
	wake := make(chan error, 1)
	stop := context.AfterFunc(ctx, func() { wake <- p.fd.SetReadDeadline(time.Unix(1, 0)) })
	var perr error
	err = conn.Read(func(fd uintptr) bool {
		fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		var n int
		n, perr = unix.Poll(fds, 0)
		if errors.Is(perr, unix.EINTR) {
			perr = nil
		}
		ended = n > 0
		return ended || perr != nil
	})
	if !stop() {
		err = errors.Join(err, <-wake)
	}
	if ended || (ctx.Err() != nil && errors.Is(err, os.ErrDeadlineExceeded)) {
		return ended, nil
	}
	return false, errors.Join(err, perr)
}

// reap takes the exit status of a process that has ended and closes it.
func (p *process) reap() (string, error) {
	err := p.fd.Close()
	if p.cmd == nil {
		return "unknown, not a child of this process", err
	}
	// The exit status is the state's, not an error of waiting.
	werr := p.cmd.Wait()
	if p.cmd.ProcessState == nil {
		return "unknown", errors.Join(err, werr)
	}
	return p.cmd.ProcessState.String(), err
}

// release forgets the process and leaves it running.
func (p *process) release() error {
	err := p.fd.Close()
	if p.cmd != nil {
		err = errors.Join(err, p.cmd.Process.Release())
	}
	if err != nil {
		return fmt.Errorf("release process %d: %w", p.id.PID, err)
	}
	return nil
}

// find looks for the living child: by the record, and else by the mark, for a
// keeper may die between the start of a child and its record.
func find(dir, name string, rec record) (ident, bool, error) {
	if id, ok, err := fromRecord(rec); err != nil || ok {
		return id, ok, err
	}
	return fromMark(dir, name)
}

func fromRecord(rec record) (ident, bool, error) {
	if rec.PID == 0 {
		return ident{}, false, nil
	}
	now, err := identOf(rec.PID)
	if errors.Is(err, errGone) {
		return ident{}, false, nil
	}
	if err != nil {
		return ident{}, false, err
	}
	if now != rec.ident {
		return ident{}, false, nil
	}
	args, err := commandLine(rec.PID)
	if errors.Is(err, errGone) {
		return ident{}, false, nil
	}
	if err != nil {
		return ident{}, false, err
	}
	return now, slices.Equal(args, rec.Args), nil
}

// mark is the entry of the child's environment that tells whose it is. The
// directory's device and inode are in it because hosts of a laboratory may use
// the same path in mount namespaces of their own.
func mark(dir, name string) (string, error) {
	var st unix.Stat_t
	if err := unix.Stat(dir, &st); err != nil {
		return "", fmt.Errorf("look at directory %s: %w", dir, err)
	}
	return fmt.Sprintf("%s=%d:%d:%s", markVar, st.Dev, st.Ino, filepath.Join(dir, name)), nil
}

// fromMark finds the leader of a session whose environment has the mark. What
// the child itself started has the mark too, but is not a leader.
func fromMark(dir, name string) (ident, bool, error) {
	marked, err := mark(dir, name)
	if err != nil {
		return ident{}, false, err
	}
	want := []byte("\x00" + marked + "\x00")
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return ident{}, false, fmt.Errorf("list processes: %w", err)
	}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue // not a process
		}
		env, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
		if err != nil {
			continue // ended, or of another user and so not ours
		}
		if !bytes.Contains(append([]byte{0}, env...), want) {
			continue
		}
		if sid, err := unix.Getsid(pid); err != nil || sid != pid {
			continue // ended, or not the leader
		}
		id, err := identOf(pid)
		if errors.Is(err, errGone) {
			continue
		}
		return id, err == nil, err
	}
	return ident{}, false, nil
}

// identOf names the process that has the id now; errGone also for one that has
// ended and was not waited for.
func identOf(pid int) (ident, error) {
	start, zombie, err := stat(pid)
	if err != nil {
		return ident{}, err
	}
	if zombie {
		return ident{}, errGone
	}
	boot, err := bootID()
	if err != nil {
		return ident{}, err
	}
	return ident{PID: pid, Start: start, Boot: boot}, nil
}

// stat reads start time and state of a process, proc(5).
func stat(pid int) (start uint64, zombie bool, err error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ESRCH) {
		return 0, false, errGone
	}
	if err != nil {
		return 0, false, fmt.Errorf("read state of process %d: %w", pid, err)
	}
	// The program's name, field 2, may hold spaces and parentheses; field 3 follows the last one.
	_, rest, ok := cutLast(string(data), ") ")
	fields := strings.Fields(rest)
	if !ok || len(fields) < 20 {
		return 0, false, fmt.Errorf("read state of process %d: %q has too few fields", pid, data)
	}
	start, err = strconv.ParseUint(fields[19], 10, 64)
	if err != nil {
		return 0, false, fmt.Errorf("read start time of process %d: %w", pid, err)
	}
	return start, fields[0] == "Z" || fields[0] == "X", nil
}

func cutLast(s, sep string) (before, after string, ok bool) {
	i := strings.LastIndex(s, sep)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+len(sep):], true
}

func bootID() (string, error) {
	data, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", fmt.Errorf("read boot id: %w", err)
	}
	return strings.TrimSpace(string(data)), nil
}

func commandLine(pid int) ([]string, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ESRCH) {
		return nil, errGone
	}
	if err != nil {
		return nil, fmt.Errorf("read command line of process %d: %w", pid, err)
	}
	return strings.Split(strings.TrimSuffix(string(data), "\x00"), "\x00"), nil
}
