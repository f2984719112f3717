package follow

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"

	"github.com/go-sql-driver/mysql"

	"holdfast/internal/align"
	"holdfast/internal/align/copier"
	"holdfast/internal/align/follow/settle"
	"holdfast/internal/align/sqlexpr"
)

// This file carries batches over.

// errAgain is that the target does not take a row as it is now. When a unique value went
// from one row to another and the log has not been read that far, it does later.
var errAgain = errors.New("the target does not take a row")

// flush carries the batch over: rows of its keys are deleted in the target and made anew
// of what the source has now, in one transaction with the position up to which the log
// has been read.
func (f *follower) flush(ctx context.Context) error {
	if f.batch.size > 0 {
		if err := f.settled(ctx); err != nil {
			return err
		}
		if err := f.batch.resolve(ctx, f.plan, f.source); err != nil {
			return err
		}
		if err := f.known(ctx); err != nil {
			return err
		}
	}
	return f.write(ctx, copier.Following)
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
	return settle.Wait(ctx, f.source, to.file, to.pos)
}

// known looks for values without an ID before a row with one is written.
func (f *follower) known(ctx context.Context) error {
	for i := range f.plan.Tables {
		t := &f.plan.Tables[i]
		if len(t.Lookups) == 0 {
			continue
		}
		for _, part := range f.batch.parts(i) {
			switch err := copier.Known(ctx, f.source.DB, t, align.AnyOf(align.Main, t.Key, part)); {
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
	f.tried = f.at
	conn, err := f.connect(ctx)
	if err != nil {
		return err
	}
	n, err := f.transaction(ctx, conn, f.tried, state)
	if err != nil {
		f.disconnect()
		return err
	}
	f.written += n
	f.saved, f.batch = f.tried, newBatch(f.plan)
	return nil
}

func (f *follower) transaction(ctx context.Context, conn *sql.Conn, at place, state copier.State) (rows int64, err error) {
	tx, err := conn.BeginTx(ctx, nil)
	if err != nil {
		return 0, fmt.Errorf("target: %w", err)
	}
	defer tx.Rollback()
	if err := f.mine(ctx, tx); err != nil {
		return 0, err
	}
	for i := range f.plan.Tables {
		t := &f.plan.Tables[i]
		for _, part := range f.batch.parts(i) {
			if _, err := tx.ExecContext(ctx, t.Delete(part)); err != nil {
				return 0, fmt.Errorf("%s: delete %d rows: %w", t.Target, len(part), err)
			}
		}
	}
	for i := range f.plan.Tables {
		t := &f.plan.Tables[i]
		for _, part := range f.batch.parts(i) {
			n, err := f.mover.Move(ctx, tx, t, align.AnyOf(align.Main, t.Key, part))
			if err != nil {
				return 0, moveError(t, part, err)
			}
			rows += n
		}
	}
	_, err = tx.ExecContext(ctx, fmt.Sprintf("UPDATE %s.`run` SET `binlog_file` = %s, `binlog_pos` = %d, `state` = %s WHERE `only` = 1", copier.Database, sqlexpr.Literal(at.file), at.pos, sqlexpr.Literal(string(state))))
	if err != nil {
		return 0, fmt.Errorf("target: write the journal: %w", err)
	}
	if err := tx.Commit(); err != nil {
		return 0, fmt.Errorf("target: commit: %w", err)
	}
	return rows, nil
}

// unfit are the errors of rows that the target does not take: NULL (1048, 1364), a value
// that is there (1062, 1586), too large, too long or of another form (1264, 1265, 1292,
// 1366, 1406), without its parent (1452), against a check (3819, 4025). The source may
// have had them for a moment only, between two of its transactions.
var unfit = []uint16{1048, 1062, 1264, 1265, 1292, 1364, 1366, 1406, 1452, 1586, 3819, 4025}

// moveError tells rows that may fit later from what no further reading mends.
func moveError(t *align.Planned, part [][]string, err error) error {
	var my *mysql.MySQLError
	if !errors.As(err, &my) || passing(err) {
		return fmt.Errorf("%s: %w", t.Target, err)
	}
	said := fmt.Errorf("%s: a row is not taken, among %d, of which the first has key %s: %w", t.Target, len(part), strings.Join(part[0], ", "), err)
	if slices.Contains(unfit, my.Number) {
		return errors.Join(errAgain, said)
	}
	return fatal(said)
}

// mine holds the journal's row and looks whether it says what this run left there.
func (f *follower) mine(ctx context.Context, tx *sql.Tx) error {
	var is place
	err := tx.QueryRowContext(ctx, "SELECT `binlog_file`, `binlog_pos` FROM "+copier.Database+".`run` WHERE `only` = 1 FOR UPDATE").Scan(&is.file, &is.pos)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return fatal(fmt.Errorf("target: the journal %s.run is gone", copier.Database))
	case err != nil:
		return fmt.Errorf("target: read the journal: %w", err)
	case is != f.saved && is != f.tried:
		return fatal(fmt.Errorf("target: the journal %s.run is at %s, this run left it at %s: another run has gone on", copier.Database, is, f.saved))
	}
	return nil
}

// passes are the errors of servers that pass: too many connections, a shutdown, aborted
// connections and their networks, a lock that was not to be had, a deadlock, a query or
// a connection that was killed, a server that is still starting or replays its log.
var passes = []uint16{1040, 1053, 1152, 1158, 1159, 1160, 1161, 1184, 1203, 1205, 1213, 1317, 1927, 2006, 2013}

// passing reports errors after which the same may be tried again.
func passing(err error) bool {
	if errors.Is(err, errFatal) {
		return false
	}
	if n, ok := code(err); ok {
		return slices.Contains(passes, n)
	}
	var network net.Error
	return errors.Is(err, driver.ErrBadConn) || errors.Is(err, mysql.ErrInvalidConn) || errors.Is(err, sql.ErrConnDone) ||
		errors.Is(err, sql.ErrTxDone) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, context.DeadlineExceeded) ||
		gone(err) || errors.As(err, &network)
}
