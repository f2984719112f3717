// Package installer has the commands that put Holdfast on hosts by SSH and take it away: install, adopt, uninstall, and
// the certificates of the hosts.
package installer

import (
	"github.com/spf13/cobra"

	"holdfast/internal/cli/command"
)

// Commands are the commands of an installation.
func Commands(a *command.App) []*cobra.Command {
	return []*cobra.Command{installCmd(a), adoptCmd(a), uninstallCmd(a), certificatesCmd(a), consoleCmd(a)}
}
