package domainxml

import (
	"strconv"
	"strings"
)

// MemoryMiB is how much memory the guest has; 0 when it can not be read.
func (d *Domain) MemoryMiB() int { return mib(d.root.first("memory")) }

// BeginsWithMiB is how much of its memory the guest begins with: a balloon holds the rest.
func (d *Domain) BeginsWithMiB() int {
	if now := mib(d.root.first("currentMemory")); now > 0 {
		return min(now, d.MemoryMiB())
	}
	return d.MemoryMiB()
}

// CPUs is how many the guest has; 0 when that can not be read.
func (d *Domain) CPUs() int {
	n, err := strconv.ParseUint(d.root.first("vcpu").content(), 10, 31)
	if err != nil {
		return 0
	}
	return int(n)
}

// Bridge returns the bridge of the network card with a MAC address, "" when it has
// none. there: there is such a card.
func (d *Domain) Bridge(mac string) (bridge string, there bool) {
	for _, n := range d.root.first("devices").all("interface") {
		if strings.EqualFold(n.first("mac").attr("address"), mac) {
			return n.first("source").attr("bridge"), true
		}
	}
	return "", false
}
