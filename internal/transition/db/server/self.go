package server

import (
	"context"
	"crypto/rand"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
)

// self is what tells a server from another one.
type self struct {
	host string // as it calls itself
	port int
	id   uint32 // in binary logs
}

func (s self) String() string { return fmt.Sprintf("%s:%d, server_id %d", s.host, s.port, s.id) }

// ErrOther is that an address has led to another server than before.
var ErrOther = errors.New("another server answers at the same address")

// is looks whether a new connection is to the same server. Behind an address that moves
// (a cluster's, a proxy's) it may not be: a position of the binary log, a lock, or rows
// that were just written mean nothing there.
func (s self) is(ctx context.Context, conn driver.Conn) (err error) {
	ask, ok := conn.(driver.QueryerContext)
	if !ok {
		return errors.New("the connection to the server takes no questions")
	}
	// As text, which is the same for all types.
	rows, err := ask.QueryContext(ctx, "SELECT CONCAT(@@hostname, ':', @@port, ', server_id ', @@server_id)", nil)
	if err != nil {
		return fmt.Errorf("ask which server it is: %w", err)
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	one := make([]driver.Value, 1)
	if err := rows.Next(one); err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return fmt.Errorf("ask which server it is: %w", err)
	}
	text, _ := one[0].([]byte)
	if now := string(text); now != s.String() {
		return fmt.Errorf("%w: %s, it was %s: want the address of one server", ErrOther, now, s)
	}
	return nil
}

// Name is what the server calls itself, HOST:PORT, by whatever way it is reached.
func (s *Server) Name() string { return fmt.Sprintf("%s:%d", s.self.host, s.self.port) }

// ID is the server's number in binary logs (server_id).
func (s *Server) ID() uint32 { return s.self.id }

// Same tells whether two servers are one: a lock that is taken by the one is seen by
// the other. Addresses prove nothing, there are proxies and sockets.
func Same(ctx context.Context, a, b *Server) (bool, error) {
	conn, err := a.DB.Conn(ctx)
	if err != nil {
		return false, fmt.Errorf("%s: %w", a.Role, err)
	}
	defer conn.Close()
	name := "holdfast " + rand.Text()
	var got sql.NullInt64
	var own int64
	if err := conn.QueryRowContext(ctx, "SELECT GET_LOCK(?, 0), CONNECTION_ID()", name).Scan(&got, &own); err != nil {
		return false, fmt.Errorf("%s: GET_LOCK: %w", a.Role, Unlockable(err))
	}
	if got.Int64 != 1 {
		return false, fmt.Errorf("%s: GET_LOCK of a name that nobody else has: want 1, not %d", a.Role, got.Int64)
	}
	var holder sql.NullInt64
	err = b.DB.QueryRowContext(ctx, "SELECT IS_USED_LOCK(?)", name).Scan(&holder)
	if err != nil {
		err = fmt.Errorf("%s: IS_USED_LOCK: %w", b.Role, err)
	}
	if _, e := conn.ExecContext(ctx, "DO RELEASE_LOCK(?)", name); e != nil {
		err = errors.Join(err, fmt.Errorf("%s: RELEASE_LOCK: %w", a.Role, e))
	}
	return err == nil && holder.Valid && holder.Int64 == own, err
}
