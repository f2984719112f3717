package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"holdfast/internal/api"
	"holdfast/internal/cluster/reason"
	"holdfast/internal/job"
	"holdfast/internal/lib/fail"
	"holdfast/internal/upgrade/request"
)

// awaitUpgrade follows an upgrade to its end, or until a failure needs a person.
func (a *app) awaitUpgrade(ctx context.Context, c *api.Client, j job.View, js bool) error {
	look := func(ctx context.Context, j job.View) (job.View, error) { return lookAtRun(ctx, c, j) }
	err := a.awaitRun(ctx, j, js, look, "holdfast upgrade status")
	if js || ctx.Err() != nil {
		return err
	}
	u, uerr := c.Upgrade(ctx)
	if uerr != nil || u.Job == nil || u.Job.ID != j.ID {
		return errors.Join(err, uerr)
	}
	var b strings.Builder
	saidOf(&b, painterFor(a.env.Stderr), u.Found)
	return errors.Join(err, writeText(a.env.Stderr, b.String()))
}

// awaitRun follows a run to its end, or until a failure needs a person, who is told where to look.
func (a *app) awaitRun(ctx context.Context, j job.View, js bool, look func(context.Context, job.View) (job.View, error),
	where string) error {
	j, err := a.follow(ctx, j, look, needsHelp)
	if err != nil {
		return err
	}
	if js {
		err = writeJSON(a.env.Stdout, outcome{Job: &j}, false)
	} else {
		err = writeText(a.env.Stdout, fmt.Sprintf("%s: %s\n", clean(j.ID), jobState(j).text))
	}
	if err != nil || j.State == "ended" && j.Result == "done" {
		return err
	}
	var b strings.Builder
	p := painterFor(a.env.Stderr)
	for _, s := range stuckSteps(j) {
		stuckText(&b, p, s, allOfTheLog)
	}
	if err := writeText(a.env.Stderr, b.String()); err != nil {
		return err
	}
	return fail.Errorf(fail.Failed, "%s: %s: %s", j.Title, or(j.Result, j.State), j.Because()).With("what can be done: " + where)
}

// lookAtRun asks how a run stands. An upgrade tells of the steps only that run or
// are stuck, because there may be very many: one that has run and is not told of
// any more is over, or was dropped with its host.
func lookAtRun(ctx context.Context, c *api.Client, j job.View) (job.View, error) {
	u, err := c.Upgrade(ctx)
	if err != nil {
		return j, err
	}
	if u.Job == nil || u.Job.ID != j.ID {
		return c.Job(ctx, j.ID) // another run has begun since
	}
	next := *u.Job
	for _, s := range j.Steps {
		told := slices.ContainsFunc(next.Steps, func(x job.StepView) bool { return x.ID == s.ID })
		if (s.State == "running" || s.State == "granted") && !told {
			end := "over"
			if slices.ContainsFunc(u.Hosts, func(h request.HostStanding) bool { return h.Name == s.Host && h.Dropped != "" }) {
				end = "dropped"
			}
			next.Steps = append(next.Steps, job.StepView{ID: s.ID, Host: s.Host, Kind: s.Kind, State: end})
		}
	}
	return next, nil
}

// stuckSteps are those that an operator has to decide about.
func stuckSteps(j job.View) []job.StepView {
	var out []job.StepView
	for _, s := range j.Steps {
		if s.State == "failed" || s.State == "unknown" {
			out = append(out, s)
		}
	}
	return out
}

// needsHelp reports whether a run is paused because of a failure. A run that somebody
// has paused, that pauses after a wave, or that asks for a person's word, is followed on.
func needsHelp(j job.View) bool {
	return j.State == "paused" && slices.ContainsFunc(j.WhyCodes, func(r reason.Reason) bool {
		return !r.Is(reason.PausedBy) && !r.Is(reason.WaveDone) && !r.Is(reason.Confirm)
	})
}

// Lines of a log that are shown.
const (
	allOfTheLog = 1 << 20
	fewLines    = 5
)

// stuckText says why a step is stuck, with the last lines of its log.
func stuckText(b *strings.Builder, p painter, s job.StepView, lines int) {
	word := s.State
	if word == "unknown" {
		word = "unclear"
	}
	text := clean(s.ID)
	if s.Why != "" {
		text += ": " + clean(s.Why)
	}
	say(b, p, word, red, text)
	log := strings.Split(strings.TrimRight(s.Tail, "\n"), "\n")
	for _, l := range log[max(0, len(log)-lines):] {
		if l != "" {
			b.WriteString("          | " + clean(l) + "\n")
		}
	}
}
