package e2e

import (
	"context"
	"database/sql"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"holdfast/internal/transition/db/aligntest"
)

// oldGuest is a guest of the old platform as it was written last.
type oldGuest struct {
	id                      int
	uuid, name, state, role string
	deleted, purged         bool
	asked                   bool // somebody looks for it: it stays
}

// kind is the guest's state, deleted, or purged when its rows are gone.
func (g *oldGuest) kind() string {
	switch {
	case g.purged:
		return "purged"
	case g.deleted:
		return "deleted"
	}
	return g.state
}

// writer is an old platform at work: it makes guests like guestWeb, starts, stops,
// renames and deletes them, each in a transaction of its own.
type writer struct {
	db      *sql.DB
	rand    *rand.Rand
	columns map[string][]string // of the tables that have rows of a guest
	guests  []*oldGuest
	ops     int
	stop    context.CancelFunc
	ended   chan error
	wants   chan chan *oldGuest // who asks is told of the next guest that is made
}

// partsOfGuests are the tables that have rows of a guest, besides its own.
var partsOfGuests = []string{"instance_extra", "instance_info_caches", "instance_metadata", "instance_system_metadata",
	"block_device_mapping"}

// work starts a writer, which works until it is stopped, with the test at the latest.
func work(t *testing.T, old *aligntest.Rig) *writer {
	t.Helper()
	w := &writer{db: old.Server("source").DB, rand: rand.New(rand.NewPCG(7, 1)), columns: map[string][]string{},
		ended: make(chan error, 1), wants: make(chan chan *oldGuest, 1)}
	for _, table := range append([]string{"instances"}, partsOfGuests...) {
		w.columns[table] = strings.Fields(old.SQL("SELECT COLUMN_NAME FROM information_schema.COLUMNS WHERE " +
			"TABLE_SCHEMA = 'liberty_nova' AND TABLE_NAME = '" + table + "' ORDER BY ORDINAL_POSITION"))
	}
	ctx, cancel := context.WithCancel(t.Context())
	w.stop = cancel
	done := make(chan struct{})
	t.Cleanup(func() { cancel(); <-done })
	go func() {
		defer close(done)
		w.ended <- w.until(ctx)
	}()
	return w
}

// until writes until ctx ends; what it is at then it ends.
func (w *writer) until(ctx context.Context) error {
	whole := context.WithoutCancel(ctx)
	for ctx.Err() == nil {
		if err := w.next(whole); err != nil {
			return err
		}
		w.ops++
		time.Sleep(5 * time.Millisecond)
	}
	return nil
}

// made waits for a guest that is made from now on. It is not deleted.
func (w *writer) made(t *testing.T) *oldGuest {
	t.Helper()
	answer := make(chan *oldGuest, 1)
	w.wants <- answer
	select {
	case g := <-answer:
		return g
	case err := <-w.ended:
		t.Fatalf("the writer has ended: %v", err)
	case <-time.After(serviceWithin):
		t.Fatal("the writer makes no guest")
	}
	return nil
}

// next does one thing that people and Nova do.
func (w *writer) next(ctx context.Context) error {
	alive := slices.DeleteFunc(slices.Clone(w.guests), func(g *oldGuest) bool { return g.deleted })
	what := w.rand.IntN(100)
	if len(alive) < 10 || what < 20 || len(w.wants) > 0 {
		return w.create(ctx)
	}
	g := alive[w.rand.IntN(len(alive))]
	switch {
	case g.asked && what >= 90:
		return w.retag(ctx, g)
	case what < 55:
		g.state = []string{"active", "stopped", "paused"}[w.rand.IntN(3)]
		return w.change(ctx, g, "UPDATE liberty_nova.instances SET vm_state = ?, power_state = ?, updated_at = NOW() WHERE uuid = ?",
			g.state, map[string]int{"active": 1, "stopped": 4, "paused": 3}[g.state], g.uuid)
	case what < 75:
		g.name = fmt.Sprintf(`n%d "ü" \ 中'`, w.ops)
		return w.change(ctx, g, "UPDATE liberty_nova.instances SET display_name = ? WHERE uuid = ?", g.name, g.uuid)
	case what < 90:
		return w.retag(ctx, g)
	default:
		return w.remove(ctx, g)
	}
}

// change runs a statement that changes a guest.
func (w *writer) change(ctx context.Context, g *oldGuest, query string, args ...any) error {
	if _, err := w.db.ExecContext(ctx, query, args...); err != nil {
		return fmt.Errorf("guest %s: %s: %w", g.uuid, query, err)
	}
	return nil
}

// all runs statements of a guest in a transaction.
func (w *writer) all(ctx context.Context, g *oldGuest, queries []string, args ...[]any) error {
	tx, err := w.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback() // nothing, after a commit
	for i, q := range queries {
		if _, err := tx.ExecContext(ctx, q, args[i]...); err != nil {
			return fmt.Errorf("guest %s: %s: %w", g.uuid, q, err)
		}
	}
	return tx.Commit()
}

// create makes a guest with all that belongs to it.
func (w *writer) create(ctx context.Context) error {
	id := 10_001 + len(w.guests)
	g := &oldGuest{id: id, uuid: fmt.Sprintf("90000000-0000-4000-8000-%012d", id), name: fmt.Sprint("made-", id),
		state: "active", role: fmt.Sprint("role-", id)}
	queries, args := []string{w.like("instances", "uuid",
		map[string]string{"id": fmt.Sprint(id), "uuid": "'" + g.uuid + "'", "display_name": "'" + g.name + "'"})}, [][]any{nil}
	for _, table := range partsOfGuests {
		queries = append(queries, w.like(table, "instance_uuid",
			map[string]string{"id": "NULL", "instance_uuid": "'" + g.uuid + "'", "numa_topology": "NULL"}))
		args = append(args, nil)
	}
	queries = append(queries, "UPDATE liberty_nova.instance_metadata SET value = ? WHERE instance_uuid = ? AND `key` = 'role'")
	if err := w.all(ctx, g, queries, append(args, []any{g.role, g.uuid})...); err != nil {
		return err
	}
	w.guests = append(w.guests, g)
	select {
	case answer := <-w.wants:
		g.asked = true
		answer <- g
	default:
	}
	return nil
}

// like is the statement that makes rows like those of guestWeb, with other values in some
// columns.
func (w *writer) like(table, key string, other map[string]string) string {
	var to, from []string
	for _, c := range w.columns[table] {
		value, ok := other[c]
		if !ok {
			value = "`" + c + "`"
		}
		to, from = append(to, "`"+c+"`"), append(from, value)
	}
	return fmt.Sprintf("INSERT INTO liberty_nova.%s (%s) SELECT %s FROM liberty_nova.%s WHERE %s = '%s' AND deleted = 0", table,
		strings.Join(to, ", "), strings.Join(from, ", "), table, key, guestWeb)
}

// retag gives a guest other metadata, in a new row as often as not.
func (w *writer) retag(ctx context.Context, g *oldGuest) error {
	g.role = fmt.Sprint("role of ", w.ops)
	if w.rand.IntN(2) == 0 {
		return w.change(ctx, g, "UPDATE liberty_nova.instance_metadata SET value = ? WHERE instance_uuid = ? AND "+
			"`key` = 'role' AND deleted = 0", g.role, g.uuid)
	}
	return w.all(ctx, g, []string{
		"DELETE FROM liberty_nova.instance_metadata WHERE instance_uuid = ? AND `key` = 'role'",
		"INSERT INTO liberty_nova.instance_metadata (created_at, `key`, value, instance_uuid, deleted) VALUES (NOW(), 'role', ?, ?, 0)",
	}, []any{g.uuid}, []any{g.role, g.uuid})
}

// remove deletes a guest as Nova does, by a column, and one time in three its rows.
func (w *writer) remove(ctx context.Context, g *oldGuest) error {
	g.deleted = true
	queries := []string{"UPDATE liberty_nova.instances SET deleted = id, deleted_at = NOW(), vm_state = 'deleted', " +
		"host = NULL, node = NULL, cleaned = 1 WHERE uuid = ?"}
	args := [][]any{{g.uuid}}
	for _, table := range partsOfGuests {
		queries, args = append(queries, "UPDATE liberty_nova."+
			table+" SET deleted = id, deleted_at = NOW() WHERE instance_uuid = ?"), append(args, []any{g.uuid})
	}
	if err := w.all(ctx, g, queries, args...); err != nil || w.rand.IntN(3) > 0 {
		return err
	}
	g.purged = true
	queries, args = nil, nil
	for _, table := range partsOfGuests {
		queries, args = append(queries, "DELETE FROM liberty_nova."+table+" WHERE instance_uuid = ?"), append(args, []any{g.uuid})
	}
	return w.all(ctx, g, append(queries, "DELETE FROM liberty_nova.instances WHERE uuid = ?"), append(args, []any{g.uuid})...)
}
