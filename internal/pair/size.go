package pair

import "math"

// Most hosts and VMs that SizeFor is for.
const (
	MostHosts = 100_000
	MostVMs   = 10_000_000
)

// Size is the least space that a pair needs, in GB.
type Size struct {
	Database int `json:"database_gb"`      // the partition of the database
	VMs      int `json:"vms_partition_gb"` // the partition /vms, in which that of the database lies
}

// leastVMs is the least size of /vms, in GB.
const leastVMs = 30

// SizeFor is the space for a platform of so many hosts and VMs: 10 MB for each
// host and 15 MB for each VM, fifteen times, and 10 GB.
func SizeFor(hosts, vms int) Size {
	db := int(math.Ceil(float64(hosts*10+vms*15)*15/1024 + 10))
	return Size{Database: db, VMs: max(leastVMs, db)}
}
