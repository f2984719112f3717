package precheck

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"holdfast/internal/lib/text"
	"holdfast/internal/pair"
)

// gb is what sizes in GB are counted by. A partition of 30 GiB still has 31 of these when a file
// system has taken its part.
const gb = 1_000_000_000

// defaultPools are the storage pools that a new node has: those of the source, and libvirt's.
var defaultPools = []string{"isopool", "defaultpool", "default"}

// simpleName is a host name of letters, digits and hyphens.
var simpleName = text.Pattern(`^[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?$`)

// Input is all that is judged. Addresses are in their canonical form, so equal ones are equal
// texts.
type Input struct {
	VIP        string // its address
	Length     int    // of its prefix, bits
	Hosts, VMs int    // that the platform will have
	Database   int    // size of the database's partition in GB; 0: the least
	Nodes      [2]Node
	Arbiters   []Arbiter
	Disk       string    // of both nodes, for a DRBD device; "": the database is replicated by itself
	Partition  string    // a disk of both nodes, for a partition; "": none is asked for
	Second     []string  // addresses of the nodes on a second path, in their order; nil: there is none
	Asked      bool      // nodes were asked whether the platform manages hosts
	Install    []Finding // what the installation that a set-up makes finds on these hosts
}

// Node is a host as it was seen.
type Node struct {
	Addr    string
	Trouble *Trouble // nil: Facts are there
	Facts   Facts
	Reached []Reached
}

// Reached is what came of trying another host from this one.
type Reached struct {
	Addr    string
	Ports   map[int]string // that do not answer, with the reason
	Frames  string         // why full frames do not arrive
	Rate    int64          // bytes in a second; 0: not measured
	Unrated string         // why not
}

// Kinds of arbiters.
const (
	Quorum      = "quorum" // a third host
	Ping        = "ping"   // addresses that answer
	Fence       = "fence"  // management controllers of both nodes
	DiskArbiter = "disk"   // a device that both nodes have
)

// Arbiter is one of those that decide when the nodes do not see each other.
type Arbiter struct {
	Kind   string
	Addrs  []string // quorum: one; ping: two
	Device string   // disk
	Node   *Node    // quorum; nil: it was not asked, as it can not be one
	// NoBMC are the nodes, from 0, for which no management controller is named.
	NoBMC []int
}

// Judge says what is right and wrong, worst first.
func Judge(in Input) []Finding {
	j := &judgement{Input: in}
	j.addresses()
	j.connected()
	for _, n := range j.present() {
		j.each(n)
		if n.Addr != in.Nodes[0].Addr { // whoever asks is at work on its own
			j.begun(n)
		}
	}
	j.passed(checkSetup, "none was begun elsewhere")
	if a, b := in.Nodes[0], in.Nodes[1]; a.Trouble == nil && b.Trouble == nil && a.Facts.Cluster != "" && a.Facts.Cluster == b.Facts.Cluster {
		// What else there is to say is of nodes that are to be one: their own address would be somebody's.
		j.fail(checkClean, fmt.Sprintf("%s and %s belong to one cluster already: %s", a.who(), b.who(), a.Facts.Cluster),
			"if that is this pair: see holdfast pair status, and change it by holdfast config import; else take them out of it (holdfast uninstall)")
		return sorted(j.out)
	}
	j.distinct()
	for _, n := range in.Nodes {
		if n.Trouble == nil {
			j.clean(n)
			j.space(n)
		}
	}
	if in.Nodes[0].Trouble == nil && in.Nodes[1].Trouble == nil {
		j.alike()
		j.dataDisk()
		j.partitionDisk()
		j.network()
		j.secondPath()
		j.vip()
		j.arbiters()
	}
	j.installation()
	return sorted(j.out)
}

// installation adds what the installation finds, but for what was said in the same words.
func (j *judgement) installation() {
	for _, f := range j.Install {
		if !slices.ContainsFunc(j.out, func(o Finding) bool { return o.Result == f.Result && o.Finding == f.Finding }) {
			j.out = append(j.out, f)
		}
	}
}

type judgement struct {
	Input
	out []Finding
}

func (j *judgement) say(check, result, finding, remedy string) {
	j.out = append(j.out, Finding{check, result, finding, remedy})
}

func (j *judgement) fail(check, finding, remedy string) { j.say(check, Fail, finding, remedy) }

// passed says what is right, unless the check has said something else already.
func (j *judgement) passed(check, finding string) {
	if !slices.ContainsFunc(j.out, func(f Finding) bool { return f.Check == check && f.Result != Pass }) {
		j.say(check, Pass, finding, "")
	}
}

// known says why a fact of a node could not be read, unless it could.
func (j *judgement) known(n Node, check, name, remedy string) bool {
	why, unknown := n.Facts.Unknown[name]
	if unknown {
		j.fail(check, n.who()+": "+why, remedy)
	}
	return !unknown
}

// who is the node, for people.
func (n Node) who() string {
	if n.Facts.Name == "" {
		return n.Addr
	}
	return n.Facts.Name + " (" + n.Addr + ")"
}

// present are the hosts that answered: nodes, then arbiters.
func (j *judgement) present() (out []Node) {
	for _, n := range j.Nodes {
		if n.Trouble == nil {
			out = append(out, n)
		}
	}
	for _, a := range j.Arbiters {
		if a.Node != nil && a.Node.Trouble == nil {
			out = append(out, *a.Node)
		}
	}
	return out
}

// connected says which hosts could not be asked.
func (j *judgement) connected() {
	all := j.Nodes[:]
	for _, a := range j.Arbiters {
		if a.Node != nil {
			all = append(slices.Clone(all), *a.Node)
		}
	}
	for i, n := range all {
		check := "connect"
		if i >= len(j.Nodes) {
			check = "arbiter"
		}
		switch {
		case n.Trouble == nil:
		case n.Trouble.Busy:
			j.fail(checkBusy, n.Addr+": "+n.Trouble.Finding, n.Trouble.Remedy)
		default:
			j.fail(check, n.Addr+": "+n.Trouble.Finding, n.Trouble.Remedy)
		}
	}
	j.passed("connect", "both nodes answer")
	j.passed(checkBusy, "no installation and no set-up is at work")
}

// each judges a host by itself.
func (j *judgement) each(n Node) {
	f := n.Facts
	if simpleName().MatchString(f.Name) {
		j.say("host name", Pass, n.who(), "")
	} else {
		j.fail("host name", fmt.Sprintf("%s is called %q: want letters, digits and hyphens only", n.Addr, f.Name),
			"give it a simple name (hostnamectl set-hostname NAME) before the pair is set up; it can not be changed afterwards")
	}
}

// distinct: no two hosts are one, or have one name.
func (j *judgement) distinct() {
	all := j.present()
	for i, n := range all {
		for _, o := range all[:i] {
			if strings.EqualFold(n.Facts.Name, o.Facts.Name) {
				j.fail("host name", fmt.Sprintf("%s and %s are both called %q", o.Addr, n.Addr, n.Facts.Name),
					"give one of them another name (hostnamectl set-hostname NAME)")
			}
			if n.Facts.Machine != "" && n.Facts.Machine == o.Facts.Machine {
				j.fail("machines", n.who()+" and "+o.who()+" are one and the same machine",
					"name the address of another machine; copies of a virtual machine need ids of their own "+
						"(/etc/machine-id, and the UUID of its definition)")
			}
		}
	}
	if len(all) > 1 {
		j.passed("machines", fmt.Sprintf("%d different ones", len(all)))
	}
}

// differ says that the nodes have different values.
func (j *judgement) differ(check, what, x, y, remedy string) {
	if x == y {
		return
	}
	j.fail(check, fmt.Sprintf("%s: %s has %s, %s has %s", what, j.Nodes[0].who(), cmp.Or(x, "none"), j.Nodes[1].who(),
		cmp.Or(y, "none")), remedy)
}

// alike: what must be the same on both nodes.
func (j *judgement) alike() {
	x, y := j.Nodes[0].Facts, j.Nodes[1].Facts
	const install = "install the same versions of the same components on both nodes"
	said := []string{}
	for _, name := range slices.Sorted(maps.Keys(both(x.Components, y.Components))) {
		j.differ("software", name, x.Components[name], y.Components[name], install)
		said = append(said, name+" "+x.Components[name])
	}
	for _, n := range j.Nodes {
		j.known(n, "software", "components", "mend that, and check again")
		if why, unknown := n.Facts.Host.Unknown["version"]; unknown {
			j.fail("software", n.who()+": "+why, "correct --version-file")
		}
	}
	j.differ("software", "the platform's version", x.Host.Version, y.Host.Version, install)
	if x.Host.Version != "" {
		said = append(said, x.Host.Version)
	}
	j.passed("software", "the same on both nodes: "+list(said))
	j.differ("system", "system", system(x), system(y), "install the same system on both nodes")
	j.passed("system", "the same on both nodes: "+system(x))
	j.differ("boot mode", "boot mode", mode(x), mode(y), "install both nodes in the same mode: UEFI, or BIOS (legacy)")
	j.passed("boot mode", mode(x)+" on both nodes")
	known := true
	for _, n := range j.Nodes {
		known = j.known(n, "disks", "disks", "install lsblk (package util-linux), and check again") && known
	}
	if known {
		j.disks(x.Disks, y.Disks)
		j.volumes(x.Volumes, y.Volumes)
	}
}

func both(x, y map[string]string) map[string]string {
	out := maps.Clone(x)
	if out == nil {
		out = map[string]string{}
	}
	maps.Copy(out, y)
	return out
}

func system(f Facts) string { return strings.TrimSpace(f.Host.OS.ID + " " + f.Host.OS.Version) }

func mode(f Facts) string {
	if f.UEFI {
		return "UEFI"
	}
	return "BIOS"
}

// list joins what a sentence names.
func list(s []string) string {
	if len(s) == 0 {
		return "none"
	}
	return strings.Join(s, ", ")
}

// disks compares disks and their partitions by name and number.
func (j *judgement) disks(x, y []Disk) {
	const remedy = "give both nodes the same disks, with the same names (lsblk shows them)"
	const again = "install both nodes with the same partitions: numbers, sizes and mount points (lsblk shows them)"
	for _, name := range names(x, y) {
		a, b := find(x, name), find(y, name)
		switch {
		case a == nil || b == nil:
			j.differ("disks", "disk "+name, sized(a), sized(b), remedy)
			continue
		case a.Size != b.Size:
			j.differ("disks", "disk "+name, sized(a), sized(b), remedy)
		}
		numbers := map[int]bool{}
		for _, p := range slices.Concat(a.Parts, b.Parts) {
			numbers[p.Number] = true
		}
		j.differ("partitions", "disk "+name+" as a whole", mounts(a.Mounts), mounts(b.Mounts), again)
		for _, n := range slices.Sorted(maps.Keys(numbers)) {
			j.differ("partitions", fmt.Sprintf("partition %d of %s", n, name), part(a, n), part(b, n), again)
		}
	}
	said, system := []string{}, ""
	for _, d := range x {
		said = append(said, d.Name+" "+size(d.Size))
		if d.System {
			system = d.Name
		}
	}
	j.passed("disks", "the same on both nodes: "+list(said))
	j.passed("partitions", "the same on both nodes")
	switch {
	case system == "":
		j.say("system disk", Pass, "no single disk of its own has the system", "")
	case strings.HasPrefix(system, "sd"):
		j.say("system disk", Pass, system, "")
	default:
		j.say("system disk", Pass, system+": every name of a disk works here; the source's own tool takes sdX only", "")
	}
}

func names(x, y []Disk) []string {
	var out []string
	for _, d := range slices.Concat(x, y) {
		out = append(out, d.Name)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

func find(all []Disk, name string) *Disk {
	if i := slices.IndexFunc(all, func(d Disk) bool { return d.Name == name }); i >= 0 {
		return &all[i]
	}
	return nil
}

func sized(d *Disk) string {
	if d == nil {
		return ""
	}
	return size(d.Size)
}

// size in GB where that is exact to three digits, with the bytes: two that look the same must
// not be told to differ.
func size(n int64) string { return fmt.Sprintf("%.1f GB (%d bytes)", float64(n)/gb, n) }

func part(d *Disk, number int) string {
	i := slices.IndexFunc(d.Parts, func(p Part) bool { return p.Number == number })
	if i < 0 {
		return ""
	}
	p := d.Parts[i]
	if len(p.Mounts) == 0 {
		return size(p.Size)
	}
	return size(p.Size) + " at " + mounts(p.Mounts)
}

func mounts(m []string) string { return strings.Join(m, " ") }

// volumes compares what is mounted on top of partitions, by its mount points: names of logical
// volumes may have the host's name in them.
func (j *judgement) volumes(x, y []Volume) {
	at := map[string][2]string{}
	for i, all := range [][]Volume{x, y} {
		for _, v := range all {
			both := at[mounts(v.Mounts)]
			both[i] = v.Kind + " " + size(v.Size)
			at[mounts(v.Mounts)] = both
		}
	}
	for _, m := range slices.Sorted(maps.Keys(at)) {
		j.differ("volumes", "volume at "+m, at[m][0], at[m][1],
			"install both nodes with the same volumes: sizes and mount points (lsblk shows them)")
	}
	if len(at) > 0 {
		j.passed("volumes", "the same on both nodes: "+strings.Join(slices.Sorted(maps.Keys(at)), ", "))
	}
}

// begun: nobody makes another host of this pair a part of a pair of its own.
func (j *judgement) begun(n Node) {
	if j.known(n, checkSetup, "begun", "see that /etc/holdfast can be read there") && n.Facts.Begun != "" {
		j.fail(checkSetup, n.who()+": "+n.Facts.Begun+" there",
			"wait for its end, or go on with it there; what was given up is taken back there by holdfast uninstall, "+
				"and by removing /etc/holdfast/pair-setup.json")
	}
}

// clean: a node has nothing that a pair would lose or stand beside.
func (j *judgement) clean(n Node) {
	f := n.Facts
	const check = checkClean
	if f.Cluster != "" {
		j.fail(check, n.who()+" belongs to the cluster "+f.Cluster, "take it out of that cluster (holdfast uninstall)")
	}
	j.known(n, check, "guests", "see that /proc is mounted there, and check again")
	if len(f.Guests) > 0 {
		j.fail(check, n.who()+": guests run: "+list(f.Guests),
			"move them to another host, or shut them down; a pair is set up on new nodes only, whose data are not kept")
	}
	if why, unknown := f.Unknown["pools"]; unknown {
		j.say(check, Warn, n.who()+": the storage pools are not known: "+why, "see that libvirtd answers, and check again")
	}
	var more []string
	for _, p := range f.Pools {
		if !slices.Contains(defaultPools, p) {
			more = append(more, p)
		}
	}
	if len(more) > 0 {
		j.fail(check, n.who()+": storage pools beside the default ones: "+list(more),
			"remove them (virsh pool-destroy NAME, virsh pool-undefine NAME): only "+list(defaultPools)+" may be there")
	}
	j.managed(n, check)
	j.passed(check, n.who()+": no cluster, no guests, no storage pools beside the default ones")
}

// managed: the platform must not manage hosts yet, by its own word.
func (j *judgement) managed(n Node, check string) {
	why, unknown := n.Facts.Host.Unknown["status"]
	p := n.Facts.Host.Status
	switch {
	case !j.Asked:
		j.say("managed hosts", Warn, n.who()+" was not asked whether the platform manages hosts already",
			"the set-up deletes the data of a platform that does: look into it, or name a program that knows with --unmanaged-probe")
	case unknown || p == nil:
		j.fail("managed hosts", n.who()+": "+cmp.Or(why, "it says nothing"), "correct --unmanaged-probe")
	case p.Exit != 0:
		j.fail("managed hosts", fmt.Sprintf("%s: the platform manages hosts already, by exit code %d: %s", n.who(),
			p.Exit, p.Text), "take the hosts out of the platform, or install it anew: its data are not kept")
	default:
		j.say("managed hosts", Pass, n.who()+": the platform manages none", "")
	}
}

// database is the size of its partition in GB, and the least one.
func (j *judgement) database() (want int, least pair.Size) {
	least = pair.SizeFor(j.Hosts, j.VMs)
	return cmp.Or(j.Database, least.Database), least
}

// space judges where the database's partition will lie.
func (j *judgement) space(n Node) {
	want, least := j.database()
	if want < least.Database {
		if n.Addr == j.Nodes[0].Addr {
			j.fail("database", fmt.Sprintf("%d GB: %d hosts and %d VMs need %d", want, j.Hosts, j.VMs, least.Database),
				fmt.Sprintf("give --db-size %d or more, or leave it out", least.Database))
		}
	} else if n.Addr == j.Nodes[0].Addr {
		j.passed("database", fmt.Sprintf("%d GB for %d hosts and %d VMs, which need %d", want, j.Hosts, j.VMs, least.Database))
	}
	if !j.known(n, "space", "space", "mend that, and check again") {
		return
	}
	if j.Disk != "" {
		want = 0 // it is not in /vms
	}
	s, need := n.Facts.Space, max(least.VMs, want)
	remedy := fmt.Sprintf("give /vms a partition of %d GB or more when the node is installed", need)
	switch {
	case s == nil:
		j.fail("space", n.who()+": /vms is no mount point", remedy)
	case s.Size < int64(need)*gb:
		j.fail("space", fmt.Sprintf("%s: /vms has %d GB: want at least %d", n.who(), s.Size/gb, need), remedy)
	case want > 0 && s.Free < int64(want)*gb:
		j.fail("space", fmt.Sprintf("%s: %d GB of /vms are free, and the database's partition has %d", n.who(),
			s.Free/gb, want), "make room in /vms")
	default:
		j.say("space", Pass, fmt.Sprintf("%s: %d of %d GB of /vms are free", n.who(), s.Free/gb, s.Size/gb), "")
	}
}
