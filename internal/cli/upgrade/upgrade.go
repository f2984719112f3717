// Package upgrade has the commands of upgrades: paths, plans and checks, runs and how they stand, and bundles.
package upgrade

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"holdfast/internal/cli/command"
	"holdfast/internal/cli/output"
	"holdfast/internal/cluster/version"
	"holdfast/internal/lib/fail"
	"holdfast/internal/upgrade/catalogue"
	"holdfast/internal/upgrade/path"
	"holdfast/internal/upgrade/request"
)

// Commands are the commands of upgrades.
func Commands(a *command.App) []*cobra.Command {
	return []*cobra.Command{upgradeCmd(a), bundleCmd(a)}
}

func upgradeCmd(a *command.App) *cobra.Command {
	return command.Group("upgrade", "Plan, check and run upgrades", pathCmd(a), planCmd(a),
		checkCmd(a), runCmd(a), statusCmd(a),
		orderCmd(a, request.Pause),
		orderCmd(a, request.Resume),
		orderCmd(a, request.Abort),
		retryCmd(a), skipCmd(a), approveCmd(a), dropCmd(a),
		commitCmd(a), rollbackCmd(a), reportCmd(a))
}

// pathFlags are the flags of upgrade path.
type pathFlags struct {
	catalogue, from, to   string
	mode                  string
	components, confirmed []string
}

func pathCmd(a *command.App) *cobra.Command {
	var f pathFlags
	cmd := &cobra.Command{
		Use:   "path --catalogue NAME --from VERSION --to VERSION",
		Short: "Find the way from one version to another",
		Long: `Finds the way from one version to another by the rules of a catalogue: the
fewest hops, then the fewest reboots, then the highest versions on the way.
Notes below a hop say what else to do, each with the rule that it comes from.
When a rule blocks the way, the output names the rule, the reason and a remedy.

The catalogue is ` + catalogue.CAS + `, or a YAML file. A version may be given as the
product prints it, "V500R001B01D006 V5.0 E0503 Enterprise 45807", and the
installed one as a family, such as 2.0.

In a rolling upgrade guests keep running; in an offline one they are stopped.

Exit codes: 0 there is a way, 1 a rule blocks it, 2 bad input.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			js, err := a.AsJSON(cmd)
			if err != nil {
				return err
			}
			return upgradePath(a, cmd, f, js)
		},
	}
	fl := cmd.Flags()
	fl.StringVar(&f.catalogue, "catalogue", "", "`name` of the catalogue: "+catalogue.CAS+" or a file")
	fl.StringVar(&f.from, "from", "", "the `version` that is installed")
	fl.StringVar(&f.to, "to", "", "the `version` that is wanted")
	fl.StringVar(&f.mode, "mode", string(path.Rolling), "`kind` of upgrade: rolling or offline")
	fl.StringArrayVar(&f.components, "component", nil, "`name` of another installed component;\nmay be repeated")
	fl.StringArrayVar(&f.confirmed, "confirmed", nil, "`rule` that you confirm as met; may be repeated")
	return cmd
}

func upgradePath(a *command.App, cmd *cobra.Command, f pathFlags, js bool) error {
	switch {
	case f.catalogue == "":
		return command.Usage(cmd, fmt.Errorf("no --catalogue given; want %s, or the path of a YAML file", catalogue.CAS))
	case f.from == "":
		return command.Usage(cmd, errors.New("no --from given; want the version that is installed"))
	case f.to == "":
		return command.Usage(cmd, errors.New("no --to given; want the version that is wanted"))
	}
	cat, err := catalogue.Load(cmd.Context(), f.catalogue)
	if err != nil {
		return fail.Errorf(fail.Invalid, "%w", err)
	}
	if f.mode == "rollup" { // as vendors say
		f.mode = string(path.Rolling)
	}
	res, err := path.Plan(cat, f.from, f.to, path.Environment{
		Components: f.components, Mode: path.Mode(f.mode), Confirmed: f.confirmed,
	})
	if err != nil {
		return fail.Errorf(fail.Invalid, "%w", err)
	}
	if js {
		err = output.JSON(a.Env.Stdout, res, false)
	} else {
		err = writePath(a, cat, f, res)
	}
	if err == nil && res.Blocked != nil {
		return fail.Errorf(fail.Failed, "") // all is said
	}
	return err
}

// writePath writes one line for each hop, its notes below.
func writePath(a *command.App, cat *path.Catalogue, f pathFlags, res path.Result) error {
	// A banner is shown as the version in it.
	from, err := version.Find(cat.Scheme(), f.from)
	if err != nil {
		return fail.Errorf(fail.Invalid, "%w", err)
	}
	var b strings.Builder
	p := output.PainterFor(a.Env.Stdout)
	switch at := from.String(); {
	case res.Blocked != nil:
		output.Say(&b, p, "blocked", output.Red, res.Blocked.Rule)
		output.Say(&b, p, "", output.Plain, output.Clean(res.Blocked.Reason))
	case len(res.Hops) == 0:
		b.WriteString(at + " is installed already: nothing to do\n")
	default:
		for _, h := range res.Hops {
			line := at + " -> " + h.To
			if h.Reboot {
				line += ", then reboot"
			}
			b.WriteString(p.Paint(output.Bold, line) + "\n")
			for _, n := range h.Notes {
				output.Say(&b, p, "  note", output.Plain, output.Clean(n))
			}
			at = h.To
		}
	}
	return output.Text(a.Env.Stdout, b.String())
}
