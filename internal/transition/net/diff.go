package net

import (
	"cmp"
	"encoding/json"
	"maps"
	"slices"
)

// Severities of differences.
const (
	Error   = "error"   // traffic, or who may send it, is not as it was
	Warning = "warning" // what people see differs: a name, a description
)

// Difference is one field of one object that is not equal on both sides. Where an object is
// on one side only, Field is "object", and the other side is null.
type Difference struct {
	Kind     string          `json:"kind"` // one of Kinds
	ID       string          `json:"id"`
	Field    string          `json:"field"`
	Old      json.RawMessage `json:"old"`
	New      json.RawMessage `json:"new"`
	Severity string          `json:"severity"`
}

// Kinds are the kinds of objects, in the order in which they are made.
func Kinds() []string {
	return []string{"agent", "address_scope", "subnetpool", "address_group", "qos_policy", "security_group",
		"security_group_rule", "network", "subnet", "port", "trunk", "router", "floatingip", "rbac_policy"}
}

// present stands for an object as a whole.
var present = json.RawMessage(`"present"`)

// reported are the fields of an agent that it makes itself when it reports to its server for the first time, which takes
// the row of its kind and host for its own, or makes one with another ID (create_or_update_agent of neutron/db/agents_db.py).
var reported = []string{"id", "topic", "availability_zone", "configurations"}

// Diff compares two documents both ways, field by field. Agents are the same when they are of one kind and host; what they
// report is not compared, and those that only the second one has are not told. The error is of a document that can not be
// written as JSON.
func Diff(was, is *Document) ([]Difference, error) {
	before, err := was.objects()
	if err != nil {
		return nil, err
	}
	after, err := is.objects()
	if err != nil {
		return nil, err
	}
	out := []Difference{}
	extra := was.extraAddresses()
	for _, kind := range Kinds() {
		a, b := before[kind], after[kind]
		for _, key := range union(a, b) {
			x, hasX := a[key]
			y, hasY := b[key]
			var id string
			if err := json.Unmarshal([]byte(cmp.Or(string(x["id"]), string(y["id"]))), &id); err != nil {
				return nil, err
			}
			switch {
			case !hasY:
				out = append(out, Difference{kind, id, "object", present, nil, Error})
			case !hasX && kind == "agent": // the platform's own, of another host or kind
			case !hasX:
				out = append(out, Difference{kind, id, "object", nil, present, Error})
			default:
				out = append(out, fields(kind, id, x, y)...)
			}
		}
	}
	for i, x := range out {
		if extra(x) {
			out[i].Severity = Warning
		}
	}
	return out, nil
}

func fields(kind, id string, x, y map[string]json.RawMessage) (out []Difference) {
	for _, f := range union(x, y) {
		if string(x[f]) == string(y[f]) || kind == "agent" && slices.Contains(reported, f) || f == PlugField &&
			samePlug(x[f], y[f]) || f == BindingField && boundNow(x[f], y[f]) {
			continue
		}
		severity := Error
		if f == "name" || f == "description" {
			severity = Warning
		}
		out = append(out, Difference{kind, id, f, x[f], y[f], severity})
	}
	return out
}

// PlugField is the field of a port that has VIFDetails.
const PlugField = "binding:vif_details"

// BindingField is the field of a port that has VIFType.
const BindingField = "binding:vif_type"

// Types of an interface while its port is not bound: Neutron binds a port in a transaction after the one that makes it,
// and fails where the host has no living agent that reaches the network.
const (
	unbound = "unbound"
	failed  = "binding_failed"
)

// Unbound reports whether a port is not bound to a host, by the type of its interface as the API tells it.
func Unbound(vifType string) bool { return vifType == unbound || vifType == failed }

// NotBound reports whether a difference is that of a port which the platform has, and has not bound.
func NotBound(x Difference) bool {
	var is string
	return x.Kind == "port" && x.Field == BindingField && json.Unmarshal(x.New, &is) == nil && Unbound(is)
}

// boundNow reports whether a platform has bound a port that the document's platform could not: its agent was silent there.
func boundNow(document, platform json.RawMessage) bool {
	var says, is string
	return json.Unmarshal(document, &says) == nil && json.Unmarshal(platform, &is) == nil && says == failed && !Unbound(is)
}

// samePlug reports whether a platform has what a document says of how a port is plugged: a document that says nothing
// of it differs from none, and a platform that says nothing means false.
func samePlug(document, platform json.RawMessage) bool {
	var says, is VIFDetails
	if json.Unmarshal(document, &says) != nil || json.Unmarshal(platform, &is) != nil {
		return false
	}
	return says.HybridPlug == nil || *says.HybridPlug == (is.HybridPlug != nil && *is.HybridPlug)
}

func union[V any](a, b map[string]V) []string {
	keys := slices.Collect(maps.Keys(a))
	for k := range b {
		if _, both := a[k]; !both {
			keys = append(keys, k)
		}
	}
	slices.Sort(keys)
	return keys
}

// objects are all objects by kind and by what stands for them, their fields as JSON.
func (d *Document) objects() (map[string]map[string]map[string]json.RawMessage, error) {
	text, err := json.Marshal(map[string]any{"agent": d.Agents, "address_scope": d.AddressScopes,
		"subnetpool": d.SubnetPools, "address_group": d.AddressGroups,
		"qos_policy": d.QoSPolicies, "security_group": d.SecurityGroups, "security_group_rule": d.SecurityGroupRules,
		"network": d.Networks, "subnet": d.Subnets,
		"port": d.Ports, "trunk": d.Trunks, "router": d.Routers, "floatingip": d.FloatingIPs, "rbac_policy": d.RBACPolicies})
	if err != nil {
		return nil, err
	}
	var lists map[string][]map[string]json.RawMessage
	if err := json.Unmarshal(text, &lists); err != nil {
		return nil, err
	}
	out := map[string]map[string]map[string]json.RawMessage{}
	for kind, list := range lists {
		out[kind] = map[string]map[string]json.RawMessage{}
		for _, o := range list {
			key := string(o["id"])
			if kind == "agent" {
				key = string(o["binary"]) + string(o["host"])
			}
			out[kind][key] = o
		}
	}
	return out, nil
}
