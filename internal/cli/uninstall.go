package cli

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"holdfast/internal/fail"
	"holdfast/internal/install"
)

// sureFlag is the source tool's word for it.
const sureFlag = "yes-i-really-really-mean-it"

func (a *app) uninstallCmd() *cobra.Command {
	var ssh sshFlags
	var file, list, base string
	var sure bool
	cmd := &cobra.Command{
		Use:   "uninstall",
		Short: "Stop the management VM, take Holdfast off all hosts by SSH",
		Long: `Stops the management VM, ends the agents of all hosts, and removes everything
that Holdfast has put there. The image and all else in the shared directory
stay.

Refused while a host does not answer. The configuration is that of this host,
unless -c names another one.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			js, err := a.asJSON(cmd)
			if err != nil {
				return err
			}
			if !sure {
				return fail.Errorf(fail.Refused, "this stops the management VM, and ends its protection").With("if you are certain: --" + sureFlag)
			}
			o, err := a.installOptions(cmd, cmp.Or(file, install.ClusterFile), list, base, true)
			if err != nil {
				return err
			}
			if err := ssh.login(cmd.Context(), a, o); err != nil {
				return err
			}
			return a.uninstall(cmd, o, &ssh, js)
		},
	}
	f := cmd.Flags()
	f.StringVarP(&file, "config", "c", "", "the cluster's configuration `file`\n(default: that of this host)")
	f.StringVar(&list, "hosts", "", "`file` with hosts that run guests only")
	f.StringVar(&base, "settings", "", "`file` with settings of all agents")
	f.BoolVar(&sure, sureFlag, false, "do it")
	ssh.add(cmd)
	return cmd
}

func (a *app) uninstall(cmd *cobra.Command, o install.Options, ssh *sshFlags, js bool) error {
	res, err := a.runUninstall(cmd, &o, ssh)
	if js {
		err = errors.Join(err, writeJSON(a.env.Stdout, res, false))
	} else {
		err = errors.Join(err, writeText(a.env.Stdout, removedText(res, painterFor(a.env.Stdout))))
	}
	return uninstalled(cmd, res, err)
}

func (a *app) runUninstall(cmd *cobra.Command, o *install.Options, ssh *sshFlags) (install.Removed, error) {
	if err := a.over(cmd, o, ssh); err != nil {
		return install.Removed{}, err
	}
	return install.Uninstall(cmd.Context(), *o)
}

// uninstalled is the error that an uninstallation ends with.
func uninstalled(cmd *cobra.Command, res install.Removed, err error) error {
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

func removedText(res install.Removed, p painter) string {
	var b strings.Builder
	b.WriteString(installText(install.Result{Report: res.Report}, false, p))
	for _, host := range slices.Sorted(maps.Keys(res.Gone)) {
		fmt.Fprintf(&b, "%-10s %d paths removed\n", clean(host), len(res.Gone[host]))
		for _, l := range res.Left[host] {
			fmt.Fprintf(&b, "%-10s stays: %s\n", "", clean(l))
		}
	}
	return b.String()
}
