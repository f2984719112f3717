package main

import (
	"fmt"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"holdfast/internal/agent"
	"holdfast/internal/lib/fail"
	"holdfast/internal/lib/text"
)

// usageCommand tells what fills the store.
func usageCommand() *cobra.Command {
	var file string
	c := &cobra.Command{
		Use: "usage", Short: "Show what fills the store: records by kind and host",
		Long: `Shows what the records in the store take, by kind and by the host that has
written them, what takes most first. It asks the store itself with the
certificate of this host, so it also works when no agent answers.

Hosts that run guests only write nothing while more than half of the room is
taken; the rest is the members'. What such a host has written is removed with
"holdfast store clean HOST".`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			opt, err := offlineOptions(file)
			if err != nil {
				return err
			}
			taken, members, err := agent.Usage(c.Context(), opt)
			if err != nil {
				return offlineError(err)
			}
			w := tabwriter.NewWriter(c.OutOrStdout(), 0, 0, 2, ' ', 0)
			fmt.Fprintln(w, "KIND\tHOST\tRECORDS\tSIZE")
			for _, x := range taken {
				host := x.Host
				if host == "" {
					host = "-"
				}
				fmt.Fprintf(w, "%s\t%s\t%d\t%.1f KiB\n", text.Line(x.Kind, 40), text.Line(host, 64), x.Keys, float64(x.Bytes)/1024)
			}
			for _, m := range members {
				if m.Reachable() {
					fmt.Fprintf(w, "\n%s has %.1f MiB in use of %.1f MiB, with older versions",
						text.Line(m.Name, 64), float64(m.DBInUse)/(1<<20), float64(m.Quota)/(1<<20))
				} else {
					fmt.Fprintf(w, "\n%s does not answer", text.Line(m.Name, 64))
				}
			}
			fmt.Fprintln(w)
			return w.Flush()
		},
	}
	c.Flags().StringVar(&file, "config", "/etc/holdfast/agent.json", "the settings of this host")
	return c
}

// cleanCommand removes what a host that runs guests only has written.
func cleanCommand() *cobra.Command {
	var file string
	var moves, yes bool
	c := &cobra.Command{
		Use: "clean HOST", Short: "Remove what a host that runs guests only has written into the store",
		Long: `Removes the events and the counts of runs that a host has written which runs
guests only, and gives their room back. For a host whose certificate was stolen:
revoke the certificate first, or it writes on. Its report is removed with
"holdfast host forget".

With --moves also its words about guests that have left it. A guest that arrived
elsewhere and stands still waits for such a word: look at its guests first.`,
		Example: "  holdfast store clean h17 --yes",
		Args:    cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			if !yes {
				return fail.Errorf(fail.Refused, "what %s has written into the store would be removed", args[0]).With("say so: --yes")
			}
			opt, err := offlineOptions(file)
			if err != nil {
				return err
			}
			n, err := agent.Clean(c.Context(), opt, args[0], moves)
			if n > 0 || err == nil {
				fmt.Fprintf(c.OutOrStdout(), "%d records of %s were removed\n", n, args[0])
			}
			if err != nil {
				return offlineError(err)
			}
			return nil
		},
	}
	c.Flags().StringVar(&file, "config", "/etc/holdfast/agent.json", "the settings of this host")
	c.Flags().BoolVar(&moves, "moves", false, "also its words about guests that have left it")
	c.Flags().BoolVar(&yes, "yes", false, "do it")
	return c
}
