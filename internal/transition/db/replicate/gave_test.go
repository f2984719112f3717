package replicate

import (
	"context"
	"strings"
	"testing"

	"holdfast/internal/transition/db/copier"
	"holdfast/testbed/need"
)

// marks are the tables whose rows gave way to others, as the journal has them.
func (w *world) marks() string {
	w.t.Helper()
	return w.dst.SQL("SELECT GROUP_CONCAT(target ORDER BY target) FROM migrate_journal.tables WHERE gave_way")
}

// copyChunks copies in chunks of ten rows, one after the other.
func (w *world) copyChunks(follows bool) error {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), patient)
	defer cancel()
	_, err := copier.Run(ctx, w.plan, "hash", w.source, w.target, copier.Options{Follows: follows, Parallel: 1, ChunkRows: 10})
	return err
}

// TestUnchangedRowsWithOneUniqueValue: the plan has not seen that the target has a unique
// key, so that one row takes another's place, and the log has nothing of either.
func TestUnchangedRowsWithOneUniqueValue(t *testing.T) {
	need.More(t)
	both(t, func(t *testing.T, w *world) {
		w.src.SQL(firstRows + "UPDATE instances SET name = 'twice' WHERE id IN (7, 55)")
		w.dst.SQL("ALTER TABLE new_nova.instances ADD UNIQUE once (name)")
		if err := w.copyChunks(true); err != nil {
			t.Fatal(err)
		}
		if got := w.dst.SQL("SELECT COUNT(*) FROM new_nova.instances"); got != "59" {
			t.Fatal("rows after the copy:", got)
		}
		w.refused("nova.instances: a row is not taken", "first has key 7:", "Duplicate entry 'twice' for key 'once'", "in 20 attempts")
		if got := w.marks(); got != "nova.instances" {
			t.Errorf("marks %q", got)
		}
		w.src.SQL("UPDATE old_nova.instances SET name = 'once' WHERE id = 55")
		w.mustFollow()
		w.equal()
		if got := w.marks(); got != "NULL" {
			t.Errorf("marks %q", got)
		}
	})
}

// TestAValueThatMovedInTheCopy: the good case, in which the log has why a row gave way.
func TestAValueThatMovedInTheCopy(t *testing.T) {
	need.More(t)
	both(t, func(t *testing.T, w *world) {
		w.src.SQL(firstRows + "UPDATE instances SET name = 'moves' WHERE id IN (7, 55)")
		w.dst.SQL("ALTER TABLE new_nova.instances ADD UNIQUE once (name)")
		if err := w.copyChunks(false); err == nil || !strings.Contains(err.Error(), "'moves'") {
			t.Fatal(err)
		}
		w.src.SQL("UPDATE old_nova.instances SET name = 'moved' WHERE id = 7")
		if err := w.copyChunks(true); err != nil {
			t.Fatal(err)
		}
		if got := w.marks(); got != "nova.instances" || w.differences() == nil {
			t.Fatalf("marks %q, %v", got, w.differences())
		}
		w.mustFollow()
		w.equal()
		if got := w.marks(); got != "NULL" {
			t.Errorf("marks %q", got)
		}
	})
}

// TestRowsThatGaveWayAreComparedAfterAKill: whatever was found is looked for again as long
// as it is not written.
func TestRowsThatGaveWayAreComparedAfterAKill(t *testing.T) {
	need.More(t)
	w := newWorld(t, false)
	w.src.SQL(firstRows + "UPDATE instances SET name = 'twice' WHERE id IN (7, 55)")
	w.dst.SQL("ALTER TABLE new_nova.instances ADD UNIQUE once (name)")
	if err := w.copyChunks(true); err != nil {
		t.Fatal(err)
	}
	w.dst.SQL("ALTER TABLE new_nova.instances DROP KEY once") // so that it takes both rows
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var first Progress
	_, err := Run(ctx, w.mapping, w.plan, w.source, w.target, w.sourceDB, Options{Quiet: quiet, Progress: func(p Progress) {
		if cancel(); first.Waits == "" {
			first = p
		}
	}})
	if err == nil || first.Waits != "compares table nova.instances, whose rows gave way to others" ||
		first.LagSeconds != -1 || w.marks() != "nova.instances" {
		t.Fatalf("%v, tells %+v, marks %q", err, first, w.marks())
	}
	f, err := begin(t.Context(), w.plan, w.source, w.target, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer f.disconnect()
	if err := f.compare(t.Context()); err != nil || f.batch.size != 1 || w.marks() != "nova.instances" {
		t.Fatalf("%v, %d keys, marks %q", err, f.batch.size, w.marks())
	}
	w.mustFollow()
	w.equal()
	if got := w.marks(); got != "NULL" {
		t.Errorf("marks %q", got)
	}
}

// TestLargeTablesWhoseRowsGaveWay: all kinds of keys, in several parts, with more rows
// that differ than memory should hold.
func TestLargeTablesWhoseRowsGaveWay(t *testing.T) {
	need.More(t)
	both(t, func(t *testing.T, w *world) {
		w.src.SQL(firstRows + "INSERT INTO aggregates (id, name) SELECT 1000 + seq, CONCAT('more', seq) FROM seq_1_to_25000")
		w.copy()
		w.dst.SQL("UPDATE migrate_journal.tables SET gave_way = 1")
		d := w.drive(100)
		for range 2 { // without marks it does nothing
			if err := d.compare(t.Context()); err != nil || w.marks() != "NULL" || d.written != 0 {
				t.Fatalf("of equal rows: %v, marks %q, %d rows are written", err, w.marks(), d.written)
			}
		}
		w.dst.SQL(`UPDATE migrate_journal.tables SET gave_way = 1; USE new_nova; DELETE FROM instances WHERE id = 60; UPDATE instances SET name = 'x' WHERE id = 1;
DELETE FROM tags WHERE resource = 'r3'; UPDATE tags SET value = 0 WHERE resource = 'r4'; DELETE FROM bins WHERE HEX(k) = '6B31000000000000'; UPDATE bins SET f = NULL WHERE HEX(k) = '6B32000000000000';
USE new_api; DELETE FROM aggregates WHERE id % 50 = 0; UPDATE aggregates SET name = CONCAT(name, 'x') WHERE id = 25001; UPDATE specs SET spec = '' WHERE id = 5`)
		d = w.drive(100)
		if err := d.compare(t.Context()); err != nil || d.batch.size >= 100 || d.written < 400 {
			t.Fatal(err, d.batch.size, d.written)
		}
		if err := d.carry(t.Context()); err != nil || d.failures != 0 {
			t.Fatal(err, d.failures)
		}
		w.equal()
		if got := w.marks(); got != "NULL" || d.written != 500+1+7 {
			t.Errorf("marks %q, %d rows are written", got, d.written)
		}
	})
}
