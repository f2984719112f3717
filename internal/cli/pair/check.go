package pair

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"holdfast/internal/cli/command"
	"holdfast/internal/cli/installer"
	"holdfast/internal/cli/output"
	"holdfast/internal/install"
	"holdfast/internal/install/remote"
	"holdfast/internal/install/setup"
	"holdfast/internal/install/survey"
	"holdfast/internal/lib/fail"
	"holdfast/internal/pair"
	"holdfast/internal/pair/precheck"
)

// pairInput is what is said of a pair that shall be.
type pairInput struct {
	setup.Form
	fencing, group  string // files
	arbiterPassword string
	ssh             installer.SSHFlags
}

func (in *pairInput) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&in.VIP, "vip", "", "virtual `address` with the length of its\nsubnet's prefix: 172.16.60.55/16, "+
		"and\n\" dev INTERFACE\" where several fit")
	f.StringVar(&in.Peer, "peer", "", "`address` of the other node")
	f.StringArrayVar(&in.Arbiters, "arbiter", nil, "who decides when the nodes do not see each\nother: `quorum:IP`, "+
		"ping:IP,IP, fence or\ndisk:DEVICE")
	f.StringVar(&in.Device, "device", "", "empty `disk` of both nodes for a DRBD device,\non which the database lies")
	f.StringVar(&in.Second, "second-path", "", "addresses of this node and of the other\none in a second network, "+
		"`IP,IP`: a cut of\none of the two then parts nothing")
	f.IntVar(&in.Hosts, "hosts", 0, "`number` of hosts that the platform will have")
	f.IntVar(&in.VMs, "vms", 0, "`number` of VMs that the platform will have")
	f.IntVar(&in.Database, "db-size", 0, "size of the database's partition in `GB`\n(default: the least)")
	f.StringVar(&in.VersionFile, "version-file", "", "`file` on both nodes with a line Version:\nVERSION of the platform")
	f.StringVar(&in.Unmanaged, "unmanaged-probe", "", "`program` on both nodes that exits 0 when\nthe platform manages no hosts yet")
	f.StringVar(&in.fencing, "fencing", "", "`file` with the nodes' fence devices, as\nFencing of a configuration")
	f.StringArrayVar(&in.Services, "service", nil, "`unit` of systemd that the pair runs; can be\ngiven more than once (tomcat.service)")
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
			if _, err := in.planned(place, &o); err != nil {
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
	cmd.Flags().StringVar(&in.Partition, "partition", "",
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
	if err := counts(cmd, in.Hosts, in.VMs); err != nil {
		return o, err
	}
	if cmd.Flags().Changed("db-size") {
		if err := setup.DatabaseSize(in.Database); err != nil {
			return o, err
		}
	}
	if cmd.Flags().Changed("second-path") {
		if _, err := setup.SecondPath(in.Second); err != nil {
			return o, err
		}
	}
	if in.Fenced = in.fencing != ""; in.Fenced {
		content, err := command.ReadSmall(in.fencing)
		if err != nil {
			return o, fail.Errorf(fail.Invalid, "read the fence devices: %w", err)
		}
		if in.Fencing, err = setup.ReadFencing(in.fencing, content); err != nil {
			return o, err
		}
	}
	return in.Options()
}

// planned reads what else a set-up goes by, has the checks find what its installation would, and gives all its values.
func (in *pairInput) planned(f placeFlags, o *survey.Options) (v setup.Values, err error) {
	if in.Grouped = in.group != ""; in.Grouped {
		content, err := command.ReadSmall(in.group)
		if err != nil {
			return v, fail.Errorf(fail.Invalid, "read the group: %w", err)
		}
		if in.Group, err = setup.ReadGroup(in.group, content); err != nil {
			return v, err
		}
	}
	if in.Base, err = installer.ReadBase(f.base); err != nil {
		return v, err
	}
	in.NoFirewall = f.closed
	return in.Plan(o, in.ssh.Parallel)
}

// counts checks the numbers that a pair's size is reckoned from.
func counts(cmd *cobra.Command, hosts, vms int) error {
	for _, f := range []struct {
		name   string
		at, to int
	}{{"hosts", 1, pair.MostHosts}, {"vms", 0, pair.MostVMs}} {
		if !cmd.Flags().Changed(f.name) {
			return fail.Errorf(fail.Invalid, "--%s is missing: want a number from %d to %d", f.name, f.at, f.to)
		}
	}
	return setup.Counts(hosts, vms)
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
	hosts := setup.Others(*o)
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
