package mariadb

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-sql-driver/mysql"

	"holdfast/internal/host/replica"
	"holdfast/internal/lib/clock"
	"holdfast/internal/lib/durable"
	"holdfast/internal/lib/fail"
	"holdfast/internal/lib/proc"
)

// Server starts and ends the process of the server. It must not start again by itself.
type Server interface {
	// Start starts it with more options, such as "--init-rpl-role=SLAVE". It need not
	// answer yet when Start returns.
	Start(ctx context.Context, extraArgs []string) error
	// Kill9 ends it by SIGKILL. nil proves its end; none that runs is no error.
	Kill9(ctx context.Context) error
	// Process is the server's process. It wraps proc.ErrGone when there is none.
	Process(ctx context.Context) (proc.ID, error)
	// Complaint is the first error that it has told since it was started; "": none, or not known.
	Complaint() string
}

// Broken is in the error of a Resync where the data of this node may be damaged: the server ends at its start, or can not apply
// what the primary sends. Source.Aside replaces them.
type Broken struct{ error }

func (b Broken) Unwrap() error { return b.error }

// Unsaved is in the error of a Resync that could not save what this node has and the primary does not. Source.Aside replaces the data,
// and keeps them.
type Unsaved struct{ error }

func (u Unsaved) Unwrap() error { return u.error }

// Account is an account of the server. The password is in a file of mode 0600; without a
// file none is sent.
type Account struct {
	User         string
	PasswordFile string
}

func (a Account) password() (string, error) {
	if a.PasswordFile == "" {
		return "", nil
	}
	p, err := durable.ReadSecret(a.PasswordFile)
	if err != nil {
		return "", fmt.Errorf("password of the database account %s: %w", a.User, err)
	}
	return p, nil
}

// Config is what a driver needs to know.
type Config struct {
	ServerID    uint32        // server_id on this node, and its name; another one on each node
	Socket      string        // of the server on this node; absolute path
	Datadir     string        // of the server on this node; absolute path
	Admin       Account       // by the socket; all privileges
	Replication Account       // made by Prepare; the same on both nodes
	Limit       time.Duration // of one statement; default 5 s
	// EventScheduler is what the option file says of event_scheduler; nil: OFF.
	EventScheduler func(context.Context) (string, error)
}

// How long things may take, unless the caller's context is shorter.
const (
	limit        = 5 * time.Second        // one statement
	start        = 60 * time.Second       // a server, until it answers, with its recovery
	connect      = 30 * time.Second       // a replica, until it is connected
	settle       = 10 * time.Second       // sessions, until they are gone after KILL
	kill         = 10 * time.Second       // a process, until it is gone after SIGKILL
	interval     = 20 * time.Millisecond  // between two looks
	wake         = 2 * time.Millisecond   // a session in SLEEP(), after KILL
	dial         = 2 * time.Second        // a connection
	glance       = 500 * time.Millisecond // a question that a look can do without
	forever      = 365 * 24 * time.Hour   // the timeout of a primary that never goes on alone
	absent       = time.Second            // for which a replica that is waited for may not be connected
	brief        = 500 * time.Millisecond // the first timeout of a primary whose replica is catching up
	longer       = 4 * time.Second        // the last one
	lockedLimit  = 10 * time.Second       // for which writes may wait for a lock of all writes, as a copy for a replica takes it for 6 s
	lockedPause  = 3 * time.Second        // for which nothing of the kind may be seen meanwhile: clients give up, and come again
	crowdedLimit = 5 * time.Second        // for which all connections may be taken
	answers      = time.Second            // another server
	pause        = 2 * time.Second        // between two times in which commits wait for a replica that is catching up
)

// Driver drives the server of this node. Its methods may be called concurrently.
type Driver struct {
	cfg    Config
	server Server
	db     *sql.DB
	mu     sync.Mutex // one change at a time

	current  atomic.Pointer[context.CancelFunc] // of the change that is under way
	copies   atomic.Int32                       // that Seed makes
	demoting atomic.Int32                       // calls of Demote that wait, or work

	proved struct {
		sync.Mutex
		baseline *counts // what Together has proved; nil: nothing
	}

	kept struct { // what keeps clients from a primary
		sync.Mutex
		crowded time.Time // since when all connections are taken, if for moments only; zero: they are not
		full    time.Time // when they were last seen to be
		refused uint64    // connections, since the server was started, at the last look
		known   bool      // there was a look
		// since when sessions wait for a lock of all writes, or for a replica that is not connected, and nothing was
		// written; zero: they do not
		locked time.Time
		waited time.Time // when one was last seen to wait
		pos    string    // of the binary log then
	}

	filters struct { // of the binary log, by the run of the server
		sync.Mutex
		run  string
		rows []map[string]string
	}

	noting struct {
		sync.Mutex
		eventState
	}

	links links

	copying struct {
		sync.Mutex
		of replica.Copy // that is under way, or was made last; the zero value: none
	}
}

var _ replica.Driver = (*Driver)(nil)

// New makes a driver. It does not connect.
func New(cfg Config, server Server) (*Driver, error) {
	switch {
	case cfg.ServerID == 0:
		return nil, fail.Errorf(fail.Invalid, "server ID 0: want 1 to 4294967295")
	case !filepath.IsAbs(cfg.Socket):
		return nil, fail.Errorf(fail.Invalid, "socket %q: want an absolute path", cfg.Socket)
	case !filepath.IsAbs(cfg.Datadir) || filepath.Clean(cfg.Datadir) == "/":
		return nil, fail.Errorf(fail.Invalid, "data directory %q: want an absolute path", cfg.Datadir)
	case cfg.Admin.User == "" || cfg.Replication.User == "" || strings.ContainsAny(cfg.Admin.User+cfg.Replication.User, "\n\r\x00"):
		return nil, fail.Errorf(fail.Invalid, "accounts %q and %q: want two names of one line", cfg.Admin.User, cfg.Replication.User)
	case cfg.Replication.PasswordFile == "":
		return nil, fail.Errorf(fail.Invalid, "account %q: want a file with its password", cfg.Replication.User)
	case cfg.Admin.User == cfg.Replication.User:
		return nil, fail.Errorf(fail.Invalid, "account %q: want another one for replication than for administration", cfg.Admin.User)
	case cfg.Limit < 0:
		return nil, fail.Errorf(fail.Invalid, "limit %s: want a time above 0", cfg.Limit)
	}
	cfg.Limit, cfg.Datadir = cmp.Or(cfg.Limit, limit), filepath.Clean(cfg.Datadir)
	db, err := open(cfg.Admin, "unix", cfg.Socket)
	if err != nil {
		return nil, err
	}
	return &Driver{cfg: cfg, server: server, db: db}, nil
}

// Node is the driver's name of this node.
func (d *Driver) Node() string { return d.node() }

// Datadir is the server's data directory.
func (d *Driver) Datadir() string { return d.cfg.Datadir }

func (d *Driver) node() string { return strconv.FormatUint(uint64(d.cfg.ServerID), 10) }

// begin begins a change. Demote cuts it short.
func (d *Driver) begin(ctx context.Context) (context.Context, func()) {
	d.mu.Lock()
	ctx, cancel := context.WithCancel(ctx)
	d.current.Store(&cancel)
	if d.demoting.Load() > 0 {
		cancel()
	}
	return ctx, func() {
		cancel()
		d.mu.Unlock()
	}
}

// Close closes the connections to the server.
func (d *Driver) Close() { closed(d.db) }

// closed closes a pool. Its error is that of the farewell to a server that may have ended:
// nothing depends on it.
func closed(db *sql.DB) { _ = db.Close() }

// open makes a pool of connections. The password is read anew for each.
func open(a Account, network, addr string) (*sql.DB, error) {
	cfg := mysql.NewConfig()
	cfg.User, cfg.Net, cfg.Addr, cfg.Timeout, cfg.Logger = a.User, network, addr, dial, &mysql.NopLogger{}
	// A backslash escapes; and what somebody has all new sessions do is not for ours, which end that.
	cfg.Params = map[string]string{"sql_mode": "''", "tx_read_only": "OFF"}
	err := cfg.Apply(mysql.BeforeConnect(func(_ context.Context, c *mysql.Config) (err error) {
		c.Passwd, err = a.password()
		return err
	}))
	if err != nil {
		return nil, err
	}
	connector, err := mysql.NewConnector(cfg)
	if err != nil {
		return nil, err
	}
	db := sql.OpenDB(connector)
	db.SetMaxIdleConns(2)
	return db, nil
}

// querier is a pool or one connection.
type querier interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}

// exec runs statements one by one, each with a limit of its own.
func (d *Driver) exec(ctx context.Context, q querier, statements ...string) error {
	for _, s := range statements {
		ctx, cancel := context.WithTimeout(ctx, d.cfg.Limit)
		_, err := admitted(ctx, func() (sql.Result, error) { return q.ExecContext(ctx, s) })
		cancel()
		if err != nil {
			return asked(err)
		}
	}
	return nil
}

// admitted tries again as long as all connections are taken: the server has one more for administrators, and another call of this driver
// may have it for a moment.
func admitted[T any](ctx context.Context, try func() (T, error)) (T, error) {
	const tooManyConnections = 1040 // ER_CON_COUNT_ERROR
	for {
		out, err := try()
		if !isError(err, tooManyConnections) || !clock.Sleep(ctx, interval) {
			return out, err
		}
	}
}

// isError reports that the server has answered by an error of a number.
func isError(err error, number uint16) bool {
	var refused *mysql.MySQLError
	return errors.As(err, &refused) && refused.Number == number
}

// asked is the error of a statement. The statement itself may have a password in it.
func asked(err error) error { return fmt.Errorf("ask the database: %w", err) }

// rows asks, and gives rows of values by the names of their columns, in lower case. NULL has
// no entry.
func (d *Driver) rows(ctx context.Context, q querier, query string) (out []map[string]string, err error) {
	ctx, cancel := context.WithTimeout(ctx, d.cfg.Limit)
	defer cancel()
	rows, err := admitted(ctx, func() (*sql.Rows, error) { return q.QueryContext(ctx, query) })
	if err != nil {
		return nil, asked(err)
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	names, err := rows.Columns()
	if err != nil {
		return nil, asked(err)
	}
	cells, into := make([]sql.NullString, len(names)), make([]any, len(names))
	for i := range cells {
		into[i] = &cells[i]
	}
	for rows.Next() {
		if err := rows.Scan(into...); err != nil {
			return nil, asked(err)
		}
		row := map[string]string{}
		for i, c := range cells {
			if c.Valid {
				row[strings.ToLower(names[i])] = c.String
			}
		}
		out = append(out, row)
	}
	if err := rows.Err(); err != nil {
		return nil, asked(err)
	}
	return out, nil
}

// row asks for one row; an empty one when there is none.
func (d *Driver) row(ctx context.Context, q querier, query string) (map[string]string, error) {
	rows, err := d.rows(ctx, q, query)
	if err != nil || len(rows) == 0 {
		return map[string]string{}, err
	}
	return rows[0], nil
}

// text writes a text into a statement.
func text(s string) string {
	return "'" + strings.NewReplacer(`\`, `\\`, `'`, `\'`, "\x00", `\0`).Replace(s) + "'"
}

// run names the server's process for good; "" when there is none.
func (d *Driver) run(ctx context.Context) (string, error) {
	id, err := d.server.Process(ctx)
	if errors.Is(err, proc.ErrGone) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("look for the database's process: %w", err)
	}
	boot, err := proc.BootID()
	return boot + "/" + strconv.Itoa(id.PID) + "/" + strconv.FormatUint(id.Started, 10), err
}

// start starts the server read-only, in a role, and waits until it answers.
func (d *Driver) start(ctx context.Context, role string) error {
	return d.launch(ctx, d.db, "--read-only=ON", "--event-scheduler=OFF", "--skip-slave-start", "--init-rpl-role="+role)
}

// launch starts the server with more options, and waits until it answers to an account. One that
// ends at its start is started once more, by its binary log.
func (d *Driver) launch(ctx context.Context, q querier, args ...string) error {
	ended, err := d.launchOnce(ctx, q, args)
	if !ended {
		return err
	}
	marked, merr := markCrashed(d.logIndex(), d.cfg.Datadir)
	if merr != nil || !marked {
		return errors.Join(err, merr)
	}
	_, err = d.launchOnce(ctx, q, args)
	return err
}

// launchOnce starts the server. It reports that it has ended before it answered.
func (d *Driver) launchOnce(ctx context.Context, q querier, args []string) (ended bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, start)
	defer cancel()
	d.prove(nil)
	if err := d.server.Start(ctx, args); err != nil {
		return false, fmt.Errorf("start the database: %w", err)
	}
	for {
		_, err := d.row(ctx, q, "SELECT 1")
		if err == nil {
			return false, nil
		}
		if denied(err) {
			return false, fmt.Errorf("the database that was started refuses the account: %w", err)
		}
		if run, rerr := d.run(ctx); rerr != nil || run == "" {
			if said := d.server.Complaint(); said != "" {
				err = errors.New(said)
			}
			return rerr == nil, errors.Join(Broken{fail.Errorf(fail.Failed, "the database ended at its start: %w", err)}, rerr)
		}
		if !clock.Sleep(ctx, interval) {
			return false, fmt.Errorf("the database does not answer after its start: %w", err)
		}
	}
}

// logIndex is the index of the binary log, as Options names it.
func (d *Driver) logIndex() string { return filepath.Join(d.cfg.Datadir, "bin.index") }

// denied reports that the server answers, and does not know the account, or its password.
func denied(err error) bool {
	const accessDenied = 1045 // ER_ACCESS_DENIED_ERROR
	return isError(err, accessDenied)
}

// end kills the server; nil proves its end. It is not given up when ctx ends.
func (d *Driver) end(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), kill)
	defer cancel()
	d.prove(nil)
	if err := d.server.Kill9(ctx); err != nil {
		return fmt.Errorf("kill the database: %w", err)
	}
	return nil
}
