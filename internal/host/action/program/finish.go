package program

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"holdfast/internal/lib/proc"
)

// finish records the end, gives the lock up, and then stays as long as somebody
// holds the output: without a reader, what is left alone would be killed by its
// next line.
func (s *session) finish(chunks <-chan []byte) error {
	s.hook("ended")
	left, err := s.leftovers()
	s.sink.close()
	r := s.result()
	r.Leftovers = left
	if err != nil {
		r.Why = join(r.Why, fmt.Sprintf("what it left running is not known: %v", err))
	}
	// Before the record: after it, nobody looks for the group any more.
	dropped := dropCgroup(s.cgroup)
	if err := writeExit(s.dir, r); err != nil {
		return errors.Join(err, dropped)
	}
	s.hook("recorded")
	err = errors.Join(dropped, s.lock.Close())
	if s.status == nil {
		return err // it can not be killed; to wait for it is of no use
	}
	for range chunks { // nobody reads this any more
	}
	return err
}

// result says how the program ended.
func (s *session) result() Result {
	r := Result{State: exited, Began: s.began, Ended: s.ended, Output: s.sink.kept, Discarded: s.sink.discarded}
	switch {
	case s.status == nil:
		r.State, r.Exit, r.Ended = Unknown, -1, time.Now()
		r.Why = join(s.why, fmt.Sprintf("process %d (%s) lives %s after SIGKILL", s.main.PID, s.main.Name, killWait))
	case s.status.Signaled():
		r.State, r.Exit = Failed, 128+int(s.status.Signal())
		r.Why = join(s.why, fmt.Sprintf("ended by signal %d (%v)", s.status.Signal(), s.status.Signal()))
	default:
		r.Exit = s.status.ExitStatus()
		if s.why != "" {
			r.State, r.Why = Failed, join(s.why, fmt.Sprintf("ended with exit code %d", r.Exit))
		} else if r.Exit != 0 {
			r.Why = fmt.Sprintf("ended with exit code %d", r.Exit)
		}
	}
	if s.sink.err != nil {
		r.Why = join(r.Why, s.sink.err.Error())
	}
	return r
}

func join(a, b string) string {
	if a == "" {
		return b
	}
	return a + "; " + b
}

// leftovers looks at what still runs, and ends it when that is wanted: all of it
// by KillLeftovers or after a step was ended by force, and what holds the output
// of a step that failed.
func (s *session) leftovers() ([]Process, error) {
	ps, err := descendants(os.Getpid(), s.cgroup)
	if err != nil {
		return nil, err
	}
	holds := map[int]bool{}
	if !s.eof && !s.spec.Terminal {
		if holds, err = holders(s.link, os.Getpid()); err != nil {
			return nil, err
		}
	}
	failed := s.why != "" || s.status == nil || *s.status != 0
	var doomed []proc.Proc
	for _, p := range ps {
		if s.spec.KillLeftovers || s.why != "" || failed && holds[p.PID] {
			doomed = append(doomed, p)
		}
	}
	gone, err := s.bury(doomed)
	var out []Process
	for _, p := range ps {
		seen := seenAs(p)
		seen.Holds, seen.Killed = holds[p.PID], gone[p.PID]
		out = append(out, seen)
	}
	return out, err
}

// bury kills processes and says which of them are gone.
func (s *session) bury(doomed []proc.Proc) (map[int]bool, error) {
	gone := map[int]bool{}
	for end := time.Now().Add(killWait); len(gone) < len(doomed) && time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		alive := slices.DeleteFunc(slices.Clone(doomed), func(p proc.Proc) bool {
			now, ok := statOf(p.PID)
			if !ok || now.Dead() || now.ID != p.ID {
				gone[p.PID] = true
			}
			return gone[p.PID]
		})
		if err := errors.Join(signalAll(alive, unix.SIGKILL), s.reap()); err != nil {
			return gone, err
		}
	}
	return gone, nil
}
