package facts

import (
	"time"

	"holdfast/internal/cluster"
)

// Facts is what a host tells of itself. Its JSON form is that of the type of the
// same name in package check, where fields are explained, and which judges them.
type Facts struct {
	Host        cluster.HostID    `json:"host"`
	At          time.Time         `json:"at"`
	Unknown     map[string]string `json:"unknown,omitempty"` // JSON name of a field that could not be read, and why
	OS          OS                `json:"os,omitzero"`
	Version     string            `json:"version,omitempty"`
	Space       Space             `json:"space,omitzero"`
	Commands    map[string]string `json:"commands,omitempty"`
	Python      map[string]string `json:"python,omitempty"`
	Config      []Config          `json:"config,omitempty"`
	Status      *Probe            `json:"status,omitempty"`
	HA          *Probe            `json:"ha,omitempty"`
	Replication []Probe           `json:"replication,omitempty"`
	LastBackup  time.Time         `json:"lastBackup,omitzero"`
	Kernel      Kernel            `json:"kernel,omitzero"`
	Clock       Clock             `json:"clock,omitzero"`
	O2CB        O2CB              `json:"o2cb,omitzero"`
	ISCSI       []Session         `json:"iscsi,omitempty"`
	FC          []Port            `json:"fc,omitempty"`
	Maps        []Map             `json:"maps,omitempty"`
	Mounts      []Mount           `json:"mounts,omitempty"`
}

// OS is what os-release says.
type OS struct {
	ID      string   `json:"id,omitempty"`
	Like    []string `json:"like,omitempty"`
	Version string   `json:"version,omitempty"`
	Name    string   `json:"name,omitempty"`
}

// Space is what is free on a file system, bytes.
type Space struct {
	Dir  string `json:"dir,omitempty"`
	Free int64  `json:"free,omitempty"`
}

// Config is the parameter names of a configuration file, sorted.
type Config struct {
	Installed string   `json:"installed"`
	Names     []string `json:"names,omitempty"`
	Bundle    []string `json:"bundle,omitempty"`
	Why       string   `json:"why,omitempty"`
	NotThere  bool     `json:"notThere,omitempty"`
	NotStaged bool     `json:"notStaged,omitempty"`
}

// Probe is the outcome of a program that tells how something stands.
type Probe struct {
	Name string `json:"name"`
	Exit int    `json:"exit"`
	Text string `json:"text,omitempty"`
}

// Kernel is the release that runs, and the one that a reboot would start.
type Kernel struct {
	Running string `json:"running,omitempty"`
	Next    string `json:"next,omitempty"`
	By      string `json:"by,omitempty"`
}

// Clock tells whether the clock follows a time server; the offset is in ms.
type Clock struct {
	Synced   bool    `json:"synced"`
	OffsetMS float64 `json:"offsetMs,omitempty"`
	By       string  `json:"by,omitempty"`
}

// O2CB is the heartbeat threshold of OCFS2.
type O2CB struct {
	Present    bool `json:"present,omitempty"`
	Configured int  `json:"configured,omitempty"`
	Active     int  `json:"active,omitempty"`
}

// Session is an iSCSI session.
type Session struct {
	ID     int    `json:"id"`
	Portal string `json:"portal"`
	Target string `json:"target"`
}

// Port is a Fibre Channel port.
type Port struct {
	Name  string `json:"name"`
	State string `json:"state"`
}

// Map is a multipath device.
type Map struct {
	Name   string `json:"name"`
	WWID   string `json:"wwid,omitempty"`
	Device string `json:"device,omitempty"`
	Paths  []Path `json:"paths,omitempty"`
}

// Path is a way to a multipath device.
type Path struct {
	Device string `json:"device"`
	State  string `json:"state"`
	Up     bool   `json:"up"`
}

// Mount is a mounted cluster file system.
type Mount struct {
	Name   string `json:"name"`
	Dir    string `json:"dir"`
	Kind   string `json:"kind"`
	Device string `json:"device"`
	Paths  int    `json:"paths,omitempty"`
}
