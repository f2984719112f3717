package net

import "slices"

// Without is a document without the objects of some IDs, and without those that need one of these, whose IDs it returns by kind.
func (d *Document) Without(gone map[string]bool) (*Document, map[string][]string) {
	out, all, need := *d, map[string]bool{}, map[string][]string{}
	for id := range gone {
		all[id] = true
	}
	has := func(id *string) bool { return id != nil && all[*id] }
	out.SecurityGroups = slices.DeleteFunc(slices.Clone(d.SecurityGroups), func(v Group) bool { return all[v.ID] })
	out.SecurityGroupRules = drop(all, need, "security_group_rule", d.SecurityGroupRules,
		func(v Rule) (string, bool) { return v.ID, all[v.SecurityGroupID] || has(v.RemoteGroupID) })
	out.Networks = slices.DeleteFunc(slices.Clone(d.Networks), func(v Network) bool { return all[v.ID] })
	out.Subnets = drop(all, need, "subnet", d.Subnets, func(v Subnet) (string, bool) { return v.ID, all[v.NetworkID] })
	out.Ports = drop(all, need, "port", d.Ports, func(v Port) (string, bool) {
		return v.ID, all[v.NetworkID] || slices.ContainsFunc(v.FixedIPs,
			func(ip FixedIP) bool { return all[ip.SubnetID] }) || slices.ContainsFunc(v.Groups, func(g string) bool { return all[g] })
	})
	devices := map[string]bool{} // whose ports are gone
	for _, p := range d.Ports {
		if all[p.ID] {
			devices[p.DeviceID] = true
		}
	}
	out.Trunks = drop(all, need, "trunk", d.Trunks, func(v Trunk) (string, bool) {
		return v.ID, all[v.PortID] || slices.ContainsFunc(v.SubPorts, func(p SubPort) bool { return all[p.PortID] })
	})
	out.Routers = drop(all, need, "router", d.Routers, func(v Router) (string, bool) { return v.ID, has(v.GatewayPort) || devices[v.ID] })
	out.FloatingIPs = drop(all, need, "floatingip", d.FloatingIPs, func(v FloatingIP) (string, bool) {
		return v.ID, all[v.NetworkID] || has(v.RouterID) || has(v.PortID) || devices[v.ID]
	})
	out.RBACPolicies = drop(all, need, "rbac_policy", d.RBACPolicies, func(v RBACPolicy) (string, bool) { return v.ID, all[v.ObjectID] })
	return &out, need
}

// drop leaves out of a list what is in all, and what needs something of it, which it adds to both.
func drop[T any](all map[string]bool, need map[string][]string, kind string, list []T, needs func(T) (id string, missing bool)) (out []T) {
	for _, v := range list {
		switch id, missing := needs(v); {
		case all[id]:
		case missing:
			all[id] = true
			need[kind] = append(need[kind], id)
		default:
			out = append(out, v)
		}
	}
	return out
}
