package precheck

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// What the source says of the network between the nodes: 1 Gbit/s at least, which copies
// 100 GB in 20 min; 10 Gbit/s for a database of more than 200 GB.
const (
	leastSpeed    = 1_000  // Mbit/s of a link
	bigSpeed      = 10_000 // the same for a big database
	bigDatabase   = 200    // GB
	usualShare    = 0.6    // of a link's speed that a copy has at least: 100 GB in 20 min are 0.67 of 1 Gbit/s
	bitsInAByte   = 8
	bitsOfMegabit = 1e6
)

// addresses judges what is wrong with them whatever the hosts say.
func (j *judgement) addresses() {
	const check = "arbiter"
	nodes := []string{j.Nodes[0].Addr, j.Nodes[1].Addr}
	for _, a := range j.Arbiters {
		for i, addr := range a.Addrs {
			if slices.Contains(nodes, addr) {
				j.fail(check, "the arbiter "+addr+" is a node of the pair: it could not decide which of the "+
					"two is cut off", "name another machine in --arbiter")
			}
			if addr == j.VIP {
				j.fail(check, "the arbiter has the virtual address "+addr, "name another address in --arbiter or --vip")
			}
			if slices.Contains(a.Addrs[:i], addr) {
				j.fail(check, "the addresses to ping are the same: "+addr, "name two different ones, gateways or switches that always answer")
			}
		}
	}
	if slices.Contains(nodes, j.VIP) {
		j.fail("virtual address", j.VIP+" is a node's own address", "name an address in --vip that no machine has")
	}
	j.secondAddresses()
}

// network judges how the hosts reach one another.
func (j *judgement) network() {
	for _, n := range j.present() {
		for _, r := range n.Reached {
			if slices.Contains(j.Second, r.Addr) {
				continue // secondPath judges it
			}
			for _, port := range slices.Sorted(maps.Keys(r.Ports)) {
				j.fail("reach", fmt.Sprintf("port %d of %s does not answer %s: %s", port, r.Addr, n.who(),
					r.Ports[port]), "look at the cables and routes between them, and open that port in the firewall of "+r.Addr)
			}
			if r.Frames != "" {
				j.say("frames", Warn, fmt.Sprintf("from %s to %s: %s", n.who(), r.Addr, r.Frames),
					"make the MTU equal on hosts and switches, or lower the interfaces' one")
			}
		}
	}
	j.passed("reach", "the hosts reach each other in both directions")
	j.passed("frames", "full frames arrive")
	j.bandwidth()
}

// bandwidth is an estimate: the slower direction of what was measured, else the slower of the
// two links.
func (j *judgement) bandwidth() {
	const check = "bandwidth"
	rate, why := 0.0, ""
	for i, n := range j.Nodes {
		for _, r := range n.Reached {
			if r.Addr != j.Nodes[1-i].Addr {
				continue
			}
			if r.Rate == 0 {
				why = r.Unrated
			} else if mbit := float64(r.Rate) * bitsInAByte / bitsOfMegabit; rate == 0 || mbit < rate {
				rate = mbit
			}
		}
	}
	link := j.Nodes[0].Facts.Speed
	if other := j.Nodes[1].Facts.Speed; other > 0 && (link == 0 || other < link) {
		link = other
	}
	basis := "measured for a second in each direction, the slower one counts"
	if why != "" || rate == 0 {
		rate, basis = float64(link)*usualShare, "six tenths of the slower link's speed; it could not be measured: "+
			cmp.Or(why, "nothing was sent")
	}
	const remedy = "connect the nodes by 1 Gbit/s at least, better by 10 Gbit/s (ethtool INTERFACE shows the speed)"
	if rate == 0 {
		j.say(check, Warn, "not known: "+cmp.Or(why, "nothing was sent"), remedy)
		return
	}
	db, _ := j.database()
	copies := time.Duration(float64(db) * gb * bitsInAByte / (rate * bitsOfMegabit) * float64(time.Second)).Round(time.Second)
	said := fmt.Sprintf("about %.0f Mbit/s between the nodes (%s): the first copy of a database of %d GB takes about %s", rate, basis,
		db, copies)
	if link > 0 {
		said += fmt.Sprintf("; the slower link has %d Mbit/s", link)
	}
	switch {
	case rate < leastSpeed*usualShare || link > 0 && link < leastSpeed:
		j.say(check, Warn, said, remedy)
	case db > bigDatabase && (rate < bigSpeed*usualShare || link > 0 && link < bigSpeed):
		j.say(check, Warn, said, fmt.Sprintf("a database of more than %d GB wants 10 Gbit/s between the nodes", bigDatabase))
	default:
		j.say(check, Pass, said, "")
	}
}

// vip judges what both nodes say of the virtual address.
func (j *judgement) vip() {
	const check = "virtual address"
	var subnets []string
	for _, n := range j.Nodes {
		v := n.Facts.VIP
		switch {
		case v == nil:
			j.fail(check, n.who()+" says nothing of it", "check again")
		case v.Wrong != "":
			j.fail(check, n.who()+": "+v.Wrong, "name an address in --vip that no machine has, in a subnet of an interface of both nodes")
		case v.Taken != "":
			j.fail(check, fmt.Sprintf("%s is in use: the machine with MAC %s has answered %s", j.VIP, v.Taken, n.who()),
				"name an address in --vip that no machine has, or switch that one off")
		case v.Silent != "":
			j.fail(check, n.who()+": "+v.Silent, "see that the interface is up and has a link (ip link)")
		case v.Length != j.Length:
			j.fail(check, fmt.Sprintf("%s: the subnet on %s is %s, and --vip says /%d", n.who(), v.Dev, v.Subnet,
				j.Length), fmt.Sprintf("give --vip %s/%d, or correct the interface", j.VIP, v.Length))
		default:
			subnets = append(subnets, v.Subnet+" on "+v.Dev)
		}
	}
	j.passed(check, j.VIP+": no machine answers for it; in "+list(slices.Compact(subnets)))
}

// arbiters judges what the nodes say of them.
func (j *judgement) arbiters() {
	safe := false
	for _, a := range j.Arbiters {
		safe = safe || a.Kind != Ping
		switch a.Kind {
		case Quorum:
			j.quorum(a)
		case Ping:
			j.pings(a)
		case Fence:
			j.fences(a)
		case DiskArbiter:
			j.device(a)
		}
	}
	if !safe {
		j.say("guarantee", Warn, "best effort: by pings alone a node can not tell a dead peer from a cut cable "+
			"between two nodes that live, and then both could serve",
			"name a quorum host, a shared disk or fence devices in --arbiter in place of them")
	} else {
		j.say("guarantee", Pass, "safe with such an arbiter: at most one node serves, whatever fails", "")
	}
}

func (j *judgement) quorum(a Arbiter) {
	const check = "arbiter"
	if a.Node == nil || a.Node.Trouble != nil {
		return // it was said
	}
	x, y := j.Nodes[0].Facts.Components["holdfast"], a.Node.Facts.Components["holdfast"]
	if x != y {
		j.fail(check, fmt.Sprintf("%s has Holdfast %s, and the nodes have %s", a.Node.who(), cmp.Or(y, "none"),
			cmp.Or(x, "none")), "install the nodes' version on it")
	}
	j.passed(check, a.Node.who()+" answers, with the nodes' version of Holdfast: "+cmp.Or(y, "none"))
}

func (j *judgement) pings(a Arbiter) {
	const check = "arbiter"
	for _, n := range j.Nodes {
		for _, addr := range a.Addrs {
			why, asked := n.Facts.Pings[addr]
			if !asked {
				why = "it was not tried"
			}
			if why != "" {
				j.fail(check, fmt.Sprintf("%s gets no answer from %s: %s", n.who(), addr, why),
					"name addresses that always answer pings, gateways or switches")
			}
		}
	}
	j.passed(check, strings.Join(a.Addrs, " and ")+" answer both nodes")
}

func (j *judgement) fences(a Arbiter) {
	const check = "arbiter"
	for _, i := range a.NoBMC {
		j.fail(check, "no management controller is named for "+j.Nodes[i].who(),
			fmt.Sprintf("name it in the file of --fencing: {%q: {\"Devices\": [{\"Type\": \"ipmi\", \"Address\": "+
				"\"...\", \"User\": \"...\", \"Credential\": \"file:/PATH\"}]}}", j.Nodes[i].Facts.Name))
	}
	for _, n := range j.Nodes {
		for _, addr := range slices.Sorted(maps.Keys(n.Facts.BMCs)) {
			if why := n.Facts.BMCs[addr]; why != "" {
				j.fail(check, fmt.Sprintf("the management controller %s does not answer %s: %s", addr, n.who(), why),
					"see that it is reachable from there, and that account and password are right")
			}
		}
	}
	j.passed(check, "each node reaches the other's management controller")
}

func (j *judgement) device(a Arbiter) {
	const check = "arbiter"
	const remedy = "give both nodes the same shared disk, one that tells a WWN or a serial number (lsblk -o NAME,WWN,SERIAL)"
	good := true
	for _, n := range j.Nodes {
		d := n.Facts.Device
		switch {
		case d == nil:
			j.fail(check, n.who()+" says nothing of "+a.Device, "check again")
		case d.Error != "":
			j.fail(check, n.who()+": "+d.Error, remedy)
		case d.Used != "":
			j.fail(check, fmt.Sprintf("%s: %s is in use: %s", n.who(), a.Device, d.Used), "name a disk in --arbiter that nothing else uses")
		case d.ID == "":
			j.fail(check, n.who()+": "+a.Device+" tells neither WWN nor serial number, so it can not be known "+
				"whether both nodes mean the same one", remedy)
		default:
			continue
		}
		good = false
	}
	if !good {
		return
	}
	x, y := j.Nodes[0].Facts.Device, j.Nodes[1].Facts.Device
	j.differ(check, a.Device, x.ID+", "+size(x.Size), y.ID+", "+size(y.Size), remedy)
	j.passed(check, a.Device+" is the same on both nodes: "+x.ID)
}
