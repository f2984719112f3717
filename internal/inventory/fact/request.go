package fact

import "holdfast/internal/cluster"

// Wanted is what a host is asked for. In Request, paths of files in the bundle are
// relative to it, and no directory to unpack to stands for the agent's own.
type Wanted struct {
	SHA256  string // of the bundle's file, hex
	Request Request
}

// Program is a program of the product that tells how something stands.
type Program struct {
	Name string   // for people
	Run  []string // absolute path, then arguments
}

// ConfigFile is a pair of configuration files to compare.
type ConfigFile struct {
	Installed string // absolute path
	Bundle    string // absolute path of the bundle's file; "": not staged on this host
	Format    string // json, yaml, ini or properties; "": by the suffix of Installed
}

// Request says what is wanted. What is empty is not looked at; what every Linux
// host has (system, kernel, clock, storage) always is.
type Request struct {
	Host        cluster.HostID
	Unpack      string // directory, or one that is to be made: its file system counts
	Commands    []string
	Python      []string
	Config      []ConfigFile
	VersionFile string // has a line Version: VERSION
	BackupDir   string // its newest entry is the last backup
	Status      *Program
	HA          *Program
	Replication []Program
	Guests      bool     // addresses of guests
	Bridges     []string // of Open vSwitch: whether they can be pinned
	Needs       []Need   // of the bundle's modules
}

// Need is what the preCheck of a module wants of the host beside the bundle's files.
type Need struct {
	Module        string
	Engine        string // directory of the engine whose scripts ask for passwords; "": none
	Mode          string // of the run: rolling or offline
	SnapshotsDone bool   // by hand, an operator says
	Deb, RPM      int    // packages of the module, by their format
}
