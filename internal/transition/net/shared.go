package net

import (
	"cmp"
	"encoding/hex"
	"hash/fnv"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// ProofPrefix begins the names of address scopes that apply makes for a moment, to see whose a database is. One that is left is
// no part of the platform.
const ProofPrefix = "holdfast-proof-"

// AddressScope is a range of addresses within which no two subnets overlap.
type AddressScope struct {
	ID        string `json:"id"`
	ProjectID string `json:"project_id"`
	Name      string `json:"name"`
	IPVersion int    `json:"ip_version"`
}

// SubnetPool is where subnets get their ranges of addresses from. DefaultQuota is how many addresses a project may have of
// it; null: any number.
type SubnetPool struct {
	ID             string   `json:"id"`
	ProjectID      string   `json:"project_id"`
	Name           string   `json:"name"`
	Description    string   `json:"description"`
	IPVersion      int      `json:"ip_version"`
	Prefixes       []string `json:"prefixes"`
	MinLength      int      `json:"min_prefixlen"`
	MaxLength      int      `json:"max_prefixlen"`
	DefaultLength  int      `json:"default_prefixlen"`
	DefaultQuota   *int     `json:"default_quota"`
	AddressScopeID *string  `json:"address_scope_id"`
	IsDefault      bool     `json:"is_default"`
	Tags           []string `json:"tags"`
}

// AddressGroup is a list of ranges of addresses that rules of security groups name.
type AddressGroup struct {
	ID          string   `json:"id"`
	ProjectID   string   `json:"project_id"`
	Name        string   `json:"name"`
	Description string   `json:"description"`
	Addresses   []string `json:"addresses"`
}

// QoSPolicy says how much may be sent. IsDefault: networks of its project that name no other one get it when they are made.
type QoSPolicy struct {
	ID          string    `json:"id"`
	ProjectID   string    `json:"project_id"`
	Name        string    `json:"name"`
	Description string    `json:"description"`
	IsDefault   bool      `json:"is_default"`
	Rules       []QoSRule `json:"rules"`
	Tags        []string  `json:"tags"`
}

// Types of rules of a QoS policy.
const (
	BandwidthLimit    = "bandwidth_limit"
	DSCPMarking       = "dscp_marking"
	MinimumBandwidth  = "minimum_bandwidth"
	PacketRateLimit   = "packet_rate_limit"
	MinimumPacketRate = "minimum_packet_rate"
)

// QoSRule is a rule of a QoS policy; which of the numbers it has depends on its type.
type QoSRule struct {
	ID           string  `json:"id"`
	Type         string  `json:"type"`
	Direction    *string `json:"direction,omitempty"` // ingress, egress or any
	MaxKbps      *int    `json:"max_kbps,omitempty"`
	MaxBurstKbps *int    `json:"max_burst_kbps,omitempty"`
	MinKbps      *int    `json:"min_kbps,omitempty"`
	MaxKpps      *int    `json:"max_kpps,omitempty"`
	MaxBurstKpps *int    `json:"max_burst_kpps,omitempty"`
	MinKpps      *int    `json:"min_kpps,omitempty"`
	DSCPMark     *int    `json:"dscp_mark,omitempty"`
}

// Trunk joins further ports to a guest's port, by the numbers of their VLANs. Its ID is in the name of the trunk's bridge on
// the host.
type Trunk struct {
	ID           string    `json:"id"`
	ProjectID    string    `json:"project_id"`
	Name         string    `json:"name"`
	Description  string    `json:"description"`
	AdminStateUp bool      `json:"admin_state_up"`
	PortID       string    `json:"port_id"`
	SubPorts     []SubPort `json:"sub_ports"`
	Tags         []string  `json:"tags"`
}

// SubPort is a port that a trunk carries.
type SubPort struct {
	PortID           string `json:"port_id"`
	SegmentationType string `json:"segmentation_type"`
	SegmentationID   int    `json:"segmentation_id"`
}

// RBACPolicy lets a project, or all of them ("*"), use an object.
type RBACPolicy struct {
	ID         string `json:"id"`
	ProjectID  string `json:"project_id"`
	ObjectType string `json:"object_type"` // see RBACTypes
	ObjectID   string `json:"object_id"`
	Action     string `json:"action"` // access_as_shared or access_as_external
	Target     string `json:"target_tenant"`
}

// Actions of RBAC policies, and the target that means all projects.
const (
	AsShared   = "access_as_shared"
	AsExternal = "access_as_external"
	Everybody  = "*"
)

// RBACTypes are the types of objects that RBAC policies are carried over of, and the kinds of these objects.
var RBACTypes = map[string]string{"network": "network", "qos_policy": "qos_policy", "security_group": "security_group",
	"address_group": "address_group", "address_scope": "address_scope", "subnetpool": "subnetpool"}

// DHCPOption is an option that the DHCP server tells a port beside its address.
type DHCPOption struct {
	Name      string `json:"opt_name"`
	Value     string `json:"opt_value"`
	IPVersion int    `json:"ip_version"`
}

// Share adds an RBAC policy that lets everybody use an object, where the document has none: of a release whose objects were
// shared otherwise. Its ID is made of what it says, so that it is the same each time.
func (d *Document) Share(objectType, object, project, action string) {
	if slices.ContainsFunc(d.RBACPolicies, func(r RBACPolicy) bool {
		return r.ObjectType == objectType && r.ObjectID == object && r.Action == action && r.Target == Everybody
	}) {
		return
	}
	sum := fnv.New128a()
	_, _ = sum.Write([]byte(objectType + " " + object + " " + action)) // it never fails
	h := hex.EncodeToString(sum.Sum(nil))
	id := strings.Join([]string{h[:8], h[8:12], "5" + h[13:16], "8" + h[17:20], h[20:]}, "-")
	d.RBACPolicies = append(d.RBACPolicies, RBACPolicy{ID: id, ProjectID: project, ObjectType: objectType,
		ObjectID: object, Action: action, Target: Everybody})
}

// SetShared has networks be shared as their RBAC policies say. The API says of a network that it is shared when it is with
// the one who asks.
func (d *Document) SetShared() {
	with := map[string]bool{}
	for _, r := range d.RBACPolicies {
		if r.ObjectType == "network" && r.Action == AsShared && r.Target == Everybody {
			with[r.ObjectID] = true
		}
	}
	for i := range d.Networks {
		d.Networks[i].Shared = with[d.Networks[i].ID]
	}
}

// normalizeShared is Normalize of what this file has.
func (d *Document) normalizeShared() {
	byID(d.AddressScopes, func(v AddressScope) string { return v.ID })
	byID(d.SubnetPools, func(v SubnetPool) string { return v.ID })
	byID(d.AddressGroups, func(v AddressGroup) string { return v.ID })
	byID(d.QoSPolicies, func(v QoSPolicy) string { return v.ID })
	byID(d.Trunks, func(v Trunk) string { return v.ID })
	byID(d.RBACPolicies, func(v RBACPolicy) string { return v.ID })
	for i := range d.SubnetPools {
		p := &d.SubnetPools[i]
		p.Prefixes, p.Tags = sorted(p.Prefixes), sorted(p.Tags)
	}
	for i := range d.AddressGroups {
		d.AddressGroups[i].Addresses = sorted(d.AddressGroups[i].Addresses)
	}
	for i := range d.QoSPolicies {
		p := &d.QoSPolicies[i]
		byID(p.Rules, func(r QoSRule) string { return r.ID })
		p.Rules, p.Tags = none(p.Rules), sorted(p.Tags)
	}
	for i := range d.Trunks {
		t := &d.Trunks[i]
		slices.SortFunc(t.SubPorts, func(a, b SubPort) int { return strings.Compare(a.PortID, b.PortID) })
		t.SubPorts, t.Tags = none(t.SubPorts), sorted(t.Tags)
	}
	slices.SortFunc(d.LeftOut, func(a, b LeftOut) int {
		return cmp.Or(strings.Compare(a.Name(), b.Name()), strings.Compare(a.ID, b.ID))
	})
	d.LeftOut = none(d.LeftOut)
}

// sorted is a list whose order means nothing; an empty one of a missing one.
func sorted(list []string) []string {
	slices.Sort(list)
	return none(list)
}

// shared looks at what this file has.
func (c *checker) shared() {
	known := map[string]map[string]bool{}
	note := func(kind, id string) {
		c.id(kind, id)
		if known[kind] == nil {
			known[kind] = map[string]bool{}
		}
		known[kind][id] = true
	}
	refer := func(kind, id, field, of string, value *string) {
		if value != nil && !known[of][*value] {
			c.fault(kind, id, field, *value, "want the id of a "+of+" of this document")
		}
	}
	for _, v := range c.d.AddressScopes {
		note("address_scope", v.ID)
	}
	for _, v := range c.d.SubnetPools {
		note("subnetpool", v.ID)
		refer("subnetpool", v.ID, "address_scope_id", "address_scope", v.AddressScopeID)
	}
	for _, v := range c.d.AddressGroups {
		note("address_group", v.ID)
	}
	for _, v := range c.d.QoSPolicies {
		note("qos_policy", v.ID)
		for _, r := range v.Rules {
			c.id("qos_rule", r.ID)
			if types := []string{BandwidthLimit, DSCPMarking, MinimumBandwidth, PacketRateLimit,
				MinimumPacketRate}; !slices.Contains(types, r.Type) {
				c.fault("qos_policy", v.ID, "rules", r.Type, "want one of "+strings.Join(types, ", "))
			}
		}
	}
	for _, r := range c.d.SecurityGroupRules {
		refer("security_group_rule", r.ID, "remote_address_group_id", "address_group", r.RemoteAddressGroupID)
	}
	for _, n := range c.d.Networks {
		refer("network", n.ID, "qos_policy_id", "qos_policy", n.QoSPolicyID)
	}
	for _, s := range c.d.Subnets {
		refer("subnet", s.ID, "subnetpool_id", "subnetpool", s.SubnetPoolID)
	}
	known["port"], known["network"], known["security_group"] = map[string]bool{}, map[string]bool{}, map[string]bool{}
	for _, p := range c.d.Ports {
		known["port"][p.ID] = true
		refer("port", p.ID, "qos_policy_id", "qos_policy", p.QoSPolicyID)
	}
	for _, n := range c.d.Networks {
		known["network"][n.ID] = true
	}
	for _, g := range c.d.SecurityGroups {
		known["security_group"][g.ID] = true
	}
	trunked := map[string]string{}
	for _, t := range c.d.Trunks {
		c.id("trunk", t.ID)
		for _, p := range append([]SubPort{{PortID: t.PortID}}, t.SubPorts...) {
			refer("trunk", t.ID, "port_id", "port", &p.PortID)
			if before := trunked[p.PortID]; before != "" {
				c.fault("trunk", t.ID, "port_id", p.PortID, "want one that no other trunk has; "+before+" has it")
			}
			trunked[p.PortID] = t.ID
			if p.SegmentationType != "" && (p.SegmentationType != "vlan" || p.SegmentationID < 1 || p.SegmentationID > 4094) {
				c.fault("trunk", t.ID, "sub_ports", p.SegmentationType+" "+strconv.Itoa(p.SegmentationID), "want vlan and 1 to 4094")
			}
		}
	}
	for _, r := range c.d.RBACPolicies {
		c.id("rbac_policy", r.ID)
		if RBACTypes[r.ObjectType] == "" {
			c.fault("rbac_policy", r.ID, "object_type", r.ObjectType, "want one of "+strings.Join(slices.Sorted(maps.Keys(RBACTypes)), ", "))
			continue
		}
		refer("rbac_policy", r.ID, "object_id", RBACTypes[r.ObjectType], &r.ObjectID)
	}
}

// Tagged is an object that can have tags.
type Tagged struct {
	Kind, ID string
	Tags     []string
}

// Tagged are all objects that can have tags.
func (d *Document) Tagged() (out []Tagged) {
	for _, v := range d.SecurityGroups {
		out = append(out, Tagged{"security_group", v.ID, v.Tags})
	}
	for _, v := range d.Networks {
		out = append(out, Tagged{"network", v.ID, v.Tags})
	}
	for _, v := range d.Subnets {
		out = append(out, Tagged{"subnet", v.ID, v.Tags})
	}
	for _, v := range d.Ports {
		out = append(out, Tagged{"port", v.ID, v.Tags})
	}
	for _, v := range d.SubnetPools {
		out = append(out, Tagged{"subnetpool", v.ID, v.Tags})
	}
	for _, v := range d.QoSPolicies {
		out = append(out, Tagged{"qos_policy", v.ID, v.Tags})
	}
	for _, v := range d.Trunks {
		out = append(out, Tagged{"trunk", v.ID, v.Tags})
	}
	for _, v := range d.Routers {
		out = append(out, Tagged{"router", v.ID, v.Tags})
	}
	for _, v := range d.FloatingIPs {
		out = append(out, Tagged{"floatingip", v.ID, v.Tags})
	}
	return out
}

// MadeByNeutron are the RBAC policies of a platform that Neutron makes by itself when it makes a network that is shared or
// external: those that are to be the document's under another ID, and those that the document does not have.
func (d *Document) MadeByNeutron(is *Document) (known, extra map[string]bool) {
	networks := map[string]Network{}
	for _, n := range d.Networks {
		networks[n.ID] = n
	}
	has := map[RBACPolicy]string{}
	key := func(r RBACPolicy) RBACPolicy { r.ID, r.ProjectID = "", ""; return r }
	for _, r := range d.RBACPolicies {
		has[key(r)] = r.ID
	}
	known, extra = map[string]bool{}, map[string]bool{}
	for _, r := range is.RBACPolicies {
		n, ok := networks[r.ObjectID]
		id, said := has[key(r)]
		switch {
		case !ok || r.ObjectType != "network" || r.Target != Everybody || r.ProjectID != n.ProjectID || id == r.ID:
		case said:
			known[r.ID] = true
		case n.External && r.Action == AsExternal:
			extra[r.ID] = true
		}
	}
	return known, extra
}

// Needs are the extensions that a platform must have for what a document carries over, and an object that needs each.
func (d *Document) Needs() map[string]string {
	out := map[string]string{}
	need := func(alias string, cond bool, kind, id, field string) {
		if cond && out[alias] == "" {
			out[alias] = strings.TrimSuffix(kind+" "+id+" "+field, " ")
		}
	}
	for _, v := range d.AddressScopes {
		need("address-scope", true, "address_scope", v.ID, "")
	}
	for _, v := range d.SubnetPools {
		need("subnet_allocation", true, "subnetpool", v.ID, "")
		need("default-subnetpools", v.IsDefault, "subnetpool", v.ID, "is_default")
	}
	for _, v := range d.AddressGroups {
		need("address-group", true, "address_group", v.ID, "")
	}
	for _, v := range d.QoSPolicies {
		need("qos", true, "qos_policy", v.ID, "")
		need("qos-default", v.IsDefault, "qos_policy", v.ID, "is_default")
		for _, r := range v.Rules {
			need("qos-bw-limit-direction", r.Type == BandwidthLimit && r.Direction != nil && *r.Direction != "egress", "qos_policy", v.ID, r.Type)
			need("qos-pps", r.Type == PacketRateLimit, "qos_policy", v.ID, r.Type)
			need("qos-pps-minimum", r.Type == MinimumPacketRate, "qos_policy", v.ID, r.Type)
		}
	}
	for _, v := range d.SecurityGroups {
		need("stateful-security-group", !v.Stateful, "security_group", v.ID, "stateful")
	}
	for _, v := range d.SecurityGroupRules {
		need("security-groups-remote-address-group", v.RemoteAddressGroupID != nil, "security_group_rule", v.ID, "remote_address_group_id")
	}
	for _, v := range d.Networks {
		need("external-net", v.External, "network", v.ID, "router:external")
		need("auto-allocated-topology", v.IsDefault, "network", v.ID, "is_default")
		need("dns-integration", v.DNSDomain != "", "network", v.ID, "dns_domain")
		need("multi-provider", len(v.Segments) > 1, "network", v.ID, "segments")
		need("port-security", !v.PortSecurity, "network", v.ID, "port_security_enabled")
	}
	for _, v := range d.Subnets {
		need("subnet-service-types", len(v.ServiceTypes) > 0, "subnet", v.ID, "service_types")
	}
	for _, v := range d.Ports {
		need("extra_dhcp_opt", len(v.DHCPOptions) > 0, "port", v.ID, "extra_dhcp_opts")
		need("dns-integration", v.DNSName != "", "port", v.ID, "dns_name")
		need("dns-domain-ports", v.DNSDomain != "", "port", v.ID, "dns_domain")
		need("uplink-status-propagation", v.PropagateUplink != nil, "port", v.ID, "propagate_uplink_status")
		need("port-security", !v.PortSecurity, "port", v.ID, "port_security_enabled")
		need("allowed-address-pairs", len(v.AllowedPairs) > 0, "port", v.ID, "allowed_address_pairs")
	}
	for _, v := range d.Trunks {
		need("trunk", true, "trunk", v.ID, "")
	}
	for _, v := range d.Routers {
		need("router", true, "router", v.ID, "")
		need("ext-gw-mode", !v.EnableSNAT, "router", v.ID, "enable_snat")
		need("extraroute", len(v.Routes) > 0, "router", v.ID, "routes")
	}
	for _, v := range d.FloatingIPs {
		need("router", true, "floatingip", v.ID, "")
	}
	for _, v := range d.RBACPolicies {
		alias := map[string]string{"security_group": "rbac-security-groups", "address_group": "rbac-address-group",
			"address_scope": "rbac-address-scope", "subnetpool": "rbac-subnetpool"}[v.ObjectType]
		need(cmp.Or(alias, "rbac-policies"), true, "rbac_policy", v.ID, v.ObjectType)
	}
	for _, v := range d.Tagged() {
		need("standard-attr-tag", len(v.Tags) > 0, v.Kind, v.ID, "tags")
	}
	return out
}
