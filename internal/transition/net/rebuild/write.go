package rebuild

import (
	"context"
	"errors"
	"slices"

	"holdfast/internal/transition/net"
	"holdfast/internal/transition/net/neutron"
	"holdfast/internal/transition/net/rows"
)

// parents are the ports that have trunks: they are bound to their hosts after these are made, as a port's bridge on the host is
// that of its trunk.
func parents(d *net.Document) map[string]bool {
	out := map[string]bool{}
	for _, t := range d.Trunks {
		out[t.PortID] = true
	}
	return out
}

// write removes what is stale, creates everything that is missing, one kind after the other, binds the ports that are half
// made, and has the rows of bindings say how ports are plugged. It returns of how many they had said something else.
func write(ctx context.Context, d *net.Document, c *neutron.Client, p *pending, o Order, tell func(Progress)) (plugs int, err error) {
	db, err := rows.Open(ctx, "target", o.DB.DSN, o.DB.Name, o.DB.Password)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	if err := remove(ctx, d, c, db, p.stale, o.Jobs, tell); err != nil {
		return 0, err
	}
	if err := db.Agents(ctx, d.Agents); err != nil {
		return 0, err
	}
	for _, kind := range []string{"address_scope", "subnetpool", "address_group", "qos_policy"} {
		if err := db.Write(ctx, d, kind, p.renewed(kind)); err != nil {
			return 0, err
		}
	}
	if err := networks(ctx, d, c, db, p, o.Jobs, tell); err != nil {
		return 0, err
	}
	for _, then := range []func() error{
		func() error { return db.Unshare(ctx, d) }, // at once: until then all projects may use these networks
		func() error { return db.Write(ctx, d, "rbac_policy", p.renewed("rbac_policy")) },
		func() error {
			return alive(ctx, d, db, func(ctx context.Context) error { return ports(ctx, d, c, db, p, o.Jobs, tell) })
		},
		func() error { return db.Write(ctx, d, "router", p.renewed("router")) },
		func() error { return db.Write(ctx, d, "floatingip", p.renewed("floatingip")) },
		func() error { return db.Later(ctx, d) },
		func() error {
			return db.Tags(ctx, d, func(kind, id string) bool { return p.stale.Changed[kind][id][net.TagsField] != nil })
		},
	} {
		if err := then(); err != nil {
			return 0, err
		}
	}
	return db.Plugs(ctx, d.Ports)
}

// networks creates security groups, networks and subnets.
func networks(ctx context.Context, d *net.Document, c *neutron.Client, db *rows.Database, p *pending, jobs int, tell func(Progress)) error {
	var defaults, groups []net.Group
	for _, g := range d.SecurityGroups {
		if g.Name == net.Default && g.ProjectID != "" {
			defaults = append(defaults, g)
		} else {
			groups = append(groups, g)
		}
	}
	for _, then := range []func() error{
		func() error { return db.Defaults(ctx, defaults) },
		func() error { return each(ctx, "security groups", groups, jobs, tell, c.Group) },
		func() error { return change(ctx, c, p.stale) },
		func() error { return rules(ctx, d, c, jobs, tell) },
		func() error { return each(ctx, "networks", d.Networks, jobs, tell, c.Network) },
		func() error { return each(ctx, "subnets", d.Subnets, jobs, tell, c.Subnet) },
	} {
		if err := then(); err != nil {
			return err
		}
	}
	return nil
}

// ports creates ports and trunks, and binds those that are not bound.
func ports(ctx context.Context, d *net.Document, c *neutron.Client, db *rows.Database, p *pending, jobs int, tell func(Progress)) error {
	parents, requested, loose := parents(d), d.Requested(), map[string]bool{}
	for _, p := range d.Unbindable() {
		loose[p.ID] = true
	}
	err := each(ctx, "ports", d.Ports, jobs, tell, func(ctx context.Context, v net.Port) error {
		switch {
		case parents[v.ID] || loose[v.ID]:
			v.HostID = ""
		case p.half[v.ID]:
			return c.Bind(ctx, v)
		}
		return c.Port(ctx, requested(v))
	})
	if err == nil {
		err = db.Write(ctx, d, "trunk", p.renewed("trunk"))
	}
	if err != nil || len(d.Trunks) == 0 {
		return err
	}
	bound := slices.DeleteFunc(slices.Clone(d.Ports), func(v net.Port) bool { return !parents[v.ID] || loose[v.ID] || v.HostID == "" })
	return each(ctx, "ports of trunks", bound, jobs, tell, c.Bind)
}
