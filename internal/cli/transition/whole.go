package transition

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"holdfast/internal/cli/command"
	"holdfast/internal/cli/output"
	"holdfast/internal/cli/progress"
	"holdfast/internal/lib/fail"
	"holdfast/internal/lib/strictyaml"
	"holdfast/internal/transition"
)

func planCmd(a *command.App) *cobra.Command {
	return &cobra.Command{
		Use:   "plan FILE",
		Short: "Show every step of a whole transition",
		Long: `Shows every step that "transition run" would do: the stage, the host, the
command as a shell takes it, and what a person is asked before. It needs no
cluster and no agent, and nothing is begun. - as FILE is standard input. All
faults of the file are told at once, also values that a command of the plan
would refuse; files that it names, servers and hosts are not asked.

Each command of Holdfast in it may be given by hand, too, and does the same.
See docs/transition.md for the file.

Exit codes: 0 shown, 2 bad input.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			js, err := a.AsJSON(cmd)
			if err != nil {
				return err
			}
			_, p, err := transitionFile(cmd.Context(), a, args[0])
			if err != nil {
				return err
			}
			if js {
				return output.JSON(a.Env.Stdout, p, false)
			}
			return output.Text(a.Env.Stdout, transitionText(p))
		},
	}
}

// transitionFile reads a file, and makes the plan of it.
func transitionFile(ctx context.Context, a *command.App, file string) (text []byte, p *transition.Plan, err error) {
	name, text, err := a.ReadInput(ctx, file, transition.MaxFile+1)
	if err != nil {
		return nil, nil, fail.Errorf(fail.Invalid, "%w", err)
	}
	read, faults := transition.Parse(text, func(f *transition.File) []strictyaml.Fault { return Fits(a.Root, f) })
	if len(faults) > 0 {
		return nil, nil, fail.Errorf(fail.Invalid, "%s", strictyaml.Lines(name, faults))
	}
	return text, transition.Build(read), nil
}

func transitionText(p *transition.Plan) string {
	var b strings.Builder
	fmt.Fprintf(&b, "transition of %s: %s\n", p.Name, plural(len(p.Steps), "step"))
	stage := ""
	for i, s := range p.Steps {
		if s.Stage != stage {
			stage = s.Stage
			fmt.Fprintf(&b, "\n%s\n", stage)
		}
		fmt.Fprintf(&b, "%3d. %s on %s\n", i+1, s.ID, s.Host)
		if s.Confirm != "" {
			fmt.Fprintf(&b, "     asks before: %s\n", output.Clean(s.Confirm))
		}
		fmt.Fprintf(&b, "     %s\n", output.Clean(transition.Line(s.Run)))
	}
	return b.String()
}

func runCmd(a *command.App) *cobra.Command {
	var b progress.Beginning
	cmd := &cobra.Command{
		Use:   "run FILE",
		Short: "Bring a whole platform to another version",
		Long: `Brings over databases, network and hosts as one job, step after step as
"transition plan" shows them. It pauses before steps that need a person's word
("jobs resume" gives it), and where a step fails: mend what is wrong, then "jobs
retry", or "jobs skip" with a reason. A step that was interrupted goes on where
it was. When the command is interrupted, the job continues: "jobs watch".

"jobs abort" ends the transition, and not an upgrade of hosts that it has begun.

Exit codes: 0 it has begun, or with --wait is done; 1 it has failed, or is
paused after a failure; 2 bad input; 3 refused, as another one is under way; 4
agent not reachable.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return transitionRun(a, cmd, args[0], b) },
	}
	b.Flags(cmd)
	return cmd
}

func transitionRun(a *command.App, cmd *cobra.Command, file string, b progress.Beginning) error {
	if file == "-" && !b.Yes {
		return command.Usage(cmd, errors.New("- as FILE wants --yes: the answer would be read from there, too"))
	}
	ctx := cmd.Context()
	text, p, err := transitionFile(ctx, a, file)
	if err != nil {
		return err
	}
	c, js, err := a.Open(cmd)
	if err != nil {
		return err
	}
	defer c.Close()
	if !b.Yes {
		if err := a.AskYesOf(ctx, c, transitionText(p)+"\nType yes to begin: "); err != nil {
			return err
		}
	}
	j, err := c.RunTransition(ctx, text)
	if err != nil {
		return err
	}
	return progress.Begun(ctx, a, c, j, b.Wait, js)
}
