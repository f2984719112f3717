// Package upgrade has the commands of upgrades: paths, plans and checks, runs and how they stand, and bundles.
package cli

import (
	"github.com/spf13/cobra"

	"holdfast/internal/cli/command"
)

// UpgradeCommands are the commands of upgrades.
func UpgradeCommands(a *command.App) []*cobra.Command {
	return []*cobra.Command{upgradeCmd(a), bundleCmd(a)}
}
