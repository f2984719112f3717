package config

import (
	"encoding/json"
	"fmt"
	"time"

	"holdfast/internal/cluster"
)

// Revision is one configuration that the cluster has, or has had.
type Revision struct {
	Number  int             `json:"number"`            // counts from 1, the first one that is known
	Time    time.Time       `json:"time"`              // wall clock of Host; zero: not known
	User    string          `json:"user,omitempty"`    // who imported it; empty: the agent that put the first one into the store
	Host    cluster.HostID  `json:"host,omitempty"`    // whose agent wrote it
	Changed []string        `json:"changed,omitempty"` // fields that differ from the one before
	Config  json.RawMessage `json:"config,omitempty"`  // a Cluster
}

// Cluster reads the configuration. It is not checked: an earlier version may have
// allowed more.
func (r Revision) Cluster() (cl Cluster, err error) {
	if err = json.Unmarshal(r.Config, &cl); err != nil {
		err = fmt.Errorf("read revision %d of the configuration: %w", r.Number, err)
	}
	return cl, err
}

// Kept is how many revisions the store keeps.
const Kept = 10

// MaxImport bounds the text of a configuration that is imported, bytes: the store
// takes it three times in one transaction, with an event.
const MaxImport = 256 << 10

// Import is a configuration that an operator wants the cluster to have.
type Import struct {
	Key   string // of the request, which is carried out once
	Name  string // of the file, for faults; its suffix says the form, see Parse
	Text  string
	Base  int  // number of the revision that it changes; 0: the current one
	Check bool // say what would be done, and do nothing
	Swap  bool // a member may be replaced: an installation asks, which prepares the hosts
	// Order: what a command makes the hosts ready for may be changed: an agent asks that does so.
	Order bool
}

// Imported is what an Import does, or would do.
type Imported struct {
	Number   int      `json:"number"`  // of the revision in force: the new one, or with Check the one that would be changed
	Changes  []Change `json:"changes"` // none: nothing is done
	Warnings []string `json:"warnings"`
}
