package upgrade

import (
	"encoding/json"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/inventory"
	"holdfast/internal/inventory/manifest"
)

// Kinds of steps, each with the type of its arguments.
const (
	KindCheck         = "check"            // CheckArgs
	KindStage         = "stage"            // StageArgs: the bundle is brought to the host, checked and unpacked
	KindHAOff         = "ha-off"           // SwitchArgs
	KindHAOn          = "ha-on"            // SwitchArgs
	KindAppsOff       = "applications-off" // SwitchArgs
	KindAppsOn        = "applications-on"  // SwitchArgs
	KindStorageDetach = "storage-detach"   // StorageArgs
	KindStorageAttach = "storage-attach"   // StorageArgs
	KindBackup        = "backup"           // BackupArgs
	KindRestore       = "restore"          // RestoreArgs
	KindAction        = "action"           // ActionArgs
	KindReboot        = "reboot"           // RebootArgs
	KindVerify        = "verify"           // VerifyArgs
	KindVMStop        = "vm-stop"          // VMArgs
	KindVMStart       = "vm-start"         // VMArgs
	KindPairSwitch    = "pair-switch"      // PairArgs
	KindPairStart     = "pair-start"       // PairArgs
	KindPairStop      = "pair-stop"        // PairArgs
	KindO2CB          = "o2cb"             // O2CBArgs
	KindCommit        = "commit"           // CommitArgs
	KindCleanup       = "cleanup"          // CleanupArgs
	KindPin           = "pin"              // PinArgs: bridges forward as before while their host is worked on
	KindLosses        = "losses"           // LossesArgs: what guests lose while their host is worked on
	KindTidy          = "tidy"             // TidyArgs: removes what earlier runs have left on a host that is not rolled back
)

// When says at which point of a run checks are made.
type When string

// Points of a run.
const (
	Before         When = "before"
	Between        When = "between" // a host is done, before the next
	After          When = "after"
	BeforeRollback When = "before-rollback" // the backups of the host must be whole
)

// CheckArgs are the arguments of check.
type CheckArgs struct {
	When    When          `json:"when"`
	Run     string        `json:"run,omitempty"`     // the upgrade
	SHA256  string        `json:"sha256,omitempty"`  // of the bundle's file
	Mode    manifest.Mode `json:"mode,omitempty"`    // of the run
	Backups []string      `json:"backups,omitempty"` // before-rollback: modules whose backups must verify
	Pin     []string      `json:"pin,omitempty"`     // before: bridges that must be ones that can be pinned, where the host has them
}

// StageArgs are the arguments of stage.
type StageArgs struct {
	Bundle  string `json:"bundle"` // its name
	Version string `json:"version"`
	SHA256  string `json:"sha256"` // of the bundle's file: whoever made the plan has checked its signature
}

// SwitchArgs are the arguments of ha-off, ha-on, applications-off and applications-on.
type SwitchArgs struct {
	Run    []string `json:"run"`
	Status []string `json:"status,omitempty"` // ends with 0 when it is on, with 1 when it is off
}

// Guest names a VM.
type Guest struct {
	Name      string `json:"name"`
	UUID      string `json:"uuid,omitempty"`
	Protected bool   `json:"protected,omitempty"` // Holdfast stops and starts it under its own rules
}

// VMArgs are the arguments of vm-stop and vm-start.
type VMArgs struct {
	Guests []Guest `json:"guests"`
}

// StorageArgs are the arguments of storage-detach and storage-attach.
type StorageArgs struct {
	Pools []StoragePool `json:"pools"`
}

// StoragePool is a pool that is suspended before a reboot, and active after it.
type StoragePool struct {
	Name      string `json:"name"`
	Kind      string `json:"kind"`
	Use       string `json:"use,omitempty"`
	Multipath bool   `json:"multipath,omitempty"` // it has one path: removed, and added back with multipath
}

// BackupArgs are the arguments of backup.
type BackupArgs struct {
	Run       string          `json:"run"` // the upgrade
	Module    string          `json:"module"`
	Provider  string          `json:"provider"`
	Settings  json.RawMessage `json:"settings,omitempty"`  // the provider's options
	Confirmed []string        `json:"confirmed,omitempty"` // by an operator, such as array-snapshots-done
}

// RestoreArgs are the arguments of restore: what backup has made comes back.
type RestoreArgs struct {
	Run      string `json:"run"` // the upgrade
	Module   string `json:"module"`
	Provider string `json:"provider"`
}

// ActionArgs are the arguments of action: what the module does in the phase is
// in the manifest of the staged bundle.
type ActionArgs struct {
	Run    string         `json:"run"`    // the upgrade: it names the directory of backups
	SHA256 string         `json:"sha256"` // of the bundle's file
	Module string         `json:"module"`
	Phase  manifest.Phase `json:"phase"`
	Mode   manifest.Mode  `json:"mode"` // offline or rolling, as the bundle knows it
	From   string         `json:"from"` // version
	To     string         `json:"to"`   // version

	// For packages of the appctl layout: what their scripts ask for.
	Engine        inventory.EngineSettings `json:"engine,omitzero"`
	SnapshotsDone bool                     `json:"snapshotsDone,omitempty"` // by hand, an operator says: the array can not be reached
}

// RebootArgs are the arguments of reboot.
type RebootArgs struct {
	Kernel string `json:"kernel,omitempty"` // that must be the next one to start; empty: any
}

// VerifyArgs are the arguments of verify.
type VerifyArgs struct {
	Reboot string   `json:"reboot"`           // the step after which the boot id must have changed
	Kernel string   `json:"kernel,omitempty"` // that must run; empty: any
	Pools  []string `json:"pools,omitempty"`  // that must be active
}

// PairArgs are the arguments of pair-switch, pair-start and pair-stop.
type PairArgs struct {
	Run    []string `json:"run"`
	Status []string `json:"status,omitempty"` // ends with 0: healthy and active; 3: healthy standby
}

// O2CBArgs are the arguments of o2cb: the heartbeat threshold of ocfs2.
type O2CBArgs struct {
	Threshold int `json:"threshold"` // (seconds / 2) + 1
}

// CommitArgs are the arguments of commit: the version of the cluster is raised,
// and the run can not be rolled back from then on.
type CommitArgs struct {
	From   string                        `json:"from"`
	To     string                        `json:"to"`
	Done   []cluster.HostID              `json:"done,omitempty"`   // hosts that have To
	Behind map[cluster.HostID]BehindHost `json:"behind,omitempty"` // hosts that have not
}

// BehindHost is a host that an upgrade has not brought to its version. What it has is not read
// any more: it may be off.
type BehindHost struct {
	Version string `json:"version"`           // before the upgrade
	Halfway bool   `json:"halfway,omitempty"` // it was left between that one and the new one
}

// CleanupArgs are the arguments of cleanup: backups and the unpacked bundle go.
type CleanupArgs struct {
	Run    string `json:"run"`    // the upgrade
	SHA256 string `json:"sha256"` // of the bundle's file
}

// TidyArgs are the arguments of tidy: the backups and state directories of all
// jobs but its own go, all that is unpacked, and bundles that nobody uses. It is
// planned only when no earlier run can be rolled back or committed.
type TidyArgs struct {
	SHA256 string `json:"sha256"`           // of the bundle whose file stays
	Staged bool   `json:"staged,omitempty"` // that bundle stays unpacked, too
}

// LossesArgs are the arguments of losses. At the end the step's count (job.Record) is that of packets that one guest has
// lost, the most of all.
type LossesArgs struct {
	Work  string `json:"work"`            // of which it is the begin or the end: a host may be worked on twice in a run
	Begin bool   `json:"begin,omitempty"` // what its guests have lost so far is noted
	Limit int64  `json:"limit,omitempty"` // at the end: packets; with as many lost by one guest the step fails
}

// PinArgs are the arguments of pin. A bridge that a host does not have is left out there.
type PinArgs struct {
	Bridges []string `json:"bridges"`
	End     bool     `json:"end,omitempty"` // they forward by their own flows again, once these are complete
}

// Timeouts of steps that no bundle decides.
const (
	timeCheck   = 10 * time.Minute
	timeStage   = 2 * time.Hour
	timeSwitch  = 5 * time.Minute
	timeStorage = 15 * time.Minute
	timeReboot  = 45 * time.Minute
	timeVM      = 30 * time.Minute
	timePair    = 15 * time.Minute
	timeBackup  = 4 * time.Hour
	timeCommit  = 10 * time.Minute
	timeTidy    = 10 * time.Minute
	timeLosses  = 15 * time.Minute // the host that pings may just be booting
	timePin     = 10 * time.Minute // an agent that has many ports writes its flows for minutes

	timeMoves  = 30 * time.Minute // beside the time for the memory
	timePerGiB = 2 * time.Minute
)
