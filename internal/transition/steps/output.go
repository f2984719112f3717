package steps

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"unicode/utf8"

	"holdfast/internal/cluster"
	"holdfast/internal/job"
	"holdfast/internal/job/engine"
	"holdfast/internal/lib/fail"
	"holdfast/internal/transition"
	"holdfast/internal/upgrade/command"
)

// StepOutput is what a step of any job has said in its last attempt, by the agent of its host. That of a step of the
// coordinator is the one that has claimed the attempt, or has taken it over as the next coordinator: what the one before
// had said stays there. Where nobody has claimed it, the output is empty, and has no Host.
func (o *Orders) StepOutput(ctx context.Context, id, step string) (job.Output, error) {
	j, err := o.Submit.Get(ctx, id)
	if err != nil {
		return job.Output{}, err
	}
	at := slices.IndexFunc(j.Steps, func(s job.StepView) bool { return s.ID == step })
	if at < 0 {
		return job.Output{}, fail.Errorf(fail.Invalid, "step %.200q: %s has no step of that name", step, j.ID)
	}
	s := j.Steps[at]
	host := s.Host
	if host == "" {
		r, err := engine.Record(ctx, o.Submit.Store, j.ID, s.ID)
		switch {
		case err != nil:
			return job.Output{}, err
		case r.Host == "" && r.State == job.Unknown: // the record can not be read, and has nothing but that
			return job.Output{}, fail.Errorf(fail.Failed, "which host has claimed step %s is not known: %s", s.ID, r.Why)
		case r.Host == "":
			return job.Output{}, nil
		}
		host, s.Attempt = r.Host, r.Attempt
	}
	if host == o.Self {
		return outputOf(o.Dir, o.Self, j.ID, s)
	}
	out, err := asked(o, host, func(c Peer) (job.Output, error) { return c.StepOutput(ctx, id, step) })
	if err != nil {
		return job.Output{}, fmt.Errorf("step %s is of host %s: %w", s.ID, host, err)
	}
	return out, nil
}

// outputOf reads it on this host. The names are those of the job, not of who asks.
func outputOf(dir string, self cluster.HostID, id string, s job.StepView) (job.Output, error) {
	out := job.Output{Host: self}
	f, err := os.Open(engine.LogFile(dir, id, s.ID, s.Attempt))
	if err == nil {
		out.Log, out.LogBytes, err = end(f, job.MaxOutput)
		err = errors.Join(err, f.Close())
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return job.Output{}, fmt.Errorf("read the log of %s on %s: %w", s.ID, self, err)
	}
	return told(out, dir, id, s)
}

// told adds how far the parts of a step are, if it is a command that tells.
func told(out job.Output, dir, id string, s job.StepView) (job.Output, error) {
	if s.Kind != transition.KindCommand {
		return out, nil
	}
	run, err := command.Step(CommandsDir(dir), engine.Task{Job: id, Step: job.Step{ID: s.ID}, Attempt: s.Attempt}, nil)
	if err != nil {
		return out, fmt.Errorf("read how far %s is: %w", s.ID, err)
	}
	file := progressFile(run.Dir, s.Attempt)
	p, err := readProgress(file)
	if errors.Is(err, fs.ErrNotExist) {
		return out, nil
	}
	if err != nil {
		return out, fmt.Errorf("read how far %s is: %s: %w", s.ID, file, err)
	}
	out.Line, out.Told, out.Parts, out.More = p.Line, p.Told, p.Parts, p.More
	return out, nil
}

// readProgress reads no more of a file than a Progress may have. One that another version has written is bounded here.
func readProgress(file string) (p job.Progress, err error) {
	f, err := os.Open(file)
	if err != nil {
		return p, err
	}
	text, err := io.ReadAll(io.LimitReader(f, job.MaxProgress+1))
	if err = errors.Join(err, f.Close()); err != nil {
		return p, err
	}
	if len(text) > job.MaxProgress {
		return p, fmt.Errorf("it is longer than %d bytes: it is not read", job.MaxProgress)
	}
	err = json.Unmarshal(text, &p)
	return p.Bounded(), err
}

// CommandsDir is where commands of transitions are run, in the directory of a host's data.
func CommandsDir(data string) string { return filepath.Join(data, "transition") }

// end is what stands last in a file as UTF-8, at most so many bytes, from the beginning of a line on where there is one.
func end(f *os.File, most int64) (text string, size int64, err error) {
	st, err := f.Stat()
	if err != nil {
		return "", 0, err
	}
	from := max(0, st.Size()-most)
	b, err := io.ReadAll(io.NewSectionReader(f, from, most))
	if err != nil {
		return "", 0, err
	}
	return last(b, int(most), from > 0), st.Size(), nil
}

// last is the end of a text as UTF-8, at most most bytes: what stands for bytes that are none is longer than they are. with
// cut, the text itself is the end of another one.
func last(b []byte, most int, cut bool) string {
	for i := 0; cut && i < utf8.UTFMax-1 && len(b) > 0 && !utf8.RuneStart(b[0]); i++ {
		b = b[1:] // of a character that was cut in two
	}
	text := strings.ToValidUTF8(string(b), "\ufffd")
	if over := len(text) - most; over > 0 {
		for over < len(text) && !utf8.RuneStart(text[over]) {
			over++
		}
		text, cut = text[over:], true
	}
	if _, rest, is := strings.Cut(text, "\n"); cut && is {
		return rest
	}
	return text
}
