package rows

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"holdfast/internal/lib/fail"
)

// String says which database it is.
func (d *Database) String() string {
	return fmt.Sprintf("database %s at %s", d.name, d.srv.Config.Addr)
}

// Births are the networks and agents that the database has, as neutron.Client.Births has them. A database without Neutron's tables
// is an error.
func (d *Database) Births(ctx context.Context) (map[string]string, error) {
	if err := d.writable(); err != nil {
		return nil, err
	}
	if !d.has["networks"] {
		return nil, d.lacks("networks")
	}
	stamp := func(column string) string { return "COALESCE(DATE_FORMAT(" + column + ", '%Y-%m-%d %H:%i:%s'), '')" }
	networks := "SELECT 'network', n.id, '' FROM " + d.table("networks") + " n"
	if d.has["networks.standard_attr_id"] && d.has["standardattributes.created_at"] {
		networks = "SELECT 'network', n.id, " + stamp("s.created_at") + " FROM " + d.table("networks") + " n JOIN " +
			d.table("standardattributes") + " s ON s.id = n.standard_attr_id"
	}
	found, err := d.srv.DB.QueryContext(ctx, networks+" UNION ALL SELECT 'agent', id, "+stamp("created_at")+" FROM "+d.table("agents"))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", d, err)
	}
	defer found.Close()
	out := map[string]string{}
	for found.Next() {
		var kind, id, made string
		if err := found.Scan(&kind, &id, &made); err != nil {
			return nil, err
		}
		out[kind+" "+id] = made
	}
	return out, found.Err()
}

// Marked reports whether an address scope of a name is there.
func (d *Database) Marked(ctx context.Context, name string) (bool, error) {
	if !d.has["address_scopes"] {
		return false, d.lacks("address_scopes")
	}
	var id string
	err := d.srv.DB.QueryRowContext(ctx, "SELECT id FROM "+d.table("address_scopes")+" WHERE name = ? LIMIT 1", name).Scan(&id)
	if errors.Is(err, sql.ErrNoRows) {
		return false, nil
	}
	if err != nil {
		return false, fail.Errorf(fail.Failed, "%s: %w", d, err)
	}
	return true, nil
}
