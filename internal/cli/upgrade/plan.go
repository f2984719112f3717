package upgrade

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"holdfast/internal/api/told"
	"holdfast/internal/cli/command"
	"holdfast/internal/cli/output"
	"holdfast/internal/cluster"
	"holdfast/internal/inventory"
	"holdfast/internal/inventory/invfile"
	"holdfast/internal/inventory/manifest"
	"holdfast/internal/lib/fail"
	"holdfast/internal/upgrade"
	"holdfast/internal/upgrade/bundle"
	"holdfast/internal/upgrade/catalogue"
	"holdfast/internal/upgrade/check"
)

// planFlags are the flags that say how an upgrade goes.
type planFlags struct {
	mode, maxUnavailable, window, network string
	canary, budget, perHost, total        int
	pause, approve, back, keep, probe     bool
	lossLimit                             int
	targets, order, drop, pin             []string
	last                                  string
	policies, backups, confirmed          []string
	policy                                string
}

func (f *planFlags) flags(cmd *cobra.Command) {
	fl := cmd.Flags()
	fl.StringVar(&f.mode, "mode", "", "`kind` of upgrade: rolling, offline or reboot\n(default: rolling, or reboot "+
		"for a package that\nneeds it)")
	fl.StringVar(&f.maxUnavailable, "max-unavailable", "1", "`hosts` out of service at once: 3 or 10%\n")
	fl.IntVar(&f.canary, "canary", 0, "`n` hosts are upgraded first and must succeed")
	fl.BoolVar(&f.pause, "pause-after-wave", false, "pause after each wave of hosts")
	fl.IntVar(&f.budget, "failure-budget", 0, "`n` hosts may fail before the run pauses")
	fl.StringVar(&f.window, "window", "", "`time` of the day at which hosts may begin:\n22:00-05:30")
	fl.BoolVar(&f.approve, "approve-per-host", false, "begin a host only after its approval")
	fl.StringSliceVar(&f.targets, "target", nil, "`host` that may receive guests;\nmay be repeated")
	fl.StringVar(&f.network, "migration-network", "", "`CIDR` of the network over which guests move")
	fl.IntVar(&f.perHost, "parallel-per-host", 2, "`n` guests move off one host at once")
	fl.IntVar(&f.total, "parallel-total", 8, "`n` guests move at once in all")
	fl.BoolVar(&f.back, "move-back", false, "let guests return to their hosts")
	fl.BoolVar(&f.keep, "keep-guests", false, "leave guests on their hosts, without a reboot")
	fl.StringArrayVar(&f.policies, "policy", nil, "`VM=POLICY` for a VM that can not move live:\nstop, cold or skip; may be repeated")
	fl.StringVar(&f.policy, "default-policy", "", "`policy` of VMs without one of their own: ask,\nstop, cold or skip")
	fl.StringSliceVar(&f.order, "order", nil, "`host` that comes first; may be repeated")
	fl.StringSliceVar(&f.drop, "drop", nil, "`host` that is left out; may be repeated")
	fl.StringVar(&f.last, "last", "", "`host` that comes last: the coordinator's")
	fl.BoolVar(&f.probe, "probe", false, "measure lost packets of guests")
	fl.IntVar(&f.lossLimit, "loss-limit", 0, "pause when a guest has lost `n` packets while\nits host was worked on; needs --probe")
	fl.StringSliceVar(&f.pin, "pin", nil, "Open vSwitch `bridges` that forward as before\nwhile their host is worked on; needs\n--keep-guests")
	fl.StringArrayVar(&f.backups, "backup", nil, "`MODULE=PROVIDER`: the provider backs the\nmodule up; may be repeated")
	fl.StringArrayVar(&f.confirmed, "confirmed", nil, "`rule` that you confirm as met; may be repeated")
}

// modeOf reads --mode; empty: the bundle's default. Vendors call a rolling upgrade rollup.
func modeOf(text string) (manifest.Mode, error) {
	if text == "rollup" {
		return manifest.Rolling, nil
	}
	if text != "" && !slices.Contains(manifest.Modes(), manifest.Mode(text)) {
		return "", fmt.Errorf("--mode %q: want rolling, offline or reboot", text)
	}
	return manifest.Mode(text), nil
}

// options reads the flags.
func (f *planFlags) options() (upgrade.Options, error) {
	mode, err := modeOf(f.mode)
	o := upgrade.Options{
		Mode: mode, Canary: f.canary, PauseAfterWave: f.pause, FailureBudget: f.budget, ApprovePerHost: f.approve, MigrationNetwork: f.network,
		ParallelPerHost: f.perHost, ParallelTotal: f.total, MoveBack: f.back, KeepGuests: f.keep, DefaultPolicy: inventory.Policy(f.policy),
		Targets: hostIDs(f.targets), Order: hostIDs(f.order), Drop: hostIDs(f.drop), Last: cluster.HostID(f.last),
		Probe: f.probe, LossLimit: int64(f.lossLimit), Pin: f.pin, Confirmed: f.confirmed,
	}
	if err != nil {
		return o, err
	}
	for _, n := range []struct {
		flag        string
		value, from int
	}{{"canary", f.canary, 0}, {"failure-budget", f.budget, 0}, {"loss-limit", f.lossLimit, 0},
		{"parallel-per-host", f.perHost, 1}, {"parallel-total", f.total, 1}} {
		if n.value < n.from {
			return o, fmt.Errorf("--%s %d: want %d or more", n.flag, n.value, n.from)
		}
	}
	if f.lossLimit > 0 && !f.probe {
		return o, fmt.Errorf("--loss-limit %d: want --probe with it", f.lossLimit)
	}
	if len(f.pin) > 0 && !f.keep {
		return o, fmt.Errorf("--pin %s: want --keep-guests with it", strings.Join(f.pin, ","))
	}
	for i, name := range f.pin {
		if !bridgeName(name) || slices.Contains(f.pin[:i], name) {
			return o, fmt.Errorf("--pin %q: want names of bridges, each once", name)
		}
	}
	if err := o.MaxUnavailable.UnmarshalText([]byte(f.maxUnavailable)); err != nil {
		return o, fmt.Errorf("--max-unavailable %q: %w", f.maxUnavailable, err)
	}
	if f.window != "" {
		if err := o.Window.UnmarshalText([]byte(f.window)); err != nil {
			return o, fmt.Errorf("--window %q: %w", f.window, err)
		}
		if o.Window.From == o.Window.To {
			return o, fmt.Errorf("--window %q: want two different times", f.window)
		}
	}
	if f.network != "" {
		if _, err := netip.ParsePrefix(f.network); err != nil {
			return o, fmt.Errorf("--migration-network %q: want a CIDR such as 10.1.0.0/16", f.network)
		}
	}
	policies, err := pairs("policy", f.policies)
	if err != nil {
		return o, err
	}
	for vm, p := range policies {
		if o.Policies == nil {
			o.Policies = map[string]inventory.Policy{}
		}
		o.Policies[vm] = inventory.Policy(p)
	}
	o.Backup, err = pairs("backup", f.backups)
	return o, err
}

// bridgeName reports whether a bridge can have a name: its own port is a network device.
func bridgeName(name string) bool {
	const most = 15 // bytes of a device's name (IFNAMSIZ)
	return name != "" && len(name) <= most && !strings.ContainsAny(name, "/ \t\n")
}

func hostIDs(names []string) []cluster.HostID {
	var out []cluster.HostID
	for _, n := range names {
		out = append(out, cluster.HostID(n))
	}
	return out
}

// pairs reads NAME=VALUE of a flag, each name once.
func pairs(flag string, list []string) (map[string]string, error) {
	var out map[string]string
	for _, text := range list {
		name, value, ok := strings.Cut(text, "=")
		if _, twice := out[name]; !ok || name == "" || value == "" || twice {
			return nil, fmt.Errorf("--%s %q: want NAME=VALUE, each name once", flag, text)
		}
		if out == nil {
			out = map[string]string{}
		}
		out[name] = value
	}
	return out, nil
}

func planCmd(a *command.App) *cobra.Command {
	var f planFlags
	var c checkFlags
	var inventory, file string
	var show detail
	cmd := &cobra.Command{
		Use:   "plan --inventory FILE --bundle FILE",
		Short: "Plan an upgrade of what a file describes, without a cluster",
		Long: `Plans an upgrade: the order of the hosts, where their guests move meanwhile, and
what blocks the upgrade. Every byte of the bundle is checked. Nothing is
changed, and no agent is asked. The same input gives the same plan.

Modes: rolling changes one host after the other while the service goes on;
offline stops the service on all hosts; reboot changes the software of all hosts
with guests running, and reboots them one after the other.

Many hosts are summed up by waves and groups. JSON is the whole plan, with its
steps.

Exit codes: 0 there is a plan, 1 something blocks it, 2 bad input.`,
		Args: cobra.NoArgs,
		PreRunE: func(cmd *cobra.Command, _ []string) error {
			if inventory == "" || file == "" {
				return command.Usage(cmd, errors.New("--inventory and --bundle are needed; want the path of a file for each"))
			}
			_, err := f.options()
			return command.Usage(cmd, err)
		},
		RunE: func(cmd *cobra.Command, _ []string) error {
			js, err := a.AsJSON(cmd)
			if err != nil {
				return err
			}
			o, err := f.options()
			if err != nil {
				return command.Usage(cmd, err)
			}
			p, err := planOf(a, cmd, inventory, file, &c, o)
			if err != nil {
				return err
			}
			return showPlan(a, p, js, show)
		},
	}
	fl := cmd.Flags()
	fl.StringVar(&inventory, "inventory", "", "YAML `file` with hosts and VMs")
	fl.StringVar(&file, "bundle", "", "`file` with the bundle")
	show.flags(cmd, "")
	fl.StringArrayVar(&c.keys, "key", nil, "`file` with a minisign public key;\nmay be repeated")
	fl.StringVar(&c.signature, "signature", "", "`file` with the signature over a package of\nanother layout")
	fl.BoolVar(&c.unsigned, "allow-unsigned", false, "accept a bundle that is not signed")
	f.flags(cmd)
	return cmd
}

// planOf makes the plan.
func planOf(a *command.App, cmd *cobra.Command, inventory, file string, c *checkFlags,
	o upgrade.Options) (*upgrade.Plan, error) {
	keys, err := c.options()
	if err != nil {
		return nil, err
	}
	inv, err := invfile.Load(inventory)
	if err != nil {
		return nil, fail.Errorf(fail.Invalid, "%w", err)
	}
	rep, err := readBundle(cmd.Context(), a, file, keys, bundle.Verify)
	if err != nil {
		return nil, bundleError(a, "check the bundle", file, err)
	}
	if err := warnUnsigned(a, file, rep); err != nil {
		return nil, err
	}
	if err := upgrade.CheckVersion(rep.Manifest, "version", inv.Version); err != nil {
		return nil, fail.Errorf(fail.Invalid, "%s: %w", inventory, err)
	}
	p, err := upgrade.Build(*rep.Manifest, upgrade.Installed(rep.Manifest, inv), o)
	if err != nil {
		return nil, fail.Errorf(fail.Invalid, "%w", err)
	}
	paths := catalogue.For(p.To)
	if m := rep.Manifest; m.Path != nil {
		if paths, err = catalogue.Parse(m.Path.Catalogue, rep.Catalogue); err != nil {
			return nil, fail.Errorf(fail.Invalid, "%s: %w", file, err)
		}
	}
	if err := upgrade.CheckConfirmed(o.Confirmed, rep.Manifest, &inv, paths, check.IDs()); err != nil {
		return nil, fail.Errorf(fail.Invalid, "%w", err)
	}
	p.Findings = append(p.Findings, upgrade.PathFindings(paths, &p, inv.Components)...)
	return &p, nil
}

// showPlan writes a plan. One that is blocked ends the command with 1.
func showPlan(a *command.App, p *upgrade.Plan, js bool, show detail) error {
	var err error
	if js {
		err = output.JSON(a.Env.Stdout, p, false)
	} else {
		err = output.Text(a.Env.Stdout, planText(p, output.PainterFor(a.Env.Stdout), show))
	}
	if err == nil && p.Blocked() {
		return fail.Errorf(fail.Failed, "") // all is said
	}
	return err
}

// planText is a plan for people.
func planText(p *upgrade.Plan, paint output.Painter, show detail) string {
	var b strings.Builder
	planHead(&b, paint, p, show.all)
	if len(p.Stages) == 0 {
		return b.String()
	}
	b.WriteByte('\n')
	planStages(&b, paint, p)
	if show.steps {
		planSteps(&b, p)
	}
	b.WriteByte('\n')
	if len(p.Hosts) > maxHostRows && !show.all {
		planWaves(&b, paint, p)
	} else {
		planHosts(&b, paint, p)
	}
	planEnd(&b, paint, p, show.all)
	return b.String()
}

// shortPlan is a plan without its hosts and steps.
func shortPlan(p *upgrade.Plan, paint output.Painter) string {
	var b strings.Builder
	planHead(&b, paint, p, false)
	b.WriteByte('\n')
	planStages(&b, paint, p)
	planEnd(&b, paint, p, false)
	return b.String()
}

func planHead(b *strings.Builder, paint output.Painter, p *upgrade.Plan, all bool) {
	fmt.Fprintln(b, paint.Paint(output.Bold, told.PlanTitle(p)))
	planFindings(b, paint, p, all)
}

func planEnd(b *strings.Builder, paint output.Painter, p *upgrade.Plan, all bool) {
	for i, l := range p.Left {
		if i == maxLeft && !all {
			output.Say(b, paint, "left out", output.Plain, fmt.Sprintf("and %d more hosts", len(p.Left)-i))
			break
		}
		output.Say(b, paint, "left out", output.Plain, output.Clean(string(l.Name)+": "+l.Because()+"."))
	}
	fmt.Fprintf(b, "\n%s\n", told.PlanEstimate(p))
}

func planStages(b *strings.Builder, p output.Painter, plan *upgrade.Plan) {
	var rows [][]output.Cell
	for i := range plan.Stages {
		s := &plan.Stages[i]
		steps, hosts := 0, map[cluster.HostID]bool{}
		for _, c := range s.Chains {
			steps += len(c.Steps)
			hosts[c.Host] = true
		}
		rows = append(rows, []output.Cell{
			{Text: output.Clean(s.Name)}, {Text: fmt.Sprint(len(hosts))}, {Text: fmt.Sprint(steps)}, {Text: told.StageRules(plan, s)},
		})
	}
	output.Table(b, p,
		[]output.Column{{Head: "STAGE", Cut: 1, Least: 10}, {Head: "CHAINS"}, {Head: "STEPS"},
			{Head: "WHAT", Cut: 2, Least: 10}}, rows)
}

// planSteps writes every step below its stage.
func planSteps(b *strings.Builder, plan *upgrade.Plan) {
	for _, s := range plan.Stages {
		fmt.Fprintf(b, "\n%s\n", output.Clean(s.Name))
		for _, c := range s.Chains {
			for i, step := range c.Steps {
				line := "  " + step.ID
				if i == 0 && len(c.After) > 0 {
					line += "  (after " + strings.Join(c.After, ", ") + ")"
				}
				if c.OneOf && i > 0 {
					line += "  (or)"
				}
				b.WriteString(output.Clean(line) + "\n")
			}
		}
	}
}

// planHosts writes the hosts in the order of their turns, and where their guests go.
func planHosts(b *strings.Builder, p output.Painter, plan *upgrade.Plan) {
	to := plan.Targets()
	var rows [][]output.Cell
	for _, h := range plan.Hosts {
		var goes []string
		for _, t := range to[h.Name] {
			goes = append(goes, fmt.Sprintf("%s (%d)", t.Host, t.Guests))
		}
		rows = append(rows, []output.Cell{
			{Text: output.Clean(h.Name)}, {Text: fmt.Sprint(h.Wave)}, {Text: output.Ago(h.Turn)}, {Text: fmt.Sprint(h.Moves)},
			{Text: output.Clean(cmp.Or(strings.Join(goes, ", "), "-"))},
		})
	}
	output.Table(b, p,
		[]output.Column{{Head: "HOST", Cut: 2, Least: 8}, {Head: "WAVE"}, {Head: "TURN"}, {Head: "GUESTS"},
			{Head: "GO TO", Cut: 1, Least: 5}}, rows)
}
