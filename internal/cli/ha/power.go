package ha

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"time"

	"github.com/spf13/cobra"

	"holdfast/internal/api"
	"holdfast/internal/api/told"
	"holdfast/internal/cli/command"
	"holdfast/internal/cli/output"
	"holdfast/internal/cli/progress"
	"holdfast/internal/cluster"
	"holdfast/internal/lib/clock"
	"holdfast/internal/lib/fail"
)

const (
	retryEvery = 200 * time.Millisecond // between two tries to reach an agent that went away
)

// Goal is a request and the state that it leads to.
type Goal struct {
	Name    string // of the command
	Request func(context.Context, *api.Client) error
	Reached func(cluster.Status) bool
	Result  func(cluster.Status) string // a line for people
}

func startCmd(a *command.App) *cobra.Command {
	var timeout time.Duration
	cmd := &cobra.Command{
		Use:   "start",
		Short: "Start the management VM, and end hands off",
		Long: `Starts the management VM after "stop", ends "stop --hands-off", and waits until
the management VM runs.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return pursue(a, cmd, timeout, Goal{
				Name:    "start",
				Request: func(ctx context.Context, c *api.Client) error { return c.Start(ctx, "") },
				Reached: Started,
				Result:  runningText,
			})
		},
	}
	timeoutFlag(cmd, &timeout)
	return cmd
}

func stopCmd(a *command.App) *cobra.Command {
	var timeout time.Duration
	var handsOff bool
	cmd := &cobra.Command{
		Use:   "stop",
		Short: "Shut the management VM down, or take hands off",
		Long: `Shuts the management VM down and waits until it is proved to be stopped. It
stays stopped until "start", also across reboots.

With --hands-off the management VM is left as it is. All decisions are frozen
and the watchdogs are disarmed, for work on switches or storage. "start" ends
that.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			g := Goal{
				Name:    "stop",
				Request: func(ctx context.Context, c *api.Client) error { return c.Stop(ctx, false, "") },
				Reached: Stopped,
				Result:  told.Stopped,
			}
			if handsOff {
				g.Request = func(ctx context.Context, c *api.Client) error { return c.Stop(ctx, true, "") }
				g.Reached = frozen
				g.Result = func(cluster.Status) string {
					return "hands are off: nothing is decided, watchdogs are disarmed; end it with: holdfast start"
				}
			}
			return pursue(a, cmd, timeout, g)
		},
	}
	timeoutFlag(cmd, &timeout)
	cmd.Flags().BoolVar(&handsOff, "hands-off", false, "freeze all decisions, leave the management VM alone")
	return cmd
}

func timeoutFlag(cmd *cobra.Command, d *time.Duration) {
	cmd.Flags().DurationVar(d, "timeout", progress.DefaultWait, "wait for this `time` at most; 0: not at all")
}

// Started: the guest runs, and the host that runs it watches it.
func Started(s cluster.Status) bool {
	if !s.Want.Run || s.Want.HandsOff || s.Owner.State != cluster.Running {
		return false
	}
	for _, h := range s.Hosts {
		if h.Name == s.Owner.Host && h.HandsOff {
			return false
		}
	}
	return true
}

// Stopped: nobody may run the guest.
func Stopped(s cluster.Status) bool {
	return !s.Want.Run && s.Owner.Holder() == ""
}

// frozen: every living host that may have the guest has disarmed its watchdog.
func frozen(s cluster.Status) bool { return s.Want.HandsOff && len(armed(s)) == 0 }

// armed returns the living hosts that may have the guest and have not disarmed.
func armed(s cluster.Status) []cluster.HostID {
	var names []cluster.HostID
	for _, h := range told.Hosts(s) {
		if h.Alive && !h.HandsOff && (s.Owner.Holder() == h.Name || h.Guest != cluster.GuestAbsent) {
			names = append(names, h.Name)
		}
	}
	return names
}

// pursue makes a request and waits until the cluster has got there.
func pursue(a *command.App, cmd *cobra.Command, timeout time.Duration, g Goal) error {
	js, err := a.AsJSON(cmd)
	if err != nil {
		return err
	}
	if timeout < 0 {
		return command.Usage(cmd, fmt.Errorf("--timeout %s: want a time from 0 on", timeout))
	}
	c, err := a.Dial(cmd)
	if err != nil {
		return err
	}
	defer c.Close()
	if err := g.Request(cmd.Context(), c); err != nil {
		return err
	}
	if timeout == 0 {
		if js {
			return showNow(cmd.Context(), a, c)
		}
		return output.Text(a.Env.Stdout, g.Name+" is requested\n")
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), timeout)
	defer cancel()
	s, err := Wait(ctx, a, c, g)
	if err != nil {
		return err
	}
	if js {
		return showStatus(a, s)
	}
	return output.Text(a.Env.Stdout, g.Result(s)+"\n")
}

func showNow(ctx context.Context, a *command.App, c *api.Client) error {
	s, err := c.Status(ctx)
	if err != nil {
		return err
	}
	return showStatus(a, s)
}

// inText are the times in a sentence: one that says the same a second later is no news.
var inText = regexp.MustCompile(`\b[0-9][0-9.]*(ms|s|m|h)[0-9.ms]*\b`)

// Wait follows the status until the goal is reached, and says on stderr what is
// waited for. An agent that goes away is asked again: it may be restarting.
func Wait(ctx context.Context, a *command.App, c *api.Client, g Goal) (cluster.Status, error) {
	said := ""
	for {
		var broken error
		for s, err := range c.WatchStatus(ctx) {
			if err != nil {
				broken = err
				break
			}
			if g.Reached(s) {
				return s, nil
			}
			text := waitText(s)
			news := inText.ReplaceAllString(text, "") != inText.ReplaceAllString(said, "")
			if said = text; news {
				if err := output.Text(a.Env.Stderr, "waiting: "+said+"\n"); err != nil {
					return s, err
				}
			}
		}
		if err := ctx.Err(); err != nil {
			return cluster.Status{}, progress.Unfinished(g.Name, err, said)
		}
		var e *fail.Error
		if errors.As(broken, &e) && e.Kind != fail.Unavailable {
			return cluster.Status{}, broken
		}
		if text := "for the agent to answer again"; text != said {
			said = text
			if err := output.Text(a.Env.Stderr, "waiting: "+said+"\n"); err != nil {
				return cluster.Status{}, err
			}
		}
		clock.Sleep(ctx, retryEvery)
	}
}

// waitText says what the cluster waits for.
func waitText(s cluster.Status) string {
	if s.Waiting != "" {
		return output.Clean(s.Waiting)
	}
	if !s.Connected {
		return "for a quorum of the store" + parens(s.StoreError)
	}
	if s.Want.HandsOff {
		if names := armed(s); len(names) > 0 {
			return fmt.Sprintf("for %v to disarm", names)
		}
	}
	return ownerText(s)
}

func parens(s string) string {
	if s == "" {
		return ""
	}
	return " (" + output.Clean(s) + ")"
}
