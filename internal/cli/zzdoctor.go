// Package doctor has the commands that look for what is wrong: doctor at this host and its agent, and report, which gathers
// what helps to find it, without secrets.
package cli

import (
	"github.com/spf13/cobra"

	"holdfast/internal/cli/command"
)

// DoctorCommands are the commands that look for what is wrong.
func DoctorCommands(a *command.App) []*cobra.Command {
	return []*cobra.Command{doctorCmd(a), reportCmd(a)}
}
