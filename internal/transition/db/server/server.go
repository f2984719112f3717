// Package server reaches the MySQL and MariaDB servers of an old and a new platform: how
// they are named, their sessions, their schemas, and whether two are one.
package server

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/go-sql-driver/mysql"
)

// Vendors of servers.
const (
	MariaDB = "MariaDB"
	MySQL   = "MySQL" // and what is made of it, such as Percona Server
)

// oldest versions that are served.
var oldest = map[string][3]int{MariaDB: {10, 3, 0}, MySQL: {5, 6, 0}}

// Numbers of errors of the servers, from their lists of errors.
const (
	errAccessDenied = 1045 // ER_ACCESS_DENIED_ERROR: the user or the password
	errNoRight      = 1227 // ER_SPECIFIC_ACCESS_DENIED_ERROR: a right is missing
)

// Server is one server. Every connection of DB has the session settings of this
// package: texts are utf8mb4, times UTC, values that do not fit are errors, zero dates
// and ids of 0 are taken as they are, and reads take no locks (READ COMMITTED).
type Server struct {
	DB      *sql.DB
	Role    string        // "source" or "target": for errors
	Vendor  string        // MariaDB or MySQL
	Version [3]int        // such as 10, 11, 19
	Config  *mysql.Config // how it is reached, with the password
	self    self          // which server it is
}

// Options are what a user decides.
type Options struct {
	// Password asks a person for a password that is given nowhere, neither in the DSN nor
	// in the environment (PasswordEnv). nil: nobody is asked, and none is sent.
	Password func(prompt string) (string, error)
}

// Open reaches a server and looks what it is. dsn is what package documentation calls a
// DSN: USER:PASSWORD@tcp(HOST:PORT)/?..., USER@unix(/PATH)/?... or
// mysql://USER:PASSWORD@HOST:PORT/?.... No error has a password in it.
func Open(ctx context.Context, role, dsn string, opt Options) (*Server, error) {
	cfg, err := configure(role, dsn, opt)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", role, err)
	}
	s := &Server{Role: role, Config: cfg}
	if err := s.open(ctx); err != nil {
		return nil, unreached(role, cfg.Addr, cfg.User, err)
	}
	return s, nil
}

// unreached is the error of a server that was not reached: whole sentences, which have translations.
func unreached(role, addr, user string, err error) error {
	switch role {
	case "source":
		return fmt.Errorf("source at %s as %s: %w", addr, user, err)
	case "target":
		return fmt.Errorf("target at %s as %s: %w", addr, user, err)
	}
	return fmt.Errorf("%s at %s as %s: %w", role, addr, user, err)
}

// first is how long a server may take to say what it is.
const first = 30 * time.Second

func (s *Server) open(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, first)
	defer cancel()
	inner, err := mysql.NewConnector(s.Config)
	if err != nil {
		return err
	}
	c := &connector{Connector: inner}
	if err := s.identify(ctx, c); err != nil {
		return s.explain(err)
	}
	c.vendor, c.version, c.self = s.Vendor, s.Version, s.self
	s.DB = sql.OpenDB(c)
	if err := s.DB.PingContext(ctx); err != nil {
		return errors.Join(s.explain(err), s.DB.Close())
	}
	return nil
}

// explain adds to an error of the server what people can do.
func (s *Server) explain(err error) error {
	var e *mysql.MySQLError
	if errors.As(err, &e) && e.Number == errAccessDenied {
		return fmt.Errorf("%w: want another user or password: in the DSN, in an option file (option-file=PATH), or "+
			"in the environment (%s)", err, PasswordEnv(s.Role))
	}
	return err
}

// Close ends all connections.
func (s *Server) Close() error { return s.DB.Close() }

// identify asks what the server is, by a connection of its own: the settings of the
// others depend on it.
func (s *Server) identify(ctx context.Context, c *connector) error {
	db := sql.OpenDB(c)
	var version, comment string
	err := db.QueryRowContext(ctx, "SELECT VERSION(), @@version_comment, @@hostname, @@port, @@server_id").Scan(&version, &comment,
		&s.self.host, &s.self.port, &s.self.id)
	if err = errors.Join(err, db.Close()); err != nil {
		return err
	}
	s.Vendor, s.Version, err = identity(version, comment)
	return err
}

// others speak MySQL's protocol and are something else: that is in their version.
var others = []string{"TiDB", "Vitess", "OceanBase", "SingleStore", "MemSQL", "Doris", "StarRocks", "Dolt", "Databend",
	"ClickHouse", "Manticore", "ProxySQL"}

var numbers = regexp.MustCompile(`^([0-9]{1,4})\.([0-9]{1,4})\.([0-9]{1,4})`)

// identity reads what a server says of itself, such as 10.11.19-MariaDB-0+deb12u1.
func identity(version, comment string) (vendor string, v [3]int, err error) {
	text := version + " " + comment
	for _, name := range others {
		if strings.Contains(strings.ToLower(text), strings.ToLower(name)) {
			return "", v, fmt.Errorf("the server is %s (%.100s): want MySQL or MariaDB", name, text)
		}
	}
	vendor = MySQL
	if strings.Contains(strings.ToLower(text), "mariadb") {
		// Before MariaDB 11, what must look like MySQL to old clients begins with 5.5.5-.
		vendor, version = MariaDB, strings.TrimPrefix(version, "5.5.5-")
	}
	m := numbers.FindStringSubmatch(version)
	if m == nil {
		return "", v, fmt.Errorf("the server's version is %.100q: want that of MySQL or MariaDB", version)
	}
	for i := range v {
		v[i], _ = strconv.Atoi(m[i+1]) // digits, few enough
	}
	if o := oldest[vendor]; less(v, o) {
		return "", v, fmt.Errorf("the server is %s %s: want at least MySQL 5.6 or MariaDB 10.3", vendor, m[0])
	}
	return vendor, v, nil
}

func less(a, b [3]int) bool {
	for i := range a {
		if a[i] != b[i] {
			return a[i] < b[i]
		}
	}
	return false
}

// connector gives each connection its settings.
type connector struct {
	driver.Connector
	vendor  string // "" as long as it is not known
	version [3]int
	self    self
}

// settings are the statements that begin a session. That they stay as they are is the
// users' of the connections: a pool does not set them again.
func (c *connector) settings() []string {
	out := []string{
		"SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED", // the variable's name differs between servers
		"SET SESSION time_zone = '+00:00', sql_mode = 'STRICT_ALL_TABLES,NO_AUTO_VALUE_ON_ZERO'" +
			// A connection may wait for the other server's rows; 28800 is the servers' own default.
			", wait_timeout = 28800, net_read_timeout = 600, net_write_timeout = 600" +
			// What an administrator may have set for people at a prompt: rows left out, work left open.
			", autocommit = 1, sql_safe_updates = 0, completion_type = 0, sql_select_limit = 18446744073709551615" +
			// What a mapping gathers of several rows; the servers' own default may be 1 KiB.
			", group_concat_max_len = 16777216",
	}
	switch {
	// A server's limit on the time of statements is meant for others.
	case c.vendor == MariaDB:
		out = append(out, "SET SESSION max_statement_time = 0")
	case c.vendor == MySQL && !less(c.version, [3]int{5, 7, 8}):
		out = append(out, "SET SESSION max_execution_time = 0")
	}
	return out
}

// Connect implements driver.Connector.
func (c *connector) Connect(ctx context.Context) (driver.Conn, error) {
	conn, err := c.Connector.Connect(ctx)
	if err != nil {
		return nil, err
	}
	x, ok := conn.(driver.ExecerContext)
	if !ok {
		return nil, errors.Join(errors.New("the connection to the server takes no statements"), conn.Close())
	}
	for _, s := range c.settings() {
		if _, err := x.ExecContext(ctx, s, nil); err != nil {
			return nil, errors.Join(fmt.Errorf("%s: %w", s, err), conn.Close())
		}
	}
	if c.vendor != "" {
		if err := c.self.is(ctx, conn); err != nil {
			return nil, errors.Join(err, conn.Close())
		}
	}
	return conn, nil
}

// Has tells whether the server has a database that this account may see.
func (s *Server) Has(ctx context.Context, database string) (bool, error) {
	var n int
	if err := s.DB.QueryRowContext(ctx, "SELECT COUNT(*) FROM information_schema.SCHEMATA WHERE SCHEMA_NAME = ?",
		database).Scan(&n); err != nil {
		return false, fmt.Errorf("%s: whether it has database %s: %w", s.Role, database, err)
	}
	return n > 0, nil
}

// AskPosition is the statement by which the server tells where its binary log ends, and of
// which databases it is.
func (s *Server) AskPosition() string {
	if s.Vendor == MySQL && !less(s.Version, [3]int{8, 4, 0}) {
		return "SHOW BINARY LOG STATUS" // the old words are gone there
	}
	return "SHOW MASTER STATUS"
}

// Position tells how far the server has written its binary log: the file and the byte
// in it. ok is false when it writes none, and when the user has no right to ask.
func (s *Server) Position(ctx context.Context) (file string, pos uint64, ok bool, err error) {
	ask := s.AskPosition()
	rows, err := s.DB.QueryContext(ctx, ask)
	var e *mysql.MySQLError
	if errors.As(err, &e) && e.Number == errNoRight {
		return "", 0, false, nil
	}
	if err != nil {
		return "", 0, false, fmt.Errorf("%s: %s: %w", s.Role, ask, err)
	}
	defer rows.Close()
	cols, err := rows.Columns()
	if err == nil && len(cols) < 2 {
		err = fmt.Errorf("the answer has %d columns: want the file and the position first", len(cols))
	}
	if err != nil {
		return "", 0, false, fmt.Errorf("%s: %s: %w", s.Role, ask, err)
	}
	into := make([]any, len(cols))
	for i := range into {
		into[i] = new(sql.RawBytes)
	}
	into[0], into[1] = &file, &pos
	if ok = rows.Next(); ok {
		err = rows.Scan(into...)
	}
	if err = errors.Join(err, rows.Err()); err != nil {
		return "", 0, false, fmt.Errorf("%s: %s: %w", s.Role, ask, err)
	}
	return file, pos, ok, nil
}
