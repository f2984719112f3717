package config

import (
	"fmt"
	"net/netip"
	"strings"

	"holdfast/internal/lib/strictyaml"
)

// perNode is a value that may differ by host.
type perNode struct {
	one  string            // the same on all hosts
	by   map[string]string // by host; nil: one applies
	mine []nodeEntry       // the entries of by, as written
}

type nodeEntry struct{ value, host, text string }

// on returns the value on a host.
func (v perNode) on(host string) string {
	if v.by == nil {
		return v.one
	}
	return v.by[host]
}

// entries returns all values with the text that gave them.
func (v perNode) entries() []nodeEntry {
	if v.by == nil {
		return []nodeEntry{{value: v.one, text: v.one}}
	}
	return v.mine
}

// badEntry is an entry of a per-node form that can not be taken.
type badEntry struct{ text, want string }

// splitPerNode reads "A" or "A@host1, B@host2". An entry without a host, or for
// a host that an earlier entry has, is in wrong and not in the value.
func splitPerNode(s string) (v perNode, wrong []badEntry) {
	if !strings.Contains(s, "@") {
		return perNode{one: strings.TrimSpace(s)}, nil
	}
	v.by = map[string]string{}
	for e := range strings.SplitSeq(s, ",") {
		e = strings.TrimSpace(e)
		value, host, _ := strings.Cut(e, "@")
		value, host = strings.TrimSpace(value), strings.TrimSpace(host)
		_, dup := v.by[host]
		switch {
		case value == "" || host == "":
			wrong = append(wrong, badEntry{e, `want one value for all hosts, or "VALUE@HOST, VALUE@HOST" with every host of Node once`})
		case dup:
			wrong = append(wrong, badEntry{e, "the per-node form must name every host once; this host is doubled"})
		default:
			v.by[host] = value
			v.mine = append(v.mine, nodeEntry{value, host, e})
		}
	}
	return v, wrong
}

// perNode checks the form of a value and that it names every host once.
func (c *checker) perNode(p, s string, h hosts) (v perNode, ok bool) {
	v, wrong := splitPerNode(s)
	for _, w := range wrong {
		c.fault(p, w.text, w.want)
	}
	ok = len(wrong) == 0
	if len(v.mine) > maxNodes {
		c.fault(p, s, fmt.Sprintf("the per-node form may have at most %d entries", maxNodes))
		return v, false
	}
	if v.by == nil || h.unclear {
		return v, ok && v.by == nil
	}
	for _, e := range v.mine {
		if !h.known[e.host] {
			ok = false
			c.fault(p, e.text, fmt.Sprintf("unknown host; the most similar name in Node is %q", strictyaml.Nearest(e.host, h.names)))
		}
	}
	var missing []string
	for _, n := range h.names {
		if _, found := v.by[n]; !found {
			missing = append(missing, n)
		}
	}
	if len(missing) > 0 {
		ok = false
		c.fault(p, s, "the per-node form must name every host of Node; missing: "+strings.Join(missing, ", "))
	}
	return v, ok
}

// network checks the cards of the management VM.
func (c *checker) network(cl *Cluster, h hosts) {
	if len(cl.Network) == 0 {
		c.fault("Network", "", "want at least one network")
		return
	}
	macs, used := map[string]int{}, map[string]string{}
	mgmt, route := 0, 0
	for i, n := range cl.Network {
		p := index("Network", i)
		if !isBridge(n.Bridge) {
			c.fault(p+".Bridge", n.Bridge, "want the name of a bridge, 1 to 15 characters")
		}
		mac := strings.ToLower(n.MacAddress)
		if want := checkMAC(mac); want != "" {
			c.fault(p+".MacAddress", n.MacAddress, want)
		} else if j, dup := macs[mac]; dup {
			c.fault(p+".MacAddress", n.MacAddress, "MAC addresses must be unique; "+index("Network", j)+" has the same")
		} else {
			macs[mac] = i
		}
		c.card(p, n, h, used)
		mgmt += c.flag(p+".IsMgmt", n.IsMgmt, mgmt)
		route += c.flag(p+".IsDefRoute", n.IsDefRoute, route)
	}
	c.exactlyOne(cl, "IsMgmt", mgmt)
	c.exactlyOne(cl, "IsDefRoute", route)
}

// flag refuses a flag that an earlier network has already, and counts it.
func (c *checker) flag(p string, on bool, before int) int {
	if !on {
		return 0
	}
	if before > 0 {
		c.fault(p, "true", "exactly one network may have this set to true")
	}
	return 1
}

func (c *checker) exactlyOne(cl *Cluster, name string, n int) {
	for i := range cl.Network {
		if c.doc.Refused(index("Network", i) + "." + name) {
			return
		}
	}
	if n == 0 {
		c.fault("Network", "no "+name, "exactly one network must have "+name+" set to true")
	}
}

// card checks addresses of one card, on each host. used holds the addresses of
// the cards before it.
func (c *checker) card(p string, n Network, h hosts, used map[string]string) {
	ip, okIP := c.perNode(p+".Ipaddr", n.Ipaddr, h)
	mask, okMask := c.perNode(p+".Netmask", n.Netmask, h)
	gw, okGW := c.perNode(p+".Gateway", n.Gateway, h)
	okIP = c.addresses(p+".Ipaddr", ip, h.addrs) && okIP
	okMask = c.masks(p+".Netmask", mask) && okMask
	okGW = c.addresses(p+".Gateway", gw, nil) && okGW
	if okIP && okMask {
		c.subnets(p, ip, mask, gw, okGW, h)
	}
	if okIP {
		c.taken(p+".Ipaddr", ip, h, used)
	}
}

// subnets checks address and, when it is readable, gateway of a card against the
// netmask: on every host, or once when they are the same everywhere.
func (c *checker) subnets(p string, ip, mask, gw perNode, okGW bool, h hosts) {
	if ip.by == nil && mask.by == nil && gw.by == nil {
		if c.inside(p+".Ipaddr", ip.one, ip.one, ip.one, mask.one) && okGW {
			c.gateway(p+".Gateway", gw.one, gw.one, ip.one, mask.one)
		}
		return
	}
	for _, n := range h.names {
		a, m, g := ip.on(n), mask.on(n), gw.on(n)
		if c.inside(p+".Ipaddr", a+"@"+n, a, a, m) && okGW {
			c.gateway(p+".Gateway", g+"@"+n, g, a, m)
		}
	}
}

// addresses checks every value of a field; none may be in nodes.
func (c *checker) addresses(p string, v perNode, nodes map[netip.Addr]bool) bool {
	ok := true
	for _, e := range v.entries() {
		a, want := parseIPv4(e.value)
		switch {
		case want != "":
		case a.IsUnspecified() || a.IsMulticast() || a.IsLoopback() || a == broadcast:
			want = "want a unicast IPv4 address"
		case nodes[a]:
			want = "is a node's address; the management VM needs its own"
		default:
			continue
		}
		ok = false
		c.fault(p, e.text, want)
	}
	return ok
}

func (c *checker) masks(p string, v perNode) bool {
	ok := true
	for _, e := range v.entries() {
		if _, good := prefixLen(e.value); !good {
			ok = false
			c.fault(p, e.text, "want a contiguous netmask from 128.0.0.0 to 255.255.255.252, such as 255.255.255.0")
		}
	}
	return ok
}

// inside refuses addr when it is the network's or the broadcast address of the
// subnet of ip; all have been checked. It reports whether addr is fine.
func (c *checker) inside(p, text, addr, ip, mask string) bool {
	a, sub := netip.MustParseAddr(addr), subnet(ip, mask)
	switch a {
	case sub.Addr():
		c.fault(p, text, "is the network address of "+sub.String())
	case lastAddr(sub):
		c.fault(p, text, "is the broadcast address of "+sub.String())
	default:
		return true
	}
	return false
}

func (c *checker) gateway(p, text, gw, ip, mask string) {
	sub := subnet(ip, mask)
	switch {
	case !sub.Contains(netip.MustParseAddr(gw)):
		c.fault(p, text, "want an address inside the subnet "+sub.String())
	case gw == ip:
		c.fault(p, text, "is the management VM's own address")
	default:
		c.inside(p, text, gw, ip, mask)
	}
}

// taken refuses an address that another card has on the same host.
func (c *checker) taken(p string, v perNode, h hosts, used map[string]string) {
	for _, host := range h.names {
		key := host + " " + v.on(host)
		if other, dup := used[key]; dup {
			c.fault(p, v.on(host), "addresses must be unique; "+other+" has the same")
			return
		}
		used[key] = p
	}
}

// console checks ConsoleProxyOverriddenIP.
func (c *checker) console(cl *Cluster, h hosts) {
	const p = "ConsoleProxyOverriddenIP"
	if strings.TrimSpace(cl.ConsoleProxyOverriddenIP) == "" {
		return
	}
	v, _ := c.perNode(p, cl.ConsoleProxyOverriddenIP, h)
	c.addresses(p, v, nil)
}

// subnet returns the network of an address; both texts have been checked.
func subnet(ip, mask string) netip.Prefix {
	bits, _ := prefixLen(mask)
	return netip.PrefixFrom(netip.MustParseAddr(ip), bits).Masked()
}

// lastAddr returns the broadcast address of an IPv4 network.
func lastAddr(p netip.Prefix) netip.Addr {
	b := p.Addr().As4()
	for i := p.Bits(); i < 32; i++ {
		b[i/8] |= 1 << (7 - i%8)
	}
	return netip.AddrFrom4(b)
}
