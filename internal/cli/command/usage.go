package command

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"holdfast/internal/lib/fail"
)

// Usage makes the error of a command that was called wrongly.
func Usage(cmd *cobra.Command, err error) error {
	var e *fail.Error
	if err == nil || errors.As(err, &e) {
		return err
	}
	return fail.Errorf(fail.Invalid, "%w", Plainly(cmd, err)).With("see: " + cmd.CommandPath() + " --help")
}

// MarkUsage makes wrong flags and arguments of all commands bad input, and so a command that only holds others.
func MarkUsage(cmd *cobra.Command) {
	cmd.SetFlagErrorFunc(Usage)
	if cmd.HasParent() && cmd.HasSubCommands() && !cmd.Runnable() {
		holds(cmd)
	}
	if check := cmd.Args; check != nil {
		cmd.Args = func(c *cobra.Command, args []string) error { return Usage(c, check(c, args)) }
	}
	for _, c := range cmd.Commands() {
		MarkUsage(c)
	}
}

// Group makes a command that only holds others.
func Group(use, short string, sub ...*cobra.Command) *cobra.Command {
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
		return Usage(c, choices{fmt.Errorf("%s: %s; want %s", c.CommandPath(), what, subcommands(c))})
	}
}

// WantReason refuses to skip a step for no reason.
func WantReason(cmd *cobra.Command, reason string) error {
	if strings.TrimSpace(reason) == "" {
		return Usage(cmd, errors.New("no --reason given; want why the step is skipped"))
	}
	return nil
}
