package supervise

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"

	"holdfast/internal/lib/proc"
)

// process is a running child, own or adopted.
type process struct {
	id     ident
	handle *proc.Handle // never another process
	cmd    *exec.Cmd    // nil: adopted, not a child of this process
}

// watch opens a process and makes sure that it is still the one meant.
func watch(id ident) (*process, error) {
	h, err := proc.Here.Open(proc.ID{PID: id.PID, Started: id.Start})
	if err != nil {
		return nil, err
	}
	// It is held now. Has it ended, or is it of another boot?
	now, err := identOf(id.PID)
	if err != nil {
		return nil, errors.Join(err, h.Close())
	}
	if now != id {
		return nil, errors.Join(proc.ErrGone, h.Close())
	}
	return &process{id: id, handle: h}, nil
}

// watchChild watches a child that was just started. When that is impossible the
// child is ended, as it could not be kept.
func watchChild(cmd *exec.Cmd) (*process, error) {
	pid := cmd.Process.Pid
	p, err := proc.Here.Read(pid) // also of a child that has ended: it is not waited for yet
	if err == nil {
		var boot string
		if boot, err = proc.BootID(); err == nil {
			var h *proc.Handle
			if h, err = proc.Here.Open(p.ID); err == nil {
				return &process{id: ident{pid, p.Started, boot}, handle: h, cmd: cmd}, nil
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
	err = p.handle.Wait(ctx)
	if err != nil && ctx.Err() != nil {
		return "", false, nil
	}
	if err != nil {
		return "", false, err
	}
	exit, err = p.reap()
	return exit, true, err
}

// reap takes the exit status of a process that has ended and closes it.
func (p *process) reap() (string, error) {
	err := p.handle.Close()
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
	err := p.handle.Close()
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
	if errors.Is(err, proc.ErrGone) {
		return ident{}, false, nil
	}
	if err != nil {
		return ident{}, false, err
	}
	if now != rec.ident {
		return ident{}, false, nil
	}
	args, err := proc.Here.Args(rec.PID)
	if errors.Is(err, proc.ErrGone) {
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
	pids, err := proc.Here.PIDs()
	if err != nil {
		return ident{}, false, err
	}
	for _, pid := range pids {
		env, err := proc.Here.Env(pid)
		if err != nil || !slices.Contains(env, marked) {
			continue // another one, ended, or of another user and so not ours
		}
		if sid, err := unix.Getsid(pid); err != nil || sid != pid {
			continue // ended, or not the leader
		}
		id, err := identOf(pid)
		if errors.Is(err, proc.ErrGone) {
			continue
		}
		return id, err == nil, err
	}
	return ident{}, false, nil
}

// identOf names the process that has the id now; proc.ErrGone also for one that has
// ended and was not waited for.
func identOf(pid int) (ident, error) {
	p, err := proc.Here.Read(pid)
	if err != nil {
		return ident{}, err
	}
	if p.Dead() {
		return ident{}, proc.ErrGone
	}
	boot, err := proc.BootID()
	if err != nil {
		return ident{}, err
	}
	return ident{PID: pid, Start: p.Started, Boot: boot}, nil
}
