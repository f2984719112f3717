package copier

import (
	"context"
	"database/sql"
	"fmt"
	"log/slog"
	"time"
)

// connection is one to the target on which chunks are moved, one at a time. A run has as
// many as it may move chunks, for all its tables together.
type connection struct {
	db  *sql.DB
	log *slog.Logger

	conn    *sql.Conn // nil: there is none now
	number  int64     // of the connection, on the process that is named by since
	since   int64     // when the server was started, seconds since 1970
	foreign bool      // foreign keys are looked at
}

// take waits for a connection that no chunk has. free must be called after it.
func take(ctx context.Context, connections chan *connection) (l *connection, free func(), err error) {
	select {
	case l = <-connections:
		return l, func() { connections <- l }, nil
	case <-ctx.Done():
		return nil, nil, context.Cause(ctx)
	}
}

// hangUp ends all connections, which no chunk has any more.
func (r *run) hangUp() {
	for range r.opt.Parallel {
		(<-r.connections).close()
	}
}

func (l *connection) close() {
	discard(l.conn)
	l.conn = nil
}

// prepare makes the connection ready for rows, and makes one where there is none.
func (l *connection) prepare(ctx context.Context, foreign bool) (err error) {
	if l.conn != nil && l.foreign == foreign {
		return nil
	}
	if l.conn == nil {
		if l.conn, err = l.db.Conn(ctx); err != nil {
			return err
		}
		l.number, l.since, err = process(ctx, l.conn)
	}
	if err == nil {
		err = Prepare(ctx, l.conn, foreign)
	}
	if err != nil {
		l.close()
		return err
	}
	l.foreign = foreign
	return nil
}

// process gives the number of a connection, and when its server was started by the
// server's clock, seconds since 1970: the number means nothing to a later process.
func process(ctx context.Context, conn *sql.Conn) (number, since int64, err error) {
	var now, uptime int64
	var name string
	for before := int64(0); now == 0 || now-before > 1; { // else the server took its time to answer
		const clock, status = "SELECT CONNECTION_ID(), UNIX_TIMESTAMP()", "SHOW GLOBAL STATUS LIKE 'Uptime'"
		if err := conn.QueryRowContext(ctx, clock).Scan(&number, &before); err != nil {
			return 0, 0, fmt.Errorf("%s: %w", clock, err)
		}
		if err := conn.QueryRowContext(ctx, status).Scan(&name, &uptime); err != nil {
			return 0, 0, fmt.Errorf("%s: %w", status, err)
		}
		if err := conn.QueryRowContext(ctx, clock).Scan(&number, &now); err != nil {
			return 0, 0, fmt.Errorf("%s: %w", clock, err)
		}
	}
	return number, now - uptime, nil
}

// sameStart is by how many seconds two answers about the start of one process differ at
// most: both are cut to whole seconds, and there is time between the questions.
const sameStart = 2

// abandon gives up the connection after an error, and tells the server: by itself it would
// see only at the end of its statement that no one listens, and hold its locks until then.
func (l *connection) abandon(ctx context.Context) {
	if l.conn == nil {
		return
	}
	l.close()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	// An error says that the connection has ended already, or that the server is away or new.
	if err := l.kill(ctx); err != nil {
		l.log.Debug("kill of a connection", "error", err)
	}
}

// kill ends the server's side of the connection, if it is still there: on a server that was
// restarted, the same number is somebody else's. No lock marks it as ours, because nodes of
// Galera do not stand GET_LOCK in sessions that write.
func (l *connection) kill(ctx context.Context) error {
	conn, err := l.db.Conn(ctx) // one, so that nothing is killed on a server that has not said since when it runs
	if err != nil {
		return err
	}
	defer conn.Close()
	_, since, err := process(ctx, conn)
	if err != nil {
		return err
	}
	if max(since-l.since, l.since-since) > sameStart {
		return fmt.Errorf("the server was started at %d, and at %d when the connection was made: it is another process", since, l.since)
	}
	_, err = conn.ExecContext(ctx, "KILL "+number(l.number))
	return err
}
