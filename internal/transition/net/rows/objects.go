package rows

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"

	"holdfast/internal/transition/net"
)

// object is an object as Neutron keeps it: a row of a table, one of standardattributes where it has attributes, and rows of
// other tables that belong to it.
type object struct {
	table, id   string
	attributes  bool
	description string
	columns     [][2]any
	parts       []belongs
}

// belongs are rows of a table that belong to an object: key is the column that has its ID.
type belongs struct {
	table, key string
	rows       [][][2]any
}

// objects are those of a kind of net.ByRows in a document.
func objects(doc *net.Document, kind string) (out []object) {
	switch kind {
	case "address_scope":
		for _, v := range doc.AddressScopes {
			out = append(out, object{table: "address_scopes", id: v.ID,
				columns: [][2]any{{"project_id", v.ProjectID}, {"name", v.Name}, {"shared", false}, {"ip_version", v.IPVersion}}})
		}
	case "subnetpool":
		for _, v := range doc.SubnetPools {
			prefixes := belongs{table: "subnetpoolprefixes", key: "subnetpool_id"}
			for _, p := range v.Prefixes {
				prefixes.rows = append(prefixes.rows, [][2]any{{"cidr", p}})
			}
			out = append(out, object{"subnetpools", v.ID, true, v.Description,
				[][2]any{{"project_id", v.ProjectID}, {"name", v.Name}, {"ip_version", v.IPVersion},
					{"default_prefixlen", v.DefaultLength}, {"min_prefixlen", v.MinLength},
					{"max_prefixlen", v.MaxLength}, {"shared", false}, {"default_quota", v.DefaultQuota},
					{"hash", ""}, {"address_scope_id", v.AddressScopeID}, {"is_default", v.IsDefault}}, []belongs{prefixes}})
		}
	case "address_group":
		for _, v := range doc.AddressGroups {
			addresses := belongs{table: "address_associations", key: "address_group_id"}
			for _, a := range v.Addresses {
				addresses.rows = append(addresses.rows, [][2]any{{"address", a}})
			}
			out = append(out, object{"address_groups", v.ID, true, v.Description,
				[][2]any{{"project_id", v.ProjectID}, {"name", v.Name}}, []belongs{addresses}})
		}
	case "qos_policy":
		for _, v := range doc.QoSPolicies {
			o := object{table: "qos_policies", id: v.ID, attributes: true, description: v.Description,
				columns: [][2]any{{"project_id", v.ProjectID}, {"name", v.Name}}}
			for _, t := range ruleTables {
				rules := belongs{table: t.table, key: "qos_policy_id"}
				for _, r := range v.Rules {
					if r.Type != t.kind {
						continue
					}
					columns := [][2]any{{"id", r.ID}}
					for _, c := range []struct {
						name  string
						value *int
					}{{"max_kbps", r.MaxKbps}, {"max_burst_kbps", r.MaxBurstKbps}, {"min_kbps", r.MinKbps},
						{"max_kpps", r.MaxKpps}, {"max_burst_kpps", r.MaxBurstKpps}, {"min_kpps", r.MinKpps}, {"dscp_mark", r.DSCPMark}} {
						if c.value != nil {
							columns = append(columns, [2]any{c.name, *c.value})
						}
					}
					if r.Direction != nil {
						columns = append(columns, [2]any{"direction", *r.Direction})
					}
					rules.rows = append(rules.rows, columns)
				}
				o.parts = append(o.parts, rules)
			}
			out = append(out, o)
		}
	case "trunk":
		for _, v := range doc.Trunks {
			carried := belongs{table: "subports", key: "trunk_id"}
			for _, p := range v.SubPorts {
				carried.rows = append(carried.rows, [][2]any{{"port_id", p.PortID},
					{"segmentation_type", p.SegmentationType}, {"segmentation_id", p.SegmentationID}})
			}
			out = append(out, object{"trunks", v.ID, true, v.Description,
				[][2]any{{"project_id", v.ProjectID}, {"name", v.Name}, {"admin_state_up", v.AdminStateUp},
					{"port_id", v.PortID}, {"status", "DOWN"}}, []belongs{carried}})
		}
	case "router":
		ports := map[string][]net.Port{}
		for _, p := range doc.Ports {
			if p.DeviceOwner == net.GatewayOwner || p.DeviceOwner == net.InterfaceOf {
				ports[p.DeviceID] = append(ports[p.DeviceID], p)
			}
		}
		for _, v := range doc.Routers {
			own, routes := belongs{table: "routerports", key: "router_id"}, belongs{table: "routerroutes", key: "router_id"}
			for _, p := range ports[v.ID] {
				own.rows = append(own.rows, [][2]any{{"port_id", p.ID}, {"port_type", p.DeviceOwner}})
			}
			for _, r := range v.Routes {
				routes.rows = append(routes.rows, [][2]any{{"destination", r.Destination}, {"nexthop", r.NextHop}})
			}
			extra := belongs{"router_extra_attributes", "router_id",
				[][][2]any{{{"distributed", false}, {"service_router", false}, {"ha", false}, {"ha_vr_id", 0}, {"availability_zone_hints", "[]"}}}}
			out = append(out, object{"routers", v.ID, true, v.Description,
				[][2]any{{"project_id", v.ProjectID}, {"name", v.Name}, {"admin_state_up", v.AdminStateUp}, {"status", "ACTIVE"},
					{"gw_port_id", v.GatewayPort}, {"enable_snat", v.EnableSNAT}}, []belongs{own, routes, extra}})
		}
	case "floatingip":
		for _, v := range doc.FloatingIPs {
			o := object{table: "floatingips", id: v.ID, attributes: true, description: v.Description,
				columns: [][2]any{{"project_id", v.ProjectID}, {"floating_ip_address", v.Address},
					{"floating_network_id", v.NetworkID}, {"fixed_port_id", v.PortID}, {"fixed_ip_address", v.FixedIP},
					{"router_id", v.RouterID}, {"status", "DOWN"}}}
			if p := doc.PortOf(net.FloatingOwner, v.ID); p != nil {
				o.columns = append(o.columns, [2]any{"floating_port_id", p.ID})
			}
			out = append(out, o)
		}
	case "rbac_policy":
		for _, v := range doc.RBACPolicies {
			out = append(out, object{table: rbacTable(v.ObjectType), id: v.ID,
				columns: [][2]any{{"project_id", v.ProjectID}, {"object_id", v.ObjectID}, {"action", v.Action},
					{"target_project", v.Target}, {"target_tenant", v.Target}}})
		}
	}
	return out
}

func rbacTable(objectType string) string {
	return rbacTables[slices.IndexFunc(rbacTables, func(t struct{ kind, table string }) bool { return t.kind == objectType })].table
}

// Write writes the objects of a kind of net.ByRows that are not there, each in one transaction, and writes those anew that
// renew names.
func (d *Database) Write(ctx context.Context, doc *net.Document, kind string, renew map[string]bool) error {
	for _, o := range objects(doc, kind) {
		for _, t := range append([]belongs{{table: o.table}}, o.parts...) {
			if !d.has[t.table] && (t.table == o.table || len(t.rows) > 0) {
				return d.lacks(t.table)
			}
		}
		err := d.in(ctx, func(tx *sql.Tx) error {
			if kind == "rbac_policy" {
				done, err := d.adopt(ctx, tx, o)
				if err != nil || done {
					return err
				}
			}
			return d.put(ctx, tx, o, renew[o.id])
		})
		if err != nil {
			return fmt.Errorf("%s %s: %w", kind, o.id, err)
		}
	}
	return nil
}

// put writes an object. One that is there is left alone, or written anew.
func (d *Database) put(ctx context.Context, tx *sql.Tx, o object, renew bool) error {
	there, err := exists(ctx, tx, "SELECT 1 FROM "+d.table(o.table)+" WHERE id = ? FOR UPDATE", o.id)
	if err != nil || there && !renew {
		return err
	}
	switch {
	case there:
		if err := d.update(ctx, tx, o); err != nil {
			return err
		}
	default:
		columns := append([][2]any{{"id", o.id}}, o.columns...)
		if o.attributes {
			res, err := d.insert(ctx, tx, "standardattributes",
				[][2]any{{"resource_type", o.table}, {"created_at", now}, {"updated_at", now}, {"description", o.description}, {"revision_number", 0}})
			if err != nil {
				return err
			}
			attribute, err := res.LastInsertId()
			if err != nil {
				return err
			}
			columns = append(columns, [2]any{"standard_attr_id", attribute})
		}
		if _, err := d.insert(ctx, tx, o.table, columns); err != nil {
			return err
		}
	}
	for _, p := range o.parts {
		for _, r := range p.rows {
			if _, err := d.insert(ctx, tx, p.table, append([][2]any{{p.key, o.id}}, r...)); err != nil {
				return err
			}
		}
	}
	return nil
}

// update sets the columns of an object that is there, and removes what belongs to it.
func (d *Database) update(ctx context.Context, tx *sql.Tx, o object) error {
	var set []string
	var values []any
	for _, c := range o.columns {
		if name := c[0].(string); d.has[o.table+"."+name] && name != "status" {
			set, values = append(set, "`"+name+"` = ?"), append(values, c[1])
		}
	}
	if _, err := tx.ExecContext(ctx, "UPDATE "+d.table(o.table)+" SET "+strings.Join(set, ", ")+" WHERE id = ?",
		append(values, o.id)...); err != nil {
		return err
	}
	if o.attributes {
		_, err := tx.ExecContext(ctx, "UPDATE "+d.table("standardattributes")+" SET description = ? WHERE id = "+
			"(SELECT standard_attr_id FROM "+d.table(o.table)+" WHERE id = ?)", o.description, o.id)
		if err != nil {
			return err
		}
	}
	for _, p := range o.parts {
		if !d.has[p.table] {
			continue
		}
		if _, err := tx.ExecContext(ctx, "DELETE FROM "+d.table(p.table)+" WHERE `"+p.key+"` = ?", o.id); err != nil {
			return err
		}
	}
	return nil
}

// target is the column of RBAC policies that has the project: it was renamed with Neutron 19.
func (d *Database) target(table string) string {
	if d.has[table+".target_project"] {
		return "target_project"
	}
	return "target_tenant"
}

// adopt gives an RBAC policy that Neutron made by itself, of a network that is shared or external, the ID and project of the
// document's.
func (d *Database) adopt(ctx context.Context, tx *sql.Tx, o object) (done bool, err error) {
	is := map[string]any{}
	for _, c := range o.columns {
		is[c[0].(string)] = c[1]
	}
	var id string
	where := " WHERE object_id = ? AND action = ? AND " + d.target(o.table) + " = ?"
	err = tx.QueryRowContext(ctx, "SELECT id FROM "+d.table(o.table)+where+" FOR UPDATE", is["object_id"], is["action"],
		is["target_tenant"]).Scan(&id)
	if errors.Is(err, sql.ErrNoRows) {
		return false, nil
	}
	if err != nil || id == o.id {
		return id == o.id && err == nil, err
	}
	_, err = tx.ExecContext(ctx, "UPDATE "+d.table(o.table)+" SET id = ?, project_id = ?"+where, o.id, is["project_id"],
		is["object_id"], is["action"], is["target_tenant"])
	return err == nil, err
}

// Unshare removes the RBAC policies that Neutron makes with external networks, so that all projects may use them, of networks
// whose document has none.
func (d *Database) Unshare(ctx context.Context, doc *net.Document) error {
	all := map[string]bool{}
	for _, r := range doc.RBACPolicies {
		if r.Action == net.AsExternal && r.Target == net.Everybody {
			all[r.ObjectID] = true
		}
	}
	for _, n := range doc.Networks {
		if !n.External || all[n.ID] {
			continue
		}
		_, err := d.srv.DB.ExecContext(ctx, "DELETE FROM "+
			d.table("networkrbacs")+" WHERE object_id = ? AND project_id = ? AND action = ? AND "+d.target("networkrbacs")+" = ?",
			n.ID, n.ProjectID, net.AsExternal, net.Everybody)
		if err != nil {
			return fmt.Errorf("%s %s: %w", "rbac_policy", n.ID, err)
		}
	}
	return nil
}

// Remove removes objects of a kind of net.ByRows; those that are not there are no error.
func (d *Database) Remove(ctx context.Context, kind string, ids []string) error {
	tables := []string{map[string]string{"address_scope": "address_scopes", "subnetpool": "subnetpools",
		"address_group": "address_groups", "qos_policy": "qos_policies", "trunk": "trunks", "router": "routers",
		"floatingip": "floatingips"}[kind]}
	if kind == "rbac_policy" {
		tables = nil
		for _, t := range rbacTables {
			tables = append(tables, t.table)
		}
	}
	for _, t := range tables {
		for _, id := range ids {
			if !d.has[t] {
				continue
			}
			from, where := d.table(t), " WHERE id = ?"
			if d.has[t+".standard_attr_id"] { // the object's row goes with it
				from, where = d.table("standardattributes"), " WHERE id = (SELECT standard_attr_id FROM "+d.table(t)+" WHERE id = ?)"
			}
			if _, err := d.srv.DB.ExecContext(ctx, "DELETE FROM "+from+where, id); err != nil {
				return fmt.Errorf("%s %s: %w", kind, id, err)
			}
		}
	}
	return nil
}
