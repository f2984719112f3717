// Package fact is the vocabulary of what checks must know of a host: host/facts gathers it,
// upgrade/check judges it.
package fact

import (
	"time"

	"holdfast/internal/cluster"
)

// Facts is what a host tells of itself.
//
// A field that could not be read is named in Unknown, by its JSON name, with the
// reason; its value means nothing then. With Nothing among them, the host has told
// nothing at all.
type Facts struct {
	Host        cluster.HostID    `json:"host"`
	At          time.Time         `json:"at"`
	Unknown     map[string]string `json:"unknown,omitempty"`
	OS          OS                `json:"os,omitzero"`
	Version     string            `json:"version,omitempty"`     // installed
	Space       Space             `json:"space,omitzero"`        // where bundles are unpacked
	Commands    map[string]string `json:"commands,omitempty"`    // command that was asked for, and its path; "": not there
	Python      map[string]string `json:"python,omitempty"`      // module that was asked for, and why it can not be imported; "": it can
	Config      []Config          `json:"config,omitempty"`      // configuration files
	Status      *Probe            `json:"status,omitempty"`      // of the cluster, by the product's own word
	HA          *Probe            `json:"ha,omitempty"`          // exit 0: the platform's HA is on; 1: off
	Replication []Probe           `json:"replication,omitempty"` // exit 0: healthy
	LastBackup  time.Time         `json:"lastBackup,omitzero"`   // zero: there is none
	Kernel      Kernel            `json:"kernel,omitzero"`
	Clock       Clock             `json:"clock,omitzero"`
	O2CB        O2CB              `json:"o2cb,omitzero"`
	ISCSI       []Session         `json:"iscsi,omitempty"`
	FC          []Port            `json:"fc,omitempty"`
	Maps        []Map             `json:"maps,omitempty"` // multipath devices
	Mounts      []Mount           `json:"mounts,omitempty"`
	Guests      []Guest           `json:"guests,omitempty"`  // that run here, when they were asked for
	Bridges     []Bridge          `json:"bridges,omitempty"` // that were asked for
	Met         []Met             `json:"met,omitempty"`     // needs that were asked for
}

// Nothing is the name in Facts.Unknown of everything.
const Nothing = "*"

// NoFacts are the facts of a host that has told nothing.
func NoFacts(h cluster.HostID, at time.Time, why string) *Facts {
	return &Facts{Host: h, At: at, Unknown: map[string]string{Nothing: why}}
}

// OS is what /etc/os-release says.
type OS struct {
	ID      string   `json:"id,omitempty"`
	Like    []string `json:"like,omitempty"`
	Version string   `json:"version,omitempty"`
	Name    string   `json:"name,omitempty"`
}

// Space is what is free on a file system.
type Space struct {
	Dir  string `json:"dir,omitempty"`
	Free int64  `json:"free,omitempty"` // bytes
}

// Config is the parameter names of a configuration file, sorted: nested ones with
// dots between.
type Config struct {
	Installed string   `json:"installed"`           // path on the host
	Names     []string `json:"names,omitempty"`     // in the installed file
	Bundle    []string `json:"bundle,omitempty"`    // in the bundle's file
	Why       string   `json:"why,omitempty"`       // one of them can not be read
	NotThere  bool     `json:"notThere,omitempty"`  // there is no installed file
	NotStaged bool     `json:"notStaged,omitempty"` // the bundle's file is not on this host
}

// Probe is the outcome of a program that tells how something stands.
type Probe struct {
	Name string `json:"name"` // for people
	Exit int    `json:"exit"`
	Text string `json:"text,omitempty"` // end of what it said
}

// Kernel is the release that runs, and the one that a reboot would start.
type Kernel struct {
	Running string `json:"running,omitempty"`
	Next    string `json:"next,omitempty"`
	By      string `json:"by,omitempty"` // where Next is from: grub, or boot for the newest in /boot
}

// Clock tells whether the host's clock follows a time server.
type Clock struct {
	Synced   bool    `json:"synced"`
	OffsetMS float64 `json:"offsetMs,omitempty"` // against the time server, ms
	By       string  `json:"by,omitempty"`       // who says so: chrony or kernel
}

// O2CB is the heartbeat threshold of OCFS2: that of the configuration, and that in
// use. 0: not set.
type O2CB struct {
	Present    bool `json:"present,omitempty"` // the host has OCFS2's cluster stack
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
	State string `json:"state"` // Online, Linkdown...
}

// Map is a multipath device.
type Map struct {
	Name   string `json:"name"`
	WWID   string `json:"wwid,omitempty"`
	Device string `json:"device,omitempty"` // dm-0
	Paths  []Path `json:"paths,omitempty"`
}

// Guest is what a host knows of a guest's addresses: those at which other hosts reach it.
type Guest struct {
	UUID      string   `json:"uuid"`
	Addresses []string `json:"addresses,omitempty"`
}

// Bridge is whether a bridge of Open vSwitch can be pinned.
type Bridge struct {
	Name    string   `json:"name"`
	Missing bool     `json:"missing,omitempty"` // the host has none of that name
	Why     string   `json:"why,omitempty"`     // it can not be pinned; "": it can
	Remedy  string   `json:"remedy,omitempty"`  // of Why; "": there is none
	Ports   int      `json:"ports,omitempty"`
	Flows   int      `json:"flows,omitempty"`  // that would be copied
	Groups  int      `json:"groups,omitempty"` // that would be copied
	Notes   []string `json:"notes,omitempty"`  // what an operator should know of the pin
}

// Met is whether a need of a module is met.
type Met struct {
	Module string `json:"module"`
	Why    string `json:"why,omitempty"` // it is not, and what to do about it; "": it is
}

// Path is a way to a multipath device.
type Path struct {
	Device string `json:"device"` // sda
	State  string `json:"state"`  // as multipath says it: active ready running
	Up     bool   `json:"up"`
}

// Mount is a mounted cluster file system: one on a device that other hosts mount,
// too.
type Mount struct {
	Name   string `json:"name"` // last part of the directory
	Dir    string `json:"dir"`
	Kind   string `json:"kind"` // ocfs2, gfs2
	Device string `json:"device"`
	Paths  int    `json:"paths,omitempty"` // ways to the device that work; 0: does not apply or is not known
}
