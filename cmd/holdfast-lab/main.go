// Command holdfast-lab is what tries Holdfast out on one machine: a laboratory of hosts with
// faults, the demo and the simulator. The agents of its hosts are the program holdfast.
package main

import (
	"os"

	"github.com/spf13/cobra"

	"holdfast/internal/cli"
	"holdfast/internal/cli/command"
	"holdfast/testbed/demo"
	"holdfast/testbed/lab"
	"holdfast/testbed/sim"
)

func main() {
	os.Exit(cli.Run(os.Args[1:], command.Env{Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr}, root))
}

// root is the command line.
func root(env command.Env) *cobra.Command {
	c := lab.Command()
	c.AddCommand(sim.Command())
	for _, sub := range c.Commands() { // what they write is other programs', or read by some
		sub.Annotations = map[string]string{command.AsItIs: "yes"}
	}
	c.AddCommand(demo.Command(), demo.GuestCommand())
	return cli.Complete(c, env)
}
