// Package steps carries out the steps of a transition on this host, and begins one.
package steps

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"

	"holdfast/internal/host/action/program"
	"holdfast/internal/job"
	"holdfast/internal/job/engine"
	"holdfast/internal/transition"
	"holdfast/internal/upgrade/command"
)

// Command carries out steps of the kind transition.KindCommand.
type Command struct {
	Self   string   // the path of this program
	Helper []string // its arguments by which it is the helper of a step
	Dir    string   // of transitions on this host, absolute
	Env    []string // KEY=VALUE, for it beside the usual environment
}

var (
	_ engine.Executor = (*Command)(nil)
	_ engine.Stopper  = (*Command)(nil)
)

func (c *Command) read(t engine.Task) (what string, p command.Program, s *program.Step, err error) {
	args, err := engine.Args[transition.Args](t)
	if err != nil {
		return "", p, nil, err
	}
	if len(args.Run) == 0 {
		return "", p, nil, fmt.Errorf("step %s: it names no program", t.Step.ID)
	}
	helper := program.Helper{Exe: c.Self, Args: c.Helper}
	p = command.Program{Helper: helper, Argv: slices.Clone(args.Run), Timeout: t.Step.Timeout}
	t.Log = &teller{Writer: t.Log, note: t.Note}
	if s, err = command.Step(c.Dir, t, nil); err != nil {
		return "", p, nil, err
	}
	s.Again = t.Step.Idempotent
	if p.Argv[0] == transition.Self {
		p.Argv[0], p.Env = c.Self, append(slices.Clone(c.Env), job.ProgressEnv+"="+progressFile(s.Dir, t.Attempt))
	}
	return transition.Line(args.Run), p, s, err
}

// progressFile is where a command tells how far its parts are.
func progressFile(dir string, attempt int) string {
	return filepath.Join(dir, fmt.Sprintf("progress-%d.json", attempt))
}

// Do implements engine.Executor.
func (c *Command) Do(ctx context.Context, t engine.Task) error {
	what, p, s, err := c.read(t)
	if err == nil {
		err = c.tidy(t)
	}
	if err != nil {
		return err
	}
	program.Say(t.Log, "%s", what)
	r, err := p.Run(ctx, s)
	command.SaidBy(t, r)
	return command.Outcome(what, r, err)
}

// Probe implements engine.Executor.
func (c *Command) Probe(ctx context.Context, t engine.Task) (engine.Probed, error) {
	what, _, s, err := c.read(t)
	if err != nil {
		return engine.CanNotTell, err
	}
	r, err := s.Probe(ctx, false)
	switch {
	case err != nil:
		return engine.CanNotTell, fmt.Errorf("%s: %w", what, err)
	case r.State == program.Running:
		return engine.StillRunning, nil
	case r.State == program.Done:
		command.SaidBy(t, r)
		return engine.ProbedDone, nil
	case r.State == program.NotDone || r.State == program.Failed:
		return engine.NotDone, nil // Do tells what failed
	}
	return engine.CanNotTell, nil
}

// Stop implements engine.Stopper.
func (c *Command) Stop(ctx context.Context, t engine.Task) error {
	_, _, s, err := c.read(t)
	if err != nil {
		return err
	}
	return s.Stop(ctx)
}

// tidy removes what earlier jobs have left here, but for what still runs.
func (c *Command) tidy(t engine.Task) error {
	runs := filepath.Join(c.Dir, "runs")
	list, err := os.ReadDir(runs)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("look what earlier transitions have left: %w", err)
	}
	for _, e := range list {
		dir := filepath.Join(runs, e.Name())
		if e.Name() == t.Job {
			continue
		}
		busy, err := program.Busy(dir)
		if err == nil && busy != "" {
			err = fmt.Errorf("a command of the earlier job %s still runs: see %s", e.Name(), busy)
		}
		if err == nil {
			err = os.RemoveAll(dir)
		}
		if err != nil {
			return fmt.Errorf("remove what earlier transitions have left: %w", err)
		}
	}
	return nil
}

// percent is how the commands of Holdfast tell how far they are.
var percent = regexp.MustCompile(`(?:^| )([0-9]{1,3}) %`)

// maxNote bounds what is told of a line, bytes.
const maxNote = 200

// teller passes a log on, and tells people its last whole line. Any goroutine may write.
type teller struct {
	io.Writer
	note func(what string, percent int)

	mu   sync.Mutex
	part []byte // of a line
}

// Write implements io.Writer.
func (w *teller) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.part = append(w.part, p...)
	if end := bytes.LastIndexByte(w.part, '\n'); end >= 0 {
		line := w.part[:end]
		line = line[bytes.LastIndexByte(line, '\n')+1:]
		if text := strings.TrimSpace(string(line)); text != "" {
			w.tell(text)
		}
		w.part = slices.Clone(w.part[end+1:])
	}
	if len(w.part) > maxNote {
		w.part = w.part[:maxNote]
	}
	return w.Writer.Write(p)
}

func (w *teller) tell(line string) {
	done := -1
	if m := percent.FindStringSubmatch(line); m != nil {
		if n, err := strconv.Atoi(m[1]); err == nil && n <= 100 {
			done = n
		}
	}
	if len(line) > maxNote {
		line = strings.ToValidUTF8(line[:maxNote], "")
	}
	w.note(line, done)
}
