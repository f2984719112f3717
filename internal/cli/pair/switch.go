package pair

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"holdfast/internal/api"
	"holdfast/internal/api/told"
	"holdfast/internal/cli/command"
	"holdfast/internal/cli/output"
	"holdfast/internal/cli/progress"
	"holdfast/internal/cluster"
	"holdfast/internal/lib/fail"
)

// timesWithin is how long both nodes may take to tell the times of a switch that is done, and agents that have just begun who
// serves.
const timesWithin = 5 * time.Second

// onPair runs f with an agent and a deadline.
func onPair(a *command.App, cmd *cobra.Command, timeout time.Duration,
	f func(ctx context.Context, c *api.Client, js bool) error) error {
	js, err := a.AsJSON(cmd)
	if err != nil {
		return err
	}
	if timeout <= 0 {
		return command.Usage(cmd, fmt.Errorf("--timeout %s: want a time above 0", timeout))
	}
	c, err := a.Dial(cmd)
	if err != nil {
		return err
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(cmd.Context(), timeout)
	defer cancel()
	return f(ctx, c, js)
}

// untilPair waits until ready says "", and tells on stderr what it waits for, and how far a copy
// is. An agent that does not answer is asked again. name is what was asked for; "": nothing yet.
func untilPair(ctx context.Context, a *command.App, c *api.Client, name string,
	ready func(cluster.PairStatus) string) (st cluster.PairStatus, err error) {
	said := ""
	t := progress.NewTicker(a.Env.Stderr)
	defer func() { err = errors.Join(err, t.End()) }()
	for p, err := range c.WatchPair(ctx) {
		why := ""
		var e *fail.Error
		switch {
		case ctx.Err() != nil:
		case err == nil:
			if why = ready(p); why == "" {
				return p, nil
			}
		case errors.As(err, &e) && e.Kind == fail.Unavailable:
			why = e.Message
		default:
			return p, err
		}
		if why != "" && why != said {
			said = why
			t.Say("waiting: " + output.Clean(why))
		}
		for _, n := range p.Nodes {
			if text := told.Copying(n); text != "" {
				t.Show(text)
			}
		}
		st = p
	}
	if name == "" {
		return st, fail.Errorf(fail.Failed, "the pair is not ready for a switch: %s", output.Clean(said)).
			With("nothing was changed")
	}
	return st, progress.Unfinished("pair "+name, ctx.Err(), said).
		With("the request stands; follow it with: holdfast pair status --watch")
}

// whyNotHealthy is "" for a pair that is healthy.
func whyNotHealthy(p cluster.PairStatus) string {
	_, why := p.Health()
	return strings.Join(why, "; ")
}

func pairTimeout(cmd *cobra.Command, d *time.Duration) {
	cmd.Flags().DurationVar(d, "timeout", progress.DefaultWait, "give up waiting after this `time`")
}

func switchCmd(a *command.App) *cobra.Command {
	var timeout time.Duration
	cmd := &cobra.Command{
		Use:   "switch [NODE]",
		Short: "Let the other node serve",
		Long: `Waits until the other node has everything that the active one has, and says what
holds that up. Then the services stop on the active node, and start on the other
one. Interrupting the command does not end a switch that has begun.`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return onPair(a, cmd, timeout, func(ctx context.Context, c *api.Client, js bool) error {
				s, err := switchPair(ctx, a, c, strings.Join(args, ""))
				if err != nil {
					return err
				}
				if js {
					return output.JSON(a.Env.Stdout, s, false)
				}
				return output.Text(a.Env.Stdout, s.Text()+"\n")
			})
		},
	}
	pairTimeout(cmd, &timeout)
	return cmd
}

// switchover is a switch that is under way.
type switchover struct {
	told.Switchover

	ordered time.Time // when the group had gone to To
	seen    time.Time // when To was seen to serve
	cause   string    // why it does not, as it told last
}

// switchPair lets a node serve; "": the one that does not.
func switchPair(ctx context.Context, a *command.App, c *api.Client, to string) (switchover, error) {
	var s switchover
	p, err := c.Pair(ctx)
	switch {
	case err != nil:
		return s, err
	case to != "" && !slices.ContainsFunc(p.Nodes, func(n cluster.PairNode) bool { return string(n.Host) == to }):
		return s, fail.Errorf(fail.Invalid, "node %q: want one of %s", to, pairNames(p))
	}
	if err := told.MaySwitch(p); err != nil {
		return s, err
	}
	begun, epoch := time.Now(), p.Owner.Epoch
	var dead error // nobody serves, and not because an agent has just begun
	now, err := untilPair(ctx, a, c, "", func(p cluster.PairStatus) string {
		if p.Active() == nil && time.Since(begun) > timesWithin {
			dead = fail.Errorf(fail.Refused, "the services do not run: %s",
				whyNotHealthy(p)).With("mend what is wrong there; see: holdfast pair status")
			return ""
		}
		var why string
		var lasts bool
		if s.From, s.To, why, lasts = told.SwitchWaits(p, to); lasts {
			dead = fail.Errorf(fail.Refused, "%s", why).With("nothing was changed; mend that first; see: holdfast pair status")
			return ""
		}
		return why
	})
	if dead != nil {
		return s, dead
	}
	if err != nil {
		return s, err
	}
	if s.From == s.To {
		return s, fail.Errorf(fail.Refused, "%s serves already", output.Clean(s.To))
	}
	if lost := told.LostBySwitch(now); lost != "" {
		if err := output.Text(a.Env.Stderr,
			fmt.Sprintf("warning: tables that may lose rows by this switch: %s\n", lost)); err != nil {
			return s, err
		}
	}
	for _, err := range c.Migrate(ctx, string(s.To), "") {
		var e *fail.Error
		if errors.As(err, &e) { // what it advises is for a management VM
			return s, fail.Errorf(e.Kind, "%s", e.Message).With("see: holdfast pair status")
		}
		if err != nil {
			return s, err
		}
	}
	s.ordered = time.Now()
	_, err = untilPair(ctx, a, c, "switch", func(p cluster.PairStatus) (why string) {
		why, dead = s.served(p, epoch)
		return why
	})
	if dead != nil {
		return s, dead
	}
	return s, err
}

// served says what a switch that was ordered at an epoch waits for; "": it is over, or dead says why it will not come about.
func (s *switchover) served(p cluster.PairStatus, epoch cluster.Epoch) (why string, dead error) {
	act := p.Active()
	if act != nil && act.Host == s.To {
		if s.seen.IsZero() {
			s.seen = time.Now()
		}
		if why = s.measured(p); time.Since(s.seen) > timesWithin { // an agent that has begun anew does not know them
			why = ""
		}
		return why, nil
	}
	s.cause = output.Or(whyNot(p, s.To), s.cause)
	if act != nil && p.Owner.Epoch != epoch {
		return "", fail.Errorf(fail.Failed, "%s serves again, as %s did not come to serve: %s", act.Host, s.To,
			output.Or(s.cause, "it gave no reason")).
			With("mend what is wrong there; see: holdfast pair status, holdfast events")
	}
	why = fmt.Sprintf("%s to serve", s.To)
	if act == nil && time.Since(s.ordered) > timesWithin { // in a switch that goes well, something does not run yet all the time
		why += s.beside(p)
	}
	return why, nil
}

// beside says what is wrong with a pair in a switch, but for the node that has served: its copy is to follow, and is not complete before
// it does.
func (s *switchover) beside(p cluster.PairStatus) string {
	p.InSync, p.Nodes = append(slices.Clone(p.InSync), s.From), slices.Clone(p.Nodes)
	for i := range p.Nodes {
		if n := &p.Nodes[i]; n.Host == s.From && n.Alive {
			n.Why, n.Problem = "", ""
		}
	}
	if why := whyNotHealthy(p); why != cluster.RunsNowhere {
		return ": " + why
	}
	return ""
}

// whyNot is what a node tells of why it can not serve; "": nothing.
func whyNot(p cluster.PairStatus, h cluster.HostID) string {
	for _, n := range p.Nodes {
		if n.Host == h {
			return output.Or(n.Problem, n.Why)
		}
	}
	return ""
}

func pairNames(p cluster.PairStatus) string {
	var names []string
	for _, n := range p.Nodes {
		names = append(names, output.Clean(string(n.Host)))
	}
	return strings.Join(names, ", ")
}

// measured takes the times of both nodes; it says what is missing.
func (s *switchover) measured(p cluster.PairStatus) string {
	done, all := told.Switched(p, s.From, s.To)
	if !all {
		return "both nodes to tell how long it took"
	}
	s.Switchover = done
	return ""
}

func drillCmd(a *command.App) *cobra.Command {
	var timeout time.Duration
	cmd := &cobra.Command{
		Use:   "drill",
		Short: "Switch to the other node and back, and show how long it took",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return onPair(a, cmd, timeout, func(ctx context.Context, c *api.Client, js bool) error {
				all := []switchover{}
				for range 2 {
					s, err := switchPair(ctx, a, c, "")
					if err != nil {
						return err
					}
					all = append(all, s)
					if !js {
						if err := output.Text(a.Env.Stdout, s.Text()+"\n"); err != nil {
							return err
						}
					}
				}
				if js {
					return output.JSON(a.Env.Stdout, all, false)
				}
				return nil
			})
		},
	}
	pairTimeout(cmd, &timeout)
	return cmd
}

func startCmd(a *command.App) *cobra.Command {
	var timeout time.Duration
	cmd := &cobra.Command{
		Use:   "start",
		Short: "Start the services of the pair",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return Start(a, cmd, timeout) },
	}
	pairTimeout(cmd, &timeout)
	return cmd
}

// Start starts the services, and waits for them.
func Start(a *command.App, cmd *cobra.Command, timeout time.Duration) error {
	return onPair(a, cmd, timeout, func(ctx context.Context, c *api.Client, js bool) error {
		if err := c.Start(ctx, ""); err != nil {
			return err
		}
		p, err := untilPair(ctx, a, c, "start", func(p cluster.PairStatus) string {
			if p.Active() != nil {
				return ""
			}
			_, why := p.Health()
			return strings.Join(append(why, "the services to run"), "; ")
		})
		return showPair(a, p, js, err)
	})
}

func stopCmd(a *command.App) *cobra.Command {
	var timeout time.Duration
	cmd := &cobra.Command{
		Use:   "stop",
		Short: "Stop the services of the pair on both nodes",
		Long: `Stops the services on whichever node they run, and waits until that is proved.
They stay stopped until "start", also across reboots. It can be interrupted, and
called again.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return Stop(a, cmd, timeout) },
	}
	pairTimeout(cmd, &timeout)
	return cmd
}

// Stop stops the services, and waits for that.
func Stop(a *command.App, cmd *cobra.Command, timeout time.Duration) error {
	return onPair(a, cmd, timeout, func(ctx context.Context, c *api.Client, js bool) error {
		if err := c.Stop(ctx, false, ""); err != nil {
			return err
		}
		p, err := untilPair(ctx, a, c, "stop", func(p cluster.PairStatus) string {
			if p.Want.Run || p.Owner.Holder() != "" {
				return "the services to stop"
			}
			for _, n := range p.Nodes {
				if n.Alive && n.Role == "active" {
					return fmt.Sprintf("%s to stop", n.Host)
				}
			}
			return ""
		})
		return showPair(a, p, js, err)
	})
}

func showPair(a *command.App, p cluster.PairStatus, js bool, err error) error {
	switch {
	case err != nil:
		return err
	case js:
		return output.JSON(a.Env.Stdout, ViewOf(p), false)
	}
	return output.Text(a.Env.Stdout, ViewOf(p).text(output.PainterFor(a.Env.Stdout)))
}
