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
	Disk       string   `json:"Disk"`                 // path of a block device of its own, the same on both nodes; its end holds DRBD's own data
	Minor      int      `json:"Minor,omitzero"`       // of /dev/drbdN; default 0
	FileSystem string   `json:"FileSystem,omitempty"` // ext4 or xfs; default ext4
	Mount      string   `json:"Mount"`                // directory where it is mounted
	Addresses  []string `json:"Addresses,omitempty"`  // of the nodes for the copy, in the order of Nodes; default: those of Node
	Port       int      `json:"Port,omitempty"`       // at these addresses; default 7789
	Credential string   `json:"Credential,omitempty"` // file:/PATH of a file with a secret that both nodes have; default: none
}

// PairShared is a disk that both nodes see (FC, iSCSI), with a file system that the active one
// mounts. With it the database is not replicated by itself: its files are on that file system.
type PairShared struct {
	Disk       string `json:"Disk"`                 // path of a block device, the same on both nodes, such as /dev/disk/by-id/ID
	FileSystem string `json:"FileSystem,omitempty"` // ext4 or xfs; default ext4
	Mount      string `json:"Mount"`                // directory where it is mounted
}

// Files is the file system that the database is on, of a device or of a shared disk; at is where the configuration has
// it. nil: the database is replicated by itself.
func (p Pair) Files() (at string, f *PairShared) {
	switch {
	case p.Shared != nil:
		return "Pair.Shared", p.Shared
	case p.Device != nil:
		return "Pair.Device", &PairShared{Disk: p.Device.Disk, FileSystem: p.Device.FileSystem, Mount: p.Device.Mount}
	}
	return "", nil
}

// full returns the disk with defaults filled in.
func (d PairShared) full() *PairShared {
	if d.FileSystem == "" {
		d.FileSystem = deviceFileSystem
	}
	return &d
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

// pairFiles checks what a device and a shared disk have in common. Defaults are filled in.
func (c *checker) pairFiles(p Pair) {
	at, d := p.Full().Files()
	if p.Shared == nil || c.sharedDisk(*p.Shared) {
		c.blockDevice(at+".Disk", d.Disk)
		if d.FileSystem != "ext4" && d.FileSystem != "xfs" {
			c.fault(at+".FileSystem", d.FileSystem, "want ext4 or xfs")
		}
	}
	if c.absolute(at+".Mount", d.Mount); d.Mount == "/" {
		c.fault(at+".Mount", d.Mount, "want a directory of its own")
	}
}

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

// sharedDisk refuses what is known not to be one disk by one path.
func (c *checker) sharedDisk(d PairShared) bool {
	const noDevice = "want a disk of FC or iSCSI below /dev: a share (NFS, SMB) can not refuse the writes of a node that has lost it, and its mount hangs in ways of its own"
	switch {
	case strings.HasPrefix(d.FileSystem, "nfs") || d.FileSystem == "cifs" || d.FileSystem == "smb3":
		c.fault("Pair.Shared.FileSystem", d.FileSystem, "want ext4 or xfs, on "+strings.TrimPrefix(noDevice, "want "))
	case strings.Contains(d.Disk, ":/") || strings.HasPrefix(d.Disk, "//"):
		c.fault("Pair.Shared.Disk", d.Disk, noDevice)
	case strings.HasPrefix(d.Disk, "/dev/mapper/") || strings.HasPrefix(d.Disk, "/dev/dm-"):
		c.fault("Pair.Shared.Disk", d.Disk, "want a disk by one path, not a device of the device mapper (multipath, LVM): a reservation is of one path, and a registration for each path is not made")
	case isAbsolute(d.Disk) && !strings.HasPrefix(d.Disk, "/dev/"):
		c.fault("Pair.Shared.Disk", d.Disk, "want the path of a disk below /dev, such as /dev/disk/by-id/ID")
	default:
		return true
	}
	return false
}

// pairDevice checks the device, whose defaults are filled in.
func (c *checker) pairDevice(p Pair) {
	d := *p.Full().Device
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

// onDevice checks what a database on a device or a shared disk has otherwise than one that is
// replicated.
func (c *checker) onDevice(p Pair) {
	at, files := p.Files()
	for _, a := range []struct {
		name string
		PairAccount
	}{{"Admin", p.Database.Admin}, {"Replication", p.Database.Replication}} {
		if a.PairAccount != (PairAccount{}) {
			c.fault("Pair.Database."+a.name, "", "allowed only without "+at+": a database on a device is not replicated by itself")
		}
	}
	d, mount := p.Full().Database.Datadir, files.Mount
	if rel, err := filepath.Rel(mount, d); isAbsolute(mount) && isAbsolute(d) && (err != nil || rel == "." || rel == ".." || strings.HasPrefix(rel, "../")) {
		c.fault("Pair.Database.Datadir", d, "want a directory below "+at+".Mount, "+mount)
	}
}
