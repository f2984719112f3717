// Package access has the commands for who may use the console, and the API without a certificate: users and tokens.
package access

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"holdfast/internal/api"
	"holdfast/internal/cli/command"
	"holdfast/internal/cli/output"
	"holdfast/internal/cluster"
)

// Commands are those of users and tokens.
func Commands(a *command.App) []*cobra.Command {
	return []*cobra.Command{userCmd(a), tokenCmd(a)}
}

// roleFlag adds the flag of the role.
func roleFlag(c *cobra.Command, role *string, otherwise string) {
	c.Flags().StringVar(role, "role", otherwise, "viewer looks, operator also runs the cluster, admin also gives rights")
}

func userCmd(a *command.App) *cobra.Command {
	return command.Group("user", "Manage the users of the console", userListCmd(a), userAddCmd(a), userSetCmd(a), userRemoveCmd(a))
}

func userListCmd(a *command.App) *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "List the users of the console",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			all, js, err := command.Asked(a, cmd, func(ctx context.Context, c *api.Client) ([]cluster.User, error) { return c.Users(ctx) })
			if err != nil {
				return err
			}
			if js {
				return output.JSON(a.Env.Stdout, forPrograms(all), false)
			}
			if len(all) == 0 {
				return output.Text(a.Env.Stdout, "there is no user; make the first one: holdfast user add NAME --role admin\n")
			}
			var b strings.Builder
			var rows [][]output.Cell
			for _, u := range all {
				password := output.Cell{Text: "own"}
				if u.Once {
					password = output.Cell{Text: "one-time", Colour: output.Yellow}
				}
				rows = append(rows, []output.Cell{{Text: output.Clean(u.Name)}, {Text: output.Clean(string(u.Role))}, password,
					{Text: output.WallClock(u.Changed)}, {Text: output.Clean(u.By)}})
			}
			output.Table(&b, output.PainterFor(a.Env.Stdout), []output.Column{{Head: "USER"}, {Head: "ROLE"}, {Head: "PASSWORD"},
				{Head: "CHANGED", Cut: 1, Least: 10}, {Head: "BY", Cut: 2, Least: 8}}, rows)
			return output.Text(a.Env.Stdout, b.String())
		},
	}
}

// forPrograms is a list that is never null.
func forPrograms[T any](all []T) []T {
	if all == nil {
		return []T{}
	}
	return all
}

// given is a user who was made or changed.
type given struct {
	cluster.User
	Password string `json:"password,omitempty"` // one-time, shown once
}

func userAddCmd(a *command.App) *cobra.Command {
	var role string
	c := &cobra.Command{
		Use:   "add NAME",
		Short: "Make a user of the console",
		Long: "Makes a user and shows a one-time password, which lets in only who then chooses\n" +
			"another one.",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if role == "" {
				return command.Usage(cmd, fmt.Errorf("--role: want viewer, operator or admin"))
			}
			return set(a, cmd, cluster.UserChange{Name: args[0], Role: cluster.Role(role), NewPassword: true})
		},
	}
	roleFlag(c, &role, "")
	return c
}

func userSetCmd(a *command.App) *cobra.Command {
	var role string
	var anew bool
	c := &cobra.Command{
		Use:   "set NAME",
		Short: "Give a user another role or a new password",
		Long: "Changes a user. A new password is one-time, and ends the sessions of the one\n" +
			"before.",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if role == "" && !anew {
				return command.Usage(cmd, fmt.Errorf("want --role or --new-password"))
			}
			return set(a, cmd, cluster.UserChange{Name: args[0], Role: cluster.Role(role), NewPassword: anew})
		},
	}
	roleFlag(c, &role, "")
	c.Flags().BoolVar(&anew, "new-password", false, "make a new one-time password")
	return c
}

// set makes or changes a user, and shows what came of it.
func set(a *command.App, cmd *cobra.Command, x cluster.UserChange) error {
	c, js, err := a.Open(cmd)
	if err != nil {
		return err
	}
	defer c.Close()
	u, password, err := c.SetUser(cmd.Context(), x)
	if err != nil {
		return err
	}
	if js {
		return output.JSON(a.Env.Stdout, given{u, password}, false)
	}
	text := fmt.Sprintf("%s is %s\n", output.Clean(u.Name), output.Clean(string(u.Role)))
	if password != "" {
		text += fmt.Sprintf("one-time password: %s\nit is not shown again\n", password)
	}
	return output.Text(a.Env.Stdout, text)
}

func userRemoveCmd(a *command.App) *cobra.Command {
	return &cobra.Command{
		Use:   "remove NAME",
		Short: "Remove a user of the console, and end his sessions",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.Dial(cmd)
			if err != nil {
				return err
			}
			defer c.Close()
			return c.RemoveUser(cmd.Context(), args[0])
		},
	}
}

func tokenCmd(a *command.App) *cobra.Command {
	return command.Group("token", "Manage tokens by which programs use the API", tokenListCmd(a), tokenCreateCmd(a), tokenRevokeCmd(a))
}

func tokenListCmd(a *command.App) *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "List the tokens, without their secrets",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			all, js, err := command.Asked(a, cmd, func(ctx context.Context, c *api.Client) ([]cluster.Token, error) { return c.Tokens(ctx) })
			if err != nil {
				return err
			}
			if js {
				return output.JSON(a.Env.Stdout, forPrograms(all), false)
			}
			if len(all) == 0 {
				return output.Text(a.Env.Stdout, "there is no token\n")
			}
			var b strings.Builder
			var rows [][]output.Cell
			for _, t := range all {
				expires := output.Cell{Text: t.Expires.Local().Format(time.DateOnly)}
				if !time.Now().Before(t.Expires) {
					expires.Colour = output.Yellow
				}
				rows = append(rows, []output.Cell{{Text: output.Clean(t.ID)}, {Text: output.Clean(t.Name)},
					{Text: output.Clean(string(t.Role))}, expires, {Text: output.Clean(t.By)}})
			}
			output.Table(&b, output.PainterFor(a.Env.Stdout), []output.Column{{Head: "ID"}, {Head: "NAME", Cut: 1, Least: 10},
				{Head: "ROLE"}, {Head: "EXPIRES"}, {Head: "BY", Cut: 2, Least: 8}}, rows)
			return output.Text(a.Env.Stdout, b.String())
		},
	}
}

// created is a token with its secret.
type created struct {
	cluster.Token
	Secret string `json:"secret"`
}

func tokenCreateCmd(a *command.App) *cobra.Command {
	var role string
	var days int
	c := &cobra.Command{
		Use:   "create NAME",
		Short: "Make a token for a program, and show it once",
		Long:  "Makes a token. NAME tells what it is for. The token is shown once and not kept.",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, js, err := a.Open(cmd)
			if err != nil {
				return err
			}
			defer c.Close()
			t, secret, err := c.CreateToken(cmd.Context(), args[0], cluster.Role(role), days)
			if err != nil {
				return err
			}
			if js {
				return output.JSON(a.Env.Stdout, created{t, secret}, false)
			}
			return output.Text(a.Env.Stdout, fmt.Sprintf("%s\nvalid until %s; it is not shown again\n", secret,
				t.Expires.Local().Format(time.DateOnly)))
		},
	}
	roleFlag(c, &role, string(cluster.Viewer))
	c.Flags().IntVar(&days, "days", 90, "for which it is valid, 1 to 730")
	return c
}

func tokenRevokeCmd(a *command.App) *cobra.Command {
	return &cobra.Command{
		Use:   "revoke ID",
		Short: "End a token",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.Dial(cmd)
			if err != nil {
				return err
			}
			defer c.Close()
			return c.RevokeToken(cmd.Context(), args[0])
		},
	}
}
