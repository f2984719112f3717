package replicate

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"math/rand/v2"
	"net"
	"strings"
	"sync/atomic"
	"time"

	"github.com/go-mysql-org/go-mysql/client"
	gomysql "github.com/go-mysql-org/go-mysql/mysql"
	"github.com/go-mysql-org/go-mysql/replication"

	"holdfast/internal/lib/database"
	"holdfast/internal/transition/db/server"
)

// This file reads the binary log.

// place is a position of a binary log.
type place struct {
	file string
	pos  uint64 // bytes
}

func (p place) String() string { return fmt.Sprintf("%s:%d", p.file, p.pos) }

func (p place) before(q place) bool { return database.ComparePlaces(p.file, p.pos, q.file, q.pos) < 0 }

// farthest is the last byte of a file from which servers can be asked to read: their
// protocol has 32 bits for it. A file is longer only by the transaction that ends it.
const farthest = math.MaxUint32

// reachable reports whether the log can be read from there.
func (p place) reachable() bool { return p.pos <= farthest }

// Times of the connection that reads the log.
const (
	heartbeat = time.Second      // an idle server tells its position so often
	silence   = 30 * time.Second // after which a server counts as gone
)

// held is how many events are read ahead: enough to be busy, little memory.
const held = 64

// stream is one connection that reads the log.
type stream struct {
	syncer *replication.BinlogSyncer
	events *replication.BinlogStreamer
	parser *parser
}

// open reads the log from a position. wanted tells of which tables rows are to be read.
func open(ctx context.Context, source *server.Server, from place, wanted func(db, table string) bool) (*stream, error) {
	if !from.reachable() {
		return nil, fatal(fmt.Errorf("source: position %s is beyond 4 GiB, from where no binary log can be read: "+
			"want FLUSH BINARY LOGS on the source before the copy begins, and it begun anew", from))
	}
	secure, err := encrypted(ctx, source)
	if err != nil {
		return nil, fmt.Errorf("source: %w", err)
	}
	var other error
	c := source.Config
	cfg := replication.BinlogSyncerConfig{
		ServerID: 1<<31 | rand.Uint32(), Flavor: gomysql.MySQLFlavor, User: c.User, Password: c.Passwd, Host: c.Addr,
		Dialer: once(c.Net, c.Addr), TLSConfig: secure, Localhost: "holdfast", Logger: slog.New(slog.DiscardHandler),
		HeartbeatPeriod: heartbeat, ReadTimeout: silence, DisableRetrySync: true, EventCacheCount: held,
		DiscardGTIDSet: true, RawModeEnabled: true, // parser takes events apart
		Option: func(c *client.Conn) error {
			if other = theSource(c, source); other == nil {
				other = unhurried(c)
			}
			return other
		},
	}
	if source.Vendor == server.MariaDB {
		cfg.Flavor = gomysql.MariaDBFlavor
	}
	s := &stream{syncer: replication.NewBinlogSyncer(cfg), parser: newParser(cfg.Flavor, wanted)}
	if s.events, err = s.syncer.StartSync(gomysql.Position{Name: from.file, Pos: uint32(from.pos)}); err != nil {
		s.syncer.Close()
		if other != nil {
			return nil, fmt.Errorf("source: binary log: %w", other)
		}
		return nil, told(err, from)
	}
	return s, nil
}

// theSource is an error unless the log's connection has reached the source, and no other server
// behind its address: there the position would be of another log. Numbers of servers
// alone do not tell, in clusters they may be equal.
func theSource(c *client.Conn, source *server.Server) error {
	r, err := c.Execute("SELECT CONCAT(@@hostname, ':', @@port, ', server_id ', @@server_id)")
	if err != nil {
		return fmt.Errorf("ask which server it is: %w", err)
	}
	defer r.Close()
	now, err := r.GetString(0, 0)
	if err != nil {
		return fmt.Errorf("ask which server it is: %w", err)
	}
	if was := fmt.Sprintf("%s, server_id %d", source.Name(), source.ID()); now != was {
		return fatal(fmt.Errorf("%w: %s, it was %s: want the address of one server", server.ErrOther, now, was))
	}
	return nil
}

// unhurried keeps a server from ending the log's connection because nothing is read from it
// while rows are carried over: after a minute, by its own default. What it is told here is
// the most that servers take, a year.
func unhurried(c *client.Conn) error {
	const ask = "SET SESSION net_write_timeout = 31536000"
	r, err := c.Execute(ask)
	if err != nil {
		return fmt.Errorf("%s: %w", ask, err)
	}
	r.Close()
	return nil
}

// once connects one time. The library would connect again to kill the connection that it
// had, by its number, which on a server that was started anew is somebody else's.
func once(network, addr string) client.Dialer {
	var used atomic.Bool
	return func(ctx context.Context, _, _ string) (net.Conn, error) {
		if used.Swap(true) {
			return nil, errors.New("one connection only")
		}
		d := net.Dialer{Timeout: 10 * time.Second}
		return d.DialContext(ctx, network, addr)
	}
}

// encrypted gives the TLS settings for the log's connection: it is encrypted when the
// connections that are there are, so that "preferred" means the same for all.
func encrypted(ctx context.Context, source *server.Server) (*tls.Config, error) {
	if source.Config.TLS == nil {
		return nil, nil
	}
	var name, cipher string
	if err := source.DB.QueryRowContext(ctx, "SHOW SESSION STATUS LIKE 'Ssl_cipher'").Scan(&name, &cipher); err != nil {
		return nil, fmt.Errorf("whether the connection is encrypted: %w", err)
	}
	if cipher == "" {
		return nil, nil
	}
	t := source.Config.TLS.Clone()
	if host, _, err := net.SplitHostPort(source.Config.Addr); err == nil && t.ServerName == "" {
		t.ServerName = host
	}
	return t, nil
}

func (s *stream) close() { s.syncer.Close() }

// next is the next event; nil when none came for a while.
func (s *stream) next(ctx context.Context, wait time.Duration) (*replication.BinlogEvent, error) {
	short, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	e, err := s.events.GetEvent(short)
	switch {
	case err == nil:
		return s.parser.parse(e)
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case errors.Is(err, context.DeadlineExceeded) && short.Err() != nil:
		return nil, nil
	}
	return nil, err
}

// errFatal marks what trying again does not help.
var errFatal = errors.New("the binary log can not be followed")

// fatal marks an error.
func fatal(err error) error { return &fatalError{err} }

type fatalError struct{ error }

func (f *fatalError) Unwrap() error        { return f.error }
func (f *fatalError) Is(target error) bool { return target == errFatal }

// told explains what a server answers to who wants to read its log.
func told(err error, from place) error {
	var my *gomysql.MyError
	if !errors.As(err, &my) {
		return fmt.Errorf("source: binary log: %w", err)
	}
	switch my.Code {
	case 1236: // it can not read what was asked for
		return fatal(fmt.Errorf("source: position %s is not to be had from the binary log (purged, or damaged): %w: want %s", from, my, anew))
	case 1045, 1227, 1142: // denied
		return fatal(fmt.Errorf("source: the account may not read the binary log: want REPLICATION SLAVE: %w", my))
	}
	return fmt.Errorf("source: binary log: %w", my)
}

// try reads the first events from a position.
func try(ctx context.Context, source *server.Server, from place) error {
	s, err := open(ctx, source, from, func(string, string) bool { return false })
	if err != nil {
		return err
	}
	defer s.close()
	for range 2 { // the first event is made up by the server; if the place is wrong, an error follows
		e, err := s.next(ctx, 5*time.Second)
		if err != nil {
			return told(err, from)
		}
		if e == nil {
			return fmt.Errorf("source: binary log: nothing came from %s within 5 s", from)
		}
	}
	return nil
}

// keyword is the first words of a statement, in capitals, for those that begin and end
// transactions.
func keyword(query string) string {
	words := tokens(query[:min(len(query), 1<<10)])
	var out []string
	for _, w := range words[:min(len(words), 2)] {
		out = append(out, strings.ToUpper(w.text))
	}
	return strings.Join(out, " ")
}
