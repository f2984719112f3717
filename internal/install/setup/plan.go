package setup

import (
	"cmp"
	"encoding/json"
	"fmt"

	"holdfast/internal/cluster"
	"holdfast/internal/config"
	"holdfast/internal/install"
	"holdfast/internal/install/survey"
	"holdfast/internal/lib/fail"
	"holdfast/internal/lib/text"
	"holdfast/internal/pair"
	"holdfast/internal/pair/precheck"
)

// What a set-up writes on the node on which it runs, which the pair begins with.
const (
	adminFile       = install.ConfDir + "/database-admin" // passwords; the other node gets the same
	replicationFile = install.ConfDir + "/database-replication"
	DeviceFile      = install.ConfDir + "/device-secret"
)

// Mount is where the file system of --device is mounted.
const Mount = "/srv/pair"

// Plan has the checks find what the installation of a set-up would, and gives all values that the set-up goes by.
// Parallel is how many hosts are asked at a time.
func (f *Form) Plan(o *survey.Options, parallel int) (v Values, err error) {
	g, err := f.group()
	if err != nil {
		return v, err
	}
	o.Plan = func(seen precheck.Input) (install.Options, error) {
		cl, err := f.cluster(seen, g)
		return install.Options{Config: cl, ConfigText: cl.JSON(), Base: f.Base, Domain: cluster.GuestName,
			NoFirewall: f.NoFirewall, Parallel: parallel, Planned: true}, err
	}
	v = Values{
		VIP: f.VIP, Peer: f.Peer, Arbiters: f.Arbiters, Device: f.Device, Second: f.Second, Hosts: f.Hosts, VMs: f.VMs,
		Database: cmp.Or(f.Database, pair.SizeFor(f.Hosts, f.VMs).Database), VersionFile: f.VersionFile,
		Unmanaged: f.Unmanaged, NoFirewall: f.NoFirewall,
	}
	for _, x := range []struct {
		to *string
		of any
	}{{&v.Group, g}, {&v.Fencing, f.Fencing}, {&v.Settings, f.Base}} {
		raw, err := json.Marshal(x.of)
		if err != nil {
			return v, err
		}
		*x.to = string(raw)
	}
	return v, nil
}

// Cluster is the configuration of the pair, by the names that the hosts have.
func (f *Form) Cluster(in precheck.Input) (cl config.Cluster, err error) {
	g, err := f.group()
	if err != nil {
		return cl, err
	}
	return f.cluster(in, g)
}

func (f *Form) cluster(in precheck.Input, g Group) (cl config.Cluster, err error) {
	hosts := []precheck.Node{in.Nodes[0], in.Nodes[1]}
	for _, x := range in.Arbiters {
		if x.Node != nil {
			hosts = append(hosts, *x.Node)
		}
	}
	p := config.Pair{Device: g.Device, Database: &config.PairDatabase{}, Group: g.Group, SplitBrain: g.SplitBrain,
		Patience: g.Patience, HangTimeout: g.HangTimeout}
	if g.Database != nil {
		*p.Database = *g.Database
	}
	if err := f.onDevice(&p); err != nil {
		return cl, err
	}
	for _, x := range []struct {
		account    *config.PairAccount
		user, file string
	}{{&p.Database.Admin, "holdfast", adminFile}, {&p.Database.Replication, "holdfast-replication", replicationFile}} {
		if p.Device == nil && *x.account == (config.PairAccount{}) {
			*x.account = config.PairAccount{User: x.user, Credential: "file:" + x.file}
		}
	}
	switch x := in.Arbiters[0]; x.Kind {
	case precheck.Fence:
		p.Arbiter = &config.PairArbiter{Fence: true}
	case precheck.DiskArbiter:
		p.Arbiter = &config.PairArbiter{Disk: x.Device}
	case precheck.Ping:
		p.Arbiter = &config.PairArbiter{Ping: x.Addrs}
	}
	p.Nodes, p.SecondPath = []string{hosts[0].Facts.Name, hosts[1].Facts.Name}, in.Second
	p.Group = append(p.Group[:len(p.Group):len(p.Group)], config.PairMember{Name: "webip", VIP: f.VIP})
	cl = config.Cluster{Type: config.PairConf, Pair: &p, TimingConf: g.Timings, Fencing: f.Fencing}
	for _, h := range hosts {
		cl.Node = append(cl.Node, h.Addr+" "+h.Facts.Name)
	}
	if _, faults, _ := config.Parse("the set-up's configuration", cl.JSON(), config.Options{}); len(faults) > 0 {
		return cl, fail.Errorf(fail.Invalid, "%w", config.Faults(faults))
	}
	return cl, nil
}

// onDevice fills in what --device says of the pair.
func (f *Form) onDevice(p *config.Pair) error {
	switch {
	case f.Device == "" && p.Device == nil:
		return nil
	case f.Device == "":
		return fail.Errorf(fail.Invalid, "--device is missing: the file of --group has Device")
	case p.Device == nil:
		p.Device = &config.PairDevice{}
	case p.Device.Disk != "" && p.Device.Disk != f.Device:
		return fail.Errorf(fail.Invalid, "--device: value %q: want %q, as the file of --group has it, or take "+
			"Disk out there", text.Clean(f.Device), text.Clean(p.Device.Disk))
	}
	d := *p.Device
	d.Disk, d.Mount, d.Credential = f.Device, cmp.Or(d.Mount, Mount), cmp.Or(d.Credential, "file:"+DeviceFile)
	p.Device = &d
	return nil
}

// Word is what has to be typed before anything is changed, as in the source tool.
const Word = "CONFIRM"

// Consequences say what a set-up does to the data of both nodes, one sentence each.
func Consequences(cl config.Cluster) (out []string) {
	p := cl.Pair.Full()
	if d := p.Device; d != nil {
		out = []string{fmt.Sprintf("The pair begins with an empty database, on DRBD on %s of both nodes, mounted at %s.",
			text.Clean(d.Disk), text.Clean(d.Mount)),
			"What a database of theirs has had is not in it, and stays where it is."}
	} else {
		out = []string{fmt.Sprintf("The pair begins with the data of this node, %s: %s", text.Clean(p.Nodes[0]), text.Clean(p.Database.Datadir)),
			fmt.Sprintf("The data of %s are moved aside there, and replaced by a copy: %s", text.Clean(p.Nodes[1]), text.Clean(p.Database.Datadir))}
	}
	if p.Arbiter != nil && p.Arbiter.Ping != nil {
		out = append(out, "Best effort: by pings alone a node can not tell a dead peer from a cut cable between two nodes that live.",
			"Then both may serve. When they meet, one keeps its data; what the other one has written meanwhile is saved there, and given up.")
	}
	return out
}
