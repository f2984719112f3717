package transition

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"holdfast/internal/cli/command"
	"holdfast/internal/cli/output"
	"holdfast/internal/lib/fail"
	"holdfast/internal/transition/cloud"
	"holdfast/internal/transition/net"
	"holdfast/internal/transition/platform"
)

// openrcFlag is the flag of a file with the variables of openstack(1).
func openrcFlag(cmd *cobra.Command, file *string) {
	cmd.Flags().StringVar(file, "openrc", "", "`FILE` of mode 0600 with these variables, in place of\nthe environment")
}

// loginFrom is where the variables of a login come from: a file, or the environment.
func loginFrom(openrc string) (getenv func(string) string, err error) {
	if openrc == "" {
		return os.Getenv, nil
	}
	if getenv, err = cloud.Openrc(openrc); err != nil {
		return nil, err
	}
	if _, err = cloud.From(getenv); err != nil {
		return nil, fail.Errorf(fail.Invalid, "openrc file %s: %w", openrc, err)
	}
	return getenv, nil
}

// collectOrder are the flags of the command.
type collectOrder struct {
	openrc, out, before string
	check               string
}

func collectCmd(a *command.App) *cobra.Command {
	var o collectOrder
	cmd := &cobra.Command{
		Use:   "collect",
		Short: "Read what an OpenStack platform has, check and compare it",
		Long: `Reads endpoints, services, hosts, aggregates, pools, volume types, flavors and
images by the API of OpenStack, and tells what is wrong with them. Nothing is
written there. Keep what the old platform has in a file, and compare the new
one with it.

It logs in by OS_AUTH_URL, OS_USERNAME, OS_PASSWORD and so on, with the role
admin. OS_REGION_NAME and OS_INTERFACE choose endpoints.
See docs/transition-collect.md.

Exit codes: 0 done. 1 with --check, a check failed; with --before, something is
missing or differs, warnings left aside. 2 bad input. 4 Keystone or an API is
not reachable.`,
		Args: cobra.NoArgs,
		PreRunE: func(cmd *cobra.Command, _ []string) error {
			if o.check != "" && o.check != "all" && o.check != "control" {
				return command.Usage(cmd, fmt.Errorf("--check %q: want all or control", o.check))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error {
			js, err := a.AsJSON(cmd)
			if err != nil {
				return err
			}
			if err := outGiven(cmd, "out", o.out); err != nil {
				return err
			}
			return collectPlatform(cmd.Context(), a, o, js)
		},
	}
	openrcFlag(cmd, &o.openrc)
	f := cmd.Flags()
	f.StringVar(&o.out, "out", "", "`FILE` for what was read, as JSON")
	f.StringVar(&o.check, "check", "", "`WHAT` has to work: all, or control, where hosts with\nguests come later")
	f.StringVar(&o.before, "before", "", "`FILE` of another platform, to compare with; with\n--check control, its size only")
	return cmd
}

// collected is what the command prints with -o json. Differences is null without --before, and with --check control.
type collected struct {
	Platform    *platform.Platform `json:"platform"`
	Findings    []platform.Finding `json:"findings"`
	Differences []net.Difference   `json:"differences"`
}

func collectPlatform(ctx context.Context, a *command.App, o collectOrder, js bool) error {
	before, err := readBefore(o.before, platform.Read)
	if err != nil {
		return err
	}
	getenv, err := loginFrom(o.openrc)
	if err != nil {
		return err
	}
	r := collected{}
	if r.Platform, err = a.Env.Collect(ctx, getenv, time.Now()); err != nil {
		return err
	}
	r.Findings = r.Platform.Check(o.check == "control")
	if before != nil && o.check != "control" { // hosts and all that is carried over come later there
		if r.Differences, err = platform.Compare(before, r.Platform); err != nil {
			return err
		}
	}
	if before != nil {
		r.Findings = append(r.Findings, r.Platform.Sizing(before))
	}
	err = writeOut(o.out, r.Platform)
	if js {
		err = errors.Join(err, output.JSON(a.Env.Stdout, r, false))
	} else {
		err = errors.Join(err, output.Text(a.Env.Stdout, collectText(r, output.PainterFor(a.Env.Stdout))))
	}
	lacks := slices.ContainsFunc(r.Differences, func(d net.Difference) bool { return d.Severity == net.Error })
	if err == nil && (o.check != "" && platform.Failed(r.Findings) || lacks) {
		return fail.Errorf(fail.Failed, "") // all is said
	}
	return err
}

// collectText shows how many of each there are, what is wrong, and what differs.
func collectText(r collected, p output.Painter) string {
	var b strings.Builder
	x := r.Platform
	guests := 0
	for _, h := range x.Hosts {
		guests += h.Guests
	}
	output.Say(&b, p, "platform", output.Plain,
		fmt.Sprintf("%s, Nova's API %s", output.Clean(x.Auth), output.Clean(x.Nova)))
	output.Say(&b, p, "has", output.Plain, counted(map[string]int{"services": len(x.Services), "hosts": len(x.Hosts),
		"guests": guests, "aggregates": len(x.Aggregates),
		"pools": len(x.Pools), "volume types": len(x.VolumeTypes), "flavors": len(x.Flavors), "images": len(x.Images)}))
	sayFindings(&b, p, r.Findings)
	if r.Differences == nil {
		return b.String()
	}
	sayDifferences(&b, p, r.Differences, collectDifference, "it has all that was there before")
	return b.String()
}

// sayFindings writes what checks found, the worst first.
func sayFindings(b *strings.Builder, p output.Painter, all []platform.Finding) {
	colours := map[string]output.Colour{platform.Pass: output.Green, platform.Warn: output.Yellow,
		platform.Fail: output.Red}
	for _, result := range []string{platform.Fail, platform.Warn, platform.Pass} {
		for _, f := range all {
			if f.Result != result {
				continue
			}
			output.Say(b, p, result, colours[result], f.Check+": "+output.Clean(f.Finding))
			if f.Remedy != "" {
				output.Say(b, p, "", output.Plain, f.Remedy)
			}
		}
	}
}

// collectDifference is a difference in a line.
func collectDifference(d net.Difference) string {
	if d.Field == "object" {
		return fmt.Sprintf("%s %s is missing", d.Kind, d.ID)
	}
	return fmt.Sprintf("%s %s: %s was %s, is %s", d.Kind, d.ID, d.Field, d.Old, d.New)
}
