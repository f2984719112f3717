package cli

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"holdfast/internal/lib/fail"
)

// usage makes the error of a command that was called wrongly.
func usage(cmd *cobra.Command, err error) error {
	var e *fail.Error
	if err == nil || errors.As(err, &e) {
		return err
	}
	return fail.Errorf(fail.Invalid, "%w", plainly(cmd, err)).With("see: " + cmd.CommandPath() + " --help")
}

// markUsage makes wrong flags and arguments of all commands bad input, and so a command that only holds others.
func markUsage(cmd *cobra.Command) {
	cmd.SetFlagErrorFunc(usage)
	if cmd.HasParent() && cmd.HasSubCommands() && !cmd.Runnable() {
		holds(cmd)
	}
	if check := cmd.Args; check != nil {
		cmd.Args = func(c *cobra.Command, args []string) error { return usage(c, check(c, args)) }
	}
	for _, c := range cmd.Commands() {
		markUsage(c)
	}
}

// group makes a command that only holds others.
func group(use, short string, sub ...*cobra.Command) *cobra.Command {
	cmd := &cobra.Command{Use: use, Short: short}
	cmd.AddCommand(sub...)
	holds(cmd)
	return cmd
}

// holds refuses to run a command that only holds others.
func holds(cmd *cobra.Command) {
	cmd.Args = cobra.ArbitraryArgs
	cmd.RunE = func(c *cobra.Command, args []string) error {
		what := "no command given"
		if len(args) > 0 {
			what = fmt.Sprintf("unknown command %q", args[0])
		}
		return usage(c, choices{fmt.Errorf("%s: %s; want %s", c.CommandPath(), what, subcommands(c))})
	}
}

// wantReason refuses to skip a step for no reason.
func wantReason(cmd *cobra.Command, reason string) error {
	if strings.TrimSpace(reason) == "" {
		return usage(cmd, errors.New("no --reason given; want why the step is skipped"))
	}
	return nil
}
