package neutron

import (
	"cmp"
	"context"
	"encoding/json"
	"net/http"
	"slices"

	"holdfast/internal/fail"
	"holdfast/internal/transition/cloud"
	"holdfast/internal/transition/net"
)

// only reads one list of an answer, and leaves what stands beside it.
type only[T any] struct {
	key  string
	list []T
}

// UnmarshalJSON reads the list.
func (o *only[T]) UnmarshalJSON(text []byte) error {
	var all map[string]json.RawMessage
	if err := json.Unmarshal(text, &all); err != nil {
		return err
	}
	o.list = nil
	return json.Unmarshal(all[o.key], &o.list)
}

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

// Read reads everything. groups are security groups that may be there, for Neutron must
// not be asked for all of them before one is known (see owners).
func (c *Client) Read(ctx context.Context, groups []net.Group) (d *net.Document, err error) {
	d = &net.Document{Version: net.Version}
	if d.Agents, err = list(ctx, c, "agents", "agents", "", func(a net.Agent) string { return a.ID }); err != nil {
		return nil, err
	}
	networks, err := list(ctx, c, "networks", "networks", "", func(n wireNetwork) string { return n.ID })
	if err != nil {
		return nil, err
	}
	for _, n := range networks {
		d.Networks = append(d.Networks, n.network())
	}
	if d.Subnets, err = list(ctx, c, "subnets", "subnets", "", func(s net.Subnet) string { return s.ID }); err != nil {
		return nil, err
	}
	if d.Ports, err = list(ctx, c, "ports", "ports", "", func(p net.Port) string { return p.ID }); err != nil {
		return nil, err
	}
	if err := c.securityGroups(ctx, d, groups); err != nil {
		return nil, err
	}
	d.Normalize()
	return d, nil
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
	groups, err := list(ctx, c, "security-groups", "security_groups", project, func(g net.Group) string { return g.ID })
	if err != nil {
		return err
	}
	rules, err := list(ctx, c, "security-group-rules", "security_group_rules", project, func(r net.Rule) string { return r.ID })
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
		return nil, fail.Errorf(fail.Failed, "security group %s: the answer has no group", group)
	}
	return got.Group.Rules, nil
}

// HasExtension reports whether Neutron lets clients choose ids by our extension.
func (c *Client) HasExtension(ctx context.Context, alias string) (bool, error) {
	return c.Has(ctx, "extensions", alias)
}

// fields are what is sent of an object: all of it but what the API only tells, and nulls.
func fields(v any, not ...string) (map[string]any, error) {
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
		if value == nil && k != "gateway_ip" { // null says that there is no gateway
			delete(out, k)
		}
	}
	return out, nil
}

// Group creates a security group.
func (c *Client) Group(ctx context.Context, g net.Group) error {
	body, err := fields(g)
	if err != nil {
		return err
	}
	return c.Create(ctx, "security-groups", "security_group", g.ID, body)
}

// Rule creates a rule of a security group.
func (c *Client) Rule(ctx context.Context, r net.Rule) error {
	body, err := fields(r)
	if err != nil {
		return err
	}
	return c.Create(ctx, "security-group-rules", "security_group_rule", r.ID, body)
}

// Network creates a network with its segments.
func (c *Client) Network(ctx context.Context, n net.Network) error {
	body, err := fields(n, "segments")
	if err != nil {
		return err
	}
	var segments []map[string]any
	for _, s := range n.Segments {
		f, err := fields(s)
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
	body, err := fields(s)
	if err != nil {
		return err
	}
	return c.Create(ctx, "subnets", "subnet", s.ID, body)
}

// Port creates a port. What the host's agent makes of it is not sent.
func (c *Client) Port(ctx context.Context, p net.Port) error {
	body, err := fields(p, net.BindingField, net.PlugField)
	if err != nil {
		return err
	}
	if p.HostID == "" {
		delete(body, "binding:host_id")
	}
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
	return fail.Errorf(fail.Failed, "port %s: it is not bound to host %s", p.ID, p.HostID).With("Look into neutron-server's log for why: a network without a mapping on that host, for example.")
}
