package cli

import (
	"context"
	"fmt"
	"runtime"

	"github.com/spf13/cobra"

	"holdfast/internal/api"
	"holdfast/internal/cli/command"
	"holdfast/internal/cli/output"
)

// versions is what the command shows.
type versions struct {
	Client api.Version  `json:"client"`
	Agent  *api.Version `json:"agent,omitempty"`
	Error  string       `json:"agent_error,omitempty"` // why Agent is missing
}

func versionCmd(a *command.App) *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Show the version of this program and of the agent",
		Long: `Shows the version of this program and of the agent. It is no error when the
agent is not reachable.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, js, err := a.Open(cmd)
			if err != nil {
				return err
			}
			defer c.Close()
			ctx, cancel := context.WithTimeout(cmd.Context(), command.VersionTime)
			defer cancel()
			v := versions{Client: api.Version{Version: a.Env.Version, Go: runtime.Version()}}
			if agent, err := c.Version(ctx); err != nil {
				v.Error = err.Error()
			} else {
				v.Agent = &agent
			}
			if js {
				return output.JSON(a.Env.Stdout, v, false)
			}
			return output.Text(a.Env.Stdout, versionText(v))
		},
	}
}

func versionText(v versions) string {
	text := fmt.Sprintf("holdfast %s (%s, %s/%s)\n", v.Client.Version, v.Client.Go, runtime.GOOS, runtime.GOARCH)
	if v.Agent == nil {
		return text + "agent    unknown: " + output.CleanLines(v.Error) + "\n"
	}
	return text + fmt.Sprintf("agent    %s (%s, api %s)\n", output.Clean(v.Agent.Version), output.Clean(v.Agent.Go),
		output.Clean(v.Agent.API))
}
