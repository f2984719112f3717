package main

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"holdfast/internal/agent"
)

// retireCommand is for scripts that remove Holdfast from a host.
func retireCommand() *cobra.Command {
	var file string
	var check, apart bool
	var disarmed time.Duration
	c := &cobra.Command{
		Use: "retire", Short: "End what outlives the agent of this host, when that harms nobody", Hidden: true, Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			var ended []string
			var err error
			switch {
			case c.Flags().Changed("disarmed"):
				err = agent.AwaitDisarmed(c.Context(), file, disarmed)
			case check:
				err = agent.MayRetire(c.Context(), file)
			default:
				ended, err = agent.Retire(c.Context(), file, apart)
			}
			for _, line := range ended {
				if _, werr := fmt.Fprintln(c.OutOrStdout(), line); werr != nil {
					return werr
				}
			}
			return err
		},
	}
	c.Flags().StringVar(&file, "config", "/etc/holdfast/agent.json", "the settings of this host")
	c.Flags().BoolVar(&check, "check", false, "tell whether it would harm, and change nothing")
	c.Flags().DurationVar(&disarmed, "disarmed", 0, "wait at most so long until the watchdog is not armed, and end nothing")
	c.Flags().BoolVar(&apart, "apart", false, "the host does not come back: a pair's database becomes one of its own")
	return c
}
