package config

import (
	"path/filepath"
	"strconv"
	"strings"
)

// PairPartition is a file system beside the data of a pair, on a DRBD device of its own: a place for
// templates that the active node mounts. "holdfast pair partition" adds and removes it, as both disks
// have to be made ready; an import or an installation does not.
type PairPartition struct {
	Name  string `json:"Name"`            // letters, digits, - and _
	Disk  string `json:"Disk"`            // path of a block device of its own, the same on both nodes; its end holds DRBD's own data
	Mount string `json:"Mount"`           // directory where it is mounted
	State string `json:"State,omitempty"` // "": it is part of the group; PartitionMaking, PartitionLeaving
}

// Values of PairPartition.State.
const (
	PartitionMaking  = "making"  // both nodes make their disks ready, and nothing is on them yet
	PartitionLeaving = "leaving" // both nodes take it away
)

// partitionPort is that of the device, or the next one where the pair's own device has it.
const partitionPort = 7790

// Same reports that both are of one name, on the same disk and mount point; their states may differ.
func (p PairPartition) Same(q PairPartition) bool {
	q.State = p.State
	return p == q
}

// MayPart reports that the pair can have a partition.
func (p Pair) MayPart() bool {
	return p.Arbiter == nil || p.Arbiter.Ping == nil
}

// PartitionMinor is the number of the partition's device: the one after that of the pair's own device.
func (p Pair) PartitionMinor() int {
	if p.Device != nil {
		return p.Device.Minor + 1
	}
	return 1
}

// PartitionPort is where the nodes connect for the partition's copy.
func (p Pair) PartitionPort() int {
	if p.Device != nil && p.Device.full().Port == partitionPort {
		return partitionPort + 1
	}
	return partitionPort
}

// pairPartition checks the partition.
func (c *checker) pairPartition(p Pair) {
	const at = "Pair.Partition"
	d := *p.Partition
	if d.Name == "" || len(d.Name) > 32 || strings.Trim(d.Name,
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_") != "" || d.Name[0] == '-' {
		c.fault(at+".Name", d.Name, "want 1 to 32 letters, digits, - and _, not beginning with -")
	}
	c.blockDevice(at+".Disk", d.Disk)
	if c.absolute(at+".Mount", d.Mount); d.Mount == "/" || d.Mount != filepath.Clean(d.Mount) {
		c.fault(at+".Mount", d.Mount, "want a directory of its own")
	}
	if f := p.Device; f != nil {
		if f.Disk == d.Disk {
			c.fault(at+".Disk", d.Disk, "want another disk than Pair.Device.Disk")
		}
		if f.Mount == d.Mount || strings.HasPrefix(d.Mount, f.Mount+"/") || strings.HasPrefix(f.Mount, d.Mount+"/") {
			c.fault(at+".Mount", d.Mount, "want a directory that is neither in Pair.Device.Mount nor has it in itself")
		}
	}
	if a := p.Arbiter; a != nil {
		if a.Disk == d.Disk {
			c.fault(at+".Disk", d.Disk, "want another disk than Pair.Arbiter.Disk")
		}
		if a.Ping != nil {
			c.fault(at, d.Name, "allowed only without Pair.Arbiter.Ping: both nodes may go on, and what the one that "+
				"gives way has written on its disk could not be saved")
		}
	}
	if minor := p.PartitionMinor(); minor > maxMinor {
		c.fault("Pair.Device.Minor", strconv.Itoa(minor-1), "want a number that has a next one, for the partition")
	}
	if d.State != "" && d.State != PartitionMaking && d.State != PartitionLeaving {
		c.fault(at+".State", d.State, `want none: "holdfast pair partition" sets it`)
	}
	for i, m := range p.Full().Group {
		if m.Name == d.Name {
			c.fault(at+".Name", d.Name, "want another name than "+index("Pair.Group", i)+" has")
		}
	}
}
