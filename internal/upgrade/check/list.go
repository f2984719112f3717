package check

import (
	"slices"
)

// Check is one named check.
type Check struct {
	ID    string
	Title string
	When  []When
	Doc   string // what it wants, in a sentence

	run func(*scene) []Finding
}

func (c Check) look(s *scene) []Finding {
	fs := c.run(s)
	for i := range fs {
		fs[i].Check = c.ID
	}
	if l := Worst(fs); l != Warn && l != Fail {
		fs = append(fs, Finding{Check: c.ID, Scope: ScopeCluster, Level: OK, Text: c.Title})
	}
	return fs
}

// Run runs all checks of a point of an upgrade and returns their findings, the
// worst first.
func Run(in Input) []Finding {
	s := newScene(in)
	var fs []Finding
	for _, c := range List() {
		if slices.Contains(c.When, s.When) {
			fs = append(fs, c.look(s)...)
		}
	}
	Sort(fs)
	return fs
}

// IDs returns the names of all checks.
func IDs() (out []string) {
	for _, c := range List() {
		out = append(out, c.ID)
	}
	return out
}

// List returns all checks, in the order in which they run.
func List() []Check {
	always := []When{Before, Between, After}
	before := []When{Before}
	return []Check{
		{"facts", "Facts of the hosts", always, "Every host is up and has reported its facts.", checkFacts},
		{"white-list", "White list and mode", before, "The bundle allows the upgrade from the installed version, in " +
			"the mode of the run.", checkWhiteList},
		{"same-version", "Versions of the hosts", always,
			"All hosts have the same version. During the run: the old one, the new one, or one that may run beside the new one.", checkVersions},
		{"config-names", "Configuration parameters", before,
			"The bundle's configuration files have the same parameter names as the installed files.", checkConfig},
		{"cluster-status", "Cluster status", always, "The product reports that its cluster is healthy.", checkStatus},
		{"free-space", "Free space", before, "Each host has the space that the bundle needs for unpacking: the space " +
			"that the bundle asks for, at least twice the size of its files.", checkSpace},
		{"commands", "Required commands", before, "Each host has the commands that the bundle requires.", checkCommands},
		{"python-modules", "Required Python modules", before,
			"Python on each host can import the modules that the bundle requires.", checkPython},
		{"module-needs", "Needs of modules", before, "Each host has what modules need: answers to questions of their " +
			"scripts, directories that other accounts can enter, and a manager for the format of the packages.", checkNeeds},
		{"ha-state", "HA state", always, "The platform's HA is off while hosts are upgraded. Afterwards it is on " +
			"again if it was on before.", checkHA},
		{"store-quorum", "Quorum of the store", always, "Holdfast's store keeps its quorum when one more member is lost.", checkQuorum},
		{"replication", "Replication", always, "The replication of the managers and the databases is healthy.", checkReplication},
		{"last-backup", "Last backup", before, "There is a backup, made within the last day.", checkBackup},
		{"time-skew", "Clocks", always, "Clocks agree within a second, and follow a time server.", checkClocks},
		{"kernel", "Kernel to boot", always, "A reboot starts the kernel that the bundle needs. After the reboot that kernel runs.", checkKernel},
		{"capacity", "Capacity to empty a host", []When{Before, Between},
			"Each host can be emptied: its guests fit on the others of its group.", checkCapacity},
		{"migratable", "Guests that can move", []When{Before, Between}, "Each running guest can move live, or has a policy.", checkMigratable},
		{"dirty-rate", "Memory that guests change", []When{Before, Between},
			"No guest changes its memory faster than the migration network can carry it.", checkDirty},
		{"busy-guests", "Busy guests", []When{Before, Between},
			"No guest is paused. No guest has a snapshot, backup, restore or block job under way.", checkBusy},
		{"single-path", "Single path of shared storage pools", always, "Each shared pool has more than one path to its device.", checkSinglePath},
		{"storage-paths", "iSCSI and Fibre Channel", always,
			"Hosts of a group see the same iSCSI targets, and no Fibre Channel port or path is down.", checkSessions},
		{"o2cb", "O2CB heartbeat threshold", always, "The threshold of OCFS2's heartbeat is 61 = (120 s / 2 s) + 1 " +
			"on all hosts, both as configured and in use.", checkO2CB},
		{"pin", "Bridges to pin", before, "Each Open vSwitch bridge of --pin is on some host, and can be pinned on " +
			"every host that has it.", checkPin},
		{"template-storage", "Template and shared storage", always,
			"Template and shared storage is detached before a host is rebooted, and attached again afterwards.", checkTemplate},
	}
}
