package ha

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"holdfast/internal/cli/command"
	"holdfast/internal/cli/output"
	"holdfast/internal/lib/fail"
)

// DefaultPassword is what the source tool resets the password to.
const DefaultPassword = "password"

func resetPasswordCmd(a *command.App) *cobra.Command {
	var file string
	var ask bool
	cmd := &cobra.Command{
		Use:   "reset-mnvm-password",
		Short: "Give root of the management VM another password",
		Long: `Gives root of the running management VM another password, by the
qemu-guest-agent in it: the one of --password-file, the one that is asked for
with --ask, or else "password".

Refused unless AllowResetRootPassword of the configuration is true. The password
is in no log, and not in the store.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, js, err := a.Open(cmd)
			if err != nil {
				return err
			}
			defer c.Close()
			if ask && file != "" {
				return command.Usage(cmd, errors.New("--ask and --password-file exclude each other"))
			}
			password := DefaultPassword
			if ask || file != "" {
				if password, err = newPassword(a, cmd, file); err != nil {
					return err
				}
			}
			r, err := c.ResetPassword(cmd.Context(), password)
			if err != nil {
				return err
			}
			if password == DefaultPassword {
				err = output.Text(a.Env.Stderr, "warning: everybody knows this password (\""+
					DefaultPassword+"\"): change it now, with passwd in the\nmanagement VM\n")
			}
			if err != nil {
				return err
			}
			if js {
				return output.JSON(a.Env.Stdout, r, false)
			}
			return output.Text(a.Env.Stdout, fmt.Sprintf("Reset MNVM root password on %s %s\nPassword set successfully "+
				"for root in %s\n", output.Clean(r.Host), output.Clean(r.Addr), output.Clean(r.UUID)))
		},
	}
	cmd.Flags().StringVar(&file, "password-file", "", "`file` whose first line is the password")
	cmd.Flags().BoolVar(&ask, "ask", false, "ask for the password, twice, on the terminal")
	return cmd
}

// newPassword reads the password of a file, or twice from the terminal.
func newPassword(a *command.App, cmd *cobra.Command, file string) (string, error) {
	first, err := a.Password(cmd.Context(), file, "New password of root: ")
	if err != nil || file != "" {
		return first, err
	}
	again, err := a.Password(cmd.Context(), "", "Once more: ")
	if err == nil && first != again {
		err = fail.Errorf(fail.Invalid, "the passwords differ; nothing was changed")
	}
	return first, err
}
