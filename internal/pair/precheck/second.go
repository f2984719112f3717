package precheck

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// checkSecond is the check of a second path.
const checkSecond = "second path"

// secondAddresses judges the addresses of a second path, whatever the hosts say.
func (j *judgement) secondAddresses() {
	const remedy = "name in --second-path an address of each node in another network"
	taken := map[string]string{j.Nodes[0].Addr: "a node's address on the first path",
		j.Nodes[1].Addr: "a node's address on the first path", j.VIP: "the virtual address"}
	for _, a := range j.Arbiters {
		for _, addr := range a.Addrs {
			if !slices.Contains(j.Second, addr) {
				continue
			}
			if a.Kind == Quorum {
				j.fail(checkSecond, addr+" is the arbiter's address", remedy)
			} else {
				j.fail(checkSecond, addr+" is an address that the nodes ping: it would answer a node from itself", remedy)
			}
		}
	}
	for _, addr := range j.Second {
		if of, is := taken[addr]; is {
			j.fail(checkSecond, addr+" is "+of, remedy)
		}
		taken[addr] = "named for both nodes"
	}
}

// secondPath judges what both nodes say of a second path.
func (j *judgement) secondPath() {
	if j.Second == nil {
		return
	}
	there := true
	for i, n := range j.Nodes {
		there = j.pathEnd(n, j.Second[i], j.Second[1-i]) && there
	}
	if !there {
		return // what is not there does not answer
	}
	for i, n := range j.Nodes {
		peer := j.Second[1-i]
		at := slices.IndexFunc(n.Reached, func(r Reached) bool { return r.Addr == peer })
		if at < 0 {
			j.fail(checkSecond, n.who()+" has not tried "+peer, "check again")
			continue
		}
		ports := n.Reached[at].Ports
		for _, port := range slices.Sorted(maps.Keys(ports)) {
			j.fail(checkSecond, fmt.Sprintf("port %d of %s does not answer %s: %s", port, peer, n.who(), ports[port]),
				"look at the second network's cable and switch, and open that port in the firewall of "+j.Nodes[1-i].who())
		}
	}
	j.passed(checkSecond, fmt.Sprintf("%s on %s and %s on %s reach each other in both directions", j.Second[0],
		j.Nodes[0].Facts.Second.Dev, j.Second[1], j.Nodes[1].Facts.Second.Dev))
}

// pathEnd judges one node's end, and reports whether its address is there.
func (j *judgement) pathEnd(n Node, own, peer string) (there bool) {
	e := n.Facts.Second
	switch {
	case e == nil:
		j.fail(checkSecond, n.who()+" says nothing of "+own, "check again")
		return false
	case e.Error != "":
		j.fail(checkSecond, n.who()+": "+e.Error, "see that its second network is up (ip address, ip route), and check again")
		return e.Dev != ""
	case e.Dev == "":
		j.fail(checkSecond, fmt.Sprintf("%s: no interface has the address %s", n.who(), own),
			"give it to the interface of the second network there; --second-path has this node's address first, then the other's")
		return false
	case e.Dev == e.First:
		j.fail(checkSecond, fmt.Sprintf("%s: %s is on %s, as the first path is: what cuts the one cuts the other",
			n.who(), own, e.Dev), "name an address on another card, or leave --second-path out")
	case e.From != own:
		j.fail(checkSecond, fmt.Sprintf("%s: packets to %s go from %s, not from %s", n.who(), peer, e.From, own),
			"give the second network a subnet of its own, which no other interface has (ip route get "+peer+")")
	case len(e.Cards) > 0:
		// A VLAN of its own still survives what happens to the other one in a switch, and a bond
		// the loss of a card.
		j.say(checkSecond, Warn, fmt.Sprintf("%s: %s and %s both lie on %s: where that is cut, both paths are", n.who(),
			e.First, e.Dev, strings.Join(e.Cards, ", ")), "take a card, a cable and a switch of its own for the second path")
	}
	return true
}
