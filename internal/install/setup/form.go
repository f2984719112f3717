package setup

import (
	"net/netip"
	"path/filepath"
	"strings"

	"holdfast/internal/config"
	"holdfast/internal/install"
	"holdfast/internal/install/survey"
	"holdfast/internal/lib/fail"
	"holdfast/internal/lib/strictyaml"
	"holdfast/internal/lib/text"
	"holdfast/internal/pair"
	"holdfast/internal/pair/precheck"
)

// Form is what is said of a pair that shall be. What is "" or 0 was not said.
type Form struct {
	VIP         string   // ADDRESS/LENGTH, and " dev INTERFACE" where several fit
	Peer        string   // address of the other node
	Arbiters    []string // one of quorum:IP, ping:IP,IP, fence, disk:/dev/DEVICE
	Device      string   // empty disk of both nodes for a DRBD device
	Second      string   // IP,IP in a second network: of this node, and of the other one
	Partition   string   // empty disk of both nodes for a partition; checked only
	Hosts, VMs  int      // that the platform will have
	Database    int      // GB of the database's partition; 0: the least
	VersionFile string
	Unmanaged   string         // program that exits 0 when the platform manages no hosts yet
	Fencing     config.Fencing // the nodes' fence devices
	Fenced      bool           // Fencing was given
	Services    []string       // units of systemd that the pair runs, in place of Group
	Group       Group
	Grouped     bool        // Group was given
	Base        config.Node // settings of all agents
	NoFirewall  bool        // the hosts' firewalls are left alone
}

// Group is what a file of --group has of a configuration: of Pair, and of the whole.
type Group struct {
	Device      *config.PairDevice   `json:"Device"`
	Database    *config.PairDatabase `json:"Database"`
	Group       []config.PairMember  `json:"Group"`
	SplitBrain  string               `json:"SplitBrain"`
	Patience    config.Duration      `json:"Patience"`
	HangTimeout config.Duration      `json:"HangTimeout"`
	Timings     config.Timings       `json:"Timings"`
}

// Service is the one of the group that is built in.
const Service = "tomcat.service"

// ReadGroup reads a file of --group.
func ReadGroup(file string, content []byte) (g Group, err error) { return g, read(file, content, &g) }

// ReadFencing reads a file of --fencing.
func ReadFencing(file string, content []byte) (f config.Fencing, err error) {
	return f, read(file, content, &f)
}

func read(file string, content []byte, to any) error {
	if d := strictyaml.Decode(content, to); len(d.Faults) > 0 {
		return fail.Errorf(fail.Invalid, "%s", text.Clean(d.Faults[0].In(file)))
	}
	return nil
}

// group is the one that was given, or what stands in for it.
func (f *Form) group() (g Group, err error) {
	switch {
	case f.Grouped && len(f.Services) > 0:
		return g, fail.Errorf(fail.Invalid, "--service: value %q: want none with --group", text.Clean(f.Services[0]))
	case f.Grouped:
		return f.Group, nil
	case len(f.Services) == 0:
		g.Group = []config.PairMember{{Unit: Service}}
	}
	for _, u := range f.Services {
		g.Group = append(g.Group, config.PairMember{Unit: u})
	}
	return g, nil
}

// Options are what the checks go by, but for how hosts are reached, and what is planned (Plan).
func (f *Form) Options() (o survey.Options, err error) {
	o = survey.Options{Hosts: f.Hosts, VMs: f.VMs, Database: f.Database, VersionFile: f.VersionFile,
		Unmanaged: f.Unmanaged, Disk: f.Device, Partition: f.Partition, Fencing: f.Fencing}
	if f.Device != "" && !strings.HasPrefix(f.Device, "/dev/") {
		return o, fail.Errorf(fail.Invalid, "--device: value %q: want the path of a disk, /dev/DISK", text.Clean(f.Device))
	}
	if f.Partition != "" && (!strings.HasPrefix(f.Partition, "/dev/") || f.Partition == f.Device) {
		return o, fail.Errorf(fail.Invalid, "--partition: value %q: want the path of a disk, /dev/DISK, another one "+
			"than of --device", text.Clean(f.Partition))
	}
	if f.Database != 0 {
		if err := DatabaseSize(f.Database); err != nil {
			return o, err
		}
	}
	for _, x := range []struct{ name, path string }{{"version-file", f.VersionFile}, {"unmanaged-probe", f.Unmanaged}} {
		if x.path != "" && !filepath.IsAbs(x.path) {
			return o, fail.Errorf(fail.Invalid, "--%s: value %q: want an absolute path", x.name, text.Clean(x.path))
		}
	}
	if o.VIP, o.Dev, err = VirtualAddress(f.VIP); err != nil {
		return o, err
	}
	if o.Peer, err = HostAddress("--peer", f.Peer); err != nil {
		return o, err
	}
	for _, said := range f.Arbiters {
		a, err := Arbiter(said)
		if err != nil {
			return o, err
		}
		o.Arbiters = append(o.Arbiters, a)
		if a.Kind == precheck.DiskArbiter && a.Device == f.Device {
			return o, fail.Errorf(fail.Invalid, "--device: value %q: want another disk than the arbiter's",
				text.Clean(f.Device))
		}
		if a.Kind == precheck.Fence && !f.Fenced {
			return o, fail.Errorf(fail.Invalid, "--fencing is missing: --arbiter fence needs the nodes' fence devices")
		}
	}
	if f.Second != "" {
		if o.Second, err = SecondPath(f.Second); err != nil {
			return o, err
		}
	}
	return o, OneArbiter(o.Arbiters...)
}

// OneArbiter checks that there is one arbiter.
func OneArbiter(all ...precheck.Arbiter) error {
	if len(all) != 1 {
		return fail.Errorf(fail.Invalid, "a pair has one arbiter: a third host, the nodes' fence devices, a disk "+
			"that both can write, or addresses to ping").
			With("want --arbiter quorum:IP, --arbiter fence with --fencing, --arbiter disk:/dev/DEVICE, or --arbiter " +
				"ping:IP,IP; fence devices go into --fencing with the others, too")
	}
	return nil
}

// SecondPath reads a value of --second-path.
func SecondPath(said string) (out []netip.Addr, err error) {
	for one := range strings.SplitSeq(said, ",") {
		a, err := HostAddress("--second-path", strings.TrimSpace(one))
		if err != nil || a.IsLoopback() || a.IsLinkLocalUnicast() {
			out = nil
			break
		}
		out = append(out, a)
	}
	if len(out) != 2 || out[0].Is4() != out[1].Is4() {
		return nil, fail.Errorf(fail.Invalid, "--second-path: value %q: want two addresses of a second network, this "+
			"node's and then the other one's, both IPv4 or both IPv6, for example 10.0.1.1,10.0.1.2", text.Clean(said))
	}
	return out, nil
}

// mostDatabase is the largest size of the database's partition, in GB.
const mostDatabase = 1_000_000

// Counts checks the numbers that a pair's size is reckoned from.
func Counts(hosts, vms int) error {
	if err := count("hosts", hosts, 1, pair.MostHosts); err != nil {
		return err
	}
	return count("vms", vms, 0, pair.MostVMs)
}

// count checks a number that a flag gives.
func count(name string, n, at, to int) error {
	if n < at || n > to {
		return fail.Errorf(fail.Invalid, "--%s: value %d: want a number from %d to %d", name, n, at, to)
	}
	return nil
}

// DatabaseSize checks --db-size.
func DatabaseSize(gb int) error {
	if gb < 1 || gb > mostDatabase {
		return fail.Errorf(fail.Invalid, "--db-size: value %d: want a number of GB from 1 to %d", gb, mostDatabase)
	}
	return nil
}

// VirtualAddress reads ADDRESS/LENGTH, with "dev INTERFACE" behind it or not. What can be an
// address of one machine the nodes say.
func VirtualAddress(said string) (p netip.Prefix, dev string, err error) {
	f := strings.Fields(said)
	if len(f) == 3 && f[1] == "dev" {
		f, dev = f[:1], f[2]
	}
	if len(f) == 1 {
		if p, err = netip.ParsePrefix(f[0]); err == nil && !p.Addr().Is4In6() {
			return p, dev, nil
		}
	}
	return p, dev, fail.Errorf(fail.Invalid, "--vip: value %q: want ADDRESS/LENGTH, for example 172.16.60.55/16, "+
		"with or without \" dev INTERFACE\"", text.Clean(said))
}

// HostAddress reads the address of a host. Name is how what gives it is called.
func HostAddress(name, said string) (netip.Addr, error) {
	addr, err := netip.ParseAddr(said)
	if err != nil || addr.Zone() != "" || addr.IsUnspecified() || addr.IsMulticast() {
		return addr, fail.Errorf(fail.Invalid, "%s: value %q: want an IP address", name, text.Clean(said))
	}
	return addr.Unmap(), nil
}

// Arbiter reads a value of --arbiter.
func Arbiter(said string) (a precheck.Arbiter, err error) {
	kind, rest, _ := strings.Cut(said, ":")
	a.Kind = kind
	wrong := fail.Errorf(fail.Invalid, "--arbiter: value %q: want quorum:IP, ping:IP,IP, fence or disk:/dev/DEVICE",
		text.Clean(said))
	switch kind {
	case precheck.Quorum, precheck.Ping:
		for one := range strings.SplitSeq(rest, ",") {
			addr, err := HostAddress("--arbiter", strings.TrimSpace(one))
			if err != nil {
				return a, wrong
			}
			a.Addrs = append(a.Addrs, addr.String())
		}
		if want := map[string]int{precheck.Quorum: 1, precheck.Ping: 2}; len(a.Addrs) != want[kind] {
			return a, wrong
		}
	case precheck.Fence:
		if said != kind {
			return a, wrong
		}
	case precheck.DiskArbiter:
		if a.Device = rest; !strings.HasPrefix(rest, "/dev/") {
			return a, wrong
		}
	default:
		return a, wrong
	}
	return a, nil
}

// Others are the hosts that are reached for it: the other node, and the one that votes only, if the arbiter is one.
func Others(o survey.Options) []install.Host {
	hosts := []install.Host{{Name: o.Peer.String(), Addr: o.Peer.String()}}
	for _, a := range o.Arbiters {
		if a.Kind == precheck.Quorum {
			hosts = append(hosts, install.Host{Name: a.Addrs[0], Addr: a.Addrs[0]})
		}
	}
	return hosts
}
