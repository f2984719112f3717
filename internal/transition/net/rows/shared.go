package rows

import (
	"errors"
	"fmt"
	"strings"

	"holdfast/internal/transition/net"
)

// ruleTables are the tables of rules of QoS policies, by the types of these.
var ruleTables = []struct{ kind, table string }{
	{net.BandwidthLimit, "qos_bandwidth_limit_rules"},
	{net.DSCPMarking, "qos_dscp_marking_rules"},
	{net.MinimumBandwidth, "qos_minimum_bandwidth_rules"},
	{net.PacketRateLimit, "qos_packet_rate_limit_rules"},
	{net.MinimumPacketRate, "qos_minimum_packet_rate_rules"},
}

// rbacTables are the tables of RBAC policies, by the types of their objects.
var rbacTables = []struct{ kind, table string }{
	{"network", "networkrbacs"},
	{"qos_policy", "qospolicyrbacs"},
	{"security_group", "securitygrouprbacs"},
	{"address_group", "addressgrouprbacs"},
	{"address_scope", "addressscoperbacs"},
	{"subnetpool", "subnetpoolrbacs"},
}

// numbers reads several columns; the first one that is no number is the error.
func (r row) numbers(into map[string]**int) error {
	var all []error
	for column, p := range into {
		n, err := r.number(column)
		*p = n
		all = append(all, err)
	}
	return errors.Join(all...)
}

// whole is a number that a table always has; or is what it means where it has none.
func whole(n *int, or int) int {
	if n == nil {
		return or
	}
	return *n
}

// shared reads what networks, subnets, ports and rules refer to, and who may use what.
func (s *snapshot) shared(doc *net.Document) error {
	for _, t := range rbacTables {
		for _, r := range s.rows[t.table] {
			target, ok := r["target_project"]
			if !ok {
				target = r["target_tenant"]
			}
			doc.RBACPolicies = append(doc.RBACPolicies,
				net.RBACPolicy{ID: r["id"], ProjectID: r.project(), ObjectType: t.kind, ObjectID: r["object_id"], Action: r["action"], Target: target})
		}
	}
	if !s.mitaka { // everybody might use external networks
		for _, n := range doc.Networks {
			if n.External {
				doc.Share("network", n.ID, n.ProjectID, net.AsExternal)
			}
		}
	}
	for _, r := range s.rows["address_scopes"] {
		if strings.HasPrefix(r["name"], net.ProofPrefix) {
			continue
		}
		version, err := r.number("ip_version")
		if err != nil {
			return fmt.Errorf("%s %s: %w", "address_scope", r["id"], err)
		}
		doc.AddressScopes = append(doc.AddressScopes, net.AddressScope{ID: r["id"], ProjectID: r.project(),
			Name: r["name"], IPVersion: whole(version, 4)})
		if r.flag("shared") && !s.tables["addressscoperbacs"] {
			doc.Share("address_scope", r["id"], r.project(), net.AsShared)
		}
	}
	prefixes := s.by("subnetpoolprefixes", "subnetpool_id")
	for _, r := range s.rows["subnetpools"] {
		p := net.SubnetPool{ID: r["id"], ProjectID: r.project(), Name: r["name"], Description: s.description(r),
			AddressScopeID: r.or("address_scope_id"), IsDefault: r.flag("is_default"), Tags: s.tags(r)}
		var version, least, most, usual *int
		if err := r.numbers(map[string]**int{"ip_version": &version, "min_prefixlen": &least, "max_prefixlen": &most,
			"default_prefixlen": &usual, "default_quota": &p.DefaultQuota}); err != nil {
			return fmt.Errorf("%s %s: %w", "subnetpool", p.ID, err)
		}
		p.IPVersion, p.MinLength, p.MaxLength, p.DefaultLength = whole(version, 4), whole(least, 0), whole(most, 0), whole(usual, 0)
		for _, x := range prefixes[p.ID] {
			p.Prefixes = append(p.Prefixes, x["cidr"])
		}
		doc.SubnetPools = append(doc.SubnetPools, p)
		if r.flag("shared") && !s.tables["subnetpoolrbacs"] {
			doc.Share("subnetpool", p.ID, p.ProjectID, net.AsShared)
		}
	}
	addresses := s.by("address_associations", "address_group_id")
	for _, r := range s.rows["address_groups"] {
		g := net.AddressGroup{ID: r["id"], ProjectID: r.project(), Name: r["name"], Description: s.description(r)}
		for _, x := range addresses[g.ID] {
			g.Addresses = append(g.Addresses, x["address"])
		}
		doc.AddressGroups = append(doc.AddressGroups, g)
	}
	if err := s.policies(doc); err != nil {
		return err
	}
	s.routers(doc)
	return s.trunks(doc)
}

func (s *snapshot) routers(doc *net.Document) {
	routes, extra := s.by("routerroutes", "router_id"), s.by("router_extra_attributes", "router_id")
	not := map[string]bool{}
	for _, r := range s.rows["routers"] {
		v := net.Router{ID: r["id"], ProjectID: r.project(), Name: r["name"], Description: s.description(r),
			AdminStateUp: r.flag("admin_state_up"), EnableSNAT: r.flag("enable_snat"),
			GatewayPort: r.or("gw_port_id"), Tags: s.tags(r)}
		for _, t := range routes[v.ID] {
			v.Routes = append(v.Routes, net.Route{Destination: t["destination"], NextHop: t["nexthop"]})
		}
		not[v.ID] = r["flavor_id"] != ""
		for _, e := range extra[v.ID] {
			not[v.ID] = not[v.ID] || e.flag("distributed") || e.flag("ha")
		}
		if !not[v.ID] {
			delete(not, v.ID)
		}
		doc.Routers = append(doc.Routers, v)
	}
	for _, r := range s.rows["floatingips"] {
		doc.FloatingIPs = append(doc.FloatingIPs, net.FloatingIP{ID: r["id"], ProjectID: r.project(),
			Description: s.description(r), Address: r["floating_ip_address"],
			NetworkID: r["floating_network_id"], RouterID: r.or("router_id"), PortID: r.or("fixed_port_id"),
			FixedIP: r.or("fixed_ip_address"), Tags: s.tags(r)})
	}
	doc.LeaveRouters(not)
}

func (s *snapshot) policies(doc *net.Document) error {
	defaults := s.by("qos_policies_default", "qos_policy_id")
	rules := map[string][]net.QoSRule{}
	for _, t := range ruleTables {
		for _, r := range s.rows[t.table] {
			q := net.QoSRule{ID: r["id"], Type: t.kind, Direction: r.or("direction")}
			if q.Direction == nil && t.kind == net.BandwidthLimit { // before Neutron 11 the only one
				q.Direction = new("egress")
			}
			if err := r.numbers(map[string]**int{"max_kbps": &q.MaxKbps, "max_burst_kbps": &q.MaxBurstKbps,
				"min_kbps": &q.MinKbps, "max_kpps": &q.MaxKpps,
				"max_burst_kpps": &q.MaxBurstKpps, "min_kpps": &q.MinKpps, "dscp_mark": &q.DSCPMark}); err != nil {
				return fmt.Errorf("%s %s: %w", "qos_policy", r["qos_policy_id"], err)
			}
			rules[r["qos_policy_id"]] = append(rules[r["qos_policy_id"]], q)
		}
	}
	for _, r := range s.rows["qos_policies"] {
		doc.QoSPolicies = append(doc.QoSPolicies, net.QoSPolicy{ID: r["id"], ProjectID: r.project(), Name: r["name"],
			Description: s.description(r),
			IsDefault:   len(defaults[r["id"]]) > 0, Rules: rules[r["id"]], Tags: s.tags(r)})
		if r.flag("shared") { // before Neutron 8
			doc.Share("qos_policy", r["id"], r.project(), net.AsShared)
		}
	}
	return nil
}

func (s *snapshot) trunks(doc *net.Document) error {
	carried := s.by("subports", "trunk_id")
	for _, r := range s.rows["trunks"] {
		t := net.Trunk{ID: r["id"], ProjectID: r.project(), Name: r["name"], Description: s.description(r),
			AdminStateUp: r.flag("admin_state_up"), PortID: r["port_id"], Tags: s.tags(r)}
		for _, p := range carried[t.ID] {
			n, err := p.number("segmentation_id")
			if err != nil {
				return fmt.Errorf("%s %s: %w", "trunk", t.ID, err)
			}
			t.SubPorts = append(t.SubPorts, net.SubPort{PortID: p["port_id"], SegmentationType: p["segmentation_type"], SegmentationID: whole(n, 0)})
		}
		doc.Trunks = append(doc.Trunks, t)
	}
	return nil
}
