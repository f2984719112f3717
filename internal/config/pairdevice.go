package config

import (
	"net/netip"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// PairDevice is a DRBD device of both nodes, with a file system that the active one mounts.
// With it the database is not replicated by itself: its files are on that file system.
type PairDevice struct {
	// path of a block device of its own, the same on both nodes; its end holds DRBD's own data
	Disk       string   `json:"Disk"`
	Minor      int      `json:"Minor,omitzero"`       // of /dev/drbdN; default 0
	FileSystem string   `json:"FileSystem,omitempty"` // ext4 or xfs; default ext4
	Mount      string   `json:"Mount"`                // directory where it is mounted
	Addresses  []string `json:"Addresses,omitempty"`  // of the nodes for the copy, in the order of Nodes; default: those of Node
	Port       int      `json:"Port,omitempty"`       // at these addresses; default 7789
	Credential string   `json:"Credential,omitempty"` // file:/PATH of a file with a secret that both nodes have; default: none
}

// Defaults of a device.
const (
	devicePort       = 7789
	deviceFileSystem = "ext4"
	deviceDatadir    = "mysql" // below Mount
)

// SecretFile is the path of the file with the secret, "" without one.
func (d PairDevice) SecretFile() string { return strings.TrimPrefix(d.Credential, "file:") }

// full returns the device with defaults filled in.
func (d PairDevice) full() *PairDevice {
	if d.FileSystem == "" {
		d.FileSystem = deviceFileSystem
	}
	if d.Port == 0 {
		d.Port = devicePort
	}
	return &d
}

// CopyAddr is the address of a node for the copy: that of Addresses, or the node's own, which is given.
func (p Pair) CopyAddr(node, own string) string {
	i := slices.Index(p.Nodes, node)
	if p.Device == nil || i < 0 || i >= len(p.Device.Addresses) {
		return own
	}
	return p.Device.Addresses[i]
}

// maxMinor is the largest number of a device that Linux has: 20 bits.
const maxMinor = 1<<20 - 1

// deviceRunes may stand in a path of DRBD's resource file.
const deviceRunes = labelRunes + ":@+="

// blockDevice checks the path of a disk.
func (c *checker) blockDevice(at, disk string) {
	c.absolute(at, disk)
	if strings.Trim(disk, deviceRunes) != "" {
		c.fault(at, disk, "want letters, digits, - _ . / : @ + = only")
	}
	if strings.HasPrefix(disk, "/dev/drbd") {
		c.fault(at, disk, "want the device below, not DRBD's own")
	}
}

// pairDevice checks the device, whose defaults are filled in.
func (c *checker) pairDevice(p Pair) {
	d := *p.Full().Device
	c.blockDevice("Pair.Device.Disk", d.Disk)
	if d.FileSystem != "ext4" && d.FileSystem != "xfs" {
		c.fault("Pair.Device.FileSystem", d.FileSystem, "want ext4 or xfs")
	}
	if c.absolute("Pair.Device.Mount", d.Mount); d.Mount == "/" {
		c.fault("Pair.Device.Mount", d.Mount, "want a directory of its own")
	}
	if d.Minor < 0 || d.Minor > maxMinor {
		c.fault("Pair.Device.Minor", strconv.Itoa(d.Minor), "want 0 to "+strconv.Itoa(maxMinor))
	}
	if d.Port < 1 || d.Port > 65535 {
		c.fault("Pair.Device.Port", strconv.Itoa(d.Port), "want 1 to 65535")
	}
	if d.Credential != "" {
		c.credential("Pair.Device.Credential", d.Credential)
	}
	if n := len(d.Addresses); n != 0 && n != 2 {
		c.fault("Pair.Device.Addresses", strings.Join(d.Addresses, " "), "want two addresses, in the order of Pair.Nodes, or none")
	}
	seen := map[netip.Addr]bool{}
	for i, text := range d.Addresses {
		a, err := netip.ParseAddr(text)
		if err != nil || a.IsUnspecified() || a.IsMulticast() || a.Zone() != "" || seen[a] {
			c.fault(index("Pair.Device.Addresses", i), text, "want the IP address of one node, another one than the other node's")
		}
		seen[a] = true
	}
}

// onDevice checks what a database on a device has otherwise than one that is replicated.
func (c *checker) onDevice(p Pair) {
	for _, a := range []struct {
		name string
		PairAccount
	}{{"Admin", p.Database.Admin}, {"Replication", p.Database.Replication}} {
		if a.PairAccount != (PairAccount{}) {
			c.fault("Pair.Database."+a.name, "", "allowed only without Pair.Device: a database on a device is not replicated by itself")
		}
	}
	d, mount := p.Full().Database.Datadir, p.Device.Mount
	if rel, err := filepath.Rel(mount, d); isAbsolute(mount) && isAbsolute(d) &&
		(err != nil || rel == "." || rel == ".." || strings.HasPrefix(rel, "../")) {
		c.fault("Pair.Database.Datadir", d, "want a directory below Pair.Device.Mount, "+mount)
	}
}
