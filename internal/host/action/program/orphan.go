package program

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"holdfast/internal/lib/proc"
)

// orphan judges an attempt that was begun, whose helper is gone and has recorded
// no end: the host went down, or the helper was killed.
func orphan(dir string, b attemptState) (Result, error) {
	r := Result{State: Unknown, Exit: -1, Began: b.Began}
	boot, err := proc.BootID()
	if err != nil {
		return Result{}, err
	}
	if boot != b.Boot {
		r.Why = "the host went down while it ran"
		return r, nil
	}
	main, left, err := survivors(dir, b)
	if err != nil {
		return Result{}, err
	}
	// Until the program itself has ended, to repeat it would be to run it twice.
	if main {
		r.State, r.Why = Running, "its helper was killed, so its exit code will be lost: "+names(left)
		return r, nil
	}
	r.Why = "its helper was killed, so its exit code is lost"
	if len(left) > 0 {
		r.Why += "; still running: " + names(left)
	}
	for _, p := range left {
		r.Leftovers = append(r.Leftovers, seenAs(p))
	}
	if err := dropCgroup(b.Cgroup); err != nil {
		r.Why = join(r.Why, err.Error())
	}
	return r, nil
}

// survivors returns what an attempt has left running, and whether the program
// itself is among it. When its process was not recorded, the helper died at that
// moment, and all of it counts as the program.
func survivors(dir string, b attemptState) (main bool, left []proc.Proc, err error) {
	m, err := mark(dir)
	if err != nil {
		return false, nil, err
	}
	if left, err = marked(m); err != nil {
		return false, nil, err
	}
	seen := map[int]bool{}
	for _, p := range left {
		seen[p.PID] = true
	}
	members, err := cgroupMembers(b.Cgroup)
	if err != nil {
		return false, nil, err
	}
	for pid := range members {
		if p, ok := statOf(pid); ok && !p.Dead() && !seen[pid] {
			left = append(left, p)
		}
	}
	var first Process
	known, err := readJSON(dir, fileMain, &first)
	if err != nil {
		return false, nil, err
	}
	for _, p := range left {
		main = main || !known || p.PID == first.PID && p.Started == first.Start
	}
	return main, left, nil
}

// Stop ends an attempt that runs: SIGTERM to all of its processes, and SIGKILL
// after the grace. It returns when it is over, with its result; one that is over
// already stays as it is.
func Stop(ctx context.Context, dir string) (Result, error) {
	r, err := Probe(dir)
	if err != nil || r.State != Running {
		return r, err
	}
	if err := writeJSON(dir, fileStop, struct{}{}); err != nil {
		return r, fmt.Errorf("stop a program: %w", err)
	}
	t := time.NewTicker(poll)
	defer t.Stop()
	for kill := time.Now().Add(DefaultGrace); ; {
		if r, err = Probe(dir); err != nil || r.State != Running {
			return r, err
		}
		if err := stopOrphan(dir, time.Now().After(kill)); err != nil {
			return r, fmt.Errorf("stop a program: %w", err)
		}
		select {
		case <-ctx.Done():
			return r, fmt.Errorf("stop a program: %w: %w", ErrLeft, context.Cause(ctx))
		case <-t.C:
		}
	}
}

// stopOrphan signals what runs without its helper, which would have done it.
func stopOrphan(dir string, hard bool) error {
	if busy, err := locked(dir); err != nil || busy {
		return err
	}
	var b attemptState
	if ok, err := readJSON(dir, fileBegun, &b); err != nil || !ok {
		return err
	}
	_, left, err := survivors(dir, b)
	if err != nil {
		return err
	}
	sig := unix.SIGTERM
	if hard {
		sig = unix.SIGKILL
		if err := killCgroup(b.Cgroup); err != nil {
			return err
		}
	}
	err = signalAll(left, sig)
	if errors.Is(err, os.ErrPermission) {
		return nil // of another user: Probe says what still runs
	}
	return err
}
