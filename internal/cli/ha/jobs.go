package ha

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"holdfast/internal/api"
	"holdfast/internal/api/told"
	"holdfast/internal/cli/command"
	"holdfast/internal/cli/output"
	"holdfast/internal/cli/progress"
	"holdfast/internal/fleet/evacuate"
	"holdfast/internal/job"
	"holdfast/internal/lib/fail"
	"holdfast/internal/upgrade/request"
)

func jobsCmd(a *command.App) *cobra.Command {
	list := &cobra.Command{Use: "list", Short: "List the jobs that run and the last that ran", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return jobList(a, cmd) }}
	return command.Group("jobs", "List, show and control long work", list, jobShowCmd(a), jobWatchCmd(a),
		jobOrderCmd(a, request.Pause),
		jobOrderCmd(a, request.Resume),
		jobOrderCmd(a, request.Abort),
		jobRetryCmd(a), jobSkipCmd(a))
}

func jobList(a *command.App, cmd *cobra.Command) error {
	jobs, js, err := command.Asked(a, cmd,
		func(ctx context.Context, c *api.Client) ([]job.View, error) { return c.Jobs(ctx) })
	if err != nil {
		return err
	}
	if js {
		return output.JSON(a.Env.Stdout, jobs, false)
	}
	return output.Text(a.Env.Stdout, jobsText(jobs, output.PainterFor(a.Env.Stdout)))
}

func jobsText(jobs []job.View, p output.Painter) string {
	if len(jobs) == 0 {
		return "no jobs\n"
	}
	var b strings.Builder
	cols := []output.Column{{Head: "JOB"}, {Head: "STATE"}, {Head: "BEGAN"}, {Head: "BY", Cut: 2, Least: 6},
		{Head: "WHAT", Cut: 1, Least: 10}}
	var rows [][]output.Cell
	for _, j := range jobs {
		what := output.Clean(j.Title)
		if why := j.Because(); why != "" {
			what += ": " + output.Clean(why)
		}
		rows = append(rows,
			[]output.Cell{{Text: output.Clean(j.ID)}, output.Toned(told.JobState(j)), {Text: j.Began.UTC().Format(time.DateTime)},
				{Text: output.Clean(j.User)}, {Text: what}})
	}
	output.Table(&b, p, cols, rows)
	return b.String()
}

func jobShowCmd(a *command.App) *cobra.Command {
	return &cobra.Command{
		Use:   "show JOB",
		Short: "Show a job with its steps",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			j, js, err := command.Asked(a, cmd,
				func(ctx context.Context, c *api.Client) (job.View, error) { return c.Job(ctx, args[0]) })
			if err != nil {
				return err
			}
			return showJob(a, j, js)
		},
	}
}

func showJob(a *command.App, j job.View, js bool) error {
	if js {
		return output.JSON(a.Env.Stdout, j, false)
	}
	return output.Text(a.Env.Stdout, jobText(j, output.PainterFor(a.Env.Stdout)))
}

func jobText(j job.View, p output.Painter) string {
	var b strings.Builder
	st := output.Toned(told.JobState(j))
	output.Say(&b, p, "job", output.Plain, output.Clean(j.ID)+": "+output.Clean(j.Title)+", by "+output.Clean(j.User))
	output.Say(&b, p, "state", st.Colour, st.Text)
	if why := j.Because(); why != "" {
		output.Say(&b, p, "", st.Colour, output.Clean(why))
	}
	for _, w := range j.WaitsFor() {
		output.Say(&b, p, "waits", output.Yellow, output.Clean(w))
	}
	if len(j.Steps) == 0 { // the answer to an order
		return b.String()
	}
	b.WriteByte('\n')
	cols := []output.Column{{Head: "STEP", Cut: 2, Least: 12}, {Head: "STATE"}, {Head: "TRY"},
		{Head: "NOTE", Cut: 1, Least: 12}}
	var rows [][]output.Cell
	for _, s := range j.Steps {
		rows = append(rows,
			[]output.Cell{{Text: output.Clean(s.ID)}, output.Toned(told.StepState(s)), {Text: fmt.Sprint(s.Attempt)},
				{Text: output.Clean(output.Or(s.Why, s.Note))}})
	}
	output.Table(&b, p, cols, rows)
	for _, s := range told.StuckSteps(j) {
		if s.Tail != "" { // else the table has it all
			b.WriteByte('\n')
			progress.StuckText(&b, p, s, progress.FewLines)
		}
	}
	return b.String()
}

func jobWatchCmd(a *command.App) *cobra.Command {
	var timeout time.Duration
	cmd := &cobra.Command{
		Use:   "watch JOB",
		Short: "Follow a job until it ends",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return runJob(a, cmd, timeout,
				func(ctx context.Context, c *api.Client) (job.View, error) { return c.Job(ctx, args[0]) })
		},
	}
	jobTimeout(cmd, &timeout)
	return cmd
}

func jobTimeout(cmd *cobra.Command, d *time.Duration) {
	cmd.Flags().DurationVar(d, "timeout", 4*time.Hour, "follow it for this `time`; 0: not at all")
}

func jobOrderCmd(a *command.App, v request.Verb) *cobra.Command {
	order := string(v)
	return &cobra.Command{
		Use: order + " JOB", Short: told.Meaning(v), Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return orderJob(a, cmd, args[0], order, "", "") },
	}
}

func jobRetryCmd(a *command.App) *cobra.Command {
	return &cobra.Command{
		Use: "retry JOB STEP", Short: told.Meaning(request.Retry), Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error { return orderJob(a, cmd, args[0], "retry", args[1], "") },
	}
}

func jobSkipCmd(a *command.App) *cobra.Command {
	var reason string
	cmd := &cobra.Command{
		Use: "skip JOB STEP --reason WHY", Short: told.Meaning(request.Skip), Args: cobra.ExactArgs(2),
		PreRunE: func(cmd *cobra.Command, _ []string) error { return command.WantReason(cmd, reason) },
		RunE: func(cmd *cobra.Command, args []string) error {
			return orderJob(a, cmd, args[0], "skip", args[1], reason)
		},
	}
	cmd.Flags().StringVar(&reason, "reason", "", "the reason, `why`; it is kept with the step")
	return cmd
}

func orderJob(a *command.App, cmd *cobra.Command, id, order, step, reason string) error {
	j, js, err := command.Asked(a, cmd, func(ctx context.Context, c *api.Client) (job.View, error) {
		return c.CommandJob(ctx, id, order, step, reason)
	})
	if err != nil {
		return err
	}
	return showJob(a, j, js)
}

// runJob begins a job, or finds one, and follows it to its end.
func runJob(a *command.App, cmd *cobra.Command, timeout time.Duration,
	begin func(context.Context, *api.Client) (job.View, error)) error {
	if timeout < 0 {
		return command.Usage(cmd, fmt.Errorf("--timeout %s: want a time from 0 on", timeout))
	}
	c, js, err := a.Open(cmd)
	if err != nil {
		return err
	}
	defer c.Close()
	j, err := begin(cmd.Context(), c)
	if err != nil {
		return err
	}
	if timeout > 0 {
		ctx, cancel := context.WithTimeout(cmd.Context(), timeout)
		defer cancel()
		if j, err = followJob(ctx, a, c, j); err != nil {
			return err
		}
	}
	if js {
		if err := output.JSON(a.Env.Stdout, j, false); err != nil {
			return err
		}
	} else if err := output.Text(a.Env.Stdout, fmt.Sprintf("%s: %s\n", output.Clean(j.ID),
		told.JobState(j).Text)); err != nil {
		return err
	}
	if j.State == "ended" && j.Result != "done" {
		remedy := "all of it: holdfast jobs show " + output.Clean(j.ID)
		if j.Kind == string(evacuate.HostJob) && len(j.Steps) > 0 {
			remedy += fmt.Sprintf("; host %s stays in maintenance, to end that: holdfast host enable %[1]s",
				output.Clean(string(j.Steps[0].Host)))
		}
		return fail.Errorf(fail.Failed, "%s: %s: %s", j.Title, j.Result, j.Because()).With(remedy)
	}
	return nil
}

// followJob asks for the job until it has ended, and says on stderr what is new.
// An agent that goes away is asked again.
func followJob(ctx context.Context, a *command.App, c *api.Client, j job.View) (job.View, error) {
	return progress.Follow(ctx, a, j, progress.JobOf(c), func(job.View) bool { return false })
}
