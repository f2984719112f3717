package cluster

import "time"

// Status is what one agent knows of the cluster, for people and programs.
type Status struct {
	Time        time.Time    `json:"time"`
	Cluster     string       `json:"cluster"`
	Self        HostID       `json:"self"`      // the agent that answered
	Connected   bool         `json:"connected"` // it reaches a quorum of the store
	StoreError  string       `json:"store_error,omitempty"`
	Coordinator HostID       `json:"coordinator,omitempty"`
	Term        int64        `json:"term,omitempty"` // the coordinator's election revision
	Want        Want         `json:"want"`
	Owner       Owner        `json:"owner"`
	Percent     int          `json:"percent,omitempty"` // of a live migration
	Hosts       []HostStatus `json:"hosts"`
	Takeover    Takeover     `json:"takeover"`
	Waiting     string       `json:"waiting,omitempty"` // what the cluster waits for, in a sentence
	Timings     Timings      `json:"timings"`
}

// HostStatus is one host as the answering agent sees it.
type HostStatus struct {
	Host
	Alive       bool          `json:"alive"`  // renewed within the lease
	Silent      time.Duration `json:"silent"` // since its last renewal was seen, ns
	Coordinator bool          `json:"coordinator,omitempty"`
}

// Takeover says whether the loss of the holder would be answered by an
// automatic takeover, how long that takes at most, and if not, why.
type Takeover struct {
	Possible bool          `json:"possible"`
	Within   time.Duration `json:"within,omitempty"` // from the last renewal to the decision, ns
	Why      string        `json:"why"`
}
