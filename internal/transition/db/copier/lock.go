package copier

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"sync"
	"time"

	"holdfast/internal/transition/db/server"
)

// Names of the locks that a run holds on the servers: on the target for its rows, on the
// source for the IDs that are staged there. Both may be one server.
const (
	lockName = "holdfast_align"
	idsName  = "holdfast_align_ids"
)

// Times of the lock.
const (
	lockWait  = 3               // seconds to wait for it: the server needs a moment to see that a process is dead
	lockLook  = 2 * time.Second // between two looks whether it is still held
	lockReply = 20 * time.Second
)

// ErrBusy is that another run holds the lock.
var ErrBusy = errors.New("another run is under way")

// lock keeps other runs away from a server. It is not what the rows' safety rests on:
// that is the journal's row of each chunk.
type lock struct {
	db     *sql.DB
	role   string
	name   string
	conn   *sql.Conn
	cancel context.CancelCauseFunc
	stop   context.CancelFunc
	wait   sync.WaitGroup
}

// Lock takes the lock of a server by its role: the target's, or the source's. The context
// that it returns ends with ctx, and when another run has taken the lock after the
// connection was lost. unlock must be called.
func Lock(ctx context.Context, s *server.Server) (locked context.Context, unlock func(), err error) {
	l := &lock{db: s.DB, role: s.Role, name: lockName}
	if s.Role == "source" {
		l.name = idsName
	}
	if err := l.take(ctx); err != nil {
		return nil, nil, err
	}
	locked, l.cancel = context.WithCancelCause(ctx)
	watch, stop := context.WithCancel(locked)
	l.stop = stop
	l.wait.Go(func() { l.watch(watch) })
	return locked, l.release, nil
}

func (l *lock) take(ctx context.Context) error {
	conn, err := l.db.Conn(ctx)
	if err != nil {
		return fmt.Errorf("%s: %w", l.role, err)
	}
	var got sql.NullInt64
	if err := conn.QueryRowContext(ctx, fmt.Sprintf("SELECT GET_LOCK(%s, %d)", literal(l.name), lockWait)).Scan(&got); err != nil {
		return errors.Join(fmt.Errorf("%s: take the lock: %w", l.role, server.Unlockable(err)), conn.Close())
	}
	if got.Int64 != 1 {
		return errors.Join(l.busy(ctx, conn), conn.Close())
	}
	l.conn = conn
	return nil
}

// Locked reports whether a run holds the target's lock.
func Locked(ctx context.Context, target *server.Server) (bool, error) {
	var id sql.NullInt64
	if err := target.DB.QueryRowContext(ctx, "SELECT IS_USED_LOCK("+literal(lockName)+")").Scan(&id); err != nil {
		return false, fmt.Errorf("target: see whether a run is under way: %w", server.Unlockable(err))
	}
	return id.Valid, nil
}

// busy says who holds the lock, as far as the server tells.
func (l *lock) busy(ctx context.Context, conn *sql.Conn) error {
	var id sql.NullInt64
	var user, host sql.NullString
	if err := conn.QueryRowContext(ctx, "SELECT IS_USED_LOCK("+literal(l.name)+")").Scan(&id); err != nil || !id.Valid {
		return ErrBusy
	}
	err := conn.QueryRowContext(ctx, "SELECT USER, HOST FROM information_schema.PROCESSLIST WHERE ID = "+number(id.Int64)).Scan(&user, &host)
	if err != nil || !user.Valid {
		return fmt.Errorf("%w: connection %d of the %s", ErrBusy, id.Int64, l.role) // others' connections are not shown to every user
	}
	return fmt.Errorf("%w: connection %d of the %s, %s@%s", ErrBusy, id.Int64, l.role, user.String, host.String)
}

// watch sees to it that the lock is held, also after the server was away.
func (l *lock) watch(ctx context.Context) {
	tick := time.NewTicker(lockLook)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if l.held(ctx) || ctx.Err() != nil {
			continue
		}
		discard(l.conn)
		l.conn = nil
		switch err := l.take(ctx); {
		case errors.Is(err, ErrBusy):
			l.cancel(fmt.Errorf("the connection that held the lock was lost, and now %w", err))
			return
		case err != nil: // away; those who work with it have more patience or less
			continue
		}
	}
}

func (l *lock) held(ctx context.Context) bool {
	if l.conn == nil {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, lockReply)
	defer cancel()
	var mine sql.NullBool
	err := l.conn.QueryRowContext(ctx, "SELECT IS_USED_LOCK("+literal(l.name)+") = CONNECTION_ID()").Scan(&mine)
	return err == nil && mine.Bool
}

// release gives the lock back: the server does when the connection ends.
func (l *lock) release() {
	l.stop()
	l.wait.Wait()
	discard(l.conn)
	l.cancel(nil)
}

// discard closes a connection for good, so that no one gets it with what was set in it.
func discard(c *sql.Conn) {
	if c == nil {
		return
	}
	_ = c.Raw(func(any) error { return driver.ErrBadConn }) // the error that makes the pool forget it, and comes back
	_ = c.Close()                                           // closed already
}
