package domainxml

import (
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"
)

// Fault is a place of a domain that can not stay as it is.
type Fault struct {
	Path, Value, Want string
	// Elsewhere: it may only keep the guest from another host. Of a domain that is in force already, nobody's
	// data is at stake by it.
	Elsewhere bool
}

func (f Fault) Error() string { return fmt.Sprintf("%s: value %q: %s", f.Path, f.Value, f.Want) }

// Rules are what the cluster's configuration says of the domain's surroundings.
type Rules struct {
	Folder string // a directory that all hosts share
	Locked bool   // a lock manager's lease keeps a second guest from running
	Screen bool   // the configuration has a VNC console of its own
}

type checker struct {
	Rules
	written int // disks that the guest writes to
	faults  []Fault
}

func (c *checker) fault(n *node, below, value, want string) {
	if value == "" { // an element is told by what it has
		if last := n.all(strings.TrimPrefix(below, "/")); below != "" && len(last) > 0 {
			value = last[len(last)-1].shown()
		} else if below == "" {
			value = n.shown()
		}
	}
	c.faults = append(c.faults, Fault{Path: n.path() + below, Value: value, Want: want})
}

// rules applies what table says of values.
func (c *checker) rules(d *Domain) {
	for i, r := range table {
		for _, p := range d.find(patterns[i]) {
			if r.refused(p) {
				c.faults = append(c.faults, Fault{Path: p.path(), Value: p.value, Want: r.want(), Elsewhere: true})
			}
		}
	}
}

// oneOf refuses an attribute whose value is none of those allowed.
func (c *checker) oneOf(n *node, attr, value, why string, allowed ...string) {
	if n != nil && !slices.Contains(allowed, value) {
		c.fault(n, "/@"+attr, value, "want "+strings.Join(allowed, ", ")+": "+why)
	}
}

// Texts of several rules.
const (
	whyHost     = "it is tied to one host, another one could not take the guest over"
	whyShared   = "a second host would not have it after a takeover"
	notMigrated = "QEMU does not migrate a guest with it"
	notLooked   = "whether a host has what it needs is not looked at: remove it"
	whyFormat   = "QEMU does not migrate a guest with a disk of another format"
	whyConnect  = "want <reconnect enabled='yes' timeout='5'/>: QEMU does not start while nobody listens there"
	whyCache    = "what the host's memory still holds is written after the guest runs elsewhere"
)

// maxIOThreads is far more than any guest has use for; QEMU and libvirtd fail on too many without saying why.
const maxIOThreads = 1024

// Check returns all that is wrong, in no order that matters.
func (d *Domain) Check(r Rules) []Fault {
	r.Folder = path.Clean(r.Folder)
	c := &checker{Rules: r}
	c.names(d.root)
	for _, name := range []string{"os", "devices"} {
		if d.root.first(name) == nil {
			c.fault(d.root, "/"+name, "", "it is missing")
		}
	}
	if d.MemoryMiB() == 0 {
		c.fault(d.root, "/memory", d.root.first("memory").content(), "want at least 1 MiB, as a number and a unit such as GiB")
	}
	if d.CPUs() == 0 {
		c.fault(d.root, "/vcpu", d.root.first("vcpu").content(), "want at least 1")
	}
	if n := d.root.first("iothreads"); n != nil {
		if count, err := strconv.Atoi(n.content()); err != nil || count < 0 || count > maxIOThreads {
			c.fault(d.root, "/iothreads", n.content(), fmt.Sprintf("want 0 to %d: each is a thread of QEMU", maxIOThreads))
		}
	}
	c.oneOf(d.root, "type", d.root.attr("type"), "the management VM runs by QEMU", "kvm", "qemu")
	c.rules(d)
	c.system(d.root.first("os"))
	c.cpu(d.root.first("cpu"))
	for _, s := range d.root.all("sysinfo") {
		for _, e := range s.first("oemStrings").all("entry") {
			if strings.Contains(e.text, "value=") {
				c.fault(e, "", e.text, "want no \"value=\": the guest's epoch is read from these strings")
			}
		}
	}
	for _, n := range d.root.first("devices").kidsOf() {
		c.device(n)
	}
	if c.written == 0 && !c.Locked {
		c.fault(d.root, "/devices/disk", "", "want at least one disk that the guest writes to, or LockManager "+
			"virtlockd in the configuration: nothing else keeps a second guest from running")
	}
	return c.faults
}

func (n *node) kidsOf() []*node {
	if n == nil {
		return nil
	}
	return n.kids
}

// names refuses what libvirt would read otherwise than this package does, and what
// goes past libvirt to QEMU.
func (c *checker) names(root *node) {
	root.walk(func(n *node) bool {
		switch {
		case n.up == root && n.name == "metadata":
			return false
		case strings.HasPrefix(n.name, "qemu:"):
			c.fault(n, "", "", "arguments for QEMU itself are not checked by anybody, they may open a disk without its lock: remove it")
			return false
		case strings.Contains(n.name, ":"), n.attr("xmlns") != "":
			c.fault(n, "", "", "namespaces are allowed in metadata only")
			return false
		}
		if n == root {
			for i, k := range n.kids {
				if k.name != "sysinfo" && slices.IndexFunc(n.kids, func(o *node) bool { return o.name == k.name }) < i {
					c.fault(k, "", "", "it is given twice")
				}
			}
		}
		return true
	})
	smbios := 0
	for _, s := range root.all("sysinfo") {
		if s.attr("type") == "smbios" {
			smbios++
		}
		if n := len(s.all("oemStrings")); n > 1 || smbios > 1 {
			c.fault(s, "", "", "it is given twice")
		}
	}
}

func (c *checker) system(os *node) {
	if t := os.first("type"); t != nil && t.text != "hvm" {
		c.fault(t, "", t.text, "want hvm")
	}
	c.oneOf(os.first("smbios"), "mode", os.first("smbios").attr("mode"), "the guest's epoch is in it", "sysinfo")
	if l := os.first("loader"); l != nil && (l.attr("readonly") == "no" || l.attr("readonly") == "" && l.attr("type") == "pflash") {
		c.fault(l, "/@readonly", l.attr("readonly"), "want yes: "+whyShared)
	}
	if len(os.all("nvram")) > 1 {
		c.fault(os.first("nvram"), "", "", "it is given twice")
	}
	n := os.first("nvram")
	switch s := n.first("source"); {
	case n == nil || n.text == "" && s == nil:
	case s != nil:
		c.oneOf(n, "type", n.attr("type"), "the variables of UEFI are a file that all hosts share", "file")
		c.shared(s, "/@file", s.attr("file"))
	default:
		c.shared(n, "", n.text)
	}
}

// shared wants the path of a file that all hosts share.
func (c *checker) shared(n *node, below, file string) {
	if !path.IsAbs(file) || path.Clean(file) != file || !strings.HasPrefix(file, c.Folder+"/") {
		c.fault(n, below, file, "want a file below ImageFolder "+c.Folder+", which all hosts share: "+whyShared)
	}
}

func (c *checker) cpu(cpu *node) {
	for _, f := range cpu.all("feature") {
		if p := f.attr("policy"); f.attr("name") == "invtsc" && p != "disable" && p != "forbid" && p != "optional" {
			c.fault(f, "/@name", f.attr("name"), "a CPU with this feature can not be migrated: remove it")
		}
	}
}

// device checks one device. What is not listed is refused, since what it would be
// tied to is not known.
func (c *checker) device(n *node) {
	kind := n.attr("type")
	switch n.name {
	case "disk":
		c.disk(n)
	case "emulator":
		if base := path.Base(n.text); !strings.Contains(base, "qemu") && !strings.Contains(base, "kvm") {
			c.fault(n, "", n.text, "want a program with qemu or kvm in its name: a guest's process is known by it")
		}
	case "graphics":
		c.graphics(n)
	case "hostdev":
		what := kind
		if a := n.first("source", "address"); a != nil {
			for _, attr := range a.attrs {
				what += " " + attr.Name.Local + "=" + attr.Value
			}
		}
		c.fault(n, "/@type", what, "a device of the host is passed through: "+whyHost+". Remove it")
	case "tpm":
		c.fault(n, "/backend/@type", n.first("backend").attr("type"), "a TPM keeps its state in the host's own files: "+whyShared+". Remove it")
	case "lease", // replaced by ours
		"interface", "serial", "parallel", "console", "channel", "redirdev", "input", "memory", "video", // see table
		"controller", "hub", "sound", "audio", "memballoon", "rng", "watchdog", "panic", "nvram", "vsock", "iommu", "crypto":
	default:
		c.fault(n, "", "", "such a device may be "+strings.TrimPrefix(whyHost, "it is ")+": remove it")
	}
}

func (c *checker) graphics(n *node) {
	if n.attr("passwd") != "" {
		c.fault(n, "/@passwd", "(not shown)", "want no password here, the store must not hold it: use VNC in the configuration")
	}
	for _, l := range append(n.all("listen"), n) {
		for _, attr := range []string{"address", "listen"} {
			if a := l.attr(attr); tied(a) {
				c.fault(l, "/@"+attr, a, "want an address that all hosts have, such as 127.0.0.1, or VNC in the "+
					"configuration: another host could not take the guest over")
			}
		}
	}
	if c.Screen && n.attr("type") == "vnc" {
		c.fault(n, "/@type", "vnc", "the configuration has VNC: remove it here or there")
	}
}

func (c *checker) disk(n *node) {
	if n.first("alias").attr("name") == seedAlias {
		return // replaced by ours
	}
	for _, name := range []string{"source", "driver", "target"} {
		if len(n.all(name)) > 1 {
			c.fault(n, "/"+name, "", "it is given twice")
		}
	}
	c.oneOf(n, "device", device(n), "others pass a device of the host through", "disk", "cdrom", "floppy")
	if s := n.first("shareable"); s != nil {
		c.fault(s, "", "", "it takes the disk's lock away, two hosts could write to it: remove it")
	}
	if s := n.first("transient"); s != nil {
		c.fault(s, "", "", "what is written would lie on one host: "+whyShared+". Remove it")
	}
	for b := n.first("backingStore"); b != nil; b = b.first("backingStore") {
		if s := b.first("source"); s != nil {
			c.oneOf(b, "type", b.attr("type"), whyShared, "file")
			c.shared(s, "/@file", s.attr("file"))
		}
	}
	kind, src := n.attr("type"), n.first("source")
	if src == nil && device(n) != "disk" {
		return // an empty drive
	}
	c.oneOf(n, "type", kind, whyHost, "file", "block", "network")
	if src.attr("protocol") == "rbd" && !readOnly(n) {
		c.fault(src, "/@protocol", "rbd", "RBD's own lock lets two guests write to one image, and only with Type "+
			"CephConf, without DomainXML, the old one is locked out before a start elsewhere: want a file, a block device or nbd")
	} else if kind == "network" && src.attr("protocol") != "nbd" {
		c.faults = append(c.faults, Fault{n.path() + "/source/@protocol", src.attr("protocol"),
			"want nbd: no other storage is tested", readOnly(n)})
	}
	for _, s := range src.all("dataStore") {
		c.oneOf(s, "type", s.attr("type"), whyShared, "file")
		c.shared(s, "/source/@file", s.first("source").attr("file"))
	}
	if readOnly(n) {
		return
	}
	c.written++
	if cache := n.first("driver").attr("cache"); cache != "none" && cache != "directsync" {
		c.fault(n, "/driver/@cache", cache, "want none or directsync: "+whyCache)
	}
	switch kind {
	case "file":
		c.shared(n, "/source/@file", src.attr("file"))
	case "block":
		if dev := src.attr("dev"); path.Clean(dev) != dev || !strings.HasPrefix(dev, "/dev/disk/by-id/") {
			c.fault(n, "/source/@dev", dev, "want /dev/disk/by-id/..., which is the same disk on all hosts")
		}
		c.lock(n, "/source/@dev", src.attr("dev"))
	case "network":
		c.lock(n, "/source/@name", src.attr("name"))
	}
}

// lock wants the lock manager: QEMU's own locks are on files only.
func (c *checker) lock(n *node, below, value string) {
	if !c.Locked {
		c.fault(n, below, value, "nothing locks this disk: want LockManager virtlockd in the configuration, or a file below ImageFolder")
	}
}

// readOnly reports whether nobody writes to the disk. A floppy can be written.
func readOnly(n *node) bool { return n.first("readonly") != nil || device(n) == "cdrom" }
