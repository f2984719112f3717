// Package request is what operators ask of the upgrade tool, and what they are told.
package request

import (
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/inventory"
	"holdfast/internal/inventory/manifest"
	"holdfast/internal/job"
	"holdfast/internal/upgrade"
	"holdfast/internal/upgrade/check"
)

// BundleInfo is a bundle that an agent has.
type BundleInfo struct {
	SHA256   string `json:"sha256"` // of the file, hex
	Size     int64  `json:"size"`   // of the file, bytes
	Name     string `json:"name"`
	Version  string `json:"version"`
	Unsigned bool   `json:"unsigned,omitempty"`
	KeyID    string `json:"keyID,omitempty"` // of the key that signed it
}

// Trust says which bundles are accepted.
type Trust struct {
	Keys          []string // minisign public keys, the text of their files
	AllowUnsigned bool
	Signature     []byte // over the whole file, of packages of other layouts
}

// Request asks for an upgrade, or for what follows one.
type Request struct {
	Purpose   upgrade.Purpose      `json:"purpose,omitempty"`   // empty: upgrade
	Bundle    string               `json:"bundle,omitempty"`    // SHA-256 of its file, hex; for an upgrade
	Version   string               `json:"version,omitempty"`   // that is installed, when the cluster does not know it yet
	Options   upgrade.Options      `json:"options,omitzero"`    // for an upgrade
	Inventory *inventory.Inventory `json:"inventory,omitempty"` // what only people know of the hosts; nil: as at the last time
	Hosts     []cluster.HostID     `json:"hosts,omitempty"`     // of a rollback; none: all that were touched
	Lost      []cluster.HostID     `json:"lost,omitempty"`      // hosts that will not come back, for a rollback or commit
}

// Standing is how the last upgrade stands.
type Standing struct {
	ClusterState upgrade.ClusterState `json:"cluster_state"`
	Version      string               `json:"version"` // that is installed, or was before a run that is not committed
	To           string               `json:"to,omitempty"`
	Purpose      upgrade.Purpose      `json:"purpose,omitempty"` // of the job
	Mode         manifest.Mode        `json:"mode,omitempty"`
	Bundle       *BundleInfo          `json:"bundle,omitempty"`
	Run          string               `json:"run,omitempty"` // id of the upgrade
	Committed    bool                 `json:"committed,omitempty"`
	// the last one: an upgrade, its rollback or its commit; of its steps those that run or are stuck
	Job      *job.View          `json:"job,omitempty"`
	Stage    string             `json:"stage,omitempty"`
	Steps    StepCount          `json:"steps"`
	Hosts    []HostStanding     `json:"hosts"`
	Found    []Found            `json:"found,omitempty"`  // what programs of the job have said of trouble, also where they have succeeded
	Undone   []string           `json:"undone,omitempty"` // after an abort: steps that would have restored something
	Left     []upgrade.LeftHost `json:"left,omitempty"`
	Behind   []Behind           `json:"behind,omitempty"`  // hosts that have not the version of the cluster
	Next     []string           `json:"next,omitempty"`    // commands that would be accepted now
	Blocked  []string           `json:"blocked,omitempty"` // why others that would make sense would not
	NoQuorum bool               `json:"no_quorum,omitempty"`
	AsOf     time.Time          `json:"as_of,omitzero"` // with NoQuorum: all this is as old as that; zero: not known
}

// Found is a line of what a step's program has said, or of a report that it has left.
type Found struct {
	Step   string         `json:"step"`
	Host   cluster.HostID `json:"host,omitempty"`
	Fault  string         `json:"fault"`          // id of what is known of such lines
	Level  string         `json:"level"`          // fail or warn
	File   string         `json:"file,omitempty"` // of the report, on the host; empty: what was said
	Text   string         `json:"text"`           // of the line
	Remedy string         `json:"remedy,omitempty"`
}

// StepCount counts the steps of a job.
type StepCount struct {
	Total  int `json:"total"`
	Over   int `json:"over"` // done or skipped
	Failed int `json:"failed,omitempty"`
	// Dropped are those that nobody waits for any more: their hosts were left out.
	Dropped int `json:"dropped,omitempty"`
}

// HostStanding is how a host stands.
type HostStanding struct {
	Name     cluster.HostID    `json:"name"`
	State    upgrade.HostState `json:"state,omitempty"` // empty: not touched
	Wave     int               `json:"wave,omitempty"`
	Now      string            `json:"now,omitempty"` // what it does or waits for
	Approved string            `json:"approved,omitempty"`
	Dropped  string            `json:"dropped,omitempty"`
	Mixed    bool              `json:"mixed,omitempty"` // left half-way
}

// Begun is the answer to RunUpgrade. Without a job, Plan or Report say what stands
// in the way.
type Begun struct {
	Job    *job.View
	Plan   upgrade.Plan
	Report *check.Report // of the checks before
}
