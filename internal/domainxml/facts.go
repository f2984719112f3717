package domainxml

import (
	"math"
	"path"
	"strconv"
	"strings"
)

// MemoryMiB is how much memory the guest has; 0 when it can not be read.
func (d *Domain) MemoryMiB() int {
	m := d.root.first("memory")
	n, err := strconv.ParseUint(m.content(), 10, 50)
	if err != nil {
		return 0
	}
	unit, ok := map[string]float64{
		"b": 1, "bytes": 1, "KB": 1e3, "": 1 << 10, "k": 1 << 10, "KiB": 1 << 10, "MB": 1e6, "M": 1 << 20, "MiB": 1 << 20,
		"GB": 1e9, "G": 1 << 30, "GiB": 1 << 30, "TB": 1e12, "T": 1 << 40, "TiB": 1 << 40,
	}[m.attr("unit")]
	mib := float64(n) * unit / (1 << 20)
	if !ok || mib > math.MaxInt32 {
		return 0
	}
	return int(mib)
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

// File is a file that a host needs to start the domain.
type File struct {
	Path  string
	What  string // its place in the domain
	Write bool   // the guest writes to it
}

// Files returns the files that must be there before a start.
func (d *Domain) Files() []File {
	var out []File
	add := func(n *node, below, file string, write bool) {
		if path.IsAbs(file) {
			out = append(out, File{file, n.path() + below, write})
		}
	}
	os := d.root.first("os")
	for _, name := range []string{"loader", "kernel", "initrd", "dtb"} {
		if n := os.first(name); n != nil {
			add(n, "", n.text, false)
		}
	}
	for _, n := range d.root.first("devices").all("disk") {
		if n.first("alias").attr("name") == seedAlias {
			continue
		}
		add(n, "/source/@file", n.first("source").attr("file"), !readOnly(n))
		add(n, "/source/@dev", n.first("source").attr("dev"), !readOnly(n))
	}
	return out
}
