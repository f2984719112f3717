package mariadb

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Events of a database (CREATE EVENT) run on the primary alone. Replication marks each one as SLAVESIDE_DISABLED on the replica,
// whether it was enabled or not, while a copy keeps what it was, so that a replica whose scheduler is on would run it. So the
// scheduler is off on whoever is no primary. A primary writes down how its events are, in a table that is replicated, and who is
// promoted makes them as they were.
const eventsTable = "CREATE TABLE IF NOT EXISTS holdfast_replica.events (db VARCHAR(64) NOT NULL, name VARCHAR(64) NOT NULL, " +
	"status VARCHAR(20) NOT NULL, PRIMARY KEY (db, name)) ENGINE=InnoDB CHARSET=utf8mb4 COLLATE=utf8mb4_bin"

// eventsThere reports whether a primary has written them down.
const eventsThere = "SELECT 1 AS there FROM information_schema.tables WHERE table_schema='holdfast_replica' AND table_name='events'"

// noteAgain is how long after a failure a primary tries again to write its events down.
const noteAgain = 10 * time.Second

// event is one of them; that without a name is the scheduler, whose status is ON or OFF.
type event struct{ db, name, status, definer, mode string }

// key is what an event is found by.
func (e event) key() string { return e.db + "\x00" + e.name }

// eventState is what a primary has written down of its events.
type eventState struct {
	ready   bool // this node was promoted: its events are as they should be
	busy    bool
	last    string
	again   time.Time
	unknown []string // of which nobody knows whether they were enabled
}

// events asks for all, the scheduler first.
func (d *Driver) events(ctx context.Context, q querier) ([]event, error) {
	v, err := d.row(ctx, q, "SELECT @@event_scheduler AS scheduler")
	if err != nil {
		return nil, err
	}
	rows, err := d.rows(ctx, q, "SELECT event_schema, event_name, status, definer, sql_mode FROM information_schema.events ORDER BY 1, 2")
	if err != nil {
		return nil, err
	}
	out := []event{{status: v["scheduler"]}}
	for _, r := range rows {
		out = append(out, event{r["event_schema"], r["event_name"], r["status"], r["definer"], r["sql_mode"]})
	}
	return out, nil
}

// noteEvents has a primary write down how its events are, if that has changed. It does not wait: a commit waits for the replica.
func (d *Driver) noteEvents(ctx context.Context) (unknown []string, err error) {
	d.noting.Lock()
	ready, busy, last, again := d.noting.ready, d.noting.busy, d.noting.last, d.noting.again
	unknown = d.noting.unknown
	d.noting.Unlock()
	if !ready || busy || time.Now().Before(again) {
		return unknown, nil
	}
	all, err := d.events(ctx, d.db)
	if err != nil {
		return unknown, err
	}
	unknown = slices.DeleteFunc(slices.Clone(unknown), func(name string) bool {
		return !slices.ContainsFunc(all, func(e event) bool { return e.db+"."+e.name == name && e.status == slaveside })
	})
	now := fmt.Sprint(all)
	d.noting.Lock()
	defer d.noting.Unlock()
	d.noting.unknown = unknown
	if now == last || !d.noting.ready || d.noting.busy {
		return unknown, nil
	}
	d.noting.busy = true
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), d.cfg.Limit)
		defer cancel()
		err := d.writeEvents(ctx, all)
		d.noting.Lock()
		defer d.noting.Unlock()
		if d.noting.busy = false; err != nil {
			d.noting.again = time.Now().Add(noteAgain) // told by what it leads to: the table is old
			return
		}
		d.noting.last = now
	}()
	return unknown, nil
}

// writeEvents replaces what is written down.
func (d *Driver) writeEvents(ctx context.Context, all []event) (err error) {
	if err := d.exec(ctx, d.db, markerDatabase, eventsTable); err != nil {
		return err
	}
	tx, err := d.db.BeginTx(ctx, nil)
	if err != nil {
		return asked(err)
	}
	defer func() { err = errors.Join(err, done(tx.Rollback())) }()
	var rows []string
	for _, e := range all {
		rows = append(rows, "("+text(e.db)+","+text(e.name)+","+text(e.status)+")")
	}
	if err := d.exec(ctx, tx, "DELETE FROM holdfast_replica.events",
		"INSERT INTO holdfast_replica.events VALUES "+strings.Join(rows, ",")); err != nil {
		return err
	}
	return tx.Commit()
}

// done is the error of a rollback after a commit.
func done(err error) error {
	if errors.Is(err, sql.ErrTxDone) {
		return nil
	}
	return err
}

// forgetEvents says that this node's events may not be as they should be: it is no primary.
func (d *Driver) forgetEvents() {
	d.noting.Lock()
	defer d.noting.Unlock()
	d.noting.ready, d.noting.last, d.noting.unknown = false, "", nil
}

// slaveside is the status that replication gives an event.
const slaveside = "SLAVESIDE_DISABLED"

// takeEvents makes the events as the last primary had them, before this node takes writes. It is beside the binary log, as a
// commit would wait for a replica, which has to do the same for itself one day. scheduler is what the last primary had.
func (d *Driver) takeEvents(ctx context.Context) (scheduler string, err error) {
	was := map[string]string{}
	there, err := d.rows(ctx, d.db, eventsThere)
	if err == nil && len(there) > 0 {
		var rows []map[string]string
		rows, err = d.rows(ctx, d.db, "SELECT db, name, status FROM holdfast_replica.events")
		for _, r := range rows {
			was[event{db: r["db"], name: r["name"]}.key()] = r["status"]
		}
	}
	if err != nil {
		return "", err
	}
	all, err := d.events(ctx, d.db)
	if err != nil {
		return "", err
	}
	c, err := d.conn(ctx)
	if err != nil {
		return "", err
	}
	// The connection has settings of its own: nobody else gets it.
	defer func() {
		_ = c.Raw(func(any) error { return driver.ErrBadConn }) // that is what closes it
		err = errors.Join(err, done(closedConn(c)))
	}()
	if err := d.exec(ctx, c, "SET SESSION sql_log_bin=0"); err != nil {
		return "", err
	}
	var unknown []string
	for _, e := range all[1:] {
		if e.status != slaveside {
			continue
		}
		do, known := map[string]string{"ENABLED": "ENABLE", "DISABLED": "DISABLE", slaveside: ""}[was[e.key()]]
		if !known {
			unknown = append(unknown, e.db+"."+e.name)
		}
		if do == "" {
			continue
		}
		if err := d.exec(ctx, c, "SET SESSION sql_mode="+text(e.mode),
			"ALTER DEFINER="+definer(e.definer)+" EVENT "+name(e.db)+"."+name(e.name)+" "+do); err != nil {
			return "", fmt.Errorf("event %s.%s: %w", e.db, e.name, err)
		}
	}
	d.noting.Lock()
	defer d.noting.Unlock()
	d.noting.unknown = unknown
	return was[event{}.key()], nil
}

// closedConn gives back a connection that may be gone.
func closedConn(c *sql.Conn) error {
	if err := c.Close(); err != nil && !errors.Is(err, sql.ErrConnDone) && !errors.Is(err, driver.ErrBadConn) {
		return err
	}
	return nil
}

// runEvents begins to run the events of a primary, if the last one did so; "": nothing is written down, so what the option file
// says counts.
func (d *Driver) runEvents(ctx context.Context, scheduler string) error {
	if scheduler == "" && d.cfg.EventScheduler != nil {
		var err error
		if scheduler, err = d.cfg.EventScheduler(ctx); err != nil {
			return err
		}
	}
	if strings.EqualFold(scheduler, "ON") || scheduler == "1" {
		if err := d.exec(ctx, d.db, "SET GLOBAL event_scheduler=ON"); err != nil {
			return err
		}
	}
	d.noting.Lock()
	defer d.noting.Unlock()
	d.noting.ready, d.noting.again = true, time.Time{}
	return nil
}

// restEvents ends the running of events.
func (d *Driver) restEvents(ctx context.Context, q querier) error {
	d.forgetEvents()
	v, err := d.row(ctx, q, "SELECT @@event_scheduler AS scheduler")
	if err == nil && v["scheduler"] == "ON" { // DISABLED can not be set
		err = d.exec(ctx, q, "SET GLOBAL event_scheduler=OFF")
	}
	return err
}

// name is a name in a statement.
func name(s string) string { return "`" + strings.ReplaceAll(s, "`", "``") + "`" }

// definer is an account USER@HOST in a statement: a host has no @.
func definer(s string) string {
	i := strings.LastIndexByte(s, '@')
	if i < 0 {
		return name(s) // a role
	}
	return name(s[:i]) + "@" + name(s[i+1:])
}
