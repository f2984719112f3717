package pair

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"holdfast/internal/api"
	"holdfast/internal/api/told"
	"holdfast/internal/cli/command"
	"holdfast/internal/cli/output"
	"holdfast/internal/cluster"
	"holdfast/internal/lib/fail"
)

func resolveCmd(a *command.App) *cobra.Command {
	var keep string
	var yes bool
	var timeout time.Duration
	cmd := &cobra.Command{
		Use:   "resolve --keep NODE",
		Short: "Choose the copy that is kept, when none can be promoted",
		Long: `For a pair whose services can not start by themselves: the only copy with every
acknowledged write is lost or damaged, or both nodes have writes that the other
one does not have. The copy of NODE is kept as it is, and what the other node
has beside it is given up; that node saves it in a file before it follows again,
unless the copy is a DRBD device: then nothing of it is saved.

Of a pair without a third host, a node that has begun alone waits for the other
one, or for this word that the other one is off.

Run it on NODE. It is refused while the services run, while the node that had
them is there, and while a copy with every acknowledged write can be promoted.
Your name goes into the event log.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if keep == "" {
				return command.Usage(cmd, fmt.Errorf("--keep: want the name of the node whose copy is kept"))
			}
			return onPair(a, cmd, timeout, func(ctx context.Context, c *api.Client, js bool) error {
				p, err := resolvePair(ctx, a, c, keep, yes)
				return showPair(a, p, js, err)
			})
		},
	}
	f := cmd.Flags()
	f.StringVar(&keep, "keep", "", "`node` whose copy is kept")
	f.BoolVarP(&yes, "yes", "y", false, "do not ask")
	pairTimeout(cmd, &timeout)
	return cmd
}

// resolvePair asks, chooses, and waits until the services run with that copy, unless they were
// asked to be stopped.
func resolvePair(ctx context.Context, a *command.App, c *api.Client, keep string,
	yes bool) (p cluster.PairStatus, err error) {
	p, err = c.Pair(ctx)
	var e *fail.Error
	switch {
	case errors.As(err, &e) && e.Kind == fail.Unavailable:
		if _, verr := c.Version(ctx); verr != nil { // no agent answers
			return p, err
		}
		// A node of a pair without a third voter may wait for a person.
		if err := output.Text(a.Env.Stderr, output.Clean(e.Message)+"\n"); err != nil {
			return p, err
		}
		if err := a.Sure(ctx, yes, told.KeepingUnread(keep),
			"to do it without being asked, give --yes"); err != nil {
			return p, err
		}
		return resolved(ctx, a, c, keep)
	case err != nil:
		return p, err
	}
	if !slices.ContainsFunc(p.Nodes, func(n cluster.PairNode) bool { return string(n.Host) == keep }) {
		return p, fail.Errorf(fail.Invalid, "--keep: value %q: want one of %s", keep, pairNames(p))
	}
	if err := a.Sure(ctx, yes, told.Keeping(p, keep),
		"to do it without being asked, give --yes"); err != nil {
		return p, err
	}
	return resolved(ctx, a, c, keep)
}

// resolved chooses, and waits until the services run.
func resolved(ctx context.Context, a *command.App, c *api.Client, keep string) (p cluster.PairStatus, err error) {
	if err := c.ResolvePair(ctx, keep); err != nil {
		return p, err
	}
	return untilPair(ctx, a, c, "resolve", func(p cluster.PairStatus) string {
		if act := p.Active(); !p.Want.Run || act != nil && string(act.Host) == keep {
			return ""
		}
		return "the services to run on " + keep + ": " + whyNotHealthy(p)
	})
}
