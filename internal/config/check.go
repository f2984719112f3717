package config

import (
	"fmt"
	"maps"
	"net/netip"
	"path"
	"slices"
	"strconv"
	"strings"
)

// Limits of the guest's size. The lower ones are the source tool's.
const (
	minGB, maxGB   = 8, 16384
	minCPU, maxCPU = 4, 1024
	minMB          = 16

	// A store of more voters would be slow; more hosts can run agents only.
	maxNodes = 99
)

// cluster checks a decoded configuration and brings its lists to one form.
func (c *checker) cluster(cl *Cluster, opt Options) {
	nodes := c.nodes(cl)
	c.pair(cl, nodes)
	if cl.Type != PairConf {
		c.size(cl, opt)
		c.storage(cl)
		c.dns(cl, opt)
		c.network(cl, nodes)
		c.console(cl, nodes)
	}
	if cl.Type != PairConf || len(cl.ChronyServers) > 0 {
		c.timeServers(cl, opt)
	}
	c.fencing(cl.Fencing, nodes)
	for _, f := range cl.TimingConf.check(c.doc.Given) {
		c.fault(f.Path, f.Value, f.Want)
	}
	c.health(cl.HealthCheck)
	c.lockManager(cl.LockManager)
	c.restart(cl)
	c.labels(cl.Labels)
	c.directBoot(cl.DirectBoot)
	c.domain(cl, opt)
	if cl.VNC != nil {
		c.credential("VNC.Credential", cl.VNC.Credential)
	}
	c.notifications(cl.Notifications)
}

// hosts is the Node list as the other checks see it.
type hosts struct {
	names   []string            // in order
	known   map[string]bool     // names
	addrs   map[netip.Addr]bool // their addresses
	unclear bool                // an entry could not be read: names may be missing
}

// nodes checks Node: an odd number, at least three (of a pair also two), unique names and addresses.
func (c *checker) nodes(cl *Cluster) hosts {
	h := hosts{known: map[string]bool{}, addrs: map[netip.Addr]bool{}}
	if n := len(cl.Node); n == 2 && cl.Type == PairConf {
		// Without a third voter: Pair.Arbiter is wanted, see arbiter.
	} else if n < 3 || n%2 == 0 || n > maxNodes {
		c.fault("Node", fmt.Sprintf("%d nodes", n), fmt.Sprintf("want an odd number of nodes from 3 to %d, so that a "+
			"majority survives a loss", maxNodes))
		h.unclear = n == 0 || n > maxNodes
	}
	first := map[string]int{}
	for i, entry := range cl.Node {
		p := index("Node", i)
		parts := strings.Fields(entry)
		if len(parts) != 2 {
			c.fault(p, entry, `want "IP HOSTNAME"`)
			h.unclear = true
			continue
		}
		cl.Node[i] = strings.Join(parts, " ")
		c.nodeAddr(p, parts[0], &h)
		name := parts[1]
		switch j, dup := first[strings.ToLower(name)]; {
		case !IsHostname(name):
			c.fault(p, name, hostnameRule)
		case name == unsafeKey:
			c.fault(p, name, `a host can not have this name, it is a word of Fencing`)
		case dup:
			c.fault(p, name, fmt.Sprintf("host names must be unique; %s has the same", index("Node", j)))
		}
		if !h.known[name] {
			h.names = append(h.names, name)
		}
		h.known[name] = true
		if _, dup := first[strings.ToLower(name)]; !dup {
			first[strings.ToLower(name)] = i
		}
	}
	return h
}

func (c *checker) nodeAddr(p, text string, h *hosts) {
	a, want := parseIPv4(text)
	switch {
	case want != "":
		c.fault(p, text, want)
		return
	case a.IsUnspecified() || a.IsMulticast() || a == broadcast:
		c.fault(p, text, "want a unicast address")
		return
	case h.addrs[a]:
		c.fault(p, text, "addresses must be unique; another node has the same")
	}
	h.addrs[a] = true
}

// size checks memory and CPUs and says what they are enough for.
func (c *checker) size(cl *Cluster, opt Options) {
	lowGB, lowCPU := minGB, minCPU
	if opt.AllowUndersized {
		lowGB, lowCPU = 1, 1
	}
	inMB := c.doc.Given("MemorySizeInMB")
	switch {
	case inMB && !opt.AllowUndersized:
		c.fault("MemorySizeInMB", strconv.Itoa(cl.MemorySizeInMB), "allowed only with --allow-undersized; use MemorySizeInGB instead")
	case inMB && (cl.MemorySizeInMB < minMB || cl.MemorySizeInMB > maxGB<<10):
		c.fault("MemorySizeInMB", strconv.Itoa(cl.MemorySizeInMB), fmt.Sprintf("want %d to %d", minMB, maxGB<<10))
	}
	if gb := cl.MemorySizeInGB; gb > maxGB || gb < lowGB && (!inMB || !opt.AllowUndersized || gb < 0) {
		c.fault("MemorySizeInGB", strconv.Itoa(gb), fmt.Sprintf("want %d to %d", lowGB, maxGB))
	}
	if cl.CPU < lowCPU || cl.CPU > maxCPU {
		c.fault("CPU", strconv.Itoa(cl.CPU), fmt.Sprintf("want %d to %d", lowCPU, maxCPU))
	}
	if cl.DomainXML == "" && !(inMB && cl.MemorySizeInMB <= 0) { // else its numbers count, or a fault says it
		c.scale("MemorySizeInGB", cl.CPU, cl.MemoryMiB())
	}
}

// scale warns with the row of the source document's sizing table.
func (c *checker) scale(field string, cpus, mib int) {
	if mib <= 0 || mib > maxGB<<10 || cpus <= 0 || cpus > maxCPU {
		return // a fault says it
	}
	has := fmt.Sprintf("%d CPUs and %d MB of memory", cpus, mib)
	switch {
	case cpus >= 12 && mib >= 32<<10:
	case cpus >= 8 && mib >= 16<<10:
		c.warn(field, has+" are enough for up to 1,000 hosts and 10,000 VMs; larger clusters need 12 CPUs and 32 GB")
	case cpus >= minCPU && mib >= minGB<<10:
		c.warn(field, has+" are enough for fewer than 100 hosts and 1,000 VMs; larger clusters need 8 CPUs and 16 GB "+
			"(up to 1,000 hosts and 10,000 VMs), or 12 CPUs and 32 GB")
	default:
		c.warn(field, has+": the minimum is 4 CPUs and 8 GB. Use this for tests only")
	}
}

// storage checks Type and what depends on it.
func (c *checker) storage(cl *Cluster) {
	switch cl.Type {
	case FileConf:
		if len(cl.MonAddrs) > 0 {
			c.fault("MonAddrs", cl.MonAddrs[0], "must be null or empty with Type FileConf")
		}
		if cl.PoolName != "" {
			c.fault("PoolName", cl.PoolName, "must be empty with Type FileConf")
		}
		if cl.Ceph != (Ceph{}) {
			c.fault("Ceph", "", "allowed only with Type CephConf")
		}
		c.folder("ImageFolder", cl.ImageFolder)
	case CephConf:
		c.ceph(cl)
		if cl.ImageFolder != "" {
			c.folder("ImageFolder", cl.ImageFolder)
		}
	default:
		c.fault("Type", cl.Type, "want FileConf, CephConf or PairConf")
	}
}

func (c *checker) ceph(cl *Cluster) {
	if len(cl.MonAddrs) == 0 {
		c.fault("MonAddrs", "", "Type CephConf needs at least one monitor address")
	}
	for i, m := range cl.MonAddrs {
		if !isHostPort(m, false) {
			c.fault(index("MonAddrs", i), m, "want an IP address or a host name, with or without :PORT")
		}
	}
	if cl.PoolName == "" || len(cl.PoolName) > 128 || strings.ContainsAny(cl.PoolName, "/@ :,=") {
		c.fault("PoolName", cl.PoolName, `want the name of a Ceph pool, 1 to 128 characters without "/", "@", ":", ",", "=" and blanks`)
	}
	if u := cl.Ceph.User; u != "" && !isCephUser(u) {
		c.fault("Ceph.User", u, `want the name of a Ceph user without "client.": letters, digits, - _ and .`)
	}
	if cl.Ceph.Credential != "" {
		c.credential("Ceph.Credential", cl.Ceph.Credential)
	}
	if l := cl.LockManager; l != nil && l.Type == "virtlockd" {
		c.fault("LockManager.Type", l.Type, "want none with Type CephConf: a lockspace lies in a directory that all "+
			"hosts share, and there is none. Who had the image open before is locked out by Ceph at each start")
	}
}

func isCephUser(s string) bool {
	return len(s) <= 64 && !strings.HasPrefix(s, "client.") && !strings.HasPrefix(s, "-") &&
		strings.Trim(s, labelRunes) == "" && !strings.Contains(s, "/")
}

// folder checks an absolute directory; that it exists is for the install to see.
func (c *checker) folder(p, dir string) {
	if !isAbsolute(dir) || path.Clean(dir) == "/" {
		c.fault(p, dir, `want an absolute directory such as /srv/shared, without ".." and not the root`)
	}
}

// isAbsolute reports whether a path is absolute and has no way up.
func isAbsolute(p string) bool {
	if !path.IsAbs(p) {
		return false
	}
	for part := range strings.SplitSeq(p, "/") {
		if part == ".." {
			return false
		}
	}
	return true
}

func (c *checker) timeServers(cl *Cluster, opt Options) {
	const p = "ChronyServers"
	c.servers(p, cl.ChronyServers, opt, "want at least one time server", "want an IP address or a host name",
		func(s string) bool { return isIP(s) || IsHostname(s) })
	own := map[string]bool{}
	for _, n := range cl.Network {
		ip, _ := splitPerNode(n.Ipaddr)
		for _, e := range ip.entries() {
			own[e.value] = true
		}
	}
	for i, s := range cl.ChronyServers {
		if own[s] {
			c.fault(index(p, i), s, "is the management VM's own address: it can not take the time from itself")
		}
	}
}

// servers checks a list of servers. It may be empty in an undersized cluster only.
func (c *checker) servers(field string, all []string, opt Options, some, want string, is func(string) bool) {
	if len(all) == 0 && !opt.AllowUndersized {
		c.fault(field, "", some)
	}
	for i, s := range all {
		if all[i] = strings.TrimSpace(s); !is(all[i]) {
			c.fault(index(field, i), all[i], want)
		}
	}
}

func (c *checker) dns(cl *Cluster, opt Options) {
	c.servers("DNS", cl.DNS, opt, "want at least one name server", "want an IP address", isIP)
}

func (c *checker) health(h *HealthCheck) {
	if h == nil {
		return
	}
	if h.Type != "tcp" && h.Type != "http" {
		c.fault("HealthCheck.Type", h.Type, "want tcp or http")
	}
	if h.Port < 1 || h.Port > 65535 {
		c.fault("HealthCheck.Port", strconv.Itoa(h.Port), "want 1 to 65535")
	}
	switch {
	case h.Type == "tcp" && h.Path != "":
		c.fault("HealthCheck.Path", h.Path, "must be empty with Type tcp")
	case h.Type == "http" && h.Path != "" && (h.Path[0] != '/' || strings.Contains(h.Path, " ")):
		c.fault("HealthCheck.Path", h.Path, "want a path that begins with / and has no blanks")
	}
	if c.doc.Given("HealthCheck.Failures") && (h.Failures < 1 || h.Failures > 100) {
		c.fault("HealthCheck.Failures", strconv.Itoa(h.Failures), "want 1 to 100")
	}
}

func (c *checker) restart(cl *Cluster) {
	r := cl.Restart
	if r.InPlace != nil && (*r.InPlace < 0 || *r.InPlace > 100) {
		c.fault("Restart.InPlace", strconv.Itoa(*r.InPlace), "want 0 to 100")
	}
	if r.Limit < 0 || r.Limit > 1000 {
		c.fault("Restart.Limit", strconv.Itoa(r.Limit), "want 0 (never give up) to 1000")
	}
	switch cl.OnPanic {
	case "", "restart", "coredump", "preserve":
	default:
		c.fault("OnPanic", cl.OnPanic, "want restart, coredump or preserve")
	}
	c.imageURL(cl)
}

func (c *checker) lockManager(l *LockManager) {
	switch {
	case l == nil:
	case l.Type == "virtlockd":
		c.folder("LockManager.Lockspace", l.Lockspace)
	case l.Type != "none":
		c.fault("LockManager.Type", l.Type, "want none or virtlockd")
	case l.Lockspace != "":
		c.fault("LockManager.Lockspace", l.Lockspace, "must be empty with Type none")
	}
}

func (c *checker) labels(labels map[string]string) {
	for _, k := range slices.Sorted(maps.Keys(labels)) {
		p, v := field("Labels", k), labels[k]
		if k == "" || len(k) > 63 || strings.Trim(k, labelRunes) != "" {
			c.fault(p, k, "want a label name of 1 to 63 letters, digits, - _ . or /")
		}
		if len(v) > 255 {
			c.fault(p, v, "want at most 255 bytes")
		}
	}
}

func (c *checker) directBoot(d *DirectBoot) {
	if d == nil {
		return
	}
	if !isAbsolute(d.Kernel) {
		c.fault("DirectBoot.Kernel", d.Kernel, "want an absolute path")
	}
	if d.Initrd != "" && !isAbsolute(d.Initrd) {
		c.fault("DirectBoot.Initrd", d.Initrd, "want an absolute path or nothing")
	}
}
