package config

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"holdfast/internal/lib/domainxml"
	"holdfast/internal/lib/strictyaml"
)

// DomainXML is the XML of a libvirt domain. In a file it may be the path of another
// one, which Parse replaces by what that holds: so the store has the domain itself, and
// all hosts the same.
type DomainXML string

// UnmarshalText lets it have lines, which other settings have not.
func (d *DomainXML) UnmarshalText(text []byte) error {
	*d = DomainXML(text)
	return nil
}

// domain reads and checks DomainXML.
func (c *checker) domain(cl *Cluster, opt Options) {
	const p = "DomainXML"
	if cl.DomainXML == "" {
		return
	}
	named := string(cl.DomainXML)
	if !strings.HasPrefix(strings.TrimSpace(named), "<") && !c.domainFile(cl, opt) {
		return
	}
	dom, err := domainxml.Parse(string(cl.DomainXML))
	if err != nil {
		c.fault(p, named, "want the XML of a libvirt domain: "+err.Error())
		return
	}
	switch {
	case cl.Type != FileConf:
		c.fault("Type", cl.Type, "want FileConf with DomainXML: of a domain of your own nobody is locked out of a "+
			"Ceph pool before a start elsewhere")
	case cl.ImageURL != "":
		c.fault("ImageURL", cl.ImageURL, "must be empty with DomainXML, which has the disks")
	case cl.DirectBoot != nil:
		c.fault("DirectBoot", "", "must be missing with DomainXML, which has a kernel in /domain/os")
	}
	for _, f := range dom.Check(domainxml.Rules{Folder: cl.ImageFolder,
		Locked: cl.LockManager != nil && cl.LockManager.Type == "virtlockd", Screen: cl.VNC != nil}) {
		c.found = append(c.found, strictyaml.Fault{Place: c.doc.Place(p), Path: p + " " + f.Path,
			Value: strictyaml.Shorten(f.Value), Want: f.Want})
	}
	for _, n := range dom.Needs() {
		if s := plainNeed(n); s != "" {
			c.warn(p, n.What+": "+plainText(s))
		}
	}
	for i, n := range cl.Network {
		path := index("Network", i)
		switch bridge, there := dom.Bridge(n.MacAddress); {
		case !there:
			c.fault(path+".MacAddress", n.MacAddress, "want the MAC address of an interface in DomainXML")
		case bridge != n.Bridge:
			c.fault(path+".Bridge", n.Bridge, fmt.Sprintf("DomainXML has the bridge %q for this MAC address", bridge))
		}
	}
	if dom.MemoryMiB() != cl.MemoryMiB() || dom.CPUs() != cl.CPU {
		c.warn(p, fmt.Sprintf("it has %d CPUs and %d MB of memory, and that is what counts", dom.CPUs(), dom.MemoryMiB()))
	}
	c.scale(p, dom.CPUs(), dom.MemoryMiB())
}

// domainFile puts what the file holds in the place of its path, which is relative to the
// configuration.
func (c *checker) domainFile(cl *Cluster, opt Options) bool {
	file := string(cl.DomainXML)
	if opt.ReadFile == nil {
		c.fault("DomainXML", file, "want the XML itself: a file can be named only where the configuration is read from a file")
		return false
	}
	if !filepath.IsAbs(file) {
		file = filepath.Join(filepath.Dir(c.file), file)
	}
	data, err := opt.ReadFile(file)
	if err != nil {
		c.fault("DomainXML", string(cl.DomainXML), "want a file with the XML of a libvirt domain: "+err.Error())
		return false
	}
	cl.DomainXML = DomainXML(data)
	return true
}

// StoppedName is the name of a file beside the configuration's, with which the first agent
// of a cluster does not ask for the management VM to run: it is taken over from somebody
// else first.
const StoppedName = "stopped"

// BeginsWithMiB is how much of a host's ordinary memory the management VM begins with, MiB; 0: it has huge pages, or
// there is none.
func (c Cluster) BeginsWithMiB() int {
	if c.Type == PairConf {
		return 0
	}
	if c.DomainXML == "" {
		return c.MemoryMiB()
	}
	dom, err := domainxml.Parse(string(c.DomainXML))
	if err != nil || slices.ContainsFunc(dom.Needs(), func(n domainxml.Need) bool { return n.Kind == domainxml.Hugepages }) {
		return 0
	}
	return dom.BeginsWithMiB()
}
