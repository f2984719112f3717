// Package net describes the network of a platform as one document: what Neutron knows of
// agents, security groups, networks, subnets, ports and what belongs to these, with the names of fields that
// Neutron's API gives them. It checks a document, and compares two. It does no I/O.
package net

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"holdfast/internal/lib/strictyaml"
)

// Version is that of the files that this program writes and reads. Documents of version 1 did not say what they left out, and
// had rules without their address groups.
const Version = 2

// Document is the network of a platform. Its lists are in the order of the objects' IDs.
type Document struct {
	Version            int            `json:"version"`
	Agents             []Agent        `json:"agents"`
	AddressScopes      []AddressScope `json:"address_scopes"`
	SubnetPools        []SubnetPool   `json:"subnetpools"`
	AddressGroups      []AddressGroup `json:"address_groups"`
	QoSPolicies        []QoSPolicy    `json:"qos_policies"`
	SecurityGroups     []Group        `json:"security_groups"`
	SecurityGroupRules []Rule         `json:"security_group_rules"`
	Networks           []Network      `json:"networks"`
	Subnets            []Subnet       `json:"subnets"`
	Ports              []Port         `json:"ports"`
	Trunks             []Trunk        `json:"trunks"`
	Routers            []Router       `json:"routers"`
	FloatingIPs        []FloatingIP   `json:"floatingips"`
	RBACPolicies       []RBACPolicy   `json:"rbac_policies"`
	LeftOut            []LeftOut      `json:"left_out"`
}

// Agent is a network agent of a host. Configurations is the JSON object that it reports; a
// port is bound by what it says of bridges and of the datapath.
type Agent struct {
	ID             string          `json:"id"`
	AgentType      string          `json:"agent_type"`
	Binary         string          `json:"binary"`
	Topic          string          `json:"topic"`
	Host           string          `json:"host"`
	AdminStateUp   bool            `json:"admin_state_up"`
	Zone           string          `json:"availability_zone"`
	Description    string          `json:"description"`
	Configurations json.RawMessage `json:"configurations"`
}

// Group is a security group. That of the name "default" is the one which Neutron makes for
// each project by itself.
type Group struct {
	ID          string   `json:"id"`
	ProjectID   string   `json:"project_id"`
	Name        string   `json:"name"`
	Description string   `json:"description"`
	Stateful    bool     `json:"stateful"`
	Tags        []string `json:"tags"`
}

// Default is the name of the group that Neutron makes for each project.
const Default = "default"

// Rule is a rule of a security group. A null field means any.
type Rule struct {
	ID                   string  `json:"id"`
	ProjectID            string  `json:"project_id"`
	SecurityGroupID      string  `json:"security_group_id"`
	Direction            string  `json:"direction"` // ingress or egress
	EtherType            string  `json:"ethertype"` // IPv4 or IPv6
	Protocol             *string `json:"protocol"`
	PortRangeMin         *int    `json:"port_range_min"`
	PortRangeMax         *int    `json:"port_range_max"`
	RemoteIPPrefix       *string `json:"remote_ip_prefix"`
	RemoteGroupID        *string `json:"remote_group_id"`
	RemoteAddressGroupID *string `json:"remote_address_group_id"`
	Description          string  `json:"description"`
}

// Automatic reports whether a rule is of the form that Neutron gives a new group by itself:
// all that leaves.
func (r Rule) Automatic() bool {
	return r.Direction == "egress" && r.Protocol == nil && r.PortRangeMin == nil && r.PortRangeMax == nil &&
		r.RemoteIPPrefix == nil && r.RemoteGroupID == nil && r.RemoteAddressGroupID == nil
}

// Segment is a part of the physical network. PhysicalNetwork is "" and SegmentationID null
// where the type has none.
type Segment struct {
	NetworkType     string `json:"provider:network_type"`
	PhysicalNetwork string `json:"provider:physical_network"`
	SegmentationID  *int   `json:"provider:segmentation_id"`
}

// Network is a network with its segments, at least one. MTU is in bytes.
type Network struct {
	ID           string    `json:"id"`
	ProjectID    string    `json:"project_id"`
	Name         string    `json:"name"`
	Description  string    `json:"description"`
	AdminStateUp bool      `json:"admin_state_up"`
	Shared       bool      `json:"shared"`
	External     bool      `json:"router:external"`
	PortSecurity bool      `json:"port_security_enabled"`
	MTU          int       `json:"mtu"`
	Segments     []Segment `json:"segments"`
	IsDefault    bool      `json:"is_default"` // the external network that projects get when they name none
	QoSPolicyID  *string   `json:"qos_policy_id"`
	DNSDomain    string    `json:"dns_domain"`
	Tags         []string  `json:"tags"`
}

// Pool is a range of addresses, both ends in it.
type Pool struct {
	Start string `json:"start"`
	End   string `json:"end"`
}

// Route is a route that a subnet's guests are told.
type Route struct {
	Destination string `json:"destination"`
	NextHop     string `json:"nexthop"`
}

// Subnet is a range of addresses of a network. GatewayIP is null where there is none.
type Subnet struct {
	ID             string   `json:"id"`
	ProjectID      string   `json:"project_id"`
	NetworkID      string   `json:"network_id"`
	Name           string   `json:"name"`
	Description    string   `json:"description"`
	IPVersion      int      `json:"ip_version"`
	CIDR           string   `json:"cidr"`
	GatewayIP      *string  `json:"gateway_ip"`
	EnableDHCP     bool     `json:"enable_dhcp"`
	RAMode         *string  `json:"ipv6_ra_mode"`
	AddressMode    *string  `json:"ipv6_address_mode"`
	DNSNameservers []string `json:"dns_nameservers"`
	Pools          []Pool   `json:"allocation_pools"`
	HostRoutes     []Route  `json:"host_routes"`
	SubnetPoolID   *string  `json:"subnetpool_id"`
	ServiceTypes   []string `json:"service_types"` // owners of the ports that get addresses of it; none: all
	Tags           []string `json:"tags"`
}

// FixedIP is an address of a port.
type FixedIP struct {
	SubnetID  string `json:"subnet_id"`
	IPAddress string `json:"ip_address"`
}

// Pair is an address, or a range of them, from which a port may send, too.
type Pair struct {
	IPAddress  string `json:"ip_address"`
	MACAddress string `json:"mac_address"`
}

// Port is a port. VIFType is what the target makes of the host and its agent: it is
// compared, and never sent.
type Port struct {
	ID           string          `json:"id"`
	ProjectID    string          `json:"project_id"`
	NetworkID    string          `json:"network_id"`
	Name         string          `json:"name"`
	Description  string          `json:"description"`
	AdminStateUp bool            `json:"admin_state_up"`
	MACAddress   string          `json:"mac_address"`
	FixedIPs     []FixedIP       `json:"fixed_ips"`
	DeviceID     string          `json:"device_id"`
	DeviceOwner  string          `json:"device_owner"`
	Groups       []string        `json:"security_groups"`
	AllowedPairs []Pair          `json:"allowed_address_pairs"`
	PortSecurity bool            `json:"port_security_enabled"`
	HostID       string          `json:"binding:host_id"`
	VNICType     string          `json:"binding:vnic_type"`
	VIFType      string          `json:"binding:vif_type"`
	VIFDetails   VIFDetails      `json:"binding:vif_details"`
	Profile      json.RawMessage `json:"binding:profile"`
	DHCPOptions  []DHCPOption    `json:"extra_dhcp_opts"`
	// PropagateUplink: the guest's link goes down with the host's. null of ports whose interface has no such thing.
	PropagateUplink *bool    `json:"propagate_uplink_status,omitempty"`
	QoSPolicyID     *string  `json:"qos_policy_id"`
	DNSName         string   `json:"dns_name"`
	DNSDomain       string   `json:"dns_domain"`
	Tags            []string `json:"tags"`
}

// VIFDetails is of binding:vif_details what a host must agree with. The rest is what the
// target's driver makes of the agent, and differs with releases.
type VIFDetails struct {
	// HybridPlug says that the guest's interface is on a Linux bridge of its own, which a pair
	// of veth interfaces joins to br-int; false: it is on br-int itself. null is not said, which
	// Nova takes for false. Neutron sets it by what the host's agent reports, for all ports
	// of a host alike; the API does not take it.
	HybridPlug *bool `json:"ovs_hybrid_plug,omitempty"`
}

// Counts are the numbers of objects by kind.
func (d *Document) Counts() map[string]int {
	return map[string]int{"agent": len(d.Agents), "address_scope": len(d.AddressScopes),
		"subnetpool": len(d.SubnetPools), "address_group": len(d.AddressGroups),
		"qos_policy": len(d.QoSPolicies), "security_group": len(d.SecurityGroups),
		"security_group_rule": len(d.SecurityGroupRules), "network": len(d.Networks),
		"subnet": len(d.Subnets), "port": len(d.Ports), "trunk": len(d.Trunks), "router": len(d.Routers),
		"floatingip": len(d.FloatingIPs), "rbac_policy": len(d.RBACPolicies)}
}

// Parse reads a document, JSON or YAML, that stood in a file of a name. Its errors are of
// type *Faults, as those of Check are.
func Parse(file string, data []byte) (*Document, error) {
	d, err := ParseAny(file, data)
	if err != nil {
		return nil, err
	}
	return d, d.Check(file)
}

// ParseAny is Parse of a document that need not be one that can be applied.
func ParseAny(file string, data []byte) (*Document, error) {
	d := &Document{}
	if err := decode(file, data, d, &d.Version); err != nil {
		return nil, err
	}
	d.Normalize()
	return d, nil
}

// anew is what to do about a file of another version, or one that is not whole.
const anew = ": export it anew"

// ParseKept is Parse of what apply has kept, which need not be a document that can be applied and can not be exported.
func ParseKept(file string, data []byte) (*Document, error) {
	d, err := ParseAny(file, data)
	var f *Faults
	if errors.As(err, &f) {
		for i, line := range f.Lines {
			f.Lines[i] = strings.TrimSuffix(line, anew)
		}
	}
	return d, err
}

// decode reads a file of this program's version into v.
func decode(file string, data []byte, v any, version *int) error {
	text := bytes.TrimSpace(data)
	if len(text) == 0 {
		return &Faults{[]string{fmt.Sprintf("%s: the file is empty: export it anew", file)}}
	}
	dec := strictyaml.Decode(data, v)
	var bad *json.SyntaxError
	if len(dec.Faults) > 0 && text[0] == '{' && errors.As(json.Unmarshal(data, new(json.RawMessage)), &bad) {
		return &Faults{[]string{fmt.Sprintf("%s:%d: malformed JSON: the file may be cut off here: export it anew", file,
			1+bytes.Count(data[:min(int(bad.Offset), len(data))], []byte("\n")))}}
	}
	if len(dec.Faults) > 0 {
		lines := make([]string, 0, len(dec.Faults))
		for _, f := range dec.Faults {
			lines = append(lines, f.In(file))
		}
		return &Faults{lines}
	}
	if *version != Version {
		return &Faults{[]string{fmt.Sprintf("%s: version: value %d: want %d, as this program writes it: export it anew",
			file, *version, Version)}}
	}
	return nil
}

// Faults are all that is wrong with a document, a line each: the file, the kind and ID of
// the object, the field, its value and what is allowed.
type Faults struct{ Lines []string }

// Error gives all lines.
func (f *Faults) Error() string { return strings.Join(f.Lines, "\n") }

// Normalize brings what means the same into one form: the order of objects and of lists
// whose order means nothing, MAC addresses in small letters, JSON without spaces.
func (d *Document) Normalize() {
	byID(d.Agents, func(a Agent) string { return a.ID })
	byID(d.SecurityGroups, func(g Group) string { return g.ID })
	byID(d.SecurityGroupRules, func(r Rule) string { return r.ID })
	byID(d.Networks, func(n Network) string { return n.ID })
	byID(d.Subnets, func(s Subnet) string { return s.ID })
	byID(d.Ports, func(p Port) string { return p.ID })
	for i := range d.Agents {
		d.Agents[i].Configurations = object(d.Agents[i].Configurations)
	}
	for i := range d.SecurityGroups {
		d.SecurityGroups[i].Tags = sorted(d.SecurityGroups[i].Tags)
	}
	for i := range d.Networks {
		slices.SortFunc(d.Networks[i].Segments, func(a, b Segment) int { return strings.Compare(a.String(), b.String()) })
		d.Networks[i].Tags = sorted(d.Networks[i].Tags)
	}
	for i := range d.Subnets {
		s := &d.Subnets[i]
		slices.SortFunc(s.Pools, func(a, b Pool) int { return cmp.Compare(a.Start, b.Start) })
		slices.SortFunc(s.HostRoutes, func(a, b Route) int { return cmp.Compare(a.Destination+a.NextHop, b.Destination+b.NextHop) })
		s.Pools, s.HostRoutes, s.DNSNameservers = none(s.Pools), none(s.HostRoutes), none(s.DNSNameservers)
		s.ServiceTypes, s.Tags = sorted(s.ServiceTypes), sorted(s.Tags)
	}
	for i := range d.Ports {
		p := &d.Ports[i]
		if p.VNICType == "normal" {
			p.PropagateUplink = nil // read by the agent of SR-IOV alone
		}
		p.MACAddress, p.Profile = strings.ToLower(p.MACAddress), object(p.Profile)
		slices.SortFunc(p.FixedIPs, func(a, b FixedIP) int { return cmp.Compare(a.SubnetID+a.IPAddress, b.SubnetID+b.IPAddress) })
		slices.SortFunc(p.AllowedPairs, func(a, b Pair) int { return cmp.Compare(a.IPAddress+a.MACAddress, b.IPAddress+b.MACAddress) })
		slices.Sort(p.Groups)
		for j := range p.DHCPOptions {
			p.DHCPOptions[j].IPVersion = cmp.Or(p.DHCPOptions[j].IPVersion, 4)
		}
		slices.SortFunc(p.DHCPOptions, func(a, b DHCPOption) int {
			return cmp.Or(strings.Compare(a.Name, b.Name), cmp.Compare(a.IPVersion, b.IPVersion), strings.Compare(a.Value, b.Value))
		})
		p.FixedIPs, p.AllowedPairs, p.Groups, p.DHCPOptions, p.Tags = none(p.FixedIPs), none(p.AllowedPairs),
			none(p.Groups), none(p.DHCPOptions), sorted(p.Tags)
	}
	d.normalizeShared()
	d.normalizeRouters()
}

// String is TYPE, PHYSICAL NETWORK and NUMBER with slashes between.
func (s Segment) String() string {
	n := ""
	if s.SegmentationID != nil {
		n = fmt.Sprint(*s.SegmentationID)
	}
	return s.NetworkType + "/" + s.PhysicalNetwork + "/" + n
}

func byID[T any](list []T, id func(T) string) {
	slices.SortStableFunc(list, func(a, b T) int { return strings.Compare(id(a), id(b)) })
}

// none makes an empty list of a missing one.
func none[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}

// object is a JSON object with its keys in order; {} for none, and what is no JSON as it is.
func object(raw json.RawMessage) json.RawMessage {
	if len(bytes.TrimSpace(raw)) == 0 || string(raw) == "null" || string(raw) == `""` {
		return json.RawMessage("{}")
	}
	var v any
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	if dec.Decode(&v) != nil {
		return raw
	}
	out, err := json.Marshal(v)
	if err != nil {
		return raw
	}
	return out
}
