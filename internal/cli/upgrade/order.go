package upgrade

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"holdfast/internal/api"
	"holdfast/internal/api/told"
	"holdfast/internal/cli/command"
	"holdfast/internal/cli/output"
	"holdfast/internal/cluster"
	"holdfast/internal/lib/fail"
	"holdfast/internal/upgrade/request"
)

func orderCmd(a *command.App, v request.Verb) *cobra.Command {
	order := string(v)
	return &cobra.Command{
		Use: order, Short: told.Meaning(v), Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return orderUpgrade(a, cmd, order, "", "") },
	}
}

func retryCmd(a *command.App) *cobra.Command {
	return &cobra.Command{
		Use: "retry STEP", Short: told.Meaning(request.Retry), Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return orderUpgrade(a, cmd, "retry", args[0], "") },
	}
}

func skipCmd(a *command.App) *cobra.Command {
	var reason string
	cmd := &cobra.Command{
		Use: "skip STEP --reason WHY", Short: told.Meaning(request.Skip), Args: cobra.ExactArgs(1),
		PreRunE: func(cmd *cobra.Command, _ []string) error { return command.WantReason(cmd, reason) },
		RunE: func(cmd *cobra.Command, args []string) error {
			return orderUpgrade(a, cmd, "skip", args[0], reason)
		},
	}
	cmd.Flags().StringVar(&reason, "reason", "", "the reason, `why`; it is kept with the step")
	return cmd
}

// orderUpgrade gives the job of the upgrade an order.
func orderUpgrade(a *command.App, cmd *cobra.Command, order, step, reason string) error {
	c, js, err := a.Open(cmd)
	if err != nil {
		return err
	}
	defer c.Close()
	u, err := c.Upgrade(cmd.Context())
	if err != nil {
		return err
	}
	if u.Job == nil {
		return fail.Errorf(fail.Refused, "%s: no upgrade has run yet", order)
	}
	j, err := c.CommandJob(cmd.Context(), u.Job.ID, order, step, reason)
	if err != nil {
		return err
	}
	if js {
		return output.JSON(a.Env.Stdout, j, false)
	}
	text := output.Clean(j.ID) + ": " + told.JobState(j).Text
	if why := j.Because(); why != "" {
		text += ": " + output.Clean(why)
	}
	if step != "" && j.State == "paused" {
		text += "\nlet it go on with: holdfast upgrade resume"
	}
	return output.Text(a.Env.Stdout, text+"\n")
}

func approveCmd(a *command.App) *cobra.Command {
	return &cobra.Command{
		Use:   "approve HOST...",
		Short: told.Meaning(request.Approve),
		Long:  `Approves hosts of a run that was begun with --approve-per-host, in your name.`,
		Args:  cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return admitHosts(a, cmd, args, false, "host %s is approved\n")
		},
	}
}

func dropCmd(a *command.App) *cobra.Command {
	return &cobra.Command{
		Use:   "drop HOST...",
		Short: told.Meaning(request.Drop),
		Long: `Leaves hosts that are away out of the rest of the run, in your name. A host that
has begun stays as it is, between the two versions, and "status" lists it.
Refused while the host's agent answers.`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return admitHosts(a, cmd, args, true, "host %s is left out\n")
		},
	}
}

// admitHosts approves or drops hosts, one after the other.
func admitHosts(a *command.App, cmd *cobra.Command, hosts []string, drop bool, said string) error {
	c, js, err := a.Open(cmd)
	if err != nil {
		return err
	}
	defer c.Close()
	for _, h := range hosts {
		if err := c.AdmitHost(cmd.Context(), cluster.HostID(h), drop); err != nil {
			return err
		}
		if !js {
			if err := output.Text(a.Env.Stdout, fmt.Sprintf(said, output.Clean(h))); err != nil {
				return err
			}
		}
	}
	if js {
		return showUpgradeNow(cmd.Context(), a, c)
	}
	return nil
}

func showUpgradeNow(ctx context.Context, a *command.App, c *api.Client) error {
	u, err := c.Upgrade(ctx)
	if err != nil {
		return err
	}
	return output.JSON(a.Env.Stdout, u, false)
}
