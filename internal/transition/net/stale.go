package net

import (
	"encoding/json"
	"slices"
)

// Stale is what a platform has of an earlier document, as that has it, where a later one has something else: the old
// platform has changed it since. Objects are named by kind and ID.
type Stale struct {
	// the later document does not have them, or has such that can only be made anew: they are to be removed
	Gone    map[string]map[string]bool
	Changed map[string]map[string]map[string]json.RawMessage // fields that can be changed, and what they are to be
}

// changeable are the fields of objects that others depend on which Neutron lets an administrator change. A port and a
// rule are made anew instead, as nothing depends on them.
var changeable = map[string][]string{
	"security_group": {"name", "description"},
	"network": {"name", "description", "admin_state_up", "shared", "port_security_enabled", "mtu", "is_default",
		"qos_policy_id", "dns_domain"},
	"subnet": {"name", "description", "gateway_ip", "enable_dhcp", "dns_nameservers", "allocation_pools", "host_routes", ServiceTypes},
}

// ByRows are the kinds of objects that are written into Neutron's database: its API chooses their IDs, or those of their parts.
var ByRows = []string{"address_scope", "subnetpool", "address_group", "qos_policy", "trunk", "router", "floatingip", "rbac_policy"}

// TagsField is the field of an object that has its tags.
const TagsField = "tags"

// later are the fields, by kind, that are set after all objects were made, as the API takes them not at all, not for each port
// of a network, or only as the platform's settings have it. All are written into the database but ServiceTypes, which the API
// takes then: before, it would refuse ports that were made before a subnet had these.
var later = map[string][]string{"network": {"qos_policy_id"}, "subnet": {ServiceTypes}, "qos_policy": {"is_default"},
	"port": {"dns_name", "dns_domain"}}

// ServiceTypes is the field of a subnet that has the owners of the ports that get addresses of it.
const ServiceTypes = "service_types"

// Later reports whether a field of a kind is one of those.
func Later(kind, field string) bool { return field == TagsField || slices.Contains(later[kind], field) }

// ToCome reports whether a difference is that of a field which comes later, and is not there yet: nothing is there, or the QoS
// policy that Neutron gives each network of a project.
func (d *Document) ToCome(x Difference) bool {
	if !Later(x.Kind, x.Field) {
		return false
	}
	unset := slices.Contains([]string{"null", `""`, "[]", "false"}, string(x.New))
	return unset || x.Kind == "network" && slices.ContainsFunc(d.QoSPolicies,
		func(p QoSPolicy) bool { return p.IsDefault && string(x.New) == `"`+p.ID+`"` })
}

func canChange(kind, field string) bool {
	return field == TagsField || slices.Contains(ByRows, kind) || slices.Contains(changeable[kind], field)
}

// FindStale says what of a platform is stale. was is the earlier document, left are the differences of the later one and
// the platform, and touched those of the earlier one and the platform: what somebody has changed there is not stale.
func FindStale(was *Document, left, touched []Difference) (*Stale, error) {
	had, err := was.objects()
	if err != nil {
		return nil, err
	}
	type name struct{ kind, id string }
	theirs := map[name]bool{}
	for _, x := range touched {
		closed := x.Kind == "subnet" && x.Field == ServiceTypes && string(x.New) == "[]" // while ports were made
		if x.Field != PlugField && !ExtraAddresses(x) && !closed {                       // Neutron sets these by itself
			theirs[name{x.Kind, x.ID}] = true
		}
	}
	ours := func(x Difference) bool {
		id, err := json.Marshal(x.ID)
		_, had := had[x.Kind][string(id)]
		return err == nil && had && !theirs[name{x.Kind, x.ID}]
	}
	s := &Stale{Gone: map[string]map[string]bool{}, Changed: map[string]map[string]map[string]json.RawMessage{}}
	for _, x := range left {
		switch {
		case x.Kind == "agent" || x.Field == PlugField || ExtraAddresses(x) || x.Field == "object" && x.New == nil || !ours(x):
		case x.Field == "object" || x.Kind == "port" || x.Kind == "security_group_rule":
			put(s.Gone, x.Kind, x.ID, true)
		case canChange(x.Kind, x.Field):
			fields := s.Changed[x.Kind][x.ID]
			if fields == nil {
				fields = map[string]json.RawMessage{}
				put(s.Changed, x.Kind, x.ID, fields)
			}
			fields[x.Field] = x.Old
		}
	}
	return s, nil
}

func put[V any](m map[string]map[string]V, kind, id string, v V) {
	if m[kind] == nil {
		m[kind] = map[string]V{}
	}
	m[kind][id] = v
}

// Has reports whether a difference is one that goes with what is stale.
func (s *Stale) Has(x Difference) bool {
	_, changed := s.Changed[x.Kind][x.ID][x.Field]
	return changed || s.Gone[x.Kind][x.ID]
}

// With is a document with the objects of another one that it lacks, by kind and ID. It need not be one that can be applied.
func (d *Document) With(more *Document) *Document {
	return &Document{
		Version:            Version,
		Agents:             with(d.Agents, more.Agents, func(a Agent) string { return a.ID }),
		AddressScopes:      with(d.AddressScopes, more.AddressScopes, func(v AddressScope) string { return v.ID }),
		SubnetPools:        with(d.SubnetPools, more.SubnetPools, func(v SubnetPool) string { return v.ID }),
		AddressGroups:      with(d.AddressGroups, more.AddressGroups, func(v AddressGroup) string { return v.ID }),
		QoSPolicies:        with(d.QoSPolicies, more.QoSPolicies, func(v QoSPolicy) string { return v.ID }),
		Trunks:             with(d.Trunks, more.Trunks, func(v Trunk) string { return v.ID }),
		Routers:            with(d.Routers, more.Routers, func(v Router) string { return v.ID }),
		FloatingIPs:        with(d.FloatingIPs, more.FloatingIPs, func(v FloatingIP) string { return v.ID }),
		RBACPolicies:       with(d.RBACPolicies, more.RBACPolicies, func(v RBACPolicy) string { return v.ID }),
		SecurityGroups:     with(d.SecurityGroups, more.SecurityGroups, func(g Group) string { return g.ID }),
		SecurityGroupRules: with(d.SecurityGroupRules, more.SecurityGroupRules, func(r Rule) string { return r.ID }),
		Networks:           with(d.Networks, more.Networks, func(n Network) string { return n.ID }),
		Subnets:            with(d.Subnets, more.Subnets, func(s Subnet) string { return s.ID }),
		Ports:              with(d.Ports, more.Ports, func(p Port) string { return p.ID }),
	}
}

func with[T any](list, more []T, id func(T) string) []T {
	has := map[string]bool{}
	for _, v := range list {
		has[id(v)] = true
	}
	out := slices.Clone(list)
	for _, v := range more {
		if !has[id(v)] {
			out = append(out, v)
		}
	}
	return out
}
