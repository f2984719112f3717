package net

import (
	"cmp"
	"maps"
	"slices"
	"strings"
)

// Router is a router on one host: no distributed one, and none of several hosts (HA), which have ports and networks of their own
// that the platform makes.
type Router struct {
	ID           string  `json:"id"`
	ProjectID    string  `json:"project_id"`
	Name         string  `json:"name"`
	Description  string  `json:"description"`
	AdminStateUp bool    `json:"admin_state_up"`
	EnableSNAT   bool    `json:"enable_snat"` // true without a gateway
	Routes       []Route `json:"routes"`
	// GatewayPort is the ID of the port on the external network; null without a gateway.
	GatewayPort *string `json:"gateway_port_id"`
	// Interfaces are the IDs of its ports on inner networks, by what these say.
	Interfaces []string `json:"interfaces"`
	Tags       []string `json:"tags"`
}

// FloatingIP is an address of an external network for a port of an inner one. Its own port on the external network is the one
// with its ID.
type FloatingIP struct {
	ID          string   `json:"id"`
	ProjectID   string   `json:"project_id"`
	Description string   `json:"description"`
	Address     string   `json:"floating_ip_address"`
	NetworkID   string   `json:"floating_network_id"`
	RouterID    *string  `json:"router_id"`
	PortID      *string  `json:"port_id"`
	FixedIP     *string  `json:"fixed_ip_address"`
	Tags        []string `json:"tags"`
}

// Owners of ports of a router's gateway and of floating IPs.
const (
	GatewayOwner  = "network:router_gateway"
	FloatingOwner = "network:floatingip"
	InterfaceOf   = "network:router_interface"
)

// PortOf is the port of an owner that a device has. nil: it has none.
func (d *Document) PortOf(owner, device string) *Port {
	i := slices.IndexFunc(d.Ports, func(p Port) bool { return p.DeviceOwner == owner && p.DeviceID == device })
	if i < 0 {
		return nil
	}
	return &d.Ports[i]
}

// haNetwork begins the name of the network that Neutron makes for the HA routers of a project; it is of no project itself
// (HA_NETWORK_NAME of neutron_lib). haOwner has the ports on it.
const (
	haNetwork = "HA network tenant "
	haOwner   = "network:router_ha_interface"
)

// HANetwork is the kind of these networks: they are left out with their subnets and ports, as their routers are.
const HANetwork = "ha_network"

func (d *Document) leaveHANetworks() {
	ha := map[string]bool{} // IDs of networks, subnets and ports
	for _, p := range d.Ports {
		if p.DeviceOwner == haOwner {
			ha[p.NetworkID] = true
		}
	}
	for _, n := range d.Networks {
		if n.ProjectID == "" && strings.HasPrefix(n.Name, haNetwork) {
			ha[n.ID] = true
		}
	}
	networks := slices.Sorted(maps.Keys(ha))
	d.Networks = slices.DeleteFunc(d.Networks, func(n Network) bool { return ha[n.ID] })
	d.Subnets = slices.DeleteFunc(d.Subnets, func(s Subnet) bool {
		ha[s.ID] = ha[s.ID] || ha[s.NetworkID]
		return ha[s.ID]
	})
	d.Ports = slices.DeleteFunc(d.Ports, func(p Port) bool {
		ha[p.ID] = ha[p.ID] || ha[p.NetworkID]
		return ha[p.ID]
	})
	d.RBACPolicies = slices.DeleteFunc(d.RBACPolicies, func(r RBACPolicy) bool { return ha[r.ObjectID] })
	d.LeftOut = slices.DeleteFunc(d.LeftOut, func(l LeftOut) bool { return ha[l.ID] })
	for _, id := range networks {
		d.LeftOut = append(d.LeftOut, LeftOut{Kind: HANetwork, ID: id})
	}
}

// LeaveRouters leaves out the routers that nobody carries over, the floating IPs that go through them, and the networks of
// HA routers.
func (d *Document) LeaveRouters(not map[string]bool) {
	d.leaveHANetworks()
	for id := range not {
		d.LeftOut = append(d.LeftOut, LeftOut{Kind: "router", ID: id})
	}
	d.Routers = slices.DeleteFunc(d.Routers, func(r Router) bool { return not[r.ID] })
	d.FloatingIPs = slices.DeleteFunc(d.FloatingIPs, func(f FloatingIP) bool {
		out := f.RouterID != nil && not[*f.RouterID]
		if out {
			d.LeftOut = append(d.LeftOut, LeftOut{Kind: "floatingip", ID: f.ID})
		}
		return out
	})
}

func (d *Document) normalizeRouters() {
	byID(d.Routers, func(r Router) string { return r.ID })
	byID(d.FloatingIPs, func(f FloatingIP) string { return f.ID })
	for i := range d.Routers {
		r := &d.Routers[i]
		slices.SortFunc(r.Routes, func(a, b Route) int {
			return cmp.Or(strings.Compare(a.Destination, b.Destination), strings.Compare(a.NextHop, b.NextHop))
		})
		r.Routes, r.Tags = none(r.Routes), sorted(r.Tags)
		r.EnableSNAT, r.Interfaces = r.EnableSNAT || r.GatewayPort == nil, []string{}
		for _, p := range d.Ports {
			if p.DeviceOwner == InterfaceOf && p.DeviceID == r.ID {
				r.Interfaces = append(r.Interfaces, p.ID)
			}
		}
	}
	for i := range d.FloatingIPs {
		d.FloatingIPs[i].Tags = sorted(d.FloatingIPs[i].Tags)
	}
}

// routers looks at routers and floating IPs: their ports must be there, with their own marks.
func (c *checker) routers() {
	ports, known := map[string]Port{}, map[string]bool{}
	for _, p := range c.d.Ports {
		ports[p.ID] = p
	}
	for _, r := range c.d.Routers {
		c.id("router", r.ID)
		known[r.ID] = true
		if r.GatewayPort == nil {
			continue
		}
		if p := ports[*r.GatewayPort]; p.DeviceOwner != GatewayOwner || p.DeviceID != r.ID {
			c.fault("router", r.ID, "gateway_port_id", *r.GatewayPort,
				"want the id of a port of this document with the router's id and the owner "+GatewayOwner)
		}
	}
	for _, f := range c.d.FloatingIPs {
		c.id("floatingip", f.ID)
		if c.d.PortOf(FloatingOwner, f.ID) == nil {
			c.fault("floatingip", f.ID, "id", f.ID, "want a port of this document with this id and the owner "+FloatingOwner)
		}
		c.network("floatingip", f.ID, f.NetworkID)
		if f.RouterID != nil && !known[*f.RouterID] {
			c.fault("floatingip", f.ID, "router_id", *f.RouterID, "want the id of a router of this document")
		}
		if f.PortID != nil && ports[*f.PortID].ID == "" {
			c.fault("floatingip", f.ID, "port_id", *f.PortID, "want the id of a port of this document")
		}
	}
}
