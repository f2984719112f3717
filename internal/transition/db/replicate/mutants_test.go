package replicate

import (
	"database/sql"
	"errors"
	"strings"
	"testing"

	"github.com/go-sql-driver/mysql"

	"holdfast/testbed/need"
)

// TestTheJournalIsHeld: while rows are written nobody else can move the position, and it is
// one that this run has left there, or may have.
func TestTheJournalIsHeld(t *testing.T) {
	need.More(t)
	w := newWorld(t, false)
	w.src.SQL(firstRows)
	w.copy()
	f, err := begin(t.Context(), w.plan, w.source, w.target, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer f.disconnect()
	transaction := func() *sql.Tx {
		t.Helper()
		tx, err := w.target.DB.BeginTx(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = tx.Rollback() }) // it may have ended
		return tx
	}
	tx := transaction()
	if err := f.mine(t.Context(), tx); err != nil {
		t.Fatal(err)
	}
	other := transaction()
	var told *mysql.MySQLError
	if _, err := other.ExecContext(t.Context(), "SET SESSION innodb_lock_wait_timeout = 1"); err != nil {
		t.Fatal(err)
	}
	if _, err := other.ExecContext(t.Context(), "UPDATE migrate_journal.run SET binlog_pos = 4"); !errors.As(err,
		&told) || told.Number != 1205 {
		t.Errorf("another moves the position meanwhile: %v", err)
	}
	if err := errors.Join(other.Rollback(), tx.Rollback()); err != nil {
		t.Fatal(err)
	}
	at, tried, third := f.saved, place{"log.000007", 700}, place{"log.000007", 800}
	for _, c := range []struct {
		is   place
		mine bool
	}{{at, true}, {tried, true}, {third, false}} {
		f.saved, f.tried = at, tried
		w.dst.SQL("UPDATE migrate_journal.run SET binlog_file = '" + c.is.file + "', binlog_pos = " + strings.Split(c.is.String(), ":")[1])
		tx := transaction()
		err := f.mine(t.Context(), tx)
		if c.mine != (err == nil) || err != nil && !errors.Is(err, errFatal) {
			t.Errorf("the journal is at %s, this run has left %s and tried %s: %v", c.is, at, tried, err)
		}
		if err := tx.Rollback(); err != nil {
			t.Fatal(err)
		}
	}
}
