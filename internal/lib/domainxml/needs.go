package domainxml

import (
	"fmt"
	"math"
	"net/url"
	"path"
	"strconv"
	"strings"
)

// Need is what a host must have, or what must be free on it, to start the domain.
type Need struct {
	Kind  Kind
	Value string // a path, a name, numbers
	What  string // its place in the domain
	At    string // see Kind
	MiB   int    // Hugepages: how much of the guest's memory they are
	Write bool   // Disk: the guest writes to it
	Chain bool   // Disk: the domain itself says what lies behind it
}

// Needs returns all that table knows of. The domain must have passed Check.
func (d *Domain) Needs() []Need {
	var out []Need
	for i, r := range table {
		if r.kind == "" {
			continue
		}
		for _, p := range d.find(patterns[i]) {
			if n, ok := d.need(r, p); ok {
				out = append(out, n)
			}
		}
	}
	return out
}

// need makes one of a place; ok is false when the place asks for nothing.
func (d *Domain) need(r rule, p place) (n Need, ok bool) {
	n = Need{Kind: r.kind, Value: p.value, What: p.path()}
	if r.name != "" {
		n.Value = r.name
		return n, true
	}
	if disk := p.n.upTo("disk"); disk != nil {
		if disk.first("alias").attr("name") == seedAlias {
			return n, false // replaced by ours
		}
		n.Write = !readOnly(disk) && p.n.upTo("backingStore") == nil
		n.Chain = p.n.up.first("backingStore") != nil
	}
	switch r.kind {
	case Export:
		n.Value, n.At = export(p.n), p.n.attr("tls")
		return n, true
	case Hugepages:
		return d.hugepages(n, p)
	case Firmware:
		n.At = d.root.first("os", "type").attr("arch")
	case Port, UDPPort:
		if v, err := strconv.Atoi(p.value); err == nil && v <= 0 { // libvirt chooses one
			return n, false
		}
		n.At = listens(p.n)
	case Tap:
		for _, prefix := range []string{"vnet", "macvtap", "macvlan", "vif"} { // libvirt forgets its own names
			if strings.HasPrefix(p.value, prefix) {
				return n, false
			}
		}
	case Security:
		if p.value == "none" {
			return n, false
		}
	}
	return n, p.value != ""
}

// Variables is the file with the variables of UEFI, "" when the domain does not say.
func (d *Domain) Variables() string {
	n := d.root.first("os", "nvram")
	if s := n.first("source"); s != nil {
		return s.attr("file")
	}
	return n.content()
}

// upTo returns the nearest element around with that name, which may be this one.
func (n *node) upTo(name string) *node {
	for ; n != nil && n.name != name; n = n.up {
	}
	return n
}

// listens is the address of a console, or of a character device.
func listens(n *node) string {
	if n.name != "graphics" {
		return n.attr("host")
	}
	for _, l := range n.all("listen") {
		if a := l.attr("address"); a != "" {
			return a
		}
	}
	return n.attr("listen")
}

// export is the URI of an NBD export.
func export(source *node) string {
	u := url.URL{Scheme: "nbd", Path: "/" + source.attr("name")}
	if source.attr("tls") == "yes" {
		u.Scheme = "nbds"
	}
	q := url.Values{}
	if name := source.attr("tlsHostname"); name != "" {
		q.Set("tls-hostname", name)
	}
	h := source.first("host")
	if h.attr("transport") == "unix" || h.attr("socket") != "" {
		u.Scheme += "+unix"
		q.Set("socket", h.attr("socket"))
		u.RawQuery = q.Encode()
		return u.String()
	}
	u.RawQuery = q.Encode()
	u.Host = h.attr("name")
	if strings.Contains(u.Host, ":") {
		u.Host = "[" + u.Host + "]"
	}
	if port := h.attr("port"); port != "" {
		u.Host += ":" + port
	}
	return u.String()
}

// hugepages is about pages of one size.
func (d *Domain) hugepages(n Need, p place) (Need, bool) {
	number, unit := p.value, p.n.attr("unit")
	switch {
	case p.n.name == "hugepages":
		n.Value, n.MiB = "0", d.MemoryMiB()
		return n, true
	case p.n.name == "pagesize": // of a memory module
		n.MiB = mib(p.n.up.up.first("target", "size"))
	case p.n.attr("nodeset") == "": // for all of the memory
		n.MiB = d.MemoryMiB()
	}
	bytes, ok := bytesOf(number, unit)
	n.Value = strconv.FormatUint(uint64(bytes)>>10, 10)
	return n, ok && bytes >= 1<<10 // libvirt refuses others
}

// bytesOf reads an amount of memory; its unit is KiB when it has none.
func bytesOf(number, unit string) (bytes float64, ok bool) {
	n, err := strconv.ParseUint(number, 10, 50)
	f, known := map[string]float64{
		"b": 1, "bytes": 1, "KB": 1e3, "": 1 << 10, "k": 1 << 10, "KiB": 1 << 10, "MB": 1e6, "M": 1 << 20, "MiB": 1 << 20,
		"GB": 1e9, "G": 1 << 30, "GiB": 1 << 30, "TB": 1e12, "T": 1 << 40, "TiB": 1 << 40,
	}[unit]
	return float64(n) * f, err == nil && known
}

// mib is what an element with an amount of memory has; 0 when it can not be read.
func mib(n *node) int {
	b, ok := bytesOf(n.content(), n.attr("unit"))
	if b /= 1 << 20; !ok || b > math.MaxInt32 {
		return 0
	}
	return int(b)
}

// Numbers reads a set of numbers as libvirt writes it: "0-3,^2,8". They grow, and are below most.
func Numbers(text string, most int) ([]int, error) {
	set := map[int]bool{}
	for part := range strings.SplitSeq(text, ",") {
		part = strings.TrimSpace(part)
		first, last, isRange := strings.Cut(strings.TrimPrefix(part, "^"), "-")
		if !isRange {
			last = first
		}
		a, err := strconv.Atoi(strings.TrimSpace(first))
		b, err2 := strconv.Atoi(strings.TrimSpace(last))
		if err != nil || err2 != nil || a < 0 || b < a || b >= most {
			return nil, fmt.Errorf("%q: want numbers below %d such as 0-3,^2,8", text, most)
		}
		for i := a; i <= b; i++ {
			set[i] = !strings.HasPrefix(part, "^")
		}
	}
	var out []int
	for i := range most {
		if set[i] {
			out = append(out, i)
		}
	}
	return out, nil
}

// Written returns the files and devices that the guest writes to.
func (d *Domain) Written() (out []string) {
	for _, n := range d.Needs() {
		if n.Kind == Disk && n.Write && path.IsAbs(n.Value) {
			out = append(out, n.Value)
		}
	}
	return out
}
