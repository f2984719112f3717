package program

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"holdfast/internal/lib/proc"
)

const (
	// tick is how often the helper looks at the clock, at the terminal and for a
	// wish to stop.
	tick = 50 * time.Millisecond
	// closeWait is how long the output may stay open after the program's end.
	closeWait = 2 * time.Second
	// killWait is how long killed processes may take to end.
	killWait = 5 * time.Second
)

// session is one run of a program, in the helper. Its loop is the only
// goroutine that touches it.
type session struct {
	dir   string
	hook  func(string)
	lock  *os.File
	ready *os.File

	spec   Spec
	creds  *Credentials
	cgroup string

	main   proc.Proc
	source *os.File // the helper's end of the output: of a pipe or a terminal
	link   string   // what /proc calls the other end
	sink   *sink
	expect *expecter // nil without a terminal

	status   *unix.WaitStatus // of the program; nil while it runs
	ended    time.Time
	eof      bool
	began    time.Time
	why      string    // it is being ended, for this reason
	killAt   time.Time // when SIGTERM was in vain
	giveUpAt time.Time // when SIGKILL was in vain
	gone     time.Time // since when nothing of it runs
}

// prepare does all that can be refused before anything is begun.
func (s *session) prepare() error {
	ok, err := readJSON(s.dir, fileSpec, &s.spec)
	if err != nil {
		return err
	}
	if !ok {
		return errors.New("there is no spec")
	}
	if err := s.spec.check(); err != nil {
		return err
	}
	if err := reserveExit(s.dir); err != nil {
		return err
	}
	s.creds = &Credentials{}
	if s.spec.Credentials != "" {
		if s.creds, err = ReadCredentials(s.spec.Credentials); err != nil {
			return err
		}
	}
	if s.spec.Terminal {
		if s.expect, err = newExpecter(s.creds, s.spec.Sudo, time.Now()); err != nil {
			return err
		}
	}
	if s.sink, err = newSink(filepath.Join(s.dir, fileOutput), s.spec.MaxOutput, newRedactor(s.creds)); err != nil {
		return err
	}
	if s.spec.Verify != nil {
		return verify(*s.spec.Verify)
	}
	return nil
}

// refuse records that nothing was begun. It returns the reason, for Start.
func (s *session) refuse(why error) error {
	now := time.Now()
	r := Result{State: Failed, Exit: -1, Why: why.Error(), Began: now, Ended: now}
	if err := writeExit(s.dir, r); err != nil {
		return errors.Join(why, err)
	}
	return nil // the record says it
}

// run begins the program and stays until its end is recorded, and longer while
// something it left behind holds its output.
func (s *session) run() error {
	boot, err := proc.BootID()
	if err != nil {
		return tell(s.ready, s.refuse(err))
	}
	marked, err := mark(s.dir)
	if err != nil {
		return tell(s.ready, s.refuse(err))
	}
	s.began = time.Now()
	group := placeCgroup(cgroupName(marked))
	// First the record, so that who comes after a helper that was killed finds the group.
	if err := writeJSON(s.dir, fileBegun, attemptState{Boot: boot, Began: s.began, Cgroup: group}); err != nil {
		return tell(s.ready, s.refuse(err))
	}
	s.cgroup = makeCgroup(group)
	s.hook("begun")
	// Before the fork, so that no end of a child is missed.
	children := make(chan os.Signal, 1)
	signal.Notify(children, unix.SIGCHLD)
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, unix.SIGTERM)
	if err := s.start(append(s.spec.Env, marked)); err != nil {
		dropped := dropCgroup(s.cgroup)
		return tell(s.ready, errors.Join(s.refuse(err), dropped))
	}
	s.hook("forked")
	chunks := make(chan []byte)
	go func() { // it ends with the output, or with this process
		defer close(chunks)
		for {
			p := make([]byte, 32<<10)
			n, err := s.source.Read(p)
			if n > 0 {
				chunks <- p[:n]
			}
			if err != nil {
				return // the end of a pipe, or of a terminal: EIO
			}
		}
	}()
	err = tell(s.ready, writeJSON(s.dir, fileMain, seenAs(s.main)))
	err = errors.Join(err, s.loop(chunks, children, stop))
	return errors.Join(err, s.finish(chunks))
}

// loop runs until the program is over and its output is closed, or was waited
// for, or what is killed does not die.
func (s *session) loop(chunks <-chan []byte, children, stop <-chan os.Signal) error {
	var errs error
	t := time.NewTicker(tick)
	defer t.Stop()
	for {
		select {
		case p, ok := <-chunks:
			if !ok {
				s.eof, chunks = true, nil
				break
			}
			s.take(p)
		case <-children:
		case <-stop:
			s.end("the helper was told to end")
		case <-t.C:
			errs = keepFirst(errs, s.look())
		}
		errs = keepFirst(errs, s.reap())
		over, err := s.over()
		errs = keepFirst(errs, err)
		if over {
			return errs
		}
	}
}

// keepFirst keeps the first error: the loop goes on whatever happens, and does
// so often.
func keepFirst(old, err error) error {
	if old != nil {
		return old
	}
	return err
}

// take keeps output, and shows it to who answers prompts.
func (s *session) take(p []byte) {
	s.sink.write(p)
	if s.expect != nil {
		s.expect.feed(p, time.Now())
	}
}

// look looks at everything that does not come by itself.
func (s *session) look() error {
	now := time.Now()
	wish, err := exists(s.dir, fileStop)
	switch {
	case wish:
		s.end("it was stopped")
	case s.status == nil && now.Sub(s.began) >= s.spec.Timeout:
		s.end(fmt.Sprintf("it did not end within %s", s.spec.Timeout))
	}
	if s.expect != nil && s.status == nil && s.why == "" {
		err = errors.Join(err, s.answer(now))
	}
	if s.why != "" && now.After(s.killAt) {
		err = errors.Join(err, s.kill())
	}
	return err
}

// answer types what the program asks for.
func (s *session) answer(now time.Time) error {
	typed, fail, err := s.expect.next(terminal{
		echo: func() (bool, error) { return echoes(s.source) },
		reads: func(open bool) (bool, bool) {
			ps, err := descendants(os.Getpid(), s.cgroup)
			if err != nil {
				return false, false
			}
			return readsTerminal(ps, s.link, open)
		},
	}, now)
	if err != nil {
		return err
	}
	if fail != "" {
		s.end(s.sink.redact.text(fail))
	}
	if typed == "" {
		return nil
	}
	if err := s.source.SetWriteDeadline(now.Add(time.Second)); err != nil {
		return fmt.Errorf("answer a prompt: %w", err)
	}
	if _, err := io.WriteString(s.source, typed); err != nil {
		return fmt.Errorf("answer a prompt: %w", err)
	}
	return nil
}

// end asks the whole tree to end; SIGKILL follows after the grace.
func (s *session) end(why string) {
	if s.why != "" {
		return
	}
	s.why, s.killAt = why, time.Now().Add(s.spec.Grace)
	s.giveUpAt = s.killAt.Add(killWait)
	ps, err := descendants(os.Getpid(), s.cgroup)
	if err = errors.Join(err, signalAll(ps, unix.SIGTERM), signalAll(ps, unix.SIGCONT)); err != nil {
		s.sink.note(fmt.Sprintf("end the program: %v", err))
	}
}

// kill ends the whole tree for good: what forks is stopped first.
func (s *session) kill() error {
	if err := killCgroup(s.cgroup); err != nil {
		return err
	}
	seen := map[int]bool{}
	for range 20 {
		ps, err := descendants(os.Getpid(), s.cgroup)
		if err != nil {
			return err
		}
		fresh := 0
		for _, p := range ps {
			if !seen[p.PID] {
				seen[p.PID] = true
				fresh++
				if err := signalProc(p, unix.SIGSTOP); err != nil {
					return err
				}
			}
		}
		if fresh == 0 {
			break
		}
	}
	ps, err := descendants(os.Getpid(), s.cgroup)
	return errors.Join(err, signalAll(ps, unix.SIGKILL))
}

// reap takes the exit codes of all children that have ended, the program's own
// and the orphans'.
func (s *session) reap() error {
	for {
		var ws unix.WaitStatus
		pid, err := unix.Wait4(-1, &ws, unix.WNOHANG, nil)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case errors.Is(err, unix.ECHILD) || err == nil && pid <= 0:
			return nil
		case err != nil:
			return fmt.Errorf("wait for children: %w", err)
		case pid == s.main.PID && s.status == nil:
			s.status, s.ended = &ws, time.Now()
		}
	}
}

// over says whether nothing more is waited for.
func (s *session) over() (bool, error) {
	now := time.Now()
	if s.why != "" {
		if now.After(s.giveUpAt) {
			return true, nil
		}
		if s.status == nil {
			return false, nil
		}
		ps, err := descendants(os.Getpid(), s.cgroup)
		if err != nil || len(ps) > 0 {
			return false, err
		}
		if s.gone.IsZero() {
			s.gone = now // what they have said last is still in the pipe
		}
		return s.eof || now.Sub(s.gone) >= closeWait, nil
	}
	return s.status != nil && (s.eof || now.Sub(s.ended) >= closeWait), nil
}
