package steps

import (
	"bytes"
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

	"holdfast/internal/cluster"
	"holdfast/internal/job"
	"holdfast/internal/job/engine"
	"holdfast/internal/lib/fail"
	"holdfast/internal/transition"
	"holdfast/internal/upgrade/command"
)

// StepOutput is what a step of any job has said in its last attempt, by the agent of its host. That of a step of the
// coordinator is on the host that was it then, which nobody knows: here there may be nothing of it.
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
	if s.Host == "" || s.Host == o.Self {
		return outputOf(o.Dir, o.Self, j.ID, s)
	}
	return asked(o, s.Host, func(c Peer) (job.Output, error) { return c.StepOutput(ctx, id, step) })
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
	text, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return out, nil
	}
	var p job.Progress
	if err == nil {
		err = json.Unmarshal(text, &p)
	}
	if err != nil {
		return out, fmt.Errorf("read how far %s is: %s: %w", s.ID, file, err)
	}
	out.Line, out.Told, out.Parts = p.Line, p.Told, p.Parts
	return out, nil
}

// CommandsDir is where commands of transitions are run, in the directory of a host's data.
func CommandsDir(data string) string { return filepath.Join(data, "transition") }

// end is what stands last in a file, at most so many bytes, from the beginning of a line on.
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
	if from > 0 {
		_, rest, is := bytes.Cut(b, []byte{'\n'})
		if is {
			b = rest
		}
	}
	return strings.ToValidUTF8(string(b), "\ufffd"), st.Size(), nil
}
