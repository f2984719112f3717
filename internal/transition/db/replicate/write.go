package replicate

import (
	"cmp"
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	gomysql "github.com/go-mysql-org/go-mysql/mysql"
	"github.com/go-sql-driver/mysql"

	"holdfast/internal/transition/db/commitwait"
	"holdfast/internal/transition/db/copier"
	"holdfast/internal/transition/db/mapping"
	"holdfast/internal/transition/db/server"
	"holdfast/internal/transition/db/sqlexpr"
)

// This file carries batches over.

// errAgain is that the target does not take a row as it is now. When a unique value went
// from one row to another and the log has not been read that far, it does later.
var errAgain = errors.New("the target does not take a row")

// flush carries the batch over: rows of its keys are deleted in the target and made anew
// of what the source has now, in one transaction with the position up to which the log
// has been read.
func (f *follower) flush(ctx context.Context) error {
	if err := f.collect(ctx, f.page); err != nil {
		return err
	}
	if err := f.known(ctx); err != nil {
		return err
	}
	return f.write(ctx, copier.Following)
}

// collect waits until the source's rows are as the log told, and has in the batch the keys
// of all rows to be made anew. When there are more than memory should hold, page takes
// them out.
func (f *follower) collect(ctx context.Context, page func(context.Context) error) error {
	if f.batch.size == 0 {
		return nil
	}
	if err := f.hold(ctx); err != nil {
		return err
	}
	if err := f.settled(ctx); err != nil {
		return err
	}
	return f.batch.resolve(ctx, f.plan, f.source, func(ctx context.Context) error {
		if !f.crowded() {
			return nil
		}
		return page(ctx)
	})
}

// hold waits while servers have too much to do. That is no failure of theirs.
func (f *follower) hold(ctx context.Context) error {
	return f.opt.Throttle.Hold(ctx, f.source.DB, f.target.DB, func(why string) {
		f.good = time.Now()
		f.tell(why)
	})
}

// crowded reports whether the batch has more keys than memory should hold, beyond those
// that the target did not take.
func (f *follower) crowded() bool { return f.batch.held() >= f.left+f.room }

// page carries over those keys of the batch that the target takes, and keeps the others.
// The journal stays where it is: a run that is ended here reads them again. collect has
// held already: here a question to the source may be open, which keeps it busy.
func (f *follower) page(ctx context.Context) error {
	if err := f.known(ctx); err != nil {
		return err
	}
	conn, err := f.connect(ctx)
	if err != nil {
		return err
	}
	n, left, err := f.fitting(ctx, conn)
	if err != nil {
		f.disconnect()
		return err
	}
	f.written += n
	var why error
	f.batch.empty()
	for i, r := range left {
		for _, k := range r.keys {
			f.batch.key(i, k)
		}
		why = cmp.Or(r.why, why)
	}
	f.good = time.Now()
	if f.left = f.batch.held(); f.left > mostLeft*f.room {
		return fatal(fmt.Errorf("target: of the rows that changed up to position %s of the source's binary log, it "+
			"does not take more than %d: want what it has in their way mended, it goes on from %s: %w", f.at, mostLeft*f.room, f.saved, why))
	}
	return nil
}

// relieve takes keys out of a batch that has more than memory should hold.
func (f *follower) relieve(ctx context.Context) error {
	if err := f.collect(ctx, f.page); err != nil {
		return err
	}
	return f.page(ctx)
}

// refusal are keys of which the target takes no rows, and why not: what it said of the last.
type refusal struct {
	keys [][]string
	why  error
}

// fitting writes, in one transaction, the keys of the batch that the target takes, and
// tells those that it does not, by the plan's tables.
func (f *follower) fitting(ctx context.Context, conn *sql.Conn) (rows int64, left []refusal, err error) {
	tx, err := conn.BeginTx(ctx, nil)
	if err != nil {
		return 0, nil, fmt.Errorf("target: %w", err)
	}
	defer tx.Rollback()
	if err := f.mine(ctx, tx); err != nil {
		return 0, nil, err
	}
	left = make([]refusal, len(f.plan.Tables))
	renewals, err := f.erased(ctx, tx)
	if err != nil {
		return 0, nil, err
	}
	for _, c := range renewals {
		for _, part := range c.now {
			n, err := f.halves(ctx, tx, c.table, part, &left[c.planned])
			if err != nil {
				return 0, nil, err
			}
			rows += n
		}
	}
	if err := tx.Commit(); err != nil {
		return 0, nil, fmt.Errorf("target: commit: %w", err)
	}
	return rows, left, nil
}

// halves makes the rows of keys anew, in halves of halves where the target does not take
// them, so that those that it takes are there.
func (f *follower) halves(ctx context.Context, tx *sql.Tx, t *mapping.Planned, part [][]string, not *refusal) (rows int64, err error) {
	if _, err := tx.ExecContext(ctx, "SAVEPOINT part"); err != nil {
		return 0, fmt.Errorf("target: %w", err)
	}
	rows, err = f.anew(ctx, tx, t, part)
	if !errors.Is(err, errAgain) {
		return rows, err
	}
	if _, err := tx.ExecContext(ctx, "ROLLBACK TO SAVEPOINT part"); err != nil {
		return 0, fmt.Errorf("target: %w", err)
	}
	if len(part) == 1 {
		not.keys, not.why = append(not.keys, part[0]), err
		return 0, nil
	}
	for half := range slices.Chunk(part, (len(part)+1)/2) {
		n, err := f.halves(ctx, tx, t, half, not)
		if err != nil {
			return 0, err
		}
		rows += n
	}
	return rows, nil
}

// connect gives the connection on which rows are written. It has settings of its own.
func (f *follower) connect(ctx context.Context) (*sql.Conn, error) {
	if f.conn != nil {
		return f.conn, nil
	}
	conn, err := f.target.DB.Conn(ctx)
	if err != nil {
		return nil, fmt.Errorf("target: %w", err)
	}
	f.conn = conn
	if err := copier.Prepare(ctx, conn, false); err != nil {
		f.disconnect()
		return nil, fmt.Errorf("target: %w", err)
	}
	return conn, nil
}

// disconnect ends that connection, so that nobody else gets it with its settings.
func (f *follower) disconnect() {
	if f.conn == nil {
		return
	}
	_ = f.conn.Raw(func(any) error { return driver.ErrBadConn }) // the pool forgets it; the error is that one
	_ = f.conn.Close()                                           // closed already
	f.conn = nil
}

// settled waits until what has been read of the log can be seen in the source's tables.
func (f *follower) settled(ctx context.Context) error {
	to := f.last
	if f.blind {
		var err error
		if to, err = now(ctx, f.source); err != nil {
			return err
		}
	}
	return commitwait.Wait(ctx, f.source, to.file, to.pos)
}

// known looks for values without an ID before a row with one is written.
func (f *follower) known(ctx context.Context) error {
	for i := range f.plan.Tables {
		t := &f.plan.Tables[i]
		if len(t.Lookups) == 0 {
			continue
		}
		for _, part := range f.batch.parts(i) {
			switch err := copier.Known(ctx, f.source.DB, t, mapping.AnyOf(mapping.Main, t.Key, part)); {
			case errors.Is(err, copier.ErrNoID):
				return fatal(fmt.Errorf("%s: %w: it goes on from %s", t.Target, err, f.saved))
			case err != nil:
				return fmt.Errorf("%s: %w", t.Target, err)
			}
		}
	}
	return nil
}

// write writes the batch and the position in one transaction on the target.
func (f *follower) write(ctx context.Context, state copier.State) error {
	conn, err := f.connect(ctx)
	if err != nil {
		return err
	}
	n, err := f.transaction(ctx, conn, state)
	if err != nil {
		f.disconnect()
		return err
	}
	f.written += n
	f.saved, f.noted, f.batch, f.left = f.tried, time.Now(), newBatch(f.plan), 0
	f.holes = false
	return nil
}

func (f *follower) transaction(ctx context.Context, conn *sql.Conn, state copier.State) (rows int64, err error) {
	tx, err := conn.BeginTx(ctx, nil)
	if err != nil {
		return 0, fmt.Errorf("target: %w", err)
	}
	defer tx.Rollback()
	if err := f.mine(ctx, tx); err != nil {
		return 0, err
	}
	renewals, err := f.erased(ctx, tx)
	if err != nil {
		return 0, err
	}
	for _, c := range renewals {
		for _, part := range c.now {
			n, err := f.anew(ctx, tx, c.table, part)
			if err != nil {
				return 0, err
			}
			rows += n
		}
	}
	if f.holes { // all was compared, before anything came here
		if err := copier.Whole(ctx, tx); err != nil {
			return 0, err
		}
	}
	f.tried = f.from
	_, err = tx.ExecContext(ctx, fmt.Sprintf("UPDATE %s.`run` SET `binlog_file` = %s, `binlog_pos` = %d, `state` = "+
		"%s WHERE `only` = 1", copier.Database, sqlexpr.Literal(f.tried.file), f.tried.pos, sqlexpr.Literal(string(state))))
	if err != nil {
		return 0, fmt.Errorf("target: write the journal: %w", err)
	}
	if err := tx.Commit(); err != nil {
		return 0, fmt.Errorf("target: commit: %w", err)
	}
	return rows, nil
}

// erased takes the rows of the batch's keys out of the target, all before any is made anew:
// their unique values may be those of others by now.
func (f *follower) erased(ctx context.Context, tx *sql.Tx) ([]renewal, error) {
	renewals, err := f.batch.renewals(ctx, f.plan, f.source)
	if err != nil {
		return nil, err
	}
	for _, c := range renewals {
		for _, part := range c.old {
			if _, err := tx.ExecContext(ctx, c.table.Delete(part)); err != nil {
				return nil, fmt.Errorf("%s: delete %d rows: %w", c.table.Target, len(part), err)
			}
		}
	}
	return renewals, nil
}

// anew makes the rows of some keys of what the source has; errAgain: one is not taken.
func (f *follower) anew(ctx context.Context, tx *sql.Tx, t *mapping.Planned, part [][]string) (int64, error) {
	n, err := f.mover.Move(ctx, tx, t, mapping.AnyOf(mapping.Main, t.Key, part), false)
	if err != nil {
		return 0, moveError(t, part, err)
	}
	return n, nil
}

// unfit are the errors of rows that the target does not take: NULL (1048, 1364), a value
// that is there (1062, 1586), too large, too long or of another form (1264, 1265, 1292,
// 1366, 1406), without its parent (1452), against a check (3819, 4025). The source may
// have had them for a moment only, between two of its transactions.
var unfit = []uint16{1048, 1062, 1264, 1265, 1292, 1364, 1366, 1406, 1452, 1586, 3819, 4025}

// moveError tells rows that may fit later from what no further reading mends.
func moveError(t *mapping.Planned, part [][]string, err error) error {
	var my *mysql.MySQLError
	if !errors.As(err, &my) || passing(err) {
		return fmt.Errorf("%s: %w", t.Target, err)
	}
	said := fmt.Errorf("%s: a row is not taken, among %d, of which the first has key %s: %w", t.Target, len(part),
		strings.Join(part[0], ", "), err)
	if slices.Contains(unfit, my.Number) {
		return errors.Join(errAgain, said)
	}
	return fatal(said)
}

// mine holds the journal's row and looks whether it says what this run left there: where
// the reply to a commit was lost, it tells whether that is there.
func (f *follower) mine(ctx context.Context, tx *sql.Tx) error {
	var is place
	err := tx.QueryRowContext(ctx, "SELECT `binlog_file`, `binlog_pos` FROM "+
		copier.Database+".`run` WHERE `only` = 1 FOR UPDATE").Scan(&is.file, &is.pos)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return fatal(fmt.Errorf("target: the journal %s.run is gone: want %s", copier.Database, anew))
	case err != nil:
		return fmt.Errorf("target: read the journal: %w", err)
	case is != f.saved && is != f.tried:
		return fatal(fmt.Errorf("target: the journal %s.run is at %s, this run left it at %s: another run has gone on",
			copier.Database, is, f.saved))
	}
	f.saved, f.tried = is, is
	return nil
}

// passing reports errors after which the same may be tried again, those of the other
// library too.
func passing(err error) bool {
	var told *gomysql.MyError
	switch {
	case errors.Is(err, errFatal):
		return false
	case errors.As(err, &told):
		return server.Passes(told.Code)
	}
	return server.Passing(err) || errors.Is(err, sql.ErrTxDone) || errors.Is(err, context.DeadlineExceeded) ||
		errors.Is(err, gomysql.ErrBadConn)
}
