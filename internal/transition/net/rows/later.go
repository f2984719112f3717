package rows

import (
	"context"
	"database/sql"
	"fmt"
	"slices"

	"holdfast/internal/transition/db/server"
	"holdfast/internal/transition/net"
)

// Later has networks have their QoS policies, ports their names in DNS, and projects their default QoS policies, as a document has
// them. It comes after all objects are made: Neutron refuses a policy's rule for some ports of a network that has it already, gives
// the default policy to each network that it makes without any, and keeps names as its setting dns_domain has it.
func (d *Database) Later(ctx context.Context, doc *net.Document) error {
	policies, defaults, names := side{table: "qos_network_policy_bindings", key: "network_id"},
		side{table: "qos_policies_default", key: "qos_policy_id"}, side{table: "portdnses", key: "port_id"}
	for _, n := range doc.Networks {
		policies.want(n.ID, n.QoSPolicyID != nil, [2]any{"policy_id", n.QoSPolicyID})
	}
	for _, p := range doc.QoSPolicies {
		defaults.want(p.ID, p.IsDefault, [2]any{"project_id", p.ProjectID})
	}
	for _, p := range doc.Ports {
		names.want(p.ID, p.DNSName+p.DNSDomain != "", [2]any{"dns_name", p.DNSName}, [2]any{"dns_domain", p.DNSDomain},
			[2]any{"current_dns_name", ""}, [2]any{"current_dns_domain", ""},
			[2]any{"previous_dns_name", ""}, [2]any{"previous_dns_domain", ""})
	}
	for _, s := range []side{policies, defaults, names} {
		if err := d.sides(ctx, s); err != nil {
			return fmt.Errorf("write a row of %s: %w", s.table, err)
		}
	}
	return nil
}

// side is a table that has at most one row for an object, with the object's ID in the column key. The first columns of a row say
// what it means.
type side struct {
	table, key string
	rows       []sideRow
}

type sideRow struct {
	id      string
	columns [][2]any // none: no row
}

func (s *side) want(id string, row bool, columns ...[2]any) {
	if !row {
		columns = nil
	}
	s.rows = append(s.rows, sideRow{id, columns})
}

// sides has a table have the rows that it is to have, each in one transaction.
func (d *Database) sides(ctx context.Context, s side) error {
	if !d.has[s.table] {
		if i := slices.IndexFunc(s.rows, func(r sideRow) bool { return r.columns != nil }); i >= 0 {
			return d.lacks(s.table)
		}
		return nil
	}
	found, err := server.Named(ctx, d.srv.DB, "SELECT * FROM "+d.table(s.table))
	if err != nil {
		return err
	}
	is := map[string]map[string]string{}
	for _, r := range found {
		is[r[s.key]] = r
	}
	// A row that goes may be in the way of another one: a project has one default policy.
	slices.SortStableFunc(s.rows, func(a, b sideRow) int { return min(len(a.columns), 1) - min(len(b.columns), 1) })
	for _, r := range s.rows {
		have, there := is[r.id]
		if there == (r.columns != nil) && !slices.ContainsFunc(r.columns, func(c [2]any) bool { return !keeps(c, have) }) {
			continue
		}
		err := d.in(ctx, func(tx *sql.Tx) error {
			if _, err := tx.ExecContext(ctx, "DELETE FROM "+d.table(s.table)+" WHERE `"+s.key+"` = ?", r.id); err != nil || r.columns == nil {
				return err
			}
			_, err := d.insert(ctx, tx, s.table, append([][2]any{{s.key, r.id}}, r.columns...))
			return err
		})
		if err != nil {
			return fmt.Errorf("%s: %w", r.id, err)
		}
	}
	return nil
}

// keeps reports whether a row has a column as wanted. "" is wanted of what the platform fills itself.
func keeps(c [2]any, have map[string]string) bool {
	want, ok := c[1].(string)
	if p, is := c[1].(*string); is {
		want, ok = *p, true
	}
	name := c[0].(string)
	return ok && (have[name] == want || want == "" && name != "dns_name" && name != "dns_domain")
}

// Tags has objects have tags, and no others: those that have some in a document, and those that renew names by kind and ID.
func (d *Database) Tags(ctx context.Context, doc *net.Document, renew func(kind, id string) bool) error {
	for _, o := range doc.Tagged() {
		if len(o.Tags) == 0 && !renew(o.Kind, o.ID) {
			continue
		}
		table := map[string]string{"network": "networks", "subnet": "subnets", "port": "ports",
			"security_group": "securitygroups", "subnetpool": "subnetpools",
			"qos_policy": "qos_policies", "trunk": "trunks", "router": "routers", "floatingip": "floatingips"}[o.Kind]
		if err := d.in(ctx, func(tx *sql.Tx) error { return d.tag(ctx, tx, table, o.ID, o.Tags) }); err != nil {
			return fmt.Errorf("%s %s: %w", o.Kind, o.ID, err)
		}
	}
	return nil
}

func (d *Database) tag(ctx context.Context, tx *sql.Tx, table, id string, tags []string) error {
	var attribute int64
	if err := tx.QueryRowContext(ctx, "SELECT standard_attr_id FROM "+d.table(table)+" WHERE id = ?", id).Scan(&attribute); err != nil {
		return err
	}
	if _, err := tx.ExecContext(ctx, "DELETE FROM "+d.table("tags")+" WHERE standard_attr_id = ?", attribute); err != nil {
		return err
	}
	for _, t := range tags {
		if _, err := d.insert(ctx, tx, "tags", [][2]any{{"standard_attr_id", attribute}, {"tag", t}}); err != nil {
			return err
		}
	}
	return nil
}
