package transition

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"holdfast/internal/cli/command"
	"holdfast/internal/cli/output"
	"holdfast/internal/cli/progress"
	"holdfast/internal/job"
	"holdfast/internal/lib/fail"
	"holdfast/internal/transition/cloud"
	"holdfast/internal/transition/net"
	"holdfast/internal/transition/net/neutron"
	"holdfast/internal/transition/net/rebuild"
)

func netCmd(a *command.App) *cobra.Command {
	cmd := command.Group("net", "Bring an old platform's network into a new one's Neutron",
		netExportCmd(a), netApplyCmd(a), netVerifyCmd(a), netHostCmd(a))
	cmd.Long = `Brings agents, security groups, networks, subnets and ports of an old platform
into a new one, with the IDs, MAC and IP addresses that they have.

  export  reads them by Neutron's API into a file
  apply   creates what is missing; interrupted, the same command goes on
  verify  compares the file with a platform, both ways
  host    compares the file with what a host has of its ports

Neutron is asked without Keystone (auth_strategy = noauth), or with --keystone
or --openrc.
The new one needs an extension that lets clients choose IDs: see
docs/transition-net.md.`
	return cmd
}

// netPlatform are the flags of export, apply and verify.
type netPlatform struct {
	endpoint, file string
	keystone       bool
	openrc         string // file
	leaveOut       []string
}

func (n *netPlatform) flags(cmd *cobra.Command, name, what string) {
	f := cmd.Flags()
	f.StringVar(&n.endpoint, "endpoint", "", "`URL` of Neutron's API, http://HOST:PORT")
	f.StringVar(&n.file, name, "", what)
	f.BoolVar(&n.keystone, "keystone", false, "log in to Keystone by the variables OS_AUTH_URL,\nOS_USERNAME, OS_PASSWORD, OS_TOKEN and so on")
	openrcFlag(cmd, &n.openrc)
}

// leave is the flag of what is not carried over.
func (n *netPlatform) leave(cmd *cobra.Command) {
	cmd.Flags().StringSliceVar(&n.leaveOut, "leave-out", nil, "what may be left out: `KIND[,KIND]`, as export tells them")
}

// api is where the API is, and how to log in there.
func (n *netPlatform) api() (at rebuild.API, err error) {
	at.Endpoint = n.endpoint
	if !n.keystone && n.openrc == "" {
		return at, nil
	}
	getenv, err := loginFrom(n.openrc)
	if err == nil {
		at.Login, err = cloud.From(getenv)
	}
	return at, err
}

func (n *netPlatform) given(cmd *cobra.Command, name string) error {
	if n.endpoint == "" {
		return command.Usage(cmd, errors.New("no --endpoint given; want http://HOST:PORT"))
	}
	return n.into(cmd, name)
}

func (n *netPlatform) into(cmd *cobra.Command, name string) error {
	if n.file == "" {
		return command.Usage(cmd, fmt.Errorf("no --%s given; want the path of a file", name))
	}
	if n.endpoint != "" {
		if _, err := neutron.New(n.endpoint); err != nil {
			return command.Usage(cmd, fmt.Errorf("--endpoint %q: want http://HOST:PORT or https://HOST:PORT", n.endpoint))
		}
	}
	for i, name := range n.leaveOut {
		if kind, field, attribute := strings.Cut(name, "."); kind == "" || attribute && field == "" || slices.Contains(n.leaveOut[:i], name) {
			return command.Usage(cmd, fmt.Errorf("--leave-out %q: want KIND or KIND.FIELD, each once", name))
		}
	}
	return nil
}

func netExportCmd(a *command.App) *cobra.Command {
	var n netPlatform
	var db rebuild.Database
	cmd := &cobra.Command{
		Use:   "export --endpoint URL|--db DSN --out FILE",
		Short: "Read a platform's network by Neutron's API into a file",
		Long: `Reads agents, security groups, rules, networks, subnets, ports and what belongs
to them into a file, which is JSON. Nothing is written on the platform. Where its
API is gone, --db reads Neutron's database instead, in one transaction.

What is not carried over, such as quotas, is told and noted in the file, and
apply refuses it without --leave-out. An attribute of an object that is not
carried over is an error here already, and the file is not written.

Exit codes: 0 done, 1 failed, 2 bad input, or what was read can not be applied,
4 the API or database is not reachable.`,
		Args: cobra.NoArgs,
		PreRunE: func(cmd *cobra.Command, _ []string) error {
			switch {
			case n.endpoint != "" && db.DSN != "":
				return command.Usage(cmd, errors.New("--endpoint and --db: want one of them"))
			case n.endpoint == "" && db.DSN == "":
				return command.Usage(cmd,
					fmt.Errorf("no --endpoint and no --db given; want one of them: http://HOST:PORT, or %s", dsnForms))
			case n.endpoint != "" && cmd.Flags().Changed("db-name"):
				return command.Usage(cmd, errors.New("--db-name is for --db, which is not given"))
			}
			return n.into(cmd, "out")
		},
		RunE: func(cmd *cobra.Command, _ []string) error {
			js, err := a.AsJSON(cmd)
			if err == nil {
				err = outGiven(cmd, "out", n.file)
			}
			if err != nil {
				return err
			}
			at, err := n.api()
			if err != nil {
				return err
			}
			var d *net.Document
			if db.DSN != "" {
				db.Password = dbPassword(cmd.Context(), a)
				d, err = rebuild.ExportRows(cmd.Context(), db, n.file, n.leaveOut)
				err = runError(err)
			} else {
				d, err = rebuild.Export(cmd.Context(), at, n.file, n.leaveOut)
			}
			var faults *net.Faults
			if err == nil || d != nil && errors.As(err, &faults) { // which are not all that is to be known
				err = cmp.Or(netExported(a, d, err == nil, js), err)
			}
			return netFaults(a, "check what was read", err)
		},
	}
	n.leave(cmd)
	n.flags(cmd, "out", "`FILE` that is written")
	netDatabase(cmd, &db)
	return cmd
}

// netExported says what was read, and whether it was written.
func netExported(a *command.App, d *net.Document, written, js bool) error {
	counts, unbound := d.Counts(), []string{}
	for _, p := range d.Unbindable() {
		unbound = append(unbound, p.ID)
	}
	if js {
		return output.JSON(a.Env.Stdout, struct {
			Counts  map[string]int    `json:"counts"`
			Unbound []string          `json:"unbound"`
			LeftOut []net.LeftOutKind `json:"left_out"`
		}{counts, unbound, d.KindsLeftOut()}, false)
	}
	maps.DeleteFunc(counts, func(_ string, n int) bool { return n == 0 })
	var b strings.Builder
	what := "read, and not written"
	if written {
		what = "written"
	}
	b.WriteString(what + ": " + cmp.Or(counted(counts), "nothing") + "\n")
	sayBeside(&b, output.PainterFor(a.Env.Stdout), unbound, d.KindsLeftOut(), nil)
	return output.Text(a.Env.Stdout, b.String())
}

// sayBeside says what is beside what was compared or written: ports that are made without a host, what the file leaves out,
// and what the platform has of that kind.
func sayBeside(b *strings.Builder, p output.Painter, unbound []string, leftOut, platform []net.LeftOutKind) {
	if len(unbound) > 0 {
		ports := net.LeftOutKind{Name: "port", Count: len(unbound), IDs: unbound}
		output.Say(b, p, "warning", output.Yellow,
			output.Clean("without a host, as no agent there binds ports: "+ports.String()))
	}
	for _, k := range leftOut {
		output.Say(b, p, "left out", output.Yellow, output.Clean("not carried over: "+k.String()))
	}
	for _, k := range platform {
		output.Say(b, p, "beside", output.Yellow, output.Clean("on the platform, and not compared: "+k.String()))
	}
}

// netDatabase are the flags of Neutron's database.
func netDatabase(cmd *cobra.Command, db *rebuild.Database) {
	f := cmd.Flags()
	f.StringVar(&db.DSN, "db", "", "`DSN` of the server of Neutron's database:\nUSER@tcp(HOST:PORT)/ or USER@unix(PATH)/")
	f.StringVar(&db.Name, "db-name", "neutron", "`NAME` of Neutron's database")
}

func netApplyCmd(a *command.App) *cobra.Command {
	var n netPlatform
	var o rebuild.Order
	cmd := &cobra.Command{
		Use:   "apply --file FILE --endpoint URL --db DSN",
		Short: "Create what a file has and a platform lacks, with the same IDs",
		Long: `Creates what the file has and the platform lacks, then reads all of it back.
What is there already must be equal, else nothing is written. So must what the
file notes as not carried over be allowed, by --leave-out. Agents, the default
security groups of projects, and what the API gives IDs of its own, such as
trunks, are written into Neutron's database, and so is ovs_hybrid_plug of ports
of which the file says something else than Neutron.
Interrupted, the same command goes on where it was.

First it looks whether the database is the one behind the API, by the networks
and agents of both; before it writes, by an address scope that the API makes for
a moment. Where the quotas of projects are too small nothing is written. What
Neutron refuses later is told at the end, with what to do. All that does not
need it is carried over; the same command goes on with it.

With --applied, objects that an earlier apply has brought, and that nobody has
changed on the platform since, are removed or made anew where the file has them
otherwise now: so the old platform may go on changing its network.

Exit codes: 0 all is there and equal, 1 failed, or Neutron refused some objects,
2 bad input, 3 refused, because the platform has something else, lacks the
extension or has small quotas, or the database is another one, 4 the API or the
database is not reachable.`,
		Args: cobra.NoArgs,
		PreRunE: func(cmd *cobra.Command, _ []string) error {
			err := n.given(cmd, "file")
			if err == nil && o.DB.DSN == "" {
				err = command.Usage(cmd, fmt.Errorf("no --db given; want %s", dsnForms))
			}
			if err == nil && (o.Jobs < 1 || o.Jobs > rebuild.MostJobs) {
				err = command.Usage(cmd, fmt.Errorf("--jobs %d: want 1 to %d", o.Jobs, rebuild.MostJobs))
			}
			return err
		},
		RunE: func(cmd *cobra.Command, _ []string) error {
			js, err := a.AsJSON(cmd)
			if err == nil {
				err = outGiven(cmd, "applied", o.Applied)
			}
			if err != nil {
				return err
			}
			if o.API, err = n.api(); err != nil {
				return err
			}
			o.DB.Password, o.LeaveOut = dbPassword(cmd.Context(), a), n.leaveOut
			return netApply(cmd.Context(), a, n.file, o, js)
		},
	}
	n.flags(cmd, "file", "`FILE` that export has written")
	n.leave(cmd)
	netDatabase(cmd, &o.DB)
	f := cmd.Flags()
	f.IntVar(&o.Jobs, "jobs", 4, "how many requests are under way at once")
	f.StringVar(&o.Applied, "applied", "", "`FILE` that keeps what was applied, for the next time")
	f.BoolVar(&o.DryRun, "dry-run", false, "say what would be created, and write nothing")
	reserveFlag(cmd, &o.ReserveDHCP)
	return cmd
}

// reserveFlag is the flag of what waits for the new platform's DHCP agents.
func reserveFlag(cmd *cobra.Command, reserve *bool) {
	cmd.Flags().BoolVar(reserve, "reserve-dhcp", false,
		"have the ports of DHCP wait for the new platform's\nDHCP agents, which take them with their addresses")
}

func netApply(ctx context.Context, a *command.App, file string, o rebuild.Order, js bool) error {
	d, err := rebuild.Read(file)
	if err != nil {
		return netFaults(a, "read the document", err)
	}
	shows := progress.NewTicker(a.Env.Stderr)
	var parts []job.Part
	r, err := rebuild.Apply(ctx, d, o, func(p rebuild.Progress) {
		line := fmt.Sprintf("%s  %d of %d", p.Step, p.Done, p.Whole)
		shows.Show(line)
		parts = stepped(parts, p)
		shows.Parts(line, slices.Clone(parts))
	})
	if err = errors.Join(runError(err), shows.End()); err != nil {
		return err
	}
	if js {
		return output.JSON(a.Env.Stdout, r, false)
	}
	what := "created"
	if o.DryRun {
		what = "would be created"
	}
	list := counted(r.Created)
	if list == "" {
		list = "nothing"
	}
	if len(r.Renewed) > 0 {
		list += "; as it is now: " + counted(r.Renewed)
	}
	if len(r.Removed) > 0 {
		list += "; removed: " + counted(r.Removed)
	}
	if r.Bound > 0 {
		list += fmt.Sprintf("; ports to be bound to their hosts: %d", r.Bound)
	}
	if r.Plugs > 0 {
		list += fmt.Sprintf("; ports with another ovs_hybrid_plug: %d", r.Plugs)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s; there before: %d\n", what, list, r.Equal)
	p := output.PainterFor(a.Env.Stdout)
	if r.Unproven {
		output.Say(&b, p, "warning", output.Yellow,
			"whether the database is the one behind the API is not known yet, as neither "+
				"has a network or an agent: apply looks before it writes")
	}
	sayBeside(&b, p, r.Unbound, r.LeftOut, nil)
	return output.Text(a.Env.Stdout, b.String())
}

func netVerifyCmd(a *command.App) *cobra.Command {
	var n netPlatform
	var reserve bool
	cmd := &cobra.Command{
		Use:   "verify --file FILE --endpoint URL",
		Short: "Compare a file with a platform's network, field by field",
		Long: `Compares what the file has with what Neutron's API tells, both ways and field
by field. Nothing is written on the platform. What is not carried over is told
beside it, of both sides.

Exit codes: 0 equal, 1 not equal, 2 bad input, 4 the API is not reachable.`,
		Args:    cobra.NoArgs,
		PreRunE: func(cmd *cobra.Command, _ []string) error { return n.given(cmd, "file") },
		RunE: func(cmd *cobra.Command, _ []string) error {
			js, err := a.AsJSON(cmd)
			if err != nil {
				return err
			}
			at, err := n.api()
			if err != nil {
				return err
			}
			d, err := rebuild.Read(n.file)
			if err != nil {
				return netFaults(a, "read the document", err)
			}
			shows := progress.NewTicker(a.Env.Stderr)
			reads := newReading(shows, d)
			v, err := rebuild.Verify(cmd.Context(), d, at, reserve, reads.tell)
			if err == nil {
				reads.end(v)
			}
			if err = errors.Join(err, shows.End()); err != nil {
				return err
			}
			return netVerified(a, v, js)
		},
	}
	n.flags(cmd, "file", "`FILE` that export has written")
	reserveFlag(cmd, &reserve)
	return cmd
}

// netVerified says what verify found.
func netVerified(a *command.App, v *rebuild.Verified, js bool) (err error) {
	if js {
		err = output.JSON(a.Env.Stdout, struct {
			netComparison
			Unbound []string          `json:"unbound"`
			LeftOut []net.LeftOutKind `json:"left_out"`
			Beside  []net.LeftOutKind `json:"beside"` // of the platform, not compared
		}{netComparison{len(v.Differences) == 0, v.Differences}, v.Unbound, v.LeftOut, v.Beside}, false)
	} else {
		equal := "Neutron has what the document has, and nothing else"
		if len(v.Unbound)+len(v.LeftOut)+len(v.Beside) > 0 {
			equal = "Neutron has what the document has"
		}
		var b strings.Builder
		p := output.PainterFor(a.Env.Stdout)
		sayBeside(&b, p, v.Unbound, v.LeftOut, v.Beside)
		sayDifferences(&b, p, v.Differences, rebuild.Text, equal)
		err = output.Text(a.Env.Stdout, b.String())
	}
	return differ(err, v.Differences)
}

// netComparison is what a comparison prints with -o json.
type netComparison struct {
	Equal       bool             `json:"equal"`
	Differences []net.Difference `json:"differences"`
}

// netCompared says what differs, each by text, or that nothing does.
func netCompared(a *command.App, left []net.Difference, js bool, text func(net.Difference) string,
	equal string) (err error) {
	if js {
		err = output.JSON(a.Env.Stdout, netComparison{len(left) == 0, left}, false)
	} else {
		var b strings.Builder
		sayDifferences(&b, output.PainterFor(a.Env.Stdout), left, text, equal)
		err = output.Text(a.Env.Stdout, b.String())
	}
	return differ(err, left)
}

// differ is the end of a comparison that is printed.
func differ(err error, left []net.Difference) error {
	if err == nil && len(left) > 0 {
		return fail.Errorf(fail.Failed, "") // all is said
	}
	return err
}

// sayDifferences says what differs, each by text and errors first, or that nothing does.
func sayDifferences(b *strings.Builder, p output.Painter, left []net.Difference, text func(net.Difference) string,
	equal string) {
	for _, severity := range []string{net.Error, net.Warning} {
		for _, d := range left {
			if d.Severity == severity {
				output.Say(b, p, severity, map[string]output.Colour{net.Error: output.Red, net.Warning: output.Yellow}[severity],
					output.Clean(text(d)))
			}
		}
	}
	if len(left) == 0 {
		output.Say(b, p, "equal", output.Green, equal)
	} else {
		output.Say(b, p, "not equal", output.Red, plural(len(left), "difference"))
	}
}

// netFaults makes bad input of what is wrong with a document, a line each.
func netFaults(a *command.App, what string, err error) error {
	var f *net.Faults
	if !errors.As(err, &f) {
		return err
	}
	if len(f.Lines) == 1 {
		return fail.Errorf(fail.Invalid, "%s: %s", what, f.Lines[0])
	}
	if err := output.Text(a.Env.Stderr, output.CleanLines(f.Error())+"\n"); err != nil {
		return err
	}
	return fail.Errorf(fail.Invalid, "%s: %s", what, plural(len(f.Lines), "fault"))
}

// counted is a list of numbers and what they are of.
func counted(of map[string]int) string {
	var out []string
	for _, k := range slices.Sorted(maps.Keys(of)) {
		out = append(out, fmt.Sprintf("%s %d", k, of[k]))
	}
	return strings.Join(out, ", ")
}
