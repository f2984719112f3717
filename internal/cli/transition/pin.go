package transition

import (
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"holdfast/internal/cli/command"
	"holdfast/internal/cli/output"
	"holdfast/internal/transition/pin"
)

func pinCmd(a *command.App) *cobra.Command {
	var o pin.Order
	cmd := &cobra.Command{
		Use:   "pin BRIDGE",
		Short: "Keep a bridge forwarding while its flows are rewritten",
		Long: `Copies all flows and groups of an Open vSwitch bridge of this host into spare
tables, with one entry per port above everything else. Packets go the way that
they went when it was pinned, whatever the network agent deletes and writes
meanwhile: pin before the agent is stopped, and unpin when it is done.

A pin ends by itself after --for, whatever has become of this program: the
switch counts the time. All of it comes at once, or none, and it is read back.
It takes root. See docs/transition-pin.md.

Exit codes: 0 pinned, 1 failed, 2 bad input, 3 refused, 4 Open vSwitch is not
reachable.`,
		Args: cobra.ExactArgs(1),
		PreRunE: func(cmd *cobra.Command, _ []string) error {
			if o.For < pin.MinFor || o.For > pin.MaxFor || o.For%time.Second != 0 {
				return command.Usage(cmd, fmt.Errorf("--for %s: want whole seconds, %s to %s", o.For, pin.MinFor, pin.MaxFor))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			js, err := a.AsJSON(cmd)
			if err != nil {
				return err
			}
			o.Bridge = args[0]
			r, err := a.Env.Pin(cmd.Context(), o)
			if err != nil {
				return err
			}
			if js {
				return output.JSON(a.Env.Stdout, r, false)
			}
			if o.DryRun {
				return output.File(a.Env.Stdout, strings.Join(append(r.Plan, ""), "\n"))
			}
			return output.Text(a.Env.Stdout, pinText(r, output.PainterFor(a.Env.Stdout)))
		},
	}
	cmd.Flags().DurationVar(&o.For, "for", pin.DefaultFor, "`TIME` after which it ends by itself, 10s to 4h")
	cmd.Flags().BoolVar(&o.DryRun, "dry-run", false, "print the flows, and change nothing")
	return cmd
}

func unpinCmd(a *command.App) *cobra.Command {
	var o pin.Order
	cmd := &cobra.Command{
		Use:   "unpin BRIDGE",
		Short: "End the pin of a bridge when its own flows are complete",
		Long: `Takes the flows and groups of a pin off a bridge, all at once, and looks. It is
refused until the bridge's own flows are as many as when it was pinned, for each
port and on the whole, and stay the same for 3 seconds; where the bridge has no
flows at all; and where the entries of the pin were deleted before their time.
Else a bridge that is not pinned stays as it is. Where flows of the pin were
deleted a warning says how many it had, and how many were left. See
docs/transition-pin.md.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			js, err := a.AsJSON(cmd)
			if err != nil {
				return err
			}
			o.Bridge = args[0]
			r, err := a.Env.Unpin(cmd.Context(), o)
			if err != nil {
				return err
			}
			if js {
				return output.JSON(a.Env.Stdout, r, false)
			}
			line := fmt.Sprintf("bridge %s is not pinned: if it was, packets may have been lost since that ended", r.Bridge)
			if r.Removed > 0 {
				line = fmt.Sprintf("bridge %s is not pinned any more: %s removed", r.Bridge, plural(r.Removed, "flow"))
			}
			var b strings.Builder
			b.WriteString(line + "\n")
			for _, n := range r.Notes {
				output.Say(&b, output.PainterFor(a.Env.Stdout), "warning", output.Yellow, n)
			}
			return output.Text(a.Env.Stdout, b.String())
		},
	}
	cmd.Flags().BoolVar(&o.Force, "force", false, "end it although flows are missing: packets get lost")
	return cmd
}

func pinText(r *pin.Result, p output.Painter) string {
	var b strings.Builder
	output.Say(&b, p, "pinned", output.Green, fmt.Sprintf("bridge %s, for %s: %s, %s and %s copied", r.Bridge,
		time.Duration(r.Left)*time.Second, plural(r.Ports, "port"), plural(r.Flows, "flow"), plural(r.Groups, "group")))
	for _, n := range r.Notes {
		output.Say(&b, p, "note", output.Yellow, n)
	}
	return b.String()
}
