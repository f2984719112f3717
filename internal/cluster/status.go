package cluster

import "time"

// PairConf is the type of a configuration without a management VM: two of its hosts, one at a
// time, run a group of services.
const PairConf = "PairConf"

// Status is what one agent knows of the cluster, for people and programs.
type Status struct {
	Time       time.Time `json:"time"`
	Cluster    string    `json:"cluster"`
	Type       string    `json:"type,omitempty"` // of the configuration: FileConf, CephConf or PairConf; "": not known
	Self       HostID    `json:"self"`           // the agent that answered
	Connected  bool      `json:"connected"`      // it reaches a quorum of the store
	StoreError string    `json:"store_error,omitempty"`
	// when not connected: what follows, but for this host's own line, is as old as that; zero: nothing was ever read
	AsOf        time.Time    `json:"as_of,omitzero"`
	Coordinator HostID       `json:"coordinator,omitempty"`
	Term        int64        `json:"term,omitempty"` // the coordinator's election revision
	Want        Want         `json:"want"`
	Owner       Owner        `json:"owner"`
	OwnerMod    int64        `json:"owner_mod,omitempty"` // revision of the owner record: it changes with it
	Percent     int          `json:"percent,omitempty"`   // of a live migration
	Members     []HostID     `json:"members,omitempty"`   // as configured, in order
	Hosts       []HostStatus `json:"hosts"`               // that have registered
	Takeover    Takeover     `json:"takeover"`
	Waiting     string       `json:"waiting,omitempty"` // what the cluster waits for, in a sentence
	Timings     Timings      `json:"timings"`
	// Pending are fields of the configuration that take effect at the next start of
	// the management VM.
	Pending []string          `json:"pending,omitempty"`
	Labels  map[string]string `json:"labels,omitempty"` // of the cluster, as configured
	// FenceCheck is the last look of the agent that answers at the fence devices of the next member.
	FenceCheck FenceCheck `json:"fence_check,omitzero"`
}

// FenceCheck tells how a look at the fence devices of one host has ended: whether they answer, and are of that host.
type FenceCheck struct {
	Host  HostID    `json:"host"` // whose they are; "": none was looked at
	Time  time.Time `json:"time"`
	Error string    `json:"error,omitempty"` // what is wrong; "": nothing
}

// OfPair reports that the cluster is a pair.
func (s Status) OfPair() bool { return s.Type == PairConf }

// MoveCommand is the command that moves what a cluster of a type keeps up. A host may follow.
func MoveCommand(typ string) string {
	if typ == PairConf {
		return "holdfast pair switch"
	}
	return "holdfast migrate"
}

// HostStatus is one host as the answering agent sees it.
type HostStatus struct {
	Host
	// Guest, Fit and Why of a host that is not alive are not what it said last: Guest is unknown, or absent where it is proved
	// that its guest has stopped (Expelled).
	Alive       bool          `json:"alive"`  // was seen to renew within the lease; a record that the agent found is no renewal
	Silent      time.Duration `json:"silent"` // since its last renewal was seen, ns
	Coordinator bool          `json:"coordinator,omitempty"`
}

// StoreStatus is the state of the cluster's store.
type StoreStatus struct {
	Generation uint64        `json:"generation"` // restore generation
	Members    []StoreMember `json:"members"`
	Backups    []Backup      `json:"backups"` // on the host that answered, newest first
}

// StoreMember is one member of the store.
type StoreMember struct {
	Name      string   `json:"name"`
	URL       string   `json:"url"` // of clients
	Leader    bool     `json:"leader,omitempty"`
	Learner   bool     `json:"learner,omitempty"` // follows without a vote
	Reachable bool     `json:"reachable"`
	Error     string   `json:"error,omitempty"`
	Version   string   `json:"version,omitempty"`
	Size      int64    `json:"size"`             // of its file, bytes
	InUse     int64    `json:"in_use"`           // of that, bytes
	Quota     int64    `json:"quota"`            // at which the store takes no more writes, bytes
	Behind    int64    `json:"behind"`           // entries that it lacks
	Alarms    []string `json:"alarms,omitempty"` // NOSPACE, CORRUPT
}

// Backup is a snapshot of the store in a file.
type Backup struct {
	File     string    `json:"file"`
	Time     time.Time `json:"time"`
	Size     int64     `json:"size"` // bytes
	Revision int64     `json:"revision"`
}

// Takeover says whether the loss of the holder would be answered by an
// automatic takeover, how long that takes at most, and if not, why.
type Takeover struct {
	Possible bool `json:"possible"`
	// from the last renewal to the decision, of a pair until the standby has applied all that it has received, ns
	Within time.Duration `json:"within,omitempty"`
	Why    string        `json:"why"`
	// what would prove the loss of the holder, without a person: both may, and the first that does counts
	ByDeadline bool `json:"by_deadline,omitempty"` // its own reset, within its guard
	ByFence    bool `json:"by_fence,omitempty"`    // a fence device
}

// Reset tells where root of the management VM has got another password.
type Reset struct {
	Host HostID `json:"host"`
	Addr string `json:"addr"` // of the host
	UUID string `json:"uuid"` // of the management VM
}
