package cli

import "holdfast/internal/install"

// The source tool's commands on a pair, by the names under which this program takes them.
const (
	crmName   = "crm"
	stopName  = "ms_resource_stop.sh"
	startName = "ms_resource_start.sh"
	againName = "ms_recovery.sh"
	partName  = "ms_rm_sync_partition.sh"
	drbdName  = "drbd-overview"
)

// pairTools is where a pair's hosts have links to this program by these names.
const pairTools = "/usr/sbin/"

// pairLinks are these links. What is there already by such a name stays.
func pairLinks() (out []install.File) {
	for _, name := range []string{crmName, stopName, startName, againName, partName, drbdName} {
		out = append(out, install.File{Path: pairTools + name, Link: install.Program, Once: true})
	}
	return out
}
