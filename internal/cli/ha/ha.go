// Package ha has the commands for what the cluster keeps up, the management VM or the services of a pair: where it
// runs, to start, stop and move it, the hosts, the store, the log of events, and jobs.
package ha

import (
	"github.com/spf13/cobra"

	"holdfast/internal/cli/command"
)

// Commands are the commands of the cluster.
func Commands(a *command.App) []*cobra.Command {
	return []*cobra.Command{statusCmd(a), startCmd(a), stopCmd(a), migrateCmd(a), eventsCmd(a), hostCmd(a), guestCmd(a), jobsCmd(a),
		storeCmd(a), confirmOffCmd(a), resetPasswordCmd(a)}
}
