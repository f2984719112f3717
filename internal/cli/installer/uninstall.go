package installer

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"holdfast/internal/cli/command"
	"holdfast/internal/cli/output"
	"holdfast/internal/cluster"
	"holdfast/internal/config"
	"holdfast/internal/install"
	"holdfast/internal/install/setup"
	"holdfast/internal/lib/fail"
)

// SureFlag is the source tool's word for it.
const SureFlag = "yes-i-really-really-mean-it"

func uninstallCmd(a *command.App) *cobra.Command {
	var ssh SSHFlags
	var file, list, base string
	var sure bool
	cmd := &cobra.Command{
		Use:   "uninstall",
		Short: "Stop the management VM, take Holdfast off all hosts by SSH",
		Long: `Stops the management VM, ends the agents of all hosts, and removes everything
that Holdfast has put there. The image and all else in the shared directory
stay.

Of a two-node pair each node keeps its database, with all that it has received,
as one of its own: it does not run, replicates from nobody, and has no accounts
of the pair. A "pair setup" that was begun on this host is taken back so, too.

Refused while a host does not answer. The configuration is that of this host,
unless -c names another one. This host comes last: interrupted, it goes on when
it is run again.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			js, err := a.AsJSON(cmd)
			if err != nil {
				return err
			}
			if !sure {
				if file != "" || list != "" || base != "" { // what is wrong in them is told first
					if _, err := UninstallOptions(a, cmd, file, list, base); err != nil {
						return err
					}
				}
				return fail.Errorf(fail.Refused,
					"this stops what the cluster keeps up, and ends its protection").With("if you are certain: --" + SureFlag)
			}
			o, err := UninstallOptions(a, cmd, file, list, base)
			if err != nil {
				return err
			}
			if err := ssh.Login(cmd.Context(), a, o); err != nil {
				return err
			}
			return uninstall(a, cmd, o, &ssh, js)
		},
	}
	f := cmd.Flags()
	f.StringVarP(&file, "config", "c", "", "the cluster's configuration `file`\n(default: that of this host)")
	f.StringVar(&list, "hosts", "", "`file` with hosts that run guests only")
	f.StringVar(&base, "settings", "", "`file` with settings of all agents")
	f.BoolVar(&sure, SureFlag, false, "do it")
	ssh.Add(cmd)
	return cmd
}

// UninstallOptions are those of the configuration in a file, "": of this host, or of the set-up of a pair
// that was begun here and did not come to an installation.
func UninstallOptions(a *command.App, cmd *cobra.Command, file, list, base string) (o install.Options, err error) {
	if begun, err := install.PairBegun(install.SetupLock, ""); err != nil || begun != "" {
		if err == nil {
			err = fail.Errorf(fail.Refused, "%s on this host", begun).With("wait for its end")
		}
		return o, err
	}
	own := cmp.Or(file, install.ClusterFile)
	_, missing := os.Stat(own)
	note, err := setup.ReadNote(install.SetupFile)
	switch {
	case err != nil:
		return o, err
	case file == "" && note != nil && errors.Is(missing, fs.ErrNotExist):
		o = install.Options{Config: note.Config, ConfigText: note.Config.JSON(), Undersized: true, Domain: cluster.GuestName}
		if o.Base, err = ReadBase(base); err != nil {
			return o, err
		}
		o.Last = note.Config.Pair.Nodes[0]
	case file == "" && errors.Is(missing, fs.ErrNotExist):
		return o, fail.Errorf(fail.Invalid, "this host has no configuration of a cluster: there is no %s", own).
			With("run this on a host of the cluster, or name its configuration: holdfast uninstall -c FILE")
	default:
		if o, err = InstallOptions(a, cmd, own, list, base, true); err != nil {
			return o, err
		}
		n, err := config.LoadNode(install.SettingsFile)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return o, err
		}
		o.Last = n.Host
	}
	return o, nil
}

func uninstall(a *command.App, cmd *cobra.Command, o install.Options, ssh *SSHFlags, js bool) error {
	res, err := Uninstall(a, cmd, &o, ssh)
	if js {
		err = errors.Join(err, output.JSON(a.Env.Stdout, res, false))
	} else {
		err = errors.Join(err, output.Text(a.Env.Stdout, RemovedText(res, output.PainterFor(a.Env.Stdout))))
		if p := o.Config.Pair; err == nil && res.OK && p != nil && p.Device == nil {
			err = output.Text(a.Env.Stdout, fmt.Sprintf("each node has its database as one of its own, in %s; to start "+
				"it there: systemctl enable --now %s\n", output.Clean(p.Full().Database.Datadir), install.DatabaseUnit))
		}
	}
	return Uninstalled(cmd, res, err)
}

// Uninstall takes Holdfast away.
func Uninstall(a *command.App, cmd *cobra.Command, o *install.Options, ssh *SSHFlags) (install.Removed, error) {
	if err := over(a, cmd, o, ssh); err != nil {
		return install.Removed{}, err
	}
	return install.Uninstall(cmd.Context(), *o)
}

// Uninstalled is the error that an uninstallation ends with.
func Uninstalled(cmd *cobra.Command, res install.Removed, err error) error {
	switch {
	case cmd.Context().Err() != nil:
		return fail.Errorf(fail.Canceled, "uninstall: interrupted; run it again to go on")
	case err != nil:
		return fmt.Errorf("uninstall: %w", err)
	case !res.OK:
		return fail.Errorf(fail.Refused, "uninstall: nothing was changed on any host")
	}
	return nil
}

// RemovedText tells what was removed, and where.
func RemovedText(res install.Removed, p output.Painter) string {
	var b strings.Builder
	b.WriteString(ResultText(install.Result{Report: res.Report}, false, p))
	for _, host := range slices.Sorted(maps.Keys(res.Gone)) {
		fmt.Fprintf(&b, "%-10s %d paths removed\n", output.Clean(host), len(res.Gone[host]))
		for _, l := range res.Left[host] {
			fmt.Fprintf(&b, "%-10s stays: %s\n", "", output.Clean(l))
		}
	}
	return b.String()
}
