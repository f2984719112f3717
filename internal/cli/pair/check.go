package pair

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"holdfast/internal/cli/command"
	"holdfast/internal/cli/installer"
	"holdfast/internal/cli/output"
	"holdfast/internal/cluster"
	"holdfast/internal/config"
	"holdfast/internal/install"
	"holdfast/internal/install/remote"
	"holdfast/internal/install/survey"
	"holdfast/internal/lib/fail"
	"holdfast/internal/lib/strictyaml"
	"holdfast/internal/pair"
	"holdfast/internal/pair/precheck"
)

// pairInput is what is said of a pair that shall be.
type pairInput struct {
	vip, peer       string
	device, second  string
	partition       string
	arbiters        []string
	hosts, vms, db  int
	versionFile     string
	unmanaged       string
	fencing         string
	arbiterPassword string
	services        []string
	group           string
	ssh             installer.SSHFlags
}

func (in *pairInput) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&in.vip, "vip", "", "virtual `address` with the length of its\nsubnet's prefix: 172.16.60.55/16, "+
		"and\n\" dev INTERFACE\" where several fit")
	f.StringVar(&in.peer, "peer", "", "`address` of the other node")
	f.StringArrayVar(&in.arbiters, "arbiter", nil, "who decides when the nodes do not see each\nother: `quorum:IP`, "+
		"ping:IP,IP, fence or\ndisk:DEVICE")
	f.StringVar(&in.device, "device", "", "empty `disk` of both nodes for a DRBD device,\non which the database lies")
	f.StringVar(&in.second, "second-path", "", "addresses of this node and of the other\none in a second network, "+
		"`IP,IP`: a cut of\none of the two then parts nothing")
	f.IntVar(&in.hosts, "hosts", 0, "`number` of hosts that the platform will have")
	f.IntVar(&in.vms, "vms", 0, "`number` of VMs that the platform will have")
	f.IntVar(&in.db, "db-size", 0, "size of the database's partition in `GB`\n(default: the least)")
	f.StringVar(&in.versionFile, "version-file", "", "`file` on both nodes with a line Version:\nVERSION of the platform")
	f.StringVar(&in.unmanaged, "unmanaged-probe", "", "`program` on both nodes that exits 0 when\nthe platform manages no hosts yet")
	f.StringVar(&in.fencing, "fencing", "", "`file` with the nodes' fence devices, as\nFencing of a configuration")
	f.StringArrayVar(&in.services, "service", nil, "`unit` of systemd that the pair runs; can be\ngiven more than once (tomcat.service)")
	f.StringVar(&in.group, "group", "", "`file` with Database, Group and more, as in\nPair of a configuration")
	in.ssh.Add(cmd)
	f.StringVar(&in.arbiterPassword, "arbiter-password-file", "",
		"read the password of the login at the\nquorum host from a `file` (default: as the\npeer's)")
}

func checkCmd(a *command.App) *cobra.Command {
	var in pairInput
	var place placeFlags
	cmd := &cobra.Command{
		Use:   "check --vip ADDRESS/LENGTH --peer IP --arbiter WHO",
		Short: "Check whether this node and another one can become a pair",
		Long: `Runs all checks of a pair's set-up on this node, on the other one and on the
arbiter, those of its installation with them, and reports each problem with its
remedy. Nothing is changed. The other hosts are reached by SSH, as by holdfast
install. --hosts and --vms are needed, too.

Exit codes: 0 no check has failed, 1 a check has failed, 2 bad input.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			js, err := a.AsJSON(cmd)
			if err != nil {
				return err
			}
			o, err := in.options(cmd)
			if err != nil {
				return err
			}
			if _, _, err := in.planned(place, &o); err != nil {
				return err
			}
			if err := reachPair(cmd.Context(), a, &in, &o); err != nil {
				return err
			}
			found, err := survey.Run(cmd.Context(), o)
			switch {
			case cmd.Context().Err() != nil:
				return fail.Errorf(fail.Canceled, "pair check: interrupted; nothing was changed")
			case err != nil:
				return fmt.Errorf("pair check: %w", err)
			case js:
				err = output.JSON(a.Env.Stdout, found, false)
			default:
				err = output.Text(a.Env.Stdout, pairCheckText(found, output.PainterFor(a.Env.Stdout)))
			}
			if err == nil && precheck.Worst(found) == precheck.Fail {
				return fail.Errorf(fail.Failed, "") // all is said
			}
			return err
		},
	}
	in.flags(cmd)
	place.add(cmd)
	cmd.Flags().StringVar(&in.partition, "partition", "",
		"empty `disk` of both nodes for a partition,\nmade after the set-up: pair partition add")
	return cmd
}

// options reads the flags.
func (in *pairInput) options(cmd *cobra.Command) (o survey.Options, err error) {
	switch f := cmd.Flags(); {
	case !f.Changed("vip"):
		return o, command.Usage(cmd, errors.New("no --vip given; want the virtual address with the length of its subnet's "+
			"prefix, such as 172.16.60.55/16"))
	case !f.Changed("peer"):
		return o, command.Usage(cmd, errors.New("no --peer given; want the address of the other node"))
	case !f.Changed("arbiter"):
		return o, command.Usage(cmd, errors.New("no --arbiter given; want quorum:IP, ping:IP,IP, fence or disk:DEVICE"))
	}
	if err := counts(cmd, in.hosts, in.vms); err != nil {
		return o, err
	}
	o = survey.Options{Hosts: in.hosts, VMs: in.vms, Database: in.db, VersionFile: in.versionFile,
		Unmanaged: in.unmanaged, Disk: in.device, Partition: in.partition}
	if in.device != "" && !strings.HasPrefix(in.device, "/dev/") {
		return o, fail.Errorf(fail.Invalid, "--device: value %q: want the path of a disk, /dev/DISK", output.Clean(in.device))
	}
	if in.partition != "" && (!strings.HasPrefix(in.partition, "/dev/") || in.partition == in.device) {
		return o, fail.Errorf(fail.Invalid, "--partition: value %q: want the path of a disk, /dev/DISK, another one "+
			"than of --device", output.Clean(in.partition))
	}
	if cmd.Flags().Changed("db-size") {
		if err := databaseSize(in.db); err != nil {
			return o, err
		}
	}
	for _, f := range []struct{ name, path string }{{"version-file", in.versionFile}, {"unmanaged-probe", in.unmanaged}} {
		if f.path != "" && !filepath.IsAbs(f.path) {
			return o, fail.Errorf(fail.Invalid, "--%s: value %q: want an absolute path", f.name, output.Clean(f.path))
		}
	}
	if o.VIP, o.Dev, err = virtualAddress(in.vip); err != nil {
		return o, err
	}
	if o.Peer, err = hostAddress("--peer", in.peer); err != nil {
		return o, err
	}
	for _, text := range in.arbiters {
		arb, err := arbiter(text)
		if err != nil {
			return o, err
		}
		o.Arbiters = append(o.Arbiters, arb)
		if arb.Kind == precheck.DiskArbiter && arb.Device == in.device {
			return o, fail.Errorf(fail.Invalid, "--device: value %q: want another disk than the arbiter's",
				output.Clean(in.device))
		}
		if arb.Kind == precheck.Fence && in.fencing == "" {
			return o, fail.Errorf(fail.Invalid, "--fencing is missing: --arbiter fence needs the nodes' fence devices")
		}
	}
	if in.fencing != "" {
		if o.Fencing, err = fenceDevices(in.fencing); err != nil {
			return o, err
		}
	}
	if cmd.Flags().Changed("second-path") {
		if o.Second, err = secondPath(in.second); err != nil {
			return o, err
		}
	}
	return o, oneArbiter(o.Arbiters...)
}

// planned reads what else a set-up goes by, has the checks find what its installation would, and gives all its values.
func (in *pairInput) planned(f placeFlags, o *survey.Options) (g groupFile, v setupValues, err error) {
	if g, err = in.readGroup(); err != nil {
		return g, v, err
	}
	base, err := installer.ReadBase(f.base)
	if err != nil {
		return g, v, err
	}
	o.Plan = func(seen precheck.Input) (install.Options, error) {
		cl, err := in.cluster(seen, g)
		return install.Options{Config: cl, ConfigText: cl.JSON(), Base: base, Domain: cluster.GuestName,
			NoFirewall: f.closed, Parallel: in.ssh.Parallel, Planned: true}, err
	}
	v = setupValues{
		VIP: in.vip, Peer: in.peer, Arbiters: in.arbiters, Device: in.device, Second: in.second, Hosts: in.hosts, VMs: in.vms,
		Database: cmp.Or(in.db, pair.SizeFor(in.hosts, in.vms).Database), VersionFile: in.versionFile,
		Unmanaged: in.unmanaged, NoFirewall: f.closed,
	}
	for _, x := range []struct {
		to *string
		of any
	}{{&v.Group, g}, {&v.Fencing, o.Fencing}, {&v.Settings, base}} {
		text, err := json.Marshal(x.of)
		if err != nil {
			return g, v, err
		}
		*x.to = string(text)
	}
	return g, v, nil
}

// secondPath reads a value of --second-path.
func secondPath(text string) (out []netip.Addr, err error) {
	for one := range strings.SplitSeq(text, ",") {
		a, err := hostAddress("--second-path", strings.TrimSpace(one))
		if err != nil || a.IsLoopback() || a.IsLinkLocalUnicast() {
			out = nil
			break
		}
		out = append(out, a)
	}
	if len(out) != 2 || out[0].Is4() != out[1].Is4() {
		return nil, fail.Errorf(fail.Invalid, "--second-path: value %q: want two addresses of a second network, this "+
			"node's and then the other one's, both IPv4 or both IPv6, for example 10.0.1.1,10.0.1.2", output.Clean(text))
	}
	return out, nil
}

// mostDatabase is the largest size of the database's partition, in GB.
const mostDatabase = 1_000_000

// counts checks the numbers that a pair's size is reckoned from.
func counts(cmd *cobra.Command, hosts, vms int) error {
	for _, f := range []struct {
		name      string
		n, at, to int
	}{{"hosts", hosts, 1, pair.MostHosts}, {"vms", vms, 0, pair.MostVMs}} {
		if !cmd.Flags().Changed(f.name) {
			return fail.Errorf(fail.Invalid, "--%s is missing: want a number from %d to %d", f.name, f.at, f.to)
		}
		if err := count(f.name, f.n, f.at, f.to); err != nil {
			return err
		}
	}
	return nil
}

// count checks a number that a flag gives.
func count(name string, n, at, to int) error {
	if n < at || n > to {
		return fail.Errorf(fail.Invalid, "--%s: value %d: want a number from %d to %d", name, n, at, to)
	}
	return nil
}

// databaseSize checks --db-size.
func databaseSize(gb int) error {
	if gb < 1 || gb > mostDatabase {
		return fail.Errorf(fail.Invalid, "--db-size: value %d: want a number of GB from 1 to %d", gb, mostDatabase)
	}
	return nil
}

// virtualAddress reads ADDRESS/LENGTH, with "dev INTERFACE" behind it or not. What can be an
// address of one machine the nodes say.
func virtualAddress(text string) (p netip.Prefix, dev string, err error) {
	f := strings.Fields(text)
	if len(f) == 3 && f[1] == "dev" {
		f, dev = f[:1], f[2]
	}
	if len(f) == 1 {
		if p, err = netip.ParsePrefix(f[0]); err == nil && !p.Addr().Is4In6() {
			return p, dev, nil
		}
	}
	return p, dev, fail.Errorf(fail.Invalid, "--vip: value %q: want ADDRESS/LENGTH, for example 172.16.60.55/16, "+
		"with or without \" dev INTERFACE\"", output.Clean(text))
}

// hostAddress reads the address of a host.
func hostAddress(name, text string) (netip.Addr, error) {
	addr, err := netip.ParseAddr(text)
	if err != nil || addr.Zone() != "" || addr.IsUnspecified() || addr.IsMulticast() {
		return addr, fail.Errorf(fail.Invalid, "%s: value %q: want an IP address", name, output.Clean(text))
	}
	return addr.Unmap(), nil
}

// arbiter reads a value of --arbiter.
func arbiter(text string) (a precheck.Arbiter, err error) {
	kind, rest, _ := strings.Cut(text, ":")
	a.Kind = kind
	wrong := fail.Errorf(fail.Invalid, "--arbiter: value %q: want quorum:IP, ping:IP,IP, fence or disk:/dev/DEVICE",
		output.Clean(text))
	switch kind {
	case precheck.Quorum, precheck.Ping:
		for one := range strings.SplitSeq(rest, ",") {
			addr, err := hostAddress("--arbiter", strings.TrimSpace(one))
			if err != nil {
				return a, wrong
			}
			a.Addrs = append(a.Addrs, addr.String())
		}
		if want := map[string]int{precheck.Quorum: 1, precheck.Ping: 2}; len(a.Addrs) != want[kind] {
			return a, wrong
		}
	case precheck.Fence:
		if text != kind {
			return a, wrong
		}
	case precheck.DiskArbiter:
		if a.Device = rest; !strings.HasPrefix(rest, "/dev/") {
			return a, wrong
		}
	default:
		return a, wrong
	}
	return a, nil
}

// fenceDevices reads the file of --fencing.
func fenceDevices(file string) (config.Fencing, error) {
	var out config.Fencing
	text, err := command.ReadSmall(file)
	if err != nil {
		return out, fail.Errorf(fail.Invalid, "read the fence devices: %w", err)
	}
	if d := strictyaml.Decode(text, &out); len(d.Faults) > 0 {
		return out, fail.Errorf(fail.Invalid, "%s", output.Clean(d.Faults[0].In(file)))
	}
	return out, nil
}

// reachPair reads the passwords, settles which keys of the hosts are taken, and says how they are
// reached.
func reachPair(ctx context.Context, a *command.App, in *pairInput, o *survey.Options) error {
	program, err := installer.OwnProgram()
	if err != nil {
		return err
	}
	if err := in.ssh.Prepare(ctx, a); err != nil {
		return err
	}
	hosts := []install.Host{{Name: o.Peer.String(), Addr: o.Peer.String()}}
	for _, arb := range o.Arbiters {
		if arb.Kind == precheck.Quorum {
			hosts = append(hosts, install.Host{Name: arb.Addrs[0], Addr: arb.Addrs[0]})
		}
	}
	other := in.ssh
	if in.arbiterPassword != "" {
		if len(hosts) == 1 {
			return fail.Errorf(fail.Invalid, "--arbiter-password-file: only --arbiter quorum:IP has a login")
		}
		if other.Opt.Password, err = a.Password(ctx, in.arbiterPassword, ""); err != nil {
			return err
		}
	} else if in.ssh.Ask && len(hosts) > 1 {
		typed, err := a.Password(ctx, "",
			fmt.Sprintf("Password of %s on the arbiter (empty: the same): ", output.Or(in.ssh.Opt.User, "root")))
		if err != nil {
			return err
		}
		other.Opt.Password = output.Or(typed, in.ssh.Opt.Password)
	}
	if err := in.ssh.Confirm(ctx, a, hosts); err != nil {
		return err
	}
	peer, third := in.ssh.Connector(program), other.Connector(program)
	o.Connect = func(ctx context.Context, addr string, arbiter bool) (install.Conn, error) {
		if arbiter {
			return third(ctx, install.Host{Name: addr, Addr: addr})
		}
		return peer(ctx, install.Host{Name: addr, Addr: addr})
	}
	o.Here = func() (install.Conn, error) {
		c, err := remote.BeginHere(program)
		if err != nil {
			return nil, err // nil in itself, which a nil *remote.Here is not
		}
		return c, nil
	}
	o.Tell = installer.Tell(a.Env.Stderr)
	return nil
}

// pairCheckText is the report for people.
func pairCheckText(found []precheck.Finding, p output.Painter) string {
	var b strings.Builder
	for _, f := range found {
		installer.WriteFinding(&b, p, f.Result, "", installer.CheckSaid(p, f.Check, f.Finding), f.Remedy)
	}
	return b.String()
}
