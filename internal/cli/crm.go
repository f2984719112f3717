package cli

import (
	"errors"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"holdfast/internal/fail"
	"holdfast/internal/install"
)

// The source tool's commands on a pair, by the names under which this program takes them.
const (
	crmName   = "crm"
	stopName  = "ms_resource_stop.sh"
	startName = "ms_resource_start.sh"
	againName = "ms_recovery.sh"
	partName  = "ms_rm_sync_partition.sh"
)

// crmDead is what its `crm status` says when nobody answers.
const crmDead = "cmsadm: failed to connect to cmsd\n"

// NewPairTool returns the command of the source tool that has this name; nil: it is none. It
// prints what that tool prints; the exit codes are ours.
func NewPairTool(env Env, name string) *cobra.Command {
	a := &app{env: env, output: "text"}
	root := &cobra.Command{Use: name, SilenceErrors: true, SilenceUsage: true, Args: cobra.NoArgs, CompletionOptions: cobra.CompletionOptions{DisableDefaultCmd: true}}
	switch name {
	case crmName:
		root.AddCommand(&cobra.Command{Use: "status", Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) error { return a.crmStatus(cmd) }})
	case stopName:
		root.RunE = func(cmd *cobra.Command, _ []string) error { return a.stopPair(cmd, defaultWait) }
	case startName: // its parameter is optional, and told nowhere
		root.Args = cobra.MaximumNArgs(1)
		root.RunE = func(cmd *cobra.Command, _ []string) error { return a.startPair(cmd, defaultWait) }
	case againName:
		root.Args = cobra.RangeArgs(1, 3)
		root.RunE = func(cmd *cobra.Command, args []string) error { return a.pairRecoveryScript(cmd, install.ConfDir, args) }
	case partName:
		root.Args = cobra.ExactArgs(1)
		root.RunE = func(cmd *cobra.Command, args []string) error {
			return a.removePartition(cmd, args[0], "", "Success to delete sync %s.\n")
		}
	default:
		return nil
	}
	root.SetOut(env.Stdout)
	root.SetErr(env.Stderr)
	root.PersistentFlags().StringVar(&a.socket, "socket", "", "agent's unix `path`")
	markUsage(root)
	return root
}

// PairToolCalled is the name of the source tool's command by which the program was called.
func PairToolCalled() string { return filepath.Base(os.Args[0]) }

func (a *app) crmStatus(cmd *cobra.Command) error {
	c, _, err := a.open(cmd)
	if err != nil {
		return err
	}
	defer c.Close()
	p, err := c.Pair(cmd.Context())
	var e *fail.Error
	if errors.As(err, &e) && e.Kind == fail.Unavailable {
		if err := writeText(a.env.Stdout, crmDead); err != nil {
			return err
		}
		return fail.Errorf(fail.Unavailable, "")
	}
	if err != nil {
		return err
	}
	v := viewPair(p)
	if err := writeText(a.env.Stdout, v.crm()); err != nil {
		return err
	}
	return v.exit()
}
