package installer

import (
	"fmt"

	"github.com/spf13/cobra"

	"holdfast/internal/cli/command"
	"holdfast/internal/cluster"
	"holdfast/internal/install"
	"holdfast/internal/lib/fail"
)

func adoptCmd(a *command.App) *cobra.Command {
	var ssh SSHFlags
	var file, base string
	var check, undersized, yes, built, closed bool
	cmd := &cobra.Command{
		Use:   "adopt DOMAIN -c FILE",
		Short: "Install, and take over a management VM that libvirt runs",
		Long: `Takes a management VM over that libvirt runs by hand, or the source tool, on one
of the hosts of a configuration: installs Holdfast on all of them as "install"
does, shuts the VM down, takes its definition out of libvirt, and has the
cluster start it on the same disks. It is restarted once.

The domain's definition becomes DomainXML of the configuration, so that its
devices stay; its name and UUID become Holdfast's. With DomainXML in FILE, that
one counts; with --built, the machine that FILE describes is started on
ImageFolder's image.

All checks run before anything is changed; with --check nothing else is done.
Refused: a domain that runs on two hosts, another one with a disk of it, saved
memory, snapshots, and whatever DomainXML can not have. The old definition is
kept in a file on its host. After an interruption the same command goes on.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			js, err := a.AsJSON(cmd)
			if err != nil {
				return err
			}
			if file == "" {
				return command.Usage(cmd, fmt.Errorf("domain %q: no -c FILE given; want the configuration of the cluster "+
					"that takes it over (holdfast config sample writes one)", args[0]))
			}
			if args[0] == "" || args[0] == cluster.GuestName {
				return command.Usage(cmd, fmt.Errorf("DOMAIN: value %q: want the name of a libvirt domain, and not %s, which "+
					"is Holdfast's own", args[0], cluster.GuestName))
			}
			o, err := InstallOptions(a, cmd, file, "", base, undersized)
			if err != nil {
				return err
			}
			if built && o.Config.DomainXML != "" {
				return fail.Errorf(fail.Invalid, "--built: the configuration has DomainXML: want one of them")
			}
			if err := ssh.Login(cmd.Context(), a, o); err != nil {
				return err
			}
			o.NoFirewall = closed
			o.Adopt, o.Confirm = &install.Adoption{Name: args[0], Built: built}, a.Confirming(yes)
			return installHosts(a, cmd, o, &ssh, check, js)
		},
	}
	f := cmd.Flags()
	f.StringVarP(&file, "config", "c", "", "the cluster's configuration `file`")
	f.StringVar(&base, "settings", "", "`file` with settings of all agents")
	f.BoolVar(&built, "built", false, "start the machine that FILE describes\ninstead of the domain's")
	f.BoolVar(&check, "check", false, "check only")
	f.BoolVarP(&yes, "yes", "y", false, "do not ask")
	f.BoolVar(&closed, "no-firewall", false, "leave the hosts' firewalls alone; you open\nthe ports yourself")
	f.BoolVar(&undersized, "allow-undersized", false, "accept a management VM for tests, below\n8 GB and 4 CPUs")
	ssh.Add(cmd)
	return cmd
}
