// Package invfile reads an inventory from a YAML file: a whole one, for plans that
// are made without a cluster, or an overlay with what only people know, for a
// cluster whose agents report the rest. docs/inventory.md has the fields and examples.
//
// Field names are those of the inventory's JSON, but for four: labels are a list
// of KEY=VALUE, backups a list with names, dirty is a whole number of MiB/s, and ha
// has switchOff and switchOn, because YAML takes off and on for truth values. The
// settings of a backup are for its provider.
//
// An overlay has the same form and needs neither version, hosts nor VMs; a VM in it
// needs no host. The order of its hosts is the order in which they are dealt with.
// What else agents report may be in it, too, and counts for nothing: see
// upgrade.Overlay.
//
// Guests of several hosts may have one name. Then an overlay tells them apart by their
// uuid, or by the host where each is now.
package invfile

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"holdfast/internal/cluster"
	"holdfast/internal/inventory"
	"holdfast/internal/lib/strictyaml"
)

// Format is the only format of these files.
const Format = 1

// maxFile is the largest file that is read, bytes. An entry for a guest has about
// 150 bytes.
const maxFile = 64 << 20

// Fault is one thing that is wrong in a file.
type Fault = strictyaml.Fault

// Faults is everything that is wrong in one file.
type Faults struct {
	File   string
	Faults []Fault
}

// Error gives one line for each fault.
func (fs *Faults) Error() string { return strictyaml.Lines(fs.File, fs.Faults) }

// Load reads the file of a whole inventory. What is wrong in it is a *Faults.
func Load(file string) (inventory.Inventory, error) { return load(file, Parse) }

// LoadOverlay reads the file of an overlay. What is wrong in it is a *Faults.
func LoadOverlay(file string) (inventory.Inventory, error) { return load(file, ParseOverlay) }

func load(file string, parse func([]byte) (inventory.Inventory, []Fault)) (inventory.Inventory, error) {
	f, err := os.OpenFile(file, os.O_RDONLY|unix.O_NONBLOCK, 0) // a pipe without a writer must not hang
	if err != nil {
		return inventory.Inventory{}, fmt.Errorf("read the inventory: %w", err)
	}
	text, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err = errors.Join(err, f.Close()); err != nil {
		return inventory.Inventory{}, fmt.Errorf("read the inventory: %w", err)
	}
	if len(text) > maxFile {
		return inventory.Inventory{}, &Faults{file, []Fault{{Path: strictyaml.Whole,
			Value: fmt.Sprintf("more than %d bytes", maxFile), Want: "want a smaller file"}}}
	}
	inv, faults := parse(text)
	if len(faults) > 0 {
		return inventory.Inventory{}, &Faults{file, faults}
	}
	return inv, nil
}

// doc is the file.
type doc struct {
	Format  int               `json:"format"`
	Cluster string            `json:"cluster"`
	Version string            `json:"version"`
	At      time.Time         `json:"at"`
	Hosts   []host            `json:"hosts"`
	VMs     []vm              `json:"vms"`
	Pair    *inventory.Pair   `json:"pair"`
	HA      *ha               `json:"ha"`
	Running string            `json:"running"`
	Apart   []inventory.Apart `json:"apart"`
	Backups []backupPlan      `json:"backups"`
	Status  inventory.Watched `json:"status"`

	Components []string `json:"components"`

	Applications *ha                      `json:"applications"`
	Engine       inventory.EngineSettings `json:"engine"`
}

type backupPlan struct {
	Name     string          `json:"name"`
	Provider string          `json:"provider"`
	Settings json.RawMessage `json:"settings"`
}

// ha is how something is switched off and on.
type ha struct {
	Off    []string `json:"switchOff"`
	On     []string `json:"switchOn"`
	Status []string `json:"status"`
}

type host struct {
	Name        cluster.HostID   `json:"name"`
	Roles       []inventory.Role `json:"roles"`
	Labels      []string         `json:"labels"`
	Group       string           `json:"group"`
	MemoryMiB   int64            `json:"memoryMiB"`
	CPUs        int              `json:"cpus"`
	CPUModel    string           `json:"cpuModel"`
	Version     string           `json:"version"`
	Kernel      string           `json:"kernel"`
	NextKernel  string           `json:"nextKernel"`
	Boot        string           `json:"boot"`
	Install     string           `json:"install"`
	Down        bool             `json:"down"`
	Maintenance bool             `json:"maintenance"`
	Pools       []inventory.Pool `json:"pools"`
	FreeBytes   int64            `json:"freeBytes"`
	Commands    []string         `json:"commands"`
	SkewMillis  int64            `json:"skewMillis"`
	LinkMiBps   int64            `json:"linkMiBps"`
	Member      bool             `json:"member"`

	Engines []inventory.Engine `json:"engines"`
}

type vm struct {
	Name      string           `json:"name"`
	UUID      string           `json:"uuid"`
	Host      cluster.HostID   `json:"host"`
	MemoryMiB int64            `json:"memoryMiB"`
	CPUs      int              `json:"cpus"`
	Running   bool             `json:"running"`
	Dirty     int64            `json:"dirty"`
	System    string           `json:"system"`
	Fixed     []string         `json:"fixed"`
	Busy      string           `json:"busy"`
	Protected bool             `json:"protected"`
	Halted    bool             `json:"halted"`
	Addresses []string         `json:"addresses"`
	Policy    inventory.Policy `json:"policy"`
}

// Parse reads the text of a whole inventory, and says everything that is wrong in
// it.
func Parse(text []byte) (inventory.Inventory, []Fault) { return parse(text, false) }

// ParseOverlay reads the text of an overlay, and says everything that is wrong in it.
func ParseOverlay(text []byte) (inventory.Inventory, []Fault) { return parse(text, true) }

func parse(text []byte, overlay bool) (inventory.Inventory, []Fault) {
	var d doc
	c := &checker{overlay: overlay, hosts: map[cluster.HostID]bool{}, vms: map[string]bool{}}
	read := strictyaml.Decode(text, &d)
	if len(read.Faults) > 0 {
		return inventory.Inventory{}, read.Faults // what else is wrong may only follow from these
	}
	inv := c.inventory(&d)
	return inv, read.Locate(c.faults)
}

// checker turns a document into an inventory.
type checker struct {
	overlay bool // hosts may be missing: agents report them
	faults  []Fault
	hosts   map[cluster.HostID]bool
	vms     map[string]bool // by what a VM is known by, see vmName
}

func (c *checker) add(path, value, want string) {
	c.faults = append(c.faults, Fault{Path: path, Value: value, Want: want})
}

// want adds a fault unless ok.
func (c *checker) want(ok bool, path string, value any, want string) {
	if !ok {
		c.add(path, fmt.Sprint(value), want)
	}
}

func (c *checker) inventory(d *doc) inventory.Inventory {
	c.want(d.Format == Format, "format", d.Format, fmt.Sprintf("want %d", Format))
	c.want(d.Version != "" || c.overlay, "version", d.Version, "want the version that is installed")
	c.want(len(d.Hosts) > 0 || c.overlay, "hosts", "", "want at least one host")
	c.want(d.Running == "" || !c.overlay, "running", d.Running, "want none: the cluster knows it")
	inv := inventory.Inventory{Cluster: d.Cluster, Version: d.Version, At: d.At, Pair: d.Pair, Running: d.Running,
		Apart: d.Apart, Backups: c.backups(d.Backups), Status: d.Status, Components: d.Components}
	for i, n := range d.Components {
		c.want(n != "" && !slices.Contains(d.Components[:i], n), fmt.Sprintf("components[%d]", i), n,
			"want the name of a component of the catalogue of versions, each once")
	}
	for i := range d.Hosts {
		inv.Hosts = append(inv.Hosts, c.host(fmt.Sprintf("hosts[%d]", i), &d.Hosts[i]))
	}
	for i := range d.VMs {
		inv.VMs = append(inv.VMs, c.vm(fmt.Sprintf("vms[%d]", i), &d.VMs[i]))
	}
	if p := d.Pair; p != nil {
		c.want(len(p.Nodes) == 2 && p.Nodes[0] != p.Nodes[1], "pair.nodes", p.Nodes, "want two hosts")
		for i, n := range p.Nodes {
			c.want(c.knows(n), fmt.Sprintf("pair.nodes[%d]", i), n, "want the name of a host of this file")
		}
		c.want(slices.Contains(p.Nodes, p.Active), "pair.active", p.Active, "want one of the nodes")
		c.want(len(p.Switch) > 0, "pair.switch", "", "want a program with its arguments")
	}
	inv.HA, inv.Applications = c.switched("ha", d.HA), c.switched("applications", d.Applications)
	inv.Engine = d.Engine
	c.want(d.Engine.Array == "" || net.ParseIP(d.Engine.Array) != nil, "engine.array", d.Engine.Array,
		"want the IP address of the storage array")
	c.want(d.Engine.SharedObjects == "" || filepath.IsAbs(d.Engine.SharedObjects), "engine.sharedObjects",
		d.Engine.SharedObjects, "want the absolute path of a directory")
	c.status(&d.Status)
	c.apart(d.Apart)
	return inv
}

func (c *checker) switched(at string, h *ha) *inventory.Switch {
	if h == nil {
		return nil
	}
	c.want(len(h.Off) > 0, at+".switchOff", "", "want a program with its arguments")
	c.want(len(h.On) > 0, at+".switchOn", "", "want a program with its arguments")
	return &inventory.Switch{Off: h.Off, On: h.On, Status: h.Status}
}

// knows reports whether a host is in the file, or may be known without it.
func (c *checker) knows(h cluster.HostID) bool { return c.hosts[h] || c.overlay && h != "" }

func (c *checker) backups(list []backupPlan) map[string]inventory.BackupPlan {
	if len(list) == 0 {
		return nil
	}
	out := make(map[string]inventory.BackupPlan, len(list))
	for i, b := range list {
		at := fmt.Sprintf("backups[%d]", i)
		_, twice := out[b.Name]
		c.want(b.Name != "" && !twice, at+".name", b.Name, "want a name that no other backup has")
		c.want(b.Provider != "", at+".provider", b.Provider, "want files, mariadb, ctbackup, qcow2, lvm or array")
		c.want(len(b.Settings) == 0 || b.Settings[0] == '{', at+".settings", string(b.Settings), "want names with values")
		out[b.Name] = inventory.BackupPlan{Provider: b.Provider, Settings: b.Settings}
	}
	return out
}

func (c *checker) status(s *inventory.Watched) {
	c.program("status.cluster", s.Cluster, false)
	for i, p := range s.Replication {
		c.program(fmt.Sprintf("status.replication[%d]", i), p, true)
	}
	c.want(s.VersionFile == "" || filepath.IsAbs(s.VersionFile), "status.versionFile", s.VersionFile, "want an absolute path")
	c.want(s.BackupDir == "" || filepath.IsAbs(s.BackupDir), "status.backupDir", s.BackupDir, "want an absolute path")
}

// apart checks groups of guests. In an overlay, agents may know those that it names.
func (c *checker) apart(groups []inventory.Apart) {
	twice := map[string]bool{}
	for i, g := range groups {
		at := fmt.Sprintf("apart[%d]", i)
		c.want(g.Name != "" && !twice[g.Name], at+".name", g.Name, "want a name that no other group has")
		c.want(len(g.VMs) > 1, at+".vms", strings.Join(g.VMs, ", "), "want two VMs at least")
		twice[g.Name] = true
		for k, name := range g.VMs {
			known := c.overlay || c.vms["name "+name] || c.vms["at "+name] || c.vms["uuid "+name]
			c.want(name != "" && known, fmt.Sprintf("%s.vms[%d]", at, k), name,
				"want the UUID, the place (HOST/NAME) or the name of a VM of this file")
			c.want(!slices.Contains(g.VMs[:k], name), fmt.Sprintf("%s.vms[%d]", at, k), name, "want each VM once")
		}
	}
}

// program checks a program with its arguments.
func (c *checker) program(at string, p []string, needed bool) {
	c.want(len(p) == 0 && !needed || len(p) > 0 && filepath.IsAbs(p[0]), at, p, "want the absolute path of a program, and its arguments")
}

// hostName is an RFC 1123 name.
const hostName = `^[a-z0-9A-Z]([a-z0-9A-Z.-]{0,61}[a-z0-9A-Z])?$`

func (c *checker) host(at string, h *host) inventory.Host {
	ok, err := regexp.MatchString(hostName, string(h.Name))
	c.want(ok && err == nil, at+".name", h.Name, "want a host name: letters, digits, '.' and '-', at most 63")
	c.want(!c.hosts[h.Name], at+".name", h.Name, "want a name that no other host has")
	c.hosts[h.Name] = true
	for i, r := range h.Roles {
		c.want(r == inventory.RoleManager || r == inventory.RoleHost, fmt.Sprintf("%s.roles[%d]", at, i), r, "want manager or host")
	}
	labels := map[string]string{}
	for i, l := range h.Labels {
		key, value, found := strings.Cut(l, "=")
		_, twice := labels[key]
		c.want(found && key != "" && !twice, fmt.Sprintf("%s.labels[%d]", at, i), l, "want KEY=VALUE, each key once")
		labels[key] = value
	}
	c.want(h.MemoryMiB >= 0, at+".memoryMiB", h.MemoryMiB, "want 0 or more")
	c.want(h.CPUs >= 0, at+".cpus", h.CPUs, "want 0 or more")
	c.want(h.FreeBytes >= 0, at+".freeBytes", h.FreeBytes, "want 0 or more")
	c.want(h.LinkMiBps >= 0, at+".linkMiBps", h.LinkMiBps, "want 0 or more")
	for i, p := range h.Pools {
		c.want(p.Name != "", fmt.Sprintf("%s.pools[%d].name", at, i), p.Name, "want a name")
		c.want(p.Paths >= 0, fmt.Sprintf("%s.pools[%d].paths", at, i), p.Paths, "want 0 or more")
	}
	return inventory.Host{
		Name: h.Name, Roles: h.Roles, Labels: labels, Group: h.Group, MemoryMiB: h.MemoryMiB, CPUs: h.CPUs,
		CPUModel: h.CPUModel, Version: h.Version,
		Kernel: h.Kernel, NextKernel: h.NextKernel, Boot: h.Boot, Install: h.Install, Down: h.Down, Maintenance: h.Maintenance, Pools: h.Pools,
		FreeBytes: h.FreeBytes, Commands: h.Commands, SkewMillis: h.SkewMillis, LinkMiBps: h.LinkMiBps, Member: h.Member, Engines: h.Engines,
	}
}

// vmName wants to know each VM from the others: by its UUID, or by its name, and its host
// where that is given.
func (c *checker) vmName(at string, v *vm) {
	c.want(v.UUID == "" || !c.vms["uuid "+v.UUID], at+".uuid", v.UUID, "want a UUID that no other VM has")
	bare := v.UUID == "" && v.Host == ""
	there, name := "at "+string(v.Host)+"/"+v.Name, "name "+v.Name
	c.want(v.Name != "" && (v.Host == "" || !c.vms[there]), at+".name", v.Name, "want a name that no other VM of the host has")
	c.want(!c.vms["bare "+v.Name] && !(bare && c.vms[name]), at+".name", v.Name,
		"want a name that no other VM has, or tell them apart by uuid or host")
	for key, is := range map[string]bool{"uuid " + v.UUID: v.UUID != "", there: v.Host != "", name: true, "bare " + v.Name: bare} {
		c.vms[key] = c.vms[key] || is
	}
}

func (c *checker) vm(at string, v *vm) inventory.VM {
	c.vmName(at, v)
	c.want(c.knows(v.Host) || c.overlay && v.Host == "", at+".host", v.Host, "want the name of a host of this file")
	c.want(v.MemoryMiB >= 0, at+".memoryMiB", v.MemoryMiB, "want 0 or more")
	c.want(v.CPUs >= 0, at+".cpus", v.CPUs, "want 0 or more")
	c.want(v.Dirty >= 0, at+".dirty", v.Dirty, "want 0 or more")
	for i, a := range v.Addresses {
		ip, err := netip.ParseAddr(a)
		c.want(err == nil && ip.IsGlobalUnicast() && ip.Zone() == "", fmt.Sprintf("%s.addresses[%d]", at, i), a,
			"want an IP address at which other hosts reach it")
	}
	known := []inventory.Policy{"", inventory.PolicyAsk, inventory.PolicyStop, inventory.PolicyCold, inventory.PolicySkip}
	c.want(slices.Contains(known, v.Policy), at+".policy", v.Policy, "want ask, stop, cold or skip")
	return inventory.VM{
		Name: v.Name, UUID: v.UUID, Host: v.Host, MemoryMiB: v.MemoryMiB, CPUs: v.CPUs, Running: v.Running, Dirty: float64(v.Dirty),
		System: v.System, Fixed: v.Fixed, Busy: v.Busy, Protected: v.Protected, Halted: v.Halted, Addresses: v.Addresses, Policy: v.Policy,
	}
}
