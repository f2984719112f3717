// Package precheck judges whether two nodes can become a pair: what each of them said of
// itself, and what came of their tries to reach one another, go in, findings with remedies come
// out. It is pure: package survey asks the nodes, package install/onhost answers there.
//
// What is asked is from the requirements of the source's pair (its chapters on what to know,
// what the hosts must be like, and the settings of the set-up).
package precheck

import (
	"cmp"
	"slices"

	"holdfast/internal/inventory/fact"
)

// Results of a check, as an installation has them.
const (
	Pass = "pass"
	Warn = "warn" // a pair can be set up
	Fail = "fail" // it can not
)

// Finding is what a check found. It names the nodes in its text.
type Finding struct {
	Check   string `json:"check"`
	Result  string `json:"result"`
	Finding string `json:"finding"`
	Remedy  string `json:"remedy"`
}

// Worst is the worst result of findings; Pass for none.
func Worst(all []Finding) string {
	worst := Pass
	for _, f := range all {
		if rank[f.Result] < rank[worst] {
			worst = f.Result
		}
	}
	return worst
}

// Checks that say that somebody else is at work.
const (
	checkBusy  = "busy"   // on the host now
	checkSetup = "set-up" // begun there, and not at its end
)

// checkClean is the check for what a node would lose, or has already.
const checkClean = "clean node"

// Busy reports that an installation or a set-up is at work on one of the hosts, or was begun there.
func Busy(all []Finding) bool {
	return slices.ContainsFunc(all, func(f Finding) bool { return f.Result == Fail && (f.Check == checkBusy || f.Check == checkSetup) })
}

var rank = map[string]int{Fail: 0, Warn: 1, Pass: 2}

func sorted(all []Finding) []Finding {
	slices.SortStableFunc(all, func(x, y Finding) int { return cmp.Compare(rank[x.Result], rank[y.Result]) })
	return all
}

// Query says what a node is asked beside what an installation asks. What is empty is not looked
// at.
type Query struct {
	VIP         string   `json:"vip,omitempty"`       // ADDRESS/LENGTH, or with " dev INTERFACE"
	Others      []string `json:"others,omitempty"`    // addresses that it must not be
	Pings       []string `json:"pings,omitempty"`     // addresses of the arbiter
	Device      string   `json:"device,omitempty"`    // of the arbiter
	Disk        string   `json:"disk,omitempty"`      // for a DRBD device
	Partition   string   `json:"partition,omitempty"` // a disk for a partition
	Second      *Path    `json:"second,omitempty"`    // of the second path
	BMCs        []BMC    `json:"bmcs,omitempty"`      // of the other node
	Machine     string   `json:"machine,omitempty"`
	Dir         string   `json:"dir,omitempty"`         // in which the database's partition will lie
	VersionFile string   `json:"versionFile,omitempty"` // has a line Version: VERSION
	Unmanaged   string   `json:"unmanaged,omitempty"`   // program that exits 0 when the platform manages no hosts
}

// Path is what a node has to find its end of a second path by: addresses.
type Path struct {
	First string `json:"first"` // of the node itself, on the first path
	Own   string `json:"own"`   // of the node itself, on the second one
	Peer  string `json:"peer"`  // of the other node, on the second one
}

// BMC is a management controller that switches the other node off; Query.Machine is the UUID of
// that node's hardware.
type BMC struct {
	Type        string
	Address     string
	User        string
	Credential  string // file:/PATH on the host that asks
	System      string
	Machine     string
	Fingerprint string
}

// Facts is what a node says of itself. What could not be read is in Unknown, by the JSON name of
// the field.
type Facts struct {
	Unknown    map[string]string `json:"unknown,omitempty"`
	Name       string            `json:"name"`                 // host name
	Machine    string            `json:"machine"`              // UUID of the hardware, else the id of the system; "": not known
	UEFI       bool              `json:"uefi"`                 // else it was booted by BIOS
	Components map[string]string `json:"components,omitempty"` // versions of what is installed, by name
	Host       fact.Facts        `json:"host"`                 // system, platform's version, its answer about hosts, clock
	Disks      []Disk            `json:"disks,omitempty"`
	Volumes    []Volume          `json:"volumes,omitempty"`
	Space      *Space            `json:"space,omitempty"` // of Query.Dir; nil: it is no mount point
	Cluster    string            `json:"cluster,omitempty"`
	Begun      string            `json:"begun,omitempty"`  // a set-up or a recovery that was begun on this host, as install.PairBegun says it
	Guests     []string          `json:"guests,omitempty"` // processes of QEMU
	Pools      []string          `json:"pools,omitempty"`  // names of libvirt's storage pools
	Speed      int               `json:"speed,omitempty"`  // of the interface with the node's address, Mbit/s; 0: not known
	VIP        *VIP              `json:"vip,omitempty"`
	Pings      map[string]string `json:"pings,omitempty"` // why an address did not answer; "": it did
	BMCs       map[string]string `json:"bmcs,omitempty"`  // why a controller did not answer, by address; "": it did
	Device     *Device           `json:"device,omitempty"`
	Disk       *Device           `json:"disk,omitempty"` // of Query.Disk
	Second     *PathEnd          `json:"second,omitempty"`
	Partition  *Device           `json:"partition,omitempty"` // of Query.Partition
}

// Disk is a local disk. Sizes are in bytes.
type Disk struct {
	Name   string   `json:"name"` // sda
	Size   int64    `json:"size"`
	Mounts []string `json:"mounts,omitempty"`
	Parts  []Part   `json:"parts,omitempty"`
	System bool     `json:"system,omitempty"` // the root file system lies on it
}

// Part is a partition.
type Part struct {
	Number int      `json:"number"`
	Size   int64    `json:"size"`
	Mounts []string `json:"mounts,omitempty"`
}

// Volume is what is mounted on top of partitions: a logical volume, an array.
type Volume struct {
	Kind   string   `json:"kind"` // as lsblk says it: lvm, raid1, crypt
	Size   int64    `json:"size"`
	Mounts []string `json:"mounts"`
}

// Space is that of a file system, in bytes.
type Space struct {
	Size int64 `json:"size"`
	Free int64 `json:"free"`
}

// VIP is what a node says of the virtual address.
type VIP struct {
	Dev    string `json:"dev,omitempty"`    // interface in whose subnet it is
	Subnet string `json:"subnet,omitempty"` // that of the interface
	Length int    `json:"length,omitempty"` // of the interface's own prefix, bits
	Wrong  string `json:"wrong,omitempty"`  // why it can not be a virtual address there
	Taken  string `json:"taken,omitempty"`  // MAC of the machine that has it
	Silent string `json:"silent,omitempty"` // why nobody could be asked
}

// PathEnd is a node's end of a second path.
type PathEnd struct {
	Dev   string   `json:"dev,omitempty"`   // interface that has the node's address on it; "": none has
	First string   `json:"first,omitempty"` // interface of the first path
	Cards []string `json:"cards,omitempty"` // interfaces without others below them that both lie on
	From  string   `json:"from,omitempty"`  // address from which packets to the other node's one go
	Error string   `json:"error,omitempty"` // why it could not be looked at
}

// Device is a block device.
type Device struct {
	ID    string `json:"id,omitempty"` // that all hosts see the same: WWN or serial number; "": it tells none
	Size  int64  `json:"size,omitempty"`
	Used  string `json:"used,omitempty"`  // what is on it
	Error string `json:"error,omitempty"` // why it can not be used
}

// Trouble is why a host could not be asked.
type Trouble struct {
	Busy    bool // a set-up, an installation or another check works there
	Finding string
	Remedy  string
}
