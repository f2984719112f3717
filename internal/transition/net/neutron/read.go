package neutron

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"reflect"
	"slices"
	"strings"

	"holdfast/internal/lib/fail"
	"holdfast/internal/transition/cloud"
	"holdfast/internal/transition/net"
)

// wireNetwork is a network in the API: one segment in fields of its own, several in a list.
type wireNetwork struct {
	net.Network
	net.Segment
}

func (w wireNetwork) network() net.Network {
	if len(w.Segments) == 0 && w.NetworkType != "" {
		w.Segments = []net.Segment{w.Segment}
	}
	return w.Network
}

// wirePool is a subnet pool in the API: some releases give its lengths as texts.
type wirePool struct {
	net.SubnetPool
	Shared bool `json:"shared"`
}

// UnmarshalJSON reads a subnet pool.
func (w *wirePool) UnmarshalJSON(text []byte) error {
	var all map[string]json.RawMessage
	if err := json.Unmarshal(text, &all); err != nil {
		return err
	}
	for _, name := range []string{"min_prefixlen", "max_prefixlen", "default_prefixlen"} {
		all[name] = bytes.Trim(all[name], `"`)
	}
	text, err := json.Marshal(all)
	if err != nil {
		return err
	}
	var shared struct {
		Shared bool `json:"shared"`
	}
	err = errors.Join(json.Unmarshal(text, &w.SubnetPool), json.Unmarshal(text, &shared))
	w.Shared = shared.Shared
	return err
}

// wireScope and wirePolicy are an address scope and a QoS policy in the API.
type wireScope struct {
	net.AddressScope
	Shared bool `json:"shared"`
}

type wirePolicy struct {
	net.QoSPolicy
	Shared bool              `json:"shared"`
	Parts  []json.RawMessage `json:"rules"`
}

// Read reads everything. groups are security groups that may be there, for Neutron must
// not be asked for all of them before one is known (see owners).
func (c *Client) Read(ctx context.Context, groups []net.Group) (d *net.Document, err error) {
	d = &net.Document{Version: net.Version}
	if d.Agents, err = list(ctx, c, of[net.Agent]{path: "agents", kind: "agent"}, func(a net.Agent) string { return a.ID }); err != nil {
		return nil, err
	}
	networks, err := list(ctx, c, of[wireNetwork]{path: "networks", kind: "network", left: &d.LeftOut,
		absent: wireNetwork{Network: net.Network{PortSecurity: true}}}, func(n wireNetwork) string { return n.ID })
	if err != nil {
		return nil, err
	}
	for _, n := range networks {
		d.Networks = append(d.Networks, n.network())
	}
	if d.Subnets, err = list(ctx, c, of[net.Subnet]{path: "subnets", kind: "subnet", left: &d.LeftOut},
		func(s net.Subnet) string { return s.ID }); err != nil {
		return nil, err
	}
	if d.Ports, err = list(ctx, c, of[net.Port]{path: "ports", kind: "port", left: &d.LeftOut,
		absent: net.Port{PortSecurity: true, VNICType: "normal", VIFType: "unbound"}}, func(p net.Port) string { return p.ID }); err != nil {
		return nil, err
	}
	if err := c.securityGroups(ctx, d, groups); err != nil {
		return nil, err
	}
	if err := c.shared(ctx, d); err != nil {
		return nil, err
	}
	if err := c.others(ctx, d); err != nil {
		return nil, err
	}
	d.Normalize()
	return d, nil
}

// shared reads what networks, subnets, ports and rules refer to, and who may use what, as far as the platform has such.
func (c *Client) shared(ctx context.Context, d *net.Document) error {
	has, err := c.Extensions(ctx)
	if err != nil {
		return err
	}
	if has["rbac-policies"] {
		policies, err := list(ctx, c, of[net.RBACPolicy]{path: "rbac-policies", whole: true, kind: "rbac_policy",
			left: &d.LeftOut}, func(r net.RBACPolicy) string { return r.ID })
		if err != nil {
			return err
		}
		for _, r := range policies {
			if net.RBACTypes[r.ObjectType] == "" {
				d.LeftOut = append(d.LeftOut, net.LeftOut{Kind: "rbac_policy", ID: r.ID})
			} else {
				d.RBACPolicies = append(d.RBACPolicies, r)
			}
		}
		d.SetShared()
	}
	for _, n := range d.Networks {
		if n.Shared {
			d.Share("network", n.ID, n.ProjectID, net.AsShared)
		}
		if n.External && !has["standard-attr-tag"] && !has["tag"] && !has["tag-ext"] { // before Neutron 8: everybody may use it
			d.Share("network", n.ID, n.ProjectID, net.AsExternal)
		}
	}
	if has["address-scope"] {
		scopes, err := list(ctx, c, of[wireScope]{path: "address-scopes", whole: true, kind: "address_scope",
			left: &d.LeftOut, absent: wireScope{AddressScope: net.AddressScope{IPVersion: 4}}}, func(v wireScope) string { return v.ID })
		if err != nil {
			return err
		}
		for _, v := range scopes {
			if strings.HasPrefix(v.Name, net.ProofPrefix) {
				continue
			}
			d.AddressScopes = append(d.AddressScopes, v.AddressScope)
			if v.Shared && !has["rbac-address-scope"] {
				d.Share("address_scope", v.ID, v.ProjectID, net.AsShared)
			}
		}
	}
	if has["subnet_allocation"] {
		pools, err := list(ctx, c, of[wirePool]{path: "subnetpools", whole: true, kind: "subnetpool", left: &d.LeftOut},
			func(v wirePool) string { return v.ID })
		if err != nil {
			return err
		}
		for _, v := range pools {
			d.SubnetPools = append(d.SubnetPools, v.SubnetPool)
			if v.Shared && !has["rbac-subnetpool"] {
				d.Share("subnetpool", v.ID, v.ProjectID, net.AsShared)
			}
		}
	}
	if has["address-group"] {
		d.AddressGroups, err = list(ctx, c, of[net.AddressGroup]{path: "address-groups", whole: true,
			kind: "address_group", left: &d.LeftOut}, func(v net.AddressGroup) string { return v.ID })
		if err != nil {
			return err
		}
	}
	if has["qos"] {
		if err := c.policies(ctx, d, has["rbac-policies"] && (has["standard-attr-tag"] || has["tag"] || has["tag-ext"])); err != nil {
			return err
		}
	}
	if has["router"] {
		if err := c.routers(ctx, d); err != nil {
			return err
		}
	}
	if has["trunk"] {
		d.Trunks, err = list(ctx, c, of[net.Trunk]{path: "trunks", whole: true, kind: "trunk", left: &d.LeftOut},
			func(v net.Trunk) string { return v.ID })
	}
	return err
}

// policies reads QoS policies with their rules. rbac: RBAC policies say who may use them.
func (c *Client) policies(ctx context.Context, d *net.Document, rbac bool) error {
	policies, err := list(ctx, c, of[wirePolicy]{path: "qos/policies", whole: true, key: "policies", kind: "qos_policy",
		left: &d.LeftOut}, func(v wirePolicy) string { return v.ID })
	if err != nil {
		return err
	}
	for _, v := range policies {
		for _, part := range v.Parts {
			var r net.QoSRule
			var all map[string]json.RawMessage
			if err := errors.Join(json.Unmarshal(part, &r), json.Unmarshal(part, &all)); err != nil {
				return fail.Errorf(fail.Failed, "%s %s: %w", "qos_policy", v.ID, err)
			}
			if r.Direction == nil && r.Type == net.BandwidthLimit { // before Neutron 11 the only one
				r.Direction = new("egress")
			}
			v.QoSPolicy.Rules = append(v.QoSPolicy.Rules, r)
			d.LeftOut = append(d.LeftOut, beside("qos_policy.rules", v.ID, names(reflect.TypeFor[net.QoSRule]()), all)...)
		}
		d.QoSPolicies = append(d.QoSPolicies, v.QoSPolicy)
		if v.Shared && !rbac {
			d.Share("qos_policy", v.ID, v.ProjectID, net.AsShared)
		}
	}
	return nil
}

// others notes what is not carried over.
func (c *Client) others(ctx context.Context, d *net.Document) error {
	for _, o := range notCarried {
		type object struct {
			ID      string `json:"id"`
			Project string `json:"tenant_id"` // of a quota
			Default bool   `json:"default"`   // of a range of segments: from the settings
		}
		id := func(v object) string { return cmp.Or(v.ID, v.Project) }
		found, err := list(ctx, c, of[object]{path: o.path, key: o.key, whole: true}, id)
		if cloud.Absent(err) { // a platform without that plug-in
			continue
		}
		if err != nil {
			return err
		}
		for _, v := range found {
			if !v.Default {
				d.LeftOut = append(d.LeftOut, net.LeftOut{Kind: o.kind, ID: id(v)})
			}
		}
	}
	return nil
}

// Extensions are the aliases of what Neutron has beside its core.
func (c *Client) Extensions(ctx context.Context) (map[string]bool, error) {
	var got struct {
		Extensions []struct {
			Alias string `json:"alias"`
		} `json:"extensions"`
	}
	if err := c.get(ctx, "extensions", &got); err != nil {
		return nil, err
	}
	has := map[string]bool{}
	for _, e := range got.Extensions {
		has[e.Alias] = true
	}
	return has, nil
}

// securityGroups reads security groups and rules. Before it answers a list of them, Neutron makes a default group for
// the project in the filter, or else for the one that asks, if that has none. So without Keystone all are asked for
// in the name of a project that has one; with a token, whose project may have none, those of each such project.
func (c *Client) securityGroups(ctx context.Context, d *net.Document, groups []net.Group) error {
	if c.anchor == "" || c.login {
		owners, err := c.owners(ctx, d, groups, c.login)
		if err != nil || len(owners) == 0 {
			return err // no project has a network, a port or one of the groups
		}
		c.anchor = owners[0]
		if c.login {
			for _, project := range owners {
				if err := c.groupsOf(ctx, d, project); err != nil {
					return err
				}
			}
			return nil
		}
	}
	return c.groupsOf(ctx, d, "")
}

func (c *Client) groupsOf(ctx context.Context, d *net.Document, project string) error {
	groups, err := list(ctx, c, of[net.Group]{path: "security-groups", kind: "security_group", project: project,
		left: &d.LeftOut, absent: net.Group{Stateful: true}}, func(g net.Group) string { return g.ID })
	if err != nil {
		return err
	}
	rules, err := list(ctx, c, of[net.Rule]{path: "security-group-rules", kind: "security_group_rule", project: project,
		left: &d.LeftOut}, func(r net.Rule) string { return r.ID })
	d.SecurityGroups, d.SecurityGroupRules = append(d.SecurityGroups, groups...), append(d.SecurityGroupRules, rules...)
	return err
}

// owners are projects that have a default security group already: those that own a network, a port or any group, for
// it was made first. A single group may be asked for without any being made. Without all, the first is enough.
func (c *Client) owners(ctx context.Context, d *net.Document, groups []net.Group, all bool) (out []string, err error) {
	for _, n := range d.Networks {
		out = append(out, n.ProjectID)
	}
	for _, p := range d.Ports {
		out = append(out, p.ProjectID)
	}
	slices.Sort(out)
	out = slices.DeleteFunc(slices.Compact(out), func(p string) bool { return p == "" })
	for _, g := range groups {
		if slices.Contains(out, g.ProjectID) || !all && len(out) > 0 {
			continue
		}
		var got struct {
			Group net.Group `json:"security_group"`
		}
		if err := c.get(ctx, "security-groups/"+g.ID, &got); cloud.Absent(err) {
			continue
		} else if err != nil {
			return nil, err
		}
		if p := got.Group.ProjectID; p != "" && !slices.Contains(out, p) {
			out = append(out, p)
		}
	}
	return out, nil
}

// Rules are those of one group. Asking for the group changes nothing.
func (c *Client) Rules(ctx context.Context, group string) ([]net.Rule, error) {
	var got struct {
		Group *struct {
			Rules []net.Rule `json:"security_group_rules"`
		} `json:"security_group"`
	}
	if err := c.get(ctx, "security-groups/"+group, &got); err != nil {
		return nil, err
	}
	if got.Group == nil {
		return nil, fail.Errorf(fail.Failed, "Neutron's answer for security group %s has no group in it", group)
	}
	return got.Group.Rules, nil
}

// optional are attributes of extensions that a platform may lack: they are sent where they say something.
var optional = []string{"is_default", "dns_domain", "extra_dhcp_opts", "service_types"}

// fields are what is sent of an object of a kind: all of it but what the API only tells, what comes later, and nulls.
func fields(kind string, v any, not ...string) (map[string]any, error) {
	text, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	var out map[string]any
	if err := json.Unmarshal(text, &out); err != nil {
		return nil, err
	}
	for _, f := range not {
		delete(out, f)
	}
	for k, value := range out {
		// null says that there is no gateway
		if net.Later(kind, k) || value == nil && k != "gateway_ip" || slices.Contains(optional, k) &&
			(value == "" || value == false || reflect.DeepEqual(value, []any{})) {
			delete(out, k)
		}
	}
	return out, nil
}

// Group creates a security group.
func (c *Client) Group(ctx context.Context, g net.Group) error {
	body, err := fields("security_group", g)
	if err != nil {
		return err
	}
	return c.Create(ctx, "security-groups", "security_group", g.ID, body)
}

// Rule creates a rule of a security group.
func (c *Client) Rule(ctx context.Context, r net.Rule) error {
	body, err := fields("security_group_rule", r)
	if err != nil {
		return err
	}
	return c.Create(ctx, "security-group-rules", "security_group_rule", r.ID, body)
}

// Network creates a network with its segments.
func (c *Client) Network(ctx context.Context, n net.Network) error {
	body, err := fields("network", n, "segments")
	if err != nil {
		return err
	}
	var segments []map[string]any
	for _, s := range n.Segments {
		f, err := fields("segment", s)
		if err != nil {
			return err
		}
		if s.PhysicalNetwork == "" {
			delete(f, "provider:physical_network")
		}
		segments = append(segments, f)
	}
	if len(segments) == 1 {
		for k, v := range segments[0] {
			body[k] = v
		}
	} else {
		body["segments"] = segments
	}
	return c.Create(ctx, "networks", "network", n.ID, body)
}

// Subnet creates a subnet.
func (c *Client) Subnet(ctx context.Context, s net.Subnet) error {
	body, err := fields("subnet", s)
	if err != nil {
		return err
	}
	return c.Create(ctx, "subnets", "subnet", s.ID, body)
}

// Port creates a port. What the host's agent makes of it is not sent, and neither is an address that is "": Neutron makes it.
func (c *Client) Port(ctx context.Context, p net.Port) error {
	body, err := fields("port", p, net.BindingField, net.PlugField)
	if err != nil {
		return err
	}
	if p.HostID == "" {
		delete(body, "binding:host_id")
	}
	addresses := []map[string]string{}
	for _, ip := range p.FixedIPs {
		a := map[string]string{"subnet_id": ip.SubnetID, "ip_address": ip.IPAddress}
		if ip.IPAddress == "" {
			delete(a, "ip_address")
		}
		addresses = append(addresses, a)
	}
	body[net.AddressesField] = addresses
	return c.Create(ctx, "ports", "port", p.ID, body)
}

// Bind has Neutron bind a port that was made and not bound: the request that made it was cut short in Neutron, is still
// under way there, or met an agent that was taken for dead. It goes to the host that it has in Neutron, if any.
func (c *Client) Bind(ctx context.Context, p net.Port) error {
	opts := c.options()
	opts.OkCodes = []int{http.StatusOK}
	var err error
	for try := range tries {
		var got struct {
			Port net.Port `json:"port"`
		}
		if err := c.get(ctx, "ports/"+p.ID, &got); err != nil {
			return err
		}
		if !net.Unbound(got.Port.VIFType) {
			return nil
		}
		body := map[string]any{"port": map[string]any{"binding:host_id": cmp.Or(got.Port.HostID, p.HostID)}}
		_, err = c.api.Put(ctx, c.api.ServiceURL("ports", p.ID), body, nil, opts)
		if err != nil && !cloud.Passes(err) || !again(ctx, try, err) {
			return explained(ctx, cmp.Or(err, ctx.Err()))
		}
	}
	if err != nil {
		return explained(ctx, err)
	}
	return fail.Because(errNotBound, fail.Failed, fmt.Sprintf("port %s: it is not bound to host %s", p.ID,
		p.HostID)).With("Look into neutron-server's log for why: a network without a mapping on that host, for example.")
}
