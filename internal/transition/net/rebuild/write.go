package rebuild

import (
	"context"
	"encoding/json"
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

// writer is what write works with. d is left without what Neutron has refused, and what needs that.
type writer struct {
	whole, d *net.Document
	c        *neutron.Client
	db       *rows.Database
	p        *pending
	jobs     int
	tell     func(Progress)
	*refusals
}

// write removes what is stale, creates everything that is missing, one kind after the other, binds the ports that are half
// made, and has the rows of bindings say how ports are plugged. It returns of how many they had said something else. What Neutron
// refuses is noted, and all else that does not need it is done.
func (w *writer) write(ctx context.Context) (plugs int, err error) {
	if err := w.remove(ctx); err != nil {
		return 0, err
	}
	if err := w.db.Agents(ctx, w.d.Agents); err != nil {
		return 0, err
	}
	rows := func(kind string) func() error {
		return func() error { return w.db.Write(ctx, w.d, kind, w.p.renewed(kind)) }
	}
	for _, then := range []func() error{
		rows("address_scope"), rows("subnetpool"), rows("address_group"), rows("qos_policy"),
		func() error { return w.networks(ctx) },
		func() error { return w.db.Unshare(ctx, w.d) }, // at once: until then all projects may use these networks
		rows("rbac_policy"),
		func() error { return alive(ctx, w.d, w.db, w.ports) },
		rows("router"),
		rows("floatingip"),
		func() error { return w.services(ctx) },
		func() error { return w.db.Later(ctx, w.d) },
		func() error {
			return w.db.Tags(ctx, w.d, func(kind, id string) bool { return w.p.stale.Changed[kind][id][net.TagsField] != nil })
		},
	} {
		if err := then(); err != nil {
			return 0, err
		}
	}
	return w.db.Plugs(ctx, w.d.Ports)
}

// create has the API make the objects of a list, each by how. name gives an object's ID and name.
func create[T any](ctx context.Context, w *writer, step, kind string, list []T, name func(T) (id, name string),
	how func(context.Context, T) error) error {
	err := each(ctx, step, list, w.jobs, w.tell, func(ctx context.Context, v T) error {
		id, called := name(v)
		return w.take(refusal{kind: kind, id: id, name: called, missing: true}, how(ctx, v))
	})
	w.d, w.need = w.whole.Without(w.missing())
	return err
}

// networks creates security groups, networks and subnets.
func (w *writer) networks(ctx context.Context) error {
	var defaults, groups []net.Group
	for _, g := range w.d.SecurityGroups {
		if g.Name == net.Default && g.ProjectID != "" {
			defaults = append(defaults, g)
		} else {
			groups = append(groups, g)
		}
	}
	for _, then := range []func() error{
		func() error { return w.db.Defaults(ctx, defaults) },
		func() error {
			return create(ctx, w, "security groups", "security_group", groups, func(g net.Group) (string, string) { return g.ID, g.Name }, w.c.Group)
		},
		func() error { return w.change(ctx) },
		func() error { return w.rules(ctx) },
		func() error {
			return create(ctx, w, "networks", "network", w.d.Networks, func(n net.Network) (string, string) { return n.ID, n.Name }, w.c.Network)
		},
		func() error {
			return create(ctx, w, "subnets", "subnet", w.d.Subnets, func(s net.Subnet) (string, string) { return s.ID, s.Name }, w.c.Subnet)
		},
	} {
		if err := then(); err != nil {
			return err
		}
	}
	return nil
}

// ports creates ports and trunks, and binds those that are not bound.
func (w *writer) ports(ctx context.Context) error {
	if err := w.open(ctx); err != nil {
		return err
	}
	parents, requested, loose := parents(w.d), w.d.Requested(), map[string]bool{}
	for _, p := range w.d.Unbindable() {
		loose[p.ID] = true
	}
	err := create(ctx, w, "ports", "port", w.d.Ports, func(v net.Port) (string, string) { return v.ID, v.Name },
		func(ctx context.Context, v net.Port) error {
			switch {
			case parents[v.ID] || loose[v.ID]:
				v.HostID = ""
			case w.p.half[v.ID]:
				return w.take(refusal{kind: "port", id: v.ID, name: v.Name}, w.c.Bind(ctx, v))
			}
			return w.c.Port(ctx, requested(v))
		})
	if err == nil {
		err = w.db.Write(ctx, w.d, "trunk", w.p.renewed("trunk"))
	}
	if err != nil {
		return err
	}
	made := map[string]bool{}
	for _, t := range w.d.Trunks {
		made[t.PortID] = true
	}
	bound := slices.DeleteFunc(slices.Clone(w.d.Ports), func(v net.Port) bool { return !made[v.ID] || loose[v.ID] || v.HostID == "" })
	if len(bound) == 0 {
		return nil
	}
	return each(ctx, "ports of trunks", bound, w.jobs, w.tell, func(ctx context.Context, v net.Port) error {
		return w.take(refusal{kind: "port", id: v.ID, name: v.Name}, w.c.Bind(ctx, v))
	})
}

// open takes the service types from subnets that are to get ports which are not there: Neutron would refuse some.
func (w *writer) open(ctx context.Context) error {
	networks := map[string]bool{}
	for _, p := range w.d.Ports {
		if w.p.absent[p.ID] || w.p.stale.Gone["port"][p.ID] {
			networks[p.NetworkID] = true
		}
	}
	for _, s := range w.d.Subnets {
		if networks[s.NetworkID] && len(w.p.served[s.ID]) > 0 {
			if err := w.serve(ctx, s, []string{}); err != nil {
				return err
			}
			w.p.served[s.ID] = nil
		}
	}
	return nil
}

// services gives subnets the service types that they are to have, as ports are made before that.
func (w *writer) services(ctx context.Context) error {
	for _, s := range w.d.Subnets {
		if slices.Equal(w.p.served[s.ID], s.ServiceTypes) {
			continue
		}
		if err := w.serve(ctx, s, s.ServiceTypes); err != nil {
			return err
		}
	}
	return nil
}

func (w *writer) serve(ctx context.Context, s net.Subnet, types []string) error {
	text, err := json.Marshal(types)
	if err != nil {
		return err
	}
	return w.take(refusal{kind: "subnet", id: s.ID, name: s.Name},
		w.c.Change(ctx, "subnets", "subnet", s.ID, map[string]json.RawMessage{net.ServiceTypes: text}))
}

// rules removes the rules that Neutron gave new groups by itself, and creates those of the document.
func (w *writer) rules(ctx context.Context) error {
	want := map[string][]net.Rule{}
	for _, r := range w.d.SecurityGroupRules {
		want[r.SecurityGroupID] = append(want[r.SecurityGroupID], r)
	}
	err := each(ctx, "rules of security groups", w.d.SecurityGroups, w.jobs, w.tell, func(ctx context.Context, g net.Group) error {
		return w.take(refusal{kind: "security_group", id: g.ID, name: g.Name}, w.rulesOf(ctx, g, want[g.ID]))
	})
	w.d, w.need = w.whole.Without(w.missing())
	return err
}
