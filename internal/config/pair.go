package config

import (
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/lib/network"
)

// PairConf is the Type of a cluster without a management VM: two of its hosts, one at a
// time, run a group of services on a database that is replicated between them, by itself or
// with the device that it is on.
const PairConf = cluster.PairConf

// Pair is the group of a two-node pair. Hosts of Node that it does not name vote in the
// store, and never run the group.
type Pair struct {
	Nodes    []string      `json:"Nodes"`            // names of the two hosts; the first one is the active one at the beginning
	Device   *PairDevice   `json:"Device,omitempty"` // what is replicated; without it: the database
	Database *PairDatabase `json:"Database"`         // started before the group
	// Partition is a file system beside the data, for templates; nil: there is none.
	Partition *PairPartition `json:"Partition,omitempty"`
	// in the order in which they start after the database was promoted; they stop in the reverse one
	Group   []PairMember `json:"Group"`
	Arbiter *PairArbiter `json:"Arbiter,omitempty"` // where Node has no third voter: what decides which of the two goes on alone
	// SplitBrain says whose data are kept after both nodes went on alone: SplitAuto (default), of the
	// one that had the group, or SplitManual, of the one that a person names.
	SplitBrain string `json:"SplitBrain,omitempty"`
	// SecondPath are the addresses of the nodes in a second network, in the order of Nodes. Over it
	// the nodes hear each other and keep their store when the network of Node is cut between them.
	SecondPath []string `json:"SecondPath,omitempty"`
	// for which commits wait for a standby that does not acknowledge, before the active goes on alone; default 2s
	Patience Duration `json:"Patience,omitzero"`
	// HangTimeout is for how long what serves may not answer, before it is ended and the other node takes over; default
	// 8s, with Timings.Profile fast 4s.
	HangTimeout Duration `json:"HangTimeout,omitzero"`
}

// Values of Pair.SplitBrain.
const (
	SplitAuto   = "auto"
	SplitManual = "manual"
)

// PairArbiter decides, of two nodes that do not hear each other, which one goes on alone. One of
// the fields is given.
type PairArbiter struct {
	Fence bool     `json:"Fence,omitempty"` // the one whose fence devices show the other one off, after they were ordered so
	Disk  string   `json:"Disk,omitempty"`  // the one that this device or file names, which both can write
	Ping  []string `json:"Ping,omitempty"`  // who is answered by one of these two addresses; both may be, so this is best effort
}

// PairDatabase is a MariaDB server that the agents start, end and replicate. Zero values
// are the ones of Debian's package.
type PairDatabase struct {
	Program    string `json:"Program,omitempty"`    // default /usr/sbin/mariadbd
	OptionFile string `json:"OptionFile,omitempty"` // default /etc/mysql/my.cnf
	User       string `json:"User,omitempty"`       // of the system, as which it runs; default mysql
	// default /var/lib/mysql, or with a device mysql below its Mount; without one its parent holds a second copy while
	// a node is made anew
	Datadir     string      `json:"Datadir,omitempty"`
	Socket      string      `json:"Socket,omitempty"`     // default /run/mysqld/mysqld.sock
	Port        int         `json:"Port,omitempty"`       // at the addresses of both nodes; default 3306
	Admin       PairAccount `json:"Admin,omitzero"`       // all privileges, by the socket; none with a device
	Replication PairAccount `json:"Replication,omitzero"` // made where it is missing; none with a device
}

// PairAccount is an account of the database.
type PairAccount struct {
	User       string `json:"User"`
	Credential string `json:"Credential"` // file:/PATH of a file with the password on both nodes, never the password itself
}

// File is the path of the file with the password.
func (a PairAccount) File() string { return strings.TrimPrefix(a.Credential, "file:") }

// PairMember is a part of the group. It is one of: a virtual address, a unit of systemd, or
// programs.
type PairMember struct {
	Name string `json:"Name,omitempty"` // default: the unit, or vip
	// ADDRESS/LENGTH, with "dev INTERFACE" behind it where more than one interface is in that subnet
	VIP      string   `json:"VIP,omitempty"`
	Unit     string   `json:"Unit,omitempty"`     // such as tomcat.service
	Start    []string `json:"Start,omitempty"`    // program and arguments; returns
	Stop     []string `json:"Stop,omitempty"`     // asks it to end
	Kill     []string `json:"Kill,omitempty"`     // ends it at once; none: Stop
	Status   []string `json:"Status,omitempty"`   // exit code 0: it runs; 3: nothing of it is there; else it has failed
	Restarts *int     `json:"Restarts,omitempty"` // in ten minutes, before the group is given up on the node; default 2
}

// Defaults of a pair.
const (
	pairPatience = 2 * time.Second
	pairHang     = 8 * time.Second
	pairHangFast = 4 * time.Second
	pairRestarts = 2
)

// leastPatience is the least Patience: less would let a pause of the standby end replication.
const leastPatience = 500 * time.Millisecond

// leastHang is the least HangTimeout: a disk that is slow for a moment is no failure.
const leastHang = 2 * time.Second

// HangTimeout is for how long what serves of a pair may not answer.
func (c Cluster) HangTimeout() time.Duration {
	switch {
	case c.Pair.HangTimeout != 0:
		return time.Duration(c.Pair.HangTimeout)
	case c.TimingConf.Profile == ProfileFast:
		return pairHangFast
	}
	return pairHang
}

// Full returns the pair with defaults filled in.
func (p Pair) Full() Pair {
	if p.Patience == 0 {
		p.Patience = Duration(pairPatience)
	}
	p.Group = slices.Clone(p.Group)
	for i := range p.Group {
		m := &p.Group[i]
		if m.Name == "" {
			if m.Name = m.Unit; m.VIP != "" {
				m.Name = "vip"
			}
		}
		if m.Restarts == nil {
			n := pairRestarts
			m.Restarts = &n
		}
	}
	datadir := "/var/lib/mysql"
	if p.Device != nil {
		p.Device = p.Device.full()
		datadir = filepath.Join("/", p.Device.Mount, deviceDatadir)
	}
	if p.Database != nil {
		d := *p.Database
		for _, f := range []struct {
			field *string
			def   string
		}{
			{&d.Program, "/usr/sbin/mariadbd"}, {&d.OptionFile, "/etc/mysql/my.cnf"}, {&d.User, "mysql"},
			{&d.Datadir, datadir}, {&d.Socket, "/run/mysqld/mysqld.sock"},
		} {
			if *f.field == "" {
				*f.field = f.def
			}
		}
		if d.Port == 0 {
			d.Port = 3306
		}
		p.Database = &d
	}
	return p
}

// Peer is the other one of the two nodes; "" when host is not one of them.
func (p Pair) Peer(host string) string {
	switch {
	case len(p.Nodes) != 2:
	case p.Nodes[0] == host:
		return p.Nodes[1]
	case p.Nodes[1] == host:
		return p.Nodes[0]
	}
	return ""
}

// Second gives the addresses of a node and of the other one on the second path; ok: there is one,
// and host is one of the two nodes.
func (p Pair) Second(host string) (own, there netip.Addr, ok bool) {
	i := slices.Index(p.Nodes, host)
	if i < 0 || len(p.SecondPath) != 2 || len(p.Nodes) != 2 {
		return own, there, false
	}
	own, err := netip.ParseAddr(p.SecondPath[i])
	there, err2 := netip.ParseAddr(p.SecondPath[1-i])
	return own.Unmap(), there.Unmap(), err == nil && err2 == nil
}

// secondPath checks the addresses of the second path.
func (c *checker) secondPath(cl *Cluster) {
	const at = "Pair.SecondPath"
	p := cl.Pair
	if len(p.SecondPath) == 0 {
		return
	}
	if len(p.SecondPath) != 2 {
		c.fault(at, strings.Join(p.SecondPath, " "), "want two addresses, in the order of Pair.Nodes, or none")
		return
	}
	taken := cl.taken()
	if a := p.Arbiter; a != nil {
		for _, text := range a.Ping {
			if addr, err := netip.ParseAddr(text); err == nil {
				taken[addr.Unmap()] = true
			}
		}
	}
	var four [2]bool
	for i, text := range p.SecondPath {
		a, err := netip.ParseAddr(text)
		a = a.Unmap()
		four[i] = a.Is4()
		switch {
		case err != nil || a.Zone() != "" || a.IsMulticast() || a.IsUnspecified() || a.IsLoopback() || a.IsLinkLocalUnicast():
			c.fault(index(at, i), text, "want an IP address of "+nameOf(p.Nodes, i)+" in a second network, such as 10.0.1.1")
			return
		case taken[a]:
			c.fault(index(at, i), text, "want an address that is no host's in Node, not virtual, and pinged by "+
				"nobody: the second path is another network")
		}
		taken[a] = true
	}
	if four[0] != four[1] {
		c.fault(at, strings.Join(p.SecondPath, " "), "want both IPv4 or both IPv6")
	}
}

// nameOf is the name of a node, where there is one.
func nameOf(nodes []string, i int) string {
	if i < len(nodes) {
		return nodes[i]
	}
	return "the node"
}

// taken are the addresses that the hosts of Node have, and the virtual ones.
func (cl *Cluster) taken() map[netip.Addr]bool {
	out := map[netip.Addr]bool{}
	for _, n := range cl.Nodes() {
		if a, err := netip.ParseAddr(n.IP); err == nil {
			out[a.Unmap()] = true
		}
	}
	for _, m := range cl.Pair.Group {
		if v, err := network.ParseVIP(m.VIP); err == nil {
			out[v.Prefix.Addr()] = true
		}
	}
	return out
}

// pair checks the pair, and that nothing is given that is of a management VM.
func (c *checker) pair(cl *Cluster, nodes hosts) {
	if cl.Type != PairConf {
		if cl.Pair != nil {
			c.fault("Pair", "", "allowed only with Type "+PairConf)
		}
		return
	}
	const only = "allowed only with a management VM, not with Type " + PairConf
	for _, f := range []struct {
		name  string
		given bool
	}{
		{"MemorySizeInGB", cl.MemorySizeInGB != 0}, {"MemorySizeInMB", cl.MemorySizeInMB != 0}, {"CPU", cl.CPU != 0},
		{"MonAddrs", len(cl.MonAddrs) > 0}, {"PoolName", cl.PoolName != ""}, {"Ceph", cl.Ceph != Ceph{}},
		{"ImageFolder", cl.ImageFolder != ""}, {"ImageURL", cl.ImageURL != ""}, {"Network", len(cl.Network) > 0},
		{"ConsoleProxyOverriddenIP", cl.ConsoleProxyOverriddenIP != ""}, {"AllowResetRootPassword", cl.AllowResetRootPassword},
		{"HealthCheck", cl.HealthCheck != nil}, {"LockManager", cl.LockManager != nil}, {"SharedStorageProbe", cl.SharedStorageProbe != nil},
		{"OnPanic", cl.OnPanic != ""}, {"DirectBoot", cl.DirectBoot != nil}, {"DomainXML", cl.DomainXML != ""}, {"VNC", cl.VNC != nil},
	} {
		if f.given {
			c.fault(f.name, "", only)
		}
	}
	p := cl.Pair
	if p == nil {
		c.fault("Pair", "", "want the group, as Type is "+PairConf)
		return
	}
	c.pairNodes(p.Nodes, nodes)
	c.arbiter(cl)
	c.secondPath(cl)
	if d := time.Duration(p.Patience); c.doc.Given("Pair.Patience") && (d < leastPatience || d > time.Minute) {
		c.fault("Pair.Patience", d.String(), "want 500ms to 1m")
	}
	if d := time.Duration(p.HangTimeout); c.doc.Given("Pair.HangTimeout") && (d < leastHang || d > time.Minute) {
		c.fault("Pair.HangTimeout", d.String(), "want 2s to 1m")
	}
	if p.Device != nil {
		c.pairDevice(*p)
	}
	if p.Partition != nil {
		c.pairPartition(*p)
	}
	if p.Database == nil {
		c.fault("Pair.Database", "", "want the database of the group")
	} else {
		c.pairDatabase(*p)
	}
	c.group(p.Full().Group, nodes)
}

func (c *checker) pairNodes(names []string, nodes hosts) {
	if len(names) != 2 || names[0] == names[1] {
		c.fault("Pair.Nodes", strings.Join(names, " "), "want the names of two hosts")
	}
	for i, n := range names {
		if !nodes.unclear && !nodes.known[n] {
			c.fault(index("Pair.Nodes", i), n, "want the name of a host of Node")
		}
	}
}

// arbiter checks what stands in for a third voter.
func (c *checker) arbiter(cl *Cluster) {
	p := cl.Pair
	switch {
	case p.SplitBrain != "" && p.SplitBrain != SplitAuto && p.SplitBrain != SplitManual:
		c.fault("Pair.SplitBrain", p.SplitBrain, "want auto or manual")
	case p.SplitBrain != "" && len(cl.Node) != 2:
		c.fault("Pair.SplitBrain", p.SplitBrain, "allowed only where Node has exactly the two nodes: with a third voter, two can not both go on")
	}
	switch {
	case len(cl.Node) != 2 && p.Arbiter != nil:
		c.fault("Pair.Arbiter", "", "allowed only where Node has exactly the two nodes: the other hosts vote")
	case len(cl.Node) != 2:
	case p.Arbiter == nil:
		c.fault("Pair.Arbiter", "", `want {"Fence": true}, {"Disk": "PATH"}, {"Ping": ["IP", "IP"]}, or a third host in Node that votes: two nodes can not know of each other's loss`)
	case p.Arbiter.kinds() != 1:
		c.fault("Pair.Arbiter", "", "want one of Fence, true, and Disk and Ping")
	case p.Arbiter.Ping != nil:
		if p.Device != nil {
			c.fault("Pair.Arbiter.Ping", "", "allowed only without Pair.Device: both nodes may go on, and what the "+
				"one that gives way has written on its disk could not be saved")
		}
		c.pings(cl)
	case p.Arbiter.Disk != "":
		c.absolute("Pair.Arbiter.Disk", p.Arbiter.Disk)
		if p.Device != nil && p.Device.Disk == p.Arbiter.Disk {
			c.fault("Pair.Arbiter.Disk", p.Arbiter.Disk, "want another disk than Pair.Device.Disk")
		}
	default:
		for _, n := range p.Nodes {
			if len(cl.Fencing.Hosts[n].Devices) == 0 {
				c.fault(field("Fencing", n)+".Devices", "", "want a device that switches this host off, as Pair.Arbiter is Fence")
			}
		}
	}
}

// kinds counts the arbiters.
func (a *PairArbiter) kinds() (n int) {
	for _, given := range []bool{a.Fence, a.Disk != "", a.Ping != nil} {
		if given {
			n++
		}
	}
	return n
}

// pings checks the addresses that tell a node that it is not cut off.
func (c *checker) pings(cl *Cluster) {
	const at = "Pair.Arbiter.Ping"
	p := cl.Pair
	own := cl.taken()
	if len(p.Arbiter.Ping) != 2 {
		c.fault(at, fmt.Sprintf("%d addresses", len(p.Arbiter.Ping)), "want two")
	}
	seen := map[netip.Addr]bool{}
	for i, text := range p.Arbiter.Ping {
		a, err := netip.ParseAddr(text)
		if err != nil || a.Zone() != "" || a.IsMulticast() || a.IsUnspecified() || a.IsLoopback() || own[a.Unmap()] || seen[a.Unmap()] {
			c.fault(fmt.Sprintf("%s[%d]", at, i), text, "want the IP address of another machine, a gateway for example, and two different ones")
		}
		seen[a.Unmap()] = true
	}
}

func (c *checker) pairDatabase(p Pair) {
	given, d := *p.Database, *p.Full().Database
	for _, f := range []struct{ name, value string }{
		{"Program", d.Program}, {"OptionFile", d.OptionFile}, {"Datadir", d.Datadir}, {"Socket", d.Socket},
	} {
		c.absolute("Pair.Database."+f.name, f.value)
	}
	if d.Port < 1 || d.Port > 65535 {
		c.fault("Pair.Database.Port", strconv.Itoa(d.Port), "want 1 to 65535")
	}
	if p.Device != nil {
		c.onDevice(p)
		return
	}
	for _, a := range []struct {
		name string
		PairAccount
	}{{"Admin", given.Admin}, {"Replication", given.Replication}} {
		path := "Pair.Database." + a.name
		if a.User == "" || len(a.User) > 80 || strings.ContainsAny(a.User, "\x00'\"`\\") {
			c.fault(path+".User", a.User, "want the name of an account of the database, 1 to 80 characters without quotes and backslash")
		}
		c.credential(path+".Credential", a.Credential)
	}
	if given.Admin.User != "" && given.Admin.User == given.Replication.User {
		c.fault("Pair.Database.Replication.User", given.Replication.User, "want another account than Admin.User: it may log in over the network")
	}
}

// group checks the members, whose defaults are filled in.
func (c *checker) group(members []PairMember, nodes hosts) {
	first, vips := map[string]int{}, map[netip.Addr]bool{}
	for i, m := range members {
		path := index("Pair.Group", i)
		kinds := 0
		for _, given := range []bool{m.VIP != "", m.Unit != "", len(m.Start)+len(m.Stop)+len(m.Status)+len(m.Kill) > 0} {
			if given {
				kinds++
			}
		}
		if kinds != 1 {
			c.fault(path, m.Name, "want one of VIP, Unit, or Start, Stop and Status")
			continue
		}
		if m.Name == "" || len(m.Name) > 64 || strings.Trim(m.Name, labelRunes+"@") != "" {
			c.fault(path+".Name", m.Name, "want 1 to 64 letters, digits, - _ . / @")
		} else if j, dup := first[m.Name]; dup {
			c.fault(path+".Name", m.Name, "names must be unique; "+index("Pair.Group", j)+" has the same")
		} else {
			first[m.Name] = i
		}
		if r := *m.Restarts; r < 0 || r > 100 {
			c.fault(path+".Restarts", strconv.Itoa(r), "want 0 to 100")
		}
		switch {
		case m.VIP != "":
			c.virtual(path+".VIP", m.VIP, nodes, vips)
		case m.Unit != "":
			if strings.HasPrefix(m.Unit, "-") || strings.Trim(m.Unit, labelRunes+"@:\\") != "" ||
				!strings.Contains(m.Unit, ".") || strings.Contains(m.Unit, "/") {
				c.fault(path+".Unit", m.Unit, "want the whole name of a unit of systemd, such as tomcat.service")
			}
		default:
			c.programs(path, m)
		}
	}
}

// programs checks a member that programs start and stop.
func (c *checker) programs(path string, m PairMember) {
	for _, p := range []struct {
		name string
		argv []string
		must bool
	}{{"Start", m.Start, true}, {"Stop", m.Stop, true}, {"Kill", m.Kill, false}, {"Status", m.Status, true}} {
		if len(p.argv) == 0 {
			if p.must {
				c.fault(path+"."+p.name, "", "want a program and its arguments")
			}
			continue
		}
		c.absolute(index(path+"."+p.name, 0), p.argv[0])
	}
}

// virtual checks a virtual address.
func (c *checker) virtual(path, text string, nodes hosts, seen map[netip.Addr]bool) {
	v, err := network.ParseVIP(text)
	a := v.Prefix.Addr()
	switch {
	case err != nil:
		c.fault(path, text, "want ADDRESS/LENGTH or ADDRESS/LENGTH dev INTERFACE of one machine, such as 172.16.60.55/16")
	case nodes.addrs[a]:
		c.fault(path, text, "want an address that no host of Node has")
	case seen[a]:
		c.fault(path, text, "addresses must be unique; another member has the same")
	}
	seen[a] = true
}
