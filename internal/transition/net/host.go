package net

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Host is what a host has of ports, in its Open vSwitch and its kernel.
type Host struct {
	Version    int         `json:"version"`
	Host       string      `json:"host"`
	Interfaces []Interface `json:"interfaces"`
	Links      []Link      `json:"links"`
	Chains     []string    `json:"iptables_chains"` // null: there is no iptables-save
	Guests     []string    `json:"guests"`          // UUIDs of the QEMU processes
}

// Interface is an interface of Open vSwitch that names a port of Neutron (external_ids:iface-id).
type Interface struct {
	Name       string `json:"name"`
	Bridge     string `json:"bridge"`
	Type       string `json:"type"` // "" for one of the kernel
	PortID     string `json:"port_id"`
	MAC        string `json:"mac_address"` // external_ids:attached-mac; "" where there is none
	AdminState string `json:"admin_state"` // up, down
	LinkState  string `json:"link_state"`  // up, down
	OFPort     int    `json:"ofport"`      // 0 or less: none
	Error      string `json:"error"`
	Tag        int    `json:"tag"` // 0: none
	// What the network agent noted of the network for which it has chosen the tag; "" where it noted nothing.
	NetworkID string `json:"network_id"`
	Segment   string `json:"segment"` // as Segment.String gives it
	Flows     int    `json:"flows"`   // that name its number
	Filters   int    `json:"filters"` // of them, those in the tables of the agent's firewall
	Dropped   bool   `json:"dropped"` // a flow drops all that it sends
}

// Link is an interface of the kernel.
type Link struct {
	Name   string `json:"name"`
	Kind   string `json:"kind"` // bridge, veth, tun, openvswitch, ...; "" for others
	Up     bool   `json:"up"`
	Master string `json:"master"` // the bridge that it is on
	Peer   string `json:"peer"`   // the other end of a veth that is on this host, too
}

// Names of what Nova and Neutron make for a port: a prefix, and as much of the port's ID as fits an
// interface's name (nova/network/model.py, NIC_NAME_LEN 14; neutron/agent/linux/iptables_manager.py,
// MAX_CHAIN_LEN_WRAP 11).
const (
	nameLength  = 14
	chainLength = 11
	chains      = "neutron-openvswi-"
)

// deadTag is the VLAN of ports that the agent has cut off (DEAD_VLAN_TAG).
const deadTag = 4095

func named(prefix, id string) string {
	s := prefix + id
	return s[:min(len(s), nameLength)]
}

// compute begins the owner of a port of a guest.
const compute = "compute:"

// ownNames are the prefixes of interfaces that are not of guests.
var ownNames = []string{"tap", "qr-", "qg-", "ha-", "sg-", "fg-", "rfp"}

// ParseHost reads what a host has, JSON or YAML, that stood in a file of a name. Its errors are of type *Faults.
func ParseHost(file string, data []byte) (*Host, error) {
	h := &Host{}
	if err := decode(file, data, h, &h.Version); err != nil {
		return nil, err
	}
	if h.Host == "" {
		return nil, &Faults{[]string{file + `: host: value "": want the name of a host`}}
	}
	return h, nil
}

// CompareHost compares the ports that a document binds to a host by Open vSwitch with what that host has, both ways:
// Old is the document's, New the host's.
func CompareHost(d *Document, h *Host) []Difference {
	c := &hostCheck{d: d, h: h, of: map[string][]Interface{}, links: map[string]Link{}, networks: map[string]Network{},
		bridge: integrationBridge(d, h.Host), out: []Difference{}}
	for _, i := range h.Interfaces {
		c.of[i.PortID] = append(c.of[i.PortID], i)
	}
	for _, l := range h.Links {
		c.links[l.Name] = l
	}
	for _, n := range d.Networks {
		c.networks[n.ID] = n
	}
	tags := map[string]map[int]string{} // of each bridge, the network of a tag
	known := map[string]Port{}
	for _, p := range d.Ports {
		known[p.ID] = p
		if p.HostID != h.Host || p.VIFType != "ovs" {
			continue
		}
		i, ok := c.port(p)
		if !ok || i.Tag == 0 || i.Tag == deadTag {
			continue
		}
		if tags[i.Bridge] == nil {
			tags[i.Bridge] = map[int]string{}
		}
		if first := tags[i.Bridge][i.Tag]; first != "" && first != p.NetworkID {
			c.differ(p, "tag", Error, "none of network "+first, i.Tag)
		} else {
			tags[i.Bridge][i.Tag] = p.NetworkID
		}
	}
	for _, id := range slices.Sorted(maps.Keys(c.of)) {
		switch p, ok := known[id]; {
		case !ok:
			c.differ(Port{ID: id}, "object", Error, nil, "present")
		case p.HostID != h.Host:
			c.differ(p, "binding:host_id", Error, p.HostID, h.Host)
		}
	}
	slices.SortStableFunc(c.out, func(a, b Difference) int { return strings.Compare(a.ID, b.ID) })
	return c.out
}

// integrationBridge is the bridge of ports, by what the host's agent reports.
func integrationBridge(d *Document, host string) string {
	var says struct {
		Bridge string `json:"integration_bridge"`
	}
	for _, a := range d.Agents {
		if a.Host == host && a.Binary == "neutron-openvswitch-agent" && json.Unmarshal(a.Configurations, &says) == nil && says.Bridge != "" {
			return says.Bridge
		}
	}
	return "br-int"
}

type hostCheck struct {
	d        *Document
	h        *Host
	of       map[string][]Interface // by the port's ID
	links    map[string]Link
	networks map[string]Network
	bridge   string
	out      []Difference
}

// differ notes a difference; nil is null. What it is given can always be written as JSON.
func (c *hostCheck) differ(p Port, field, severity string, old, is any) {
	c.out = append(c.out, Difference{"port", p.ID, field, raw(old), raw(is), severity})
}

func raw(v any) json.RawMessage {
	if v == nil {
		return nil
	}
	text, err := json.Marshal(v)
	if err != nil {
		panic(err) // a value of this file's own
	}
	return text
}

// port looks at one port. It returns the interface that stands for it.
func (c *hostCheck) port(p Port) (i Interface, ok bool) {
	of := c.of[p.ID]
	guest := strings.HasPrefix(p.DeviceOwner, compute)
	runs := slices.Contains(c.h.Guests, p.DeviceID)
	if len(of) == 0 {
		severity := Error
		if guest && !runs { // a guest that is off has none
			severity = Warning
		}
		c.differ(p, "object", severity, "present", nil)
		return i, false
	}
	i = c.h.real(of)
	if len(of) > 1 {
		var names []string
		for _, x := range of {
			names = append(names, x.Name)
		}
		c.differ(p, "interface", Error, "one", names)
	}
	c.attached(p, i, guest)
	c.forwards(p, i)
	hybrid := c.h.plug(i)
	if hybrid == nil || !guest {
		return i, true
	}
	switch says := p.VIFDetails.HybridPlug; {
	case says == nil:
		c.differ(p, PlugField, Warning, p.VIFDetails, VIFDetails{hybrid})
	case *says != *hybrid:
		c.differ(p, PlugField, Error, p.VIFDetails, VIFDetails{hybrid})
	}
	if *hybrid {
		c.hybrid(p, i, runs)
	}
	if i.Filters == 0 && p.PortSecurity {
		c.unfiltered(p, *hybrid)
	}
	return i, true
}

// attached compares what Open vSwitch knows of an interface with the port.
func (c *hostCheck) attached(p Port, i Interface, guest bool) {
	names := []string{named("tap", p.ID), named("qvo", p.ID)}
	if !guest {
		names = nil
		for _, prefix := range ownNames {
			names = append(names, named(prefix, p.ID))
		}
	}
	if !slices.Contains(names, i.Name) {
		c.differ(p, "interface", Warning, names[0], i.Name)
	}
	if i.Bridge != c.bridge {
		c.differ(p, "bridge", Error, c.bridge, i.Bridge)
	}
	switch mac := strings.ToLower(i.MAC); {
	case mac == "":
		c.differ(p, "mac_address", Warning, p.MACAddress, nil)
	case mac != p.MACAddress:
		c.differ(p, "mac_address", Error, p.MACAddress, mac)
	}
	if i.OFPort <= 0 {
		c.differ(p, "ofport", Error, "a number", cmp.Or(i.Error, "none"))
	}
	// An interface of Open vSwitch's own is in a namespace, where its state is not seen from here.
	if i.Type != "internal" {
		if i.AdminState == "down" {
			c.differ(p, "admin_state", Error, "up", i.AdminState)
		}
		if i.LinkState == "down" {
			c.differ(p, "link_state", Warning, "up", i.LinkState)
		}
	}
}

// forwards looks at what the network agent has done with an interface. It gives a port that is switched off in Neutron
// the dead tag, or leaves it without one (port_dead of neutron's ovs_neutron_agent.py).
func (c *hostCheck) forwards(p Port, i Interface) {
	cut := i.Tag == 0 || i.Tag == deadTag
	switch {
	case p.AdminStateUp && i.Tag == 0:
		c.differ(p, "tag", Error, "1 to 4094", nil)
	case p.AdminStateUp && cut:
		c.differ(p, "tag", Error, "1 to 4094", i.Tag)
	case !p.AdminStateUp && !cut:
		c.differ(p, "tag", Error, deadTag, i.Tag)
	}
	if p.AdminStateUp && i.Dropped {
		c.differ(p, "flows", Error, "none that drops all it sends", "drop")
	}
	n, ok := c.networks[p.NetworkID]
	if ok && !cut && i.NetworkID != "" {
		if i.NetworkID != p.NetworkID {
			c.differ(p, "network_id", Error, p.NetworkID, i.NetworkID)
		}
		same := func(s Segment) bool { return s.String() == i.Segment }
		if i.Segment != "" && !slices.ContainsFunc(n.Segments, same) {
			var all []string
			for _, s := range n.Segments {
				all = append(all, s.String())
			}
			c.differ(p, "segments", Error, all, i.Segment)
		}
	}
}

// hybrid looks at the Linux bridge and the veth pair between a guest's interface and br-int.
func (c *hostCheck) hybrid(p Port, i Interface, runs bool) {
	qbr, qvb, tap := named("qbr", p.ID), named("qvb", p.ID), named("tap", p.ID)
	if c.links[qbr].Kind != "bridge" {
		c.differ(p, "qbr", Error, qbr, nil)
	}
	on := func(field, name string) {
		switch l, ok := c.links[name]; {
		case !ok:
			c.differ(p, field, Error, name, nil)
		case l.Master != qbr:
			c.differ(p, field, Error, name+" on "+qbr, fmt.Sprintf("%s on %s", name, cmp.Or(l.Master, "no bridge")))
		case !l.Up:
			c.differ(p, field, Error, "up", "down")
		}
	}
	on("qvb", qvb)
	if peer := c.links[i.Name].Peer; peer != qvb && c.links[qvb].Name != "" {
		c.differ(p, "qvb", Error, qvb+" joined to "+i.Name, i.Name+" is joined to "+cmp.Or(peer, "nothing"))
	}
	if _, there := c.links[tap]; there || runs {
		on("tap", tap)
	}
}

// unfiltered looks whether a port with port security that the agent's flows do not filter is filtered by iptables.
func (c *hostCheck) unfiltered(p Port, hybrid bool) {
	if !hybrid || c.h.Chains == nil {
		c.differ(p, "firewall", Warning, "flows", nil)
		return
	}
	var missing []string
	for _, way := range []string{"i", "o", "s"} {
		if name := chains + (way + p.ID)[:min(len(p.ID)+1, chainLength)]; !slices.Contains(c.h.Chains, name) {
			missing = append(missing, name)
		}
	}
	if len(missing) > 0 {
		c.differ(p, "firewall", Error, missing, nil)
	}
}

// real is, of several interfaces that name one port, the one that its guest is on.
func (h *Host) real(of []Interface) Interface {
	return slices.MinFunc(of, func(a, b Interface) int { return cmp.Compare(h.rank(a), h.rank(b)) })
}

// rank is lowest for what carries packets for certain: one that is no end of a veth pair.
func (h *Host) rank(i Interface) int {
	p := h.plug(i)
	switch {
	case p == nil:
		return 2
	case *p:
		return 1
	}
	return 0
}

// plug tells whether an interface is the end of a veth pair whose other end is on a Linux bridge; nil of one
// that Open vSwitch made itself.
func (h *Host) plug(i Interface) *bool {
	if i.Type != "" && i.Type != "system" {
		return nil
	}
	hybrid := strings.HasPrefix(i.Name, "qvo")
	if at := slices.IndexFunc(h.Links, func(l Link) bool { return l.Name == i.Name && l.Peer != "" }); at >= 0 {
		peer := h.Links[at].Peer
		hybrid = hybrid || slices.ContainsFunc(h.Links, func(l Link) bool { return l.Name == peer && h.isBridge(l.Master) })
	}
	return &hybrid
}

// SetPlugs has a document say of each port on a host how it is plugged there, and returns of how many it said something
// else, or nothing.
func SetPlugs(d *Document, h *Host) (changed int) {
	of := map[string][]Interface{}
	for _, i := range h.Interfaces {
		of[i.PortID] = append(of[i.PortID], i)
	}
	for n := range d.Ports {
		p := &d.Ports[n]
		if p.HostID != h.Host || p.VIFType != "ovs" || !strings.HasPrefix(p.DeviceOwner, compute) || len(of[p.ID]) == 0 {
			continue
		}
		is := h.plug(h.real(of[p.ID]))
		if is == nil || p.VIFDetails.HybridPlug != nil && *p.VIFDetails.HybridPlug == *is {
			continue
		}
		p.VIFDetails.HybridPlug = is
		changed++
	}
	return changed
}

// Knows reports whether a document has a port or an agent of a host.
func (d *Document) Knows(host string) bool {
	return slices.ContainsFunc(d.Agents, func(a Agent) bool { return a.Host == host }) ||
		slices.ContainsFunc(d.Ports, func(p Port) bool { return p.HostID == host })
}

// Hosts are the hosts of a document's agents, in order.
func (d *Document) Hosts() (out []string) {
	for _, a := range d.Agents {
		out = append(out, a.Host)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// Plugged are the hosts to which a document binds ports of guests by Open vSwitch, in order.
func (d *Document) Plugged() (out []string) {
	for _, p := range d.Ports {
		if p.VIFType == "ovs" && strings.HasPrefix(p.DeviceOwner, compute) {
			out = append(out, p.HostID)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

func (h *Host) isBridge(name string) bool {
	return slices.ContainsFunc(h.Links, func(l Link) bool { return l.Name == name && l.Kind == "bridge" })
}
