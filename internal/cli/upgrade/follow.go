package upgrade

import (
	"context"
	"errors"
	"slices"
	"strings"

	"holdfast/internal/api"
	"holdfast/internal/cli/command"
	"holdfast/internal/cli/output"
	"holdfast/internal/cli/progress"
	"holdfast/internal/job"
	"holdfast/internal/upgrade/request"
)

// awaitUpgrade follows an upgrade to its end, or until a failure needs a person.
func awaitUpgrade(ctx context.Context, a *command.App, c *api.Client, j job.View, js bool) error {
	look := func(ctx context.Context, j job.View) (job.View, error) { return lookAtRun(ctx, c, j) }
	err := progress.AwaitRun(ctx, a, j, js, look, "holdfast upgrade status")
	if js || ctx.Err() != nil {
		return err
	}
	u, uerr := c.Upgrade(ctx)
	if uerr != nil || u.Job == nil || u.Job.ID != j.ID {
		return errors.Join(err, uerr)
	}
	var b strings.Builder
	saidOf(&b, output.PainterFor(a.Env.Stderr), u.Found)
	return errors.Join(err, output.Text(a.Env.Stderr, b.String()))
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
