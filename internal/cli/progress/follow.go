package progress

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"holdfast/internal/api"
	"holdfast/internal/api/told"
	"holdfast/internal/cli/command"
	"holdfast/internal/cli/output"
	"holdfast/internal/job"
	"holdfast/internal/lib/fail"
)

// jobEvery is the time between two looks at a job that is followed.
const jobEvery = 500 * time.Millisecond

// JobOf looks at a job by an agent.
func JobOf(c *api.Client) func(context.Context, job.View) (job.View, error) {
	return func(ctx context.Context, j job.View) (job.View, error) { return c.Job(ctx, j.ID) }
}

// Begun follows a job that has begun, or tells of it.
func Begun(ctx context.Context, a *command.App, c *api.Client, j job.View, wait, js bool) error {
	switch {
	case wait:
		return AwaitRun(ctx, a, j, js, JobOf(c), "holdfast jobs show "+output.Clean(j.ID))
	case js:
		return output.JSON(a.Env.Stdout, j, false)
	}
	return output.Text(a.Env.Stdout, fmt.Sprintf("%s has begun: %s\nfollow it with: holdfast jobs watch %[1]s\n",
		output.Clean(j.ID), output.Clean(j.Title)))
}

// Follow looks at the job until it has ended or enough says so, and says on stderr what is new. An agent that goes away
// is asked again.
func Follow(ctx context.Context, a *command.App, j job.View, look func(context.Context, job.View) (job.View, error),
	enough func(job.View) bool) (job.View, error) {
	said := map[string]string{}
	tick := time.NewTicker(jobEvery)
	defer tick.Stop()
	for {
		for _, line := range jobNews(j, said) {
			if err := output.Text(a.Env.Stderr, line+"\n"); err != nil {
				return j, err
			}
		}
		if j.State == "ended" || enough(j) {
			return j, nil
		}
		select {
		case <-ctx.Done():
			return j, unwatched(ctx.Err(), j)
		case <-tick.C:
		}
		next, err := look(ctx, j)
		if err != nil && !Away(err) && ctx.Err() == nil {
			return j, err
		}
		if err == nil {
			j = next
		}
	}
}

// Away reports whether an error says that the agent gave no answer, as one does
// that is started again.
func Away(err error) bool {
	var e *fail.Error
	return errors.As(err, &e) && (e.Kind == fail.Unavailable || e.Kind == fail.Timeout)
}

// unwatched is the error of a command that follows a job no longer.
func unwatched(cause error, j job.View) error {
	kind, why := fail.Timeout, "not done in time"
	if errors.Is(cause, context.Canceled) {
		kind, why = fail.Canceled, "interrupted"
	}
	return fail.Errorf(kind, "%s: %s", j.Title, why).
		With("the job goes on; follow it with: holdfast jobs watch " + output.Clean(j.ID))
}

// jobNews are the lines about what has changed since they were asked for last.
func jobNews(j job.View, said map[string]string) []string {
	var out []string
	add := func(key, text string) {
		if said[key] != text {
			said[key] = text
			if text != "" {
				out = append(out, text)
			}
		}
	}
	for _, s := range j.Steps {
		text := ""
		if s.State != "pending" {
			text = fmt.Sprintf("%s: %s", output.Clean(s.ID), output.Clean(s.State))
			if note := output.Or(s.Why, s.Note); note != "" {
				text += ": " + output.Clean(note)
			}
		}
		add(s.ID, text)
	}
	for i, w := range j.WaitsFor() {
		add(fmt.Sprint("wait", i), "waiting: "+output.Clean(w))
	}
	paused := ""
	if j.State == "paused" {
		paused = "paused: " + output.Clean(j.Because())
	}
	add("paused", paused)
	return out
}

// AwaitRun follows a run to its end, or until a failure needs a person, who is told where to look.
func AwaitRun(ctx context.Context, a *command.App, j job.View, js bool,
	look func(context.Context, job.View) (job.View, error),
	where string) error {
	j, err := Follow(ctx, a, j, look, NeedsHelp)
	if err != nil {
		return err
	}
	if js {
		err = output.JSON(a.Env.Stdout, Outcome{Job: &j}, false)
	} else {
		err = output.Text(a.Env.Stdout, fmt.Sprintf("%s: %s\n", output.Clean(j.ID), told.JobState(j).Text))
	}
	if err != nil || j.State == "ended" && j.Result == "done" {
		return err
	}
	var b strings.Builder
	p := output.PainterFor(a.Env.Stderr)
	for _, s := range told.StuckSteps(j) {
		StuckText(&b, p, s, allOfTheLog)
	}
	if err := output.Text(a.Env.Stderr, b.String()); err != nil {
		return err
	}
	return fail.Errorf(fail.Failed, "%s: %s: %s", j.Title, output.Or(j.Result, j.State), j.Because()).
		With("what can be done: " + where)
}

// Unfinished is the error of a command that stopped waiting.
func Unfinished(name string, cause error, waiting string) *fail.Error {
	kind, why := fail.Timeout, "not done in time"
	if errors.Is(cause, context.Canceled) {
		kind, why = fail.Canceled, "interrupted"
	}
	if waiting != "" {
		why += ", still waiting: " + waiting
	}
	return fail.Errorf(kind, "%s: %s", name, why).With("the request stands; follow it with: holdfast status --watch")
}

// DefaultWait is how long a command waits for what it has asked for.
const DefaultWait = 5 * time.Minute
