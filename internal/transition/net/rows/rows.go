// Package rows reads a network from Neutron's database, and writes what only that can carry: agents, which their own hosts
// report else, and the default security groups of projects, which Neutron makes by itself
// with an id of its choice, and how a port is plugged, which it makes of what the host's agent reports. The rows are
// those that Neutron 21 (Zed) writes, and the columns that a server does not have are left out.
package rows

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"

	"holdfast/internal/lib/fail"
	"holdfast/internal/lib/text"
	"holdfast/internal/transition/db/server"
	"holdfast/internal/transition/net"
)

// Database is Neutron's database on a server.
type Database struct {
	srv  *server.Server
	name string
	has  map[string]bool // TABLE and TABLE.COLUMN
}

// lacks is the error of a database without a table that Neutron's has.
func (d *Database) lacks(table string) error {
	return fail.Errorf(fail.Invalid, "database %s has no table %s: want Neutron's database (--db-name)", d.name, table)
}

// tables are those that are written.
var tables = []string{"agents", "standardattributes", "securitygroups", "default_security_group"}

var plain = text.Pattern(`^[0-9A-Za-z_$-]{1,64}$`)

// Open reaches the server by a DSN, and looks which tables the database name has. side names it in errors: source or
// target. password asks a person for a password, as in server.Options.
func Open(ctx context.Context, side, dsn, name string, password func(string) (string, error)) (*Database, error) {
	if !plain().MatchString(name) {
		return nil, fail.Errorf(fail.Invalid, "database %q: want letters, digits, _, $ and -", name)
	}
	srv, err := server.Open(ctx, side, dsn, server.Options{Password: password})
	switch {
	case err == nil:
	case errors.Is(err, context.Canceled):
		return nil, err
	case server.Passing(err):
		return nil, fail.Errorf(fail.Unavailable, "%w", err)
	default: // the server is there: what was said about it is wrong
		return nil, fail.Errorf(fail.Invalid, "%w", err)
	}
	d := &Database{srv: srv, name: name, has: map[string]bool{}}
	if err := d.columns(ctx); err != nil {
		return nil, errors.Join(err, srv.Close())
	}
	return d, nil
}

// Close ends the connections.
func (d *Database) Close() error { return d.srv.Close() }

func (d *Database) columns(ctx context.Context) error {
	found, err := d.srv.DB.QueryContext(ctx, "SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = ?", d.name)
	if err != nil {
		return err
	}
	defer found.Close()
	for found.Next() {
		var table, column string
		if err := found.Scan(&table, &column); err != nil {
			return err
		}
		d.has[table], d.has[table+"."+column] = true, true
	}
	return found.Err()
}

// writable refuses a database that lacks a table which is written.
func (d *Database) writable() error {
	for _, t := range tables {
		if !d.has[t] {
			return d.lacks(t)
		}
	}
	return nil
}

func (d *Database) table(t string) string { return "`" + d.name + "`.`" + t + "`" }

// insert writes one row; columns that this database does not have are left out.
func (d *Database) insert(ctx context.Context, tx *sql.Tx, table string, row [][2]any) (sql.Result, error) {
	var names, marks []string
	var values []any
	for _, c := range row {
		name := c[0].(string)
		if !d.has[table+"."+name] {
			continue
		}
		names = append(names, "`"+name+"`")
		if now, ok := c[1].(stamp); ok {
			marks = append(marks, string(now))
			continue
		}
		marks, values = append(marks, "?"), append(values, c[1])
	}
	res, err := tx.ExecContext(ctx, "INSERT INTO "+d.table(table)+" ("+strings.Join(names, ", ")+") VALUES ("+
		strings.Join(marks, ", ")+")", values...)
	if err != nil {
		return nil, fmt.Errorf("write a row of %s: %w", table, err)
	}
	return res, nil
}

// stamp is an SQL expression in place of a value.
type stamp string

const now stamp = "UTC_TIMESTAMP()"

// in does work in one transaction.
func (d *Database) in(ctx context.Context, work func(tx *sql.Tx) error) error {
	tx, err := d.srv.DB.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	if err := work(tx); err != nil {
		if back := tx.Rollback(); back != nil && !errors.Is(back, sql.ErrTxDone) {
			return errors.Join(err, back)
		}
		return err
	}
	return tx.Commit()
}

// Agents writes the rows of agents that are not there: of a kind and host there is one at most, whose ID the
// agent does not choose. Neutron takes an agent for alive by
// the time of its last heartbeat, and binds no port to a host without one: see Beat.
func (d *Database) Agents(ctx context.Context, agents []net.Agent) error {
	if err := d.writable(); err != nil {
		return err
	}
	for _, a := range agents {
		err := d.in(ctx, func(tx *sql.Tx) error {
			there, err := exists(ctx, tx, "SELECT 1 FROM "+d.table("agents")+" WHERE agent_type = ? AND host = ?", a.AgentType, a.Host)
			if err != nil || there {
				return err
			}
			var zone any
			if a.Zone != "" {
				zone = a.Zone
			}
			var text any
			if a.Description != "" {
				text = a.Description
			}
			_, err = d.insert(ctx, tx, "agents", [][2]any{{"id", a.ID}, {"agent_type", a.AgentType},
				{"binary", a.Binary}, {"topic", a.Topic}, {"host", a.Host},
				{"admin_state_up", a.AdminStateUp}, {"created_at", now}, {"started_at", now}, {"heartbeat_timestamp", now}, {"description", text},
				{"configurations", string(a.Configurations)}, {"load", 0}, {"availability_zone", zone}})
			return err
		})
		if err != nil {
			return fmt.Errorf("agent %s of host %s: %w", a.ID, a.Host, err)
		}
	}
	return nil
}

// Heartbeat sets the last heartbeat of agents to now, where it is older.
func (d *Database) Heartbeat(ctx context.Context, agents []net.Agent) error {
	for part := range slices.Chunk(agents, 200) {
		var keys []any
		for _, a := range part {
			keys = append(keys, a.AgentType, a.Host)
		}
		_, err := d.srv.DB.ExecContext(ctx, "UPDATE "+
			d.table("agents")+" SET heartbeat_timestamp = UTC_TIMESTAMP() WHERE heartbeat_timestamp < "+
			"UTC_TIMESTAMP() AND (agent_type, host) IN ((?, ?)"+strings.Repeat(", (?, ?)", len(part)-1)+")", keys...)
		if err != nil {
			return fmt.Errorf("heartbeats of agents: %w", err)
		}
	}
	return nil
}

// Defaults writes the default groups of projects, without rules. A project that has another
// one already is an error of kind fail.Refused.
func (d *Database) Defaults(ctx context.Context, groups []net.Group) error {
	for _, g := range groups {
		err := d.in(ctx, func(tx *sql.Tx) error { return d.defaultGroup(ctx, tx, g) })
		if err != nil {
			return err
		}
	}
	return nil
}

func (d *Database) defaultGroup(ctx context.Context, tx *sql.Tx, g net.Group) error {
	var id string
	err := tx.QueryRowContext(ctx, "SELECT security_group_id FROM "+
		d.table("default_security_group")+" WHERE project_id = ? FOR UPDATE", g.ProjectID).Scan(&id)
	switch {
	case err == nil && id == g.ID:
		return nil
	case err == nil:
		return fail.Errorf(fail.Refused, "project %s has the default security group %s on the target: want %s", g.ProjectID, id, g.ID).
			With("If nothing uses it, delete it as administrator: openstack security group delete " + id)
	case !errors.Is(err, sql.ErrNoRows):
		return err
	}
	res, err := d.insert(ctx, tx, "standardattributes",
		[][2]any{{"resource_type", "securitygroups"}, {"created_at", now}, {"updated_at", now},
			{"description", g.Description}, {"revision_number", 1}})
	if err != nil {
		return err
	}
	attribute, err := res.LastInsertId()
	if err != nil {
		return err
	}
	if _, err = d.insert(ctx, tx, "securitygroups", [][2]any{{"project_id", g.ProjectID}, {"id", g.ID},
		{"name", g.Name}, {"standard_attr_id", attribute}, {"stateful", g.Stateful}}); err != nil {
		return err
	}
	_, err = d.insert(ctx, tx, "default_security_group", [][2]any{{"project_id", g.ProjectID}, {"security_group_id", g.ID}})
	return err
}

func exists(ctx context.Context, tx *sql.Tx, query string, args ...any) (bool, error) {
	var one int
	err := tx.QueryRowContext(ctx, query, args...).Scan(&one)
	if errors.Is(err, sql.ErrNoRows) {
		return false, nil
	}
	return err == nil, err
}
