package install

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"holdfast/internal/config"
)

// What a host needs, and what makes a finding.
const (
	minSpace    = 2 << 10 // MiB for the store, its backups and logs
	reserveMiB  = 1 << 10 // that a host needs for itself beside the management VM
	maxSkew     = time.Second
	sharedKinds = "nfs nfs4 ceph fuse.ceph ocfs2 gfs2 glusterfs fuse.glusterfs lustre beegfs cifs smb3 gpfs 9p " +
		"virtiofs fuse.seaweedfs fuse.juicefs"
)

// sight is what an installation saw of one host.
type sight struct {
	host    Host
	facts   Facts
	skew    time.Duration // of its clock against the installer's
	reached []Reached
	nonce   error     // nil: it sees the shared directory as the others do
	alone   bool      // no other host was asked
	opens   *Openings // what its firewall is made to let in; nil: it is left alone
}

// judge says of every host what is right and wrong. It is pure.
func judge(cfg config.Cluster, base config.Node, all []sight, before *config.Cluster, adopt *Adoption) []Finding {
	j := &judgement{cfg: cfg, base: base, before: before, adopt: adopt,
		ours: slices.ContainsFunc(all, func(s sight) bool { return s.facts.Installed != nil })}
	// What counts is how far the hosts are apart from each other.
	var skews []time.Duration
	for _, s := range all {
		skews = append(skews, s.skew)
	}
	slices.Sort(skews)
	for _, s := range all {
		if s.opens != nil && s.facts.Firewall != nil && len(s.facts.Firewall.Kinds) > 0 {
			j.opens = append(j.opens, s.host.Name)
		}
	}
	for _, s := range all {
		s.skew -= skews[len(skews)/2]
		j.at = s.host.Name
		j.system(s)
		j.hypervisor(s)
		j.network(s)
		j.storage(s)
		j.pair(s, pairNeeds(all))
		j.installed(s)
	}
	j.together(all)
	return j.out
}

type judgement struct {
	ours bool // a host is installed: the guest may be the cluster's
	cfg  config.Cluster
	base config.Node
	// before is the configuration in force; nil: none is, or it is not known.
	before *config.Cluster
	opens  []string  // hosts whose firewall is opened
	adopt  *Adoption // nil: no guest of somebody else is taken over
	at     string
	out    []Finding
}

func (j *judgement) say(check, result, finding, remedy string) {
	j.out = append(j.out, Finding{j.at, check, result, finding, remedy})
}

// want says Pass, or bad with what was found.
func (j *judgement) want(check string, right bool, bad, found, wrong, remedy string) {
	if right {
		j.say(check, Pass, found, "")
		return
	}
	j.say(check, bad, wrong, remedy)
}

// known says why a fact could not be read, unless it could.
func (j *judgement) known(s sight, check, fact, bad, remedy string) bool {
	why, unknown := s.facts.Unknown[fact]
	if unknown {
		j.say(check, bad, why, remedy)
	}
	return !unknown
}

func (j *judgement) system(s sight) {
	f := s.facts
	rights := "log in as root, or as a user that sudo lets be root without a password"
	if s.alone {
		rights = "sudo holdfast doctor"
	}
	j.want("rights", f.Root, Fail, "root", "the program there does not run as root", rights)
	j.want("systemd", f.Systemd, Fail, "systemctl answers", "systemctl is not there",
		"the agent is kept running by systemd: install on a system that has it")
	machine := !s.host.Guests && !isPair(j.cfg) // it may run the management VM
	if j.known(s, "memory", "memory", Warn, "free -m") && machine {
		need := int64(j.cfg.MemorySizeInGB)<<10 + reserveMiB
		if j.cfg.MemorySizeInMB > 0 {
			need = int64(j.cfg.MemorySizeInMB) + reserveMiB
		}
		j.want("memory", f.Memory >= need, Fail, fmt.Sprintf("%d MiB", f.Memory),
			fmt.Sprintf("%d MiB: the management VM and this host need %d", f.Memory, need), "add memory, or lower MemorySizeInGB")
	}
	j.want("cpus", f.CPUs >= j.cfg.CPU || !machine, Warn, fmt.Sprintf("%d", f.CPUs),
		fmt.Sprintf("%d, and the management VM has %d", f.CPUs, j.cfg.CPU), "the VM will be slow: lower CPU")
	for _, dir := range slices.Sorted(maps.Keys(f.Space)) {
		j.want("space", f.Space[dir] >= minSpace, Fail, fmt.Sprintf("%d MiB free for %s", f.Space[dir], dir),
			fmt.Sprintf("%d MiB free for %s: want %d", f.Space[dir], dir, minSpace), "make room there: du -xh --max-depth=2 "+dir+" | sort -h")
	}
	j.known(s, "space", "space", Fail, "df -h")
	if !s.alone {
		j.clock(s)
	}
	j.want("time server", f.Clock.Synced, Warn, "the clock follows a time server ("+f.Clock.By+")",
		"the clock follows no time server", "certificates and logs need the time, from the same servers on all "+
			"hosts: apt install chrony, or dnf install chrony; then chronyc tracking")
	if slices.Contains(j.cfg.ChronyServers, s.host.Addr) || slices.Contains(j.cfg.ChronyServers, s.host.Name) {
		self := slices.ContainsFunc(f.Clock.Servers, func(n string) bool { return n == s.host.Addr || n == s.host.Name || n == "127.0.0.1" })
		j.want("time source", !self, Fail, "it does not follow itself", "it is one of ChronyServers and follows itself",
			"give it another source in chrony.conf")
	}
	if j.holds(s.host) {
		j.watchdog(s)
	}
}

// clock compares the host's with the others'.
func (j *judgement) clock(s sight) {
	j.want("clock", s.skew.Abs() <= maxSkew, Fail, fmt.Sprintf("%s apart from the others'",
		s.skew.Round(time.Millisecond)), fmt.Sprintf("%s apart from the others': want at most %s",
		s.skew.Round(time.Millisecond), maxSkew), "set it (chronyc makestep, or date -s 'YYYY-MM-DD HH:MM:SS'), and "+
		"write it into the hardware's clock, too, or it is gone after a reboot: hwclock -w")
}

// watchdog: without one there is no takeover after a silent loss.
func (j *judgement) watchdog(s sight) {
	f := s.facts
	dev := cmp.Or(j.cfg.Fencing.Hosts[s.host.Name].Watchdog, j.base.Watchdog.Device, "/dev/watchdog0")
	const remedy = "load the driver of the hardware's watchdog, else softdog (modprobe softdog, and a line in /etc/modules-load.d)"
	switch {
	case dev == config.NoWatchdog:
		j.say("watchdog", Warn, "none is configured: after a silent loss of this host nothing is started elsewhere "+
			"without a fence device", "name a fence device in Fencing (man 5 holdfast): holdfast config export, config import")
	case strings.HasPrefix(dev, "unix:") || slices.Contains(f.Watchdogs, dev):
		j.say("watchdog", Pass, dev, "")
	case f.Softdog:
		j.say("watchdog", Warn, dev+" is not there: after a silent loss of this host nothing is started elsewhere without a fence device", remedy)
	default:
		j.say("watchdog", Warn, dev+" is not there, nor the module softdog",
			"see which watchdog the hardware has (wdctl), or name a fence device in Fencing (man 5 holdfast)")
	}
}

func (j *judgement) hypervisor(s sight) {
	f := s.facts
	if isPair(j.cfg) || j.base.Driver == "process" { // no libvirt is asked
		return
	}
	if !j.known(s, "libvirt", "libvirt", Fail, "install libvirt and QEMU (apt install libvirt-daemon-system "+
		"qemu-system, or dnf install libvirt qemu-kvm), and start libvirtd (systemctl enable --now libvirtd)") {
		return
	}
	j.say("libvirt", Pass, "libvirt "+f.Libvirt+", QEMU "+f.QEMU, "")
	j.want("kvm", f.KVM, Warn, "/dev/kvm is there", "/dev/kvm is not there: guests are emulated, which is slow",
		"switch on the CPU's virtualization in the firmware, and load it: modprobe kvm_intel, or modprobe kvm_amd")
	if f.Domain != "" && f.Installed == nil && f.Domain != "off" {
		j.say("guest", Fail, "a guest with the management VM's name is "+
			f.Domain+" here, which no cluster of ours has started",
			"shut it down first (virsh list, virsh shutdown NAME): a second one would write to the same disk")
	}
}

func (j *judgement) network(s sight) {
	f := s.facts
	if j.known(s, "address", "link", Fail, "ip -br address") {
		j.want("address", f.Link != nil, Fail, s.host.Addr, "no interface of this host has "+s.host.Addr,
			"correct Node, or give the host that address (ip -br address)")
	}
	if f.Link != nil {
		j.bond("bond", f.Link.Bond)
	}
	if !s.host.Guests {
		for _, n := range j.cfg.Network {
			j.bridge(n.Bridge, f.Bridges[n.Bridge])
		}
	}
	j.ports(s)
	j.firewall(s)
	whole := true
	for _, r := range s.reached {
		for _, port := range slices.Sorted(maps.Keys(r.Ports)) {
			whole = false
			if slices.Contains(j.opens, r.Host) {
				j.say("reach", Warn, fmt.Sprintf("port %d of %s does not answer yet: %s", port, r.Host, r.Ports[port]),
					"the firewall there is opened first, and it is tried again before anything is placed")
				continue
			}
			j.say("reach", Fail, fmt.Sprintf("port %d of %s does not answer: %s", port, r.Host, r.Ports[port]),
				fmt.Sprintf("open TCP %d, %d and %d and UDP %d between the hosts in the firewall of %s", APIPort,
					ClientPort, PeerPort, APIPort, r.Host))
		}
		if r.Frames != "" {
			whole = false
			j.say("mtu", Warn, "to "+r.Host+": "+r.Frames, "make the MTU equal on hosts and switches, or lower the interfaces' one")
		}
	}
	if whole && len(s.reached) > 0 {
		j.say("reach", Pass, "all ports of the others answer, and full frames arrive", "")
	}
}

func (j *judgement) ports(s sight) {
	f := s.facts
	for _, port := range slices.Sorted(maps.Keys(f.Ports)) {
		j.say("ports", Fail, fmt.Sprintf("port %d is taken: %s", port, f.Ports[port]), "see what has it (ss -tulpn), and stop that")
	}
	if len(f.Ports) == 0 {
		j.say("ports", Pass, "all are free, or ours", "")
	}
}

// firewall says what will be opened where.
func (j *judgement) firewall(s sight) {
	f := s.facts.Firewall
	if !j.known(s, "firewall", "firewall", Warn, "mend that, or open the ports yourself and install with --no-firewall") || f == nil {
		return
	}
	if len(f.Kinds) == 0 {
		j.say("firewall", Pass, "nothing filters what comes to this host: nothing is opened", "")
		return
	}
	what := strings.Join(f.Kinds, " and ") + " (" + strings.Join(f.Where, ", ") + ")"
	if s.opens == nil {
		j.say("firewall", Pass, what+" is left as it is", "")
		return
	}
	j.say("firewall", Pass, what+" lets in: "+s.opens.String(), "")
}

func (j *judgement) bridge(name string, b Bridge) {
	j.want("bridge", b.Exists, Fail, name, "there is no bridge "+name,
		"make it (ip -br link shows those that are there), or correct Network.Bridge")
	if b.Exists {
		j.want("link", b.Carrier, Fail, name+" has a link", "no port of "+name+" has a link",
			"look at the cable and the switch, and that an interface is a port of it (bridge link)")
		j.bond("bond", b.Bond)
	}
}

func (j *judgement) bond(check string, wrong []string) {
	for _, w := range wrong {
		j.say(check, Warn, w, "look at the cables and at the switch's LACP settings (cat /proc/net/bonding/*)")
	}
}

func (j *judgement) storage(s sight) {
	f := s.facts
	if s.host.Guests || isPair(j.cfg) {
		return
	}
	if j.cfg.Type != config.FileConf {
		j.pool(s)
		return
	}
	dir := j.cfg.ImageFolder
	if !j.known(s, "shared directory", "image", Fail, "mount the shared directory at "+dir) || f.Mount == nil {
		return
	}
	shared := strings.Contains(" "+sharedKinds+" ", " "+f.Mount.Kind+" ") ||
		slices.ContainsFunc(j.base.Libvirt.Shared, func(d string) bool {
			return dir == d ||
				strings.HasPrefix(dir, strings.TrimSuffix(d, "/")+"/")
		})
	where := fmt.Sprintf("%s of %s on %s", f.Mount.Kind, f.Mount.Source, f.Mount.Dir)
	if s.alone {
		j.say("shared directory", Pass, where, "")
	} else if s.nonce != nil {
		j.say("shared directory", Fail, s.nonce.Error(), "mount the same directory on all hosts at "+dir)
	} else {
		j.want("shared directory", shared, Warn, where+", the same on all hosts",
			where+": it is the same on all hosts, and its kind does not say how",
			"name it in libvirt.shared of the settings when its locks hold across hosts")
	}
	j.want("mounted at boot", f.Mount.AtBoot, Warn, f.Mount.Dir,
		f.Mount.Dir+" is neither in fstab nor a unit of systemd",
		"add it to /etc/fstab (findmnt shows the line): after a reboot this host could not run the management VM")
	if f.Image == nil {
		return
	}
	if f.Image.Error != "" {
		j.say("image", Fail, f.Image.Error, "put the image of the management VM at "+strings.TrimSuffix(dir, "/")+"/"+ImageName)
		return
	}
	j.want("image", !f.Image.InUse || j.ours || j.adopt != nil, Fail,
		fmt.Sprintf("%s, %d MiB", f.Image.Format, f.Image.Size>>20),
		"a guest that no cluster of ours has started uses it", "shut that guest down first, on whichever host it runs")
}

// pool judges an image in a Ceph pool.
func (j *judgement) pool(s sight) {
	p := s.facts.Pool
	switch {
	case p == nil:
		j.say("image", Fail, "the host has said nothing of the Ceph pool", "install the same version of Holdfast there")
	case p.Error != "":
		j.say("image", Fail, p.Error, "install ceph-common and QEMU's driver for RBD, put the user's keyring where "+
			"Ceph.Credential says, and the image into the pool; the monitors of MonAddrs must be reached from here")
	case p.Format != "raw":
		j.say("image", Fail, "its content is of the format "+p.Format+", and a pool holds raw images", "convert it (qemu-img convert -O raw)")
	default:
		j.want("image", len(p.Open) == 0 || j.ours, Fail,
			fmt.Sprintf("%s/%s, %d MiB", j.cfg.PoolName, ImageName, p.Size>>20),
			"it is open to "+strings.Join(p.Open, ", ")+", which no cluster of ours has started",
			"shut that guest down first, on whichever host it runs")
	}
}

func (j *judgement) installed(s sight) {
	f := s.facts
	if f.Other != "" && (j.adopt == nil || !strings.HasPrefix(f.Other, SourceTool+" ")) {
		j.say("other tools", Fail, f.Other+" runs here and may start what the cluster keeps up, too",
			"stop, disable and uninstall it first (systemctl disable --now UNIT)")
	}
	if len(f.Undone) > 0 {
		j.say("leftovers", Pass, fmt.Sprintf("an installation died here; what it had placed was taken back (%d files)", len(f.Undone)), "")
	}
	if !j.known(s, "installed", "installed", Fail, "Holdfast was installed here, and its settings can not be read: "+
		"mend them, or uninstall it") || f.Installed == nil {
		return
	}
	if j.joins(s.host) {
		j.say("installed", Pass, fmt.Sprintf("it was installed here as host %q, which goes first", f.Installed.Host), "")
		return
	}
	if f.Installed.Host != s.host.Name {
		j.say("installed", Fail, fmt.Sprintf("it is installed here as host %q", f.Installed.Host), "uninstall it first, or correct Node")
	}
	if f.Installed.Guests != s.host.Guests {
		j.say("installed", Fail, "it is installed here as the other kind of host (a member, or a host that runs "+
			"guests only)", "uninstall it first")
	}
}

// swaps returns the member that gives way to another one.
func (j *judgement) swaps() (config.Replacement, bool) {
	if j.before == nil {
		return config.Replacement{}, false
	}
	return config.Replaced(*j.before, j.cfg)
}

// joins reports that a host takes the place of another member.
func (j *judgement) joins(h Host) bool {
	r, ok := j.swaps()
	return ok && string(r.Joined.Host) == h.Name && r.Joined.IP == h.Addr
}

// together compares hosts with each other.
func (j *judgement) together(all []sight) {
	j.at = ""
	first := map[string]string{}
	for _, s := range all {
		if other, ok := first[s.facts.Machine]; ok && s.facts.Machine != "" {
			j.say("hosts", Fail, s.host.Name+" and "+other+" are the same machine", "correct Node")
		}
		first[s.facts.Machine] = s.host.Name
	}
	j.equal(slices.DeleteFunc(slices.Clone(all), func(s sight) bool { return isPair(j.cfg) && !j.holds(s.host) }),
		"architecture", Fail, func(f Facts) string { return f.Arch }, "what the cluster keeps up could not run on all of them")
	j.pairTogether(all)
	j.equal(all, "image", Fail, func(f Facts) string {
		if f.Pool == nil {
			return ""
		}
		return f.Pool.ID
	}, "the hosts must see the same image of the same Ceph cluster: correct ceph.conf or the monitors there")
	j.equal(all, "libvirt", Warn, func(f Facts) string { return f.Libvirt },
		"a live migration goes to a libvirt that is as new; upgrade the older ones")
	j.equal(all, "QEMU", Warn, func(f Facts) string { return f.QEMU },
		"a live migration goes to a QEMU that is as new; upgrade the older ones")
	j.equal(all, "mtu", Warn, func(f Facts) string {
		if f.Link == nil {
			return ""
		}
		return fmt.Sprint(f.Link.MTU)
	}, "make the MTU equal")
	for _, n := range j.cfg.Network {
		ours := slices.ContainsFunc(all, func(s sight) bool { return s.facts.Link != nil && s.facts.Link.Name == n.Bridge })
		if n.IsMgmt && ours {
			j.say("networks", Warn, "the hosts' own network and the management network are the same ("+n.Bridge+")",
				"a storm there stops both: separate networks are safer")
		}
	}
	j.cluster(all)
}

func (j *judgement) equal(all []sight, what, bad string, of func(Facts) string, remedy string) {
	by := map[string][]string{}
	for _, s := range all {
		if v := of(s.facts); v != "" {
			by[v] = append(by[v], s.host.Name)
		}
	}
	if len(by) < 2 {
		return
	}
	var parts []string
	for _, v := range slices.Sorted(maps.Keys(by)) {
		parts = append(parts, v+" on "+strings.Join(by[v], ", "))
	}
	j.say(what, bad, "it differs: "+strings.Join(parts, "; "), remedy)
}

// cluster makes sure that all hosts which have an installation are of one cluster,
// and that it is the one of the configuration.
func (j *judgement) cluster(all []sight) {
	by := map[string][]string{}
	for _, s := range all {
		in := s.facts.Installed
		if in == nil {
			continue
		}
		by[in.Cluster] = append(by[in.Cluster], s.host.Name)
		// The file on a host that runs may be older than the configuration in force.
		_, swaps := j.swaps()
		if known := swaps || j.before != nil && sameNodes(j.before.Node, j.cfg.Node); !in.Guests && !sameNodes(in.Members, j.cfg.Node) && !known {
			j.at = s.host.Name
			j.say("cluster", Fail, "it belongs to a cluster of "+strings.Join(in.Members, ", "),
				"give the configuration of that cluster, in which one member at a time may be another one, or uninstall it there first")
			j.at = ""
		}
	}
	if len(by) > 1 {
		var parts []string
		for _, id := range slices.Sorted(maps.Keys(by)) {
			parts = append(parts, id+" on "+strings.Join(by[id], ", "))
		}
		j.say("cluster", Fail, "the hosts belong to different clusters: "+strings.Join(parts, "; "), "uninstall those that are wrong first")
	}
}

func sameNodes(x, y []string) bool {
	norm := func(in []string) (out []string) {
		for _, n := range in {
			out = append(out, strings.Join(strings.Fields(n), " "))
		}
		slices.Sort(out)
		return out
	}
	return slices.Equal(norm(x), norm(y))
}
