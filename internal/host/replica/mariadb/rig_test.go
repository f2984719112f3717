package mariadb

import (
	"context"
	"database/sql"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"holdfast/internal/host/replica"
	"holdfast/internal/lib/proc"
	"holdfast/internal/transition/db/aligntest"
	"holdfast/testbed/try"
)

// Passwords with all that option files, shells and statements take for something else.
const (
	adminPassword = `a &# @$'" \; %b=`
	replPassword  = `r '"\ #&@$ ;x`
)

// node is a MariaDB server with its driver.
type node struct {
	*Driver
	t       *testing.T
	cmd     *Command
	port    int
	datadir string
	root    *sql.DB
	seeds   int // copies that were made of it
}

// born has the data of a node that was never a primary or a replica: made once in a process.
var born struct {
	sync.Mutex
	data aligntest.Data
}

// data are those of a new node, with its accounts.
func data(t *testing.T) aligntest.Data {
	t.Helper()
	born.Lock()
	defer born.Unlock()
	if born.data == nil {
		n := newNode(t, 1)
		aligntest.Install(t, n.datadir)
		try.Must(t, n.birth(try.Context(t)))
		var err error
		born.data, err = aligntest.ReadData(n.datadir)
		try.Must(t, err)
	}
	return born.data
}

// pair makes two nodes that follow nobody, with the same accounts and nothing in their
// binary logs. The first one takes writes.
func pair(t *testing.T) (a, b *node) {
	t.Helper()
	files := data(t)
	ctx := try.Context(t)
	a, b = newNode(t, 1), newNode(t, 2)
	var w sync.WaitGroup
	errs := make([]error, 2)
	for i, n := range []*node{a, b} {
		w.Go(func() {
			if errs[i] = files.Write(n.datadir); errs[i] == nil {
				errs[i] = n.start(ctx, "MASTER")
			}
		})
	}
	w.Wait()
	for _, err := range errs {
		try.Must(t, err)
	}
	for _, n := range []*node{a, b} {
		try.Must(t, n.Prepare(ctx))
	}
	a.sql("SET GLOBAL read_only=OFF")
	return a, b
}

// newNode is a node without data.
func newNode(t *testing.T, id uint32) *node {
	t.Helper()
	dir := try.ShortDir(t)
	own := aligntest.Prepare(t, dir, Options(id))
	n := &node{t: t, datadir: own.Data, port: own.Port}
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		try.Must(t, os.WriteFile(path, []byte(text), 0o600))
		return path
	}
	n.cmd = &Command{Path: own.Program, Args: []string{"--defaults-file=" + own.Options}, Datadir: n.datadir, Log: own.Log, Tied: true}
	var err error
	n.Driver, err = New(Config{
		ServerID: id, Socket: own.Socket, Datadir: n.datadir,
		Admin:       Account{User: "hold fast", PasswordFile: file("admin", adminPassword+"\n")},
		Replication: Account{User: "repl", PasswordFile: file("repl", replPassword)},
	}, n.cmd)
	try.Must(t, err)
	n.root, err = open(Account{User: "root"}, "unix", own.Socket)
	try.Must(t, err)
	t.Cleanup(func() {
		if err := n.cmd.Kill9(context.Background()); err != nil {
			t.Error(err)
		}
		closed(n.root)
		n.Close()
		own.Tell(t, n.node())
	})
	return n
}

// birth makes the accounts, beside the binary log, and ends the server.
func (n *node) birth(ctx context.Context) error {
	if err := n.cmd.Start(ctx, []string{"--skip-log-bin", "--read-only=OFF"}); err != nil {
		return err
	}
	for n.root.PingContext(ctx) != nil {
		if err := ctx.Err(); err != nil {
			return err
		}
		time.Sleep(interval)
	}
	err := n.exec(ctx, n.root, "CREATE USER 'hold fast'@'localhost' IDENTIFIED BY "+text(adminPassword),
		"GRANT ALL ON *.* TO 'hold fast'@'localhost' WITH GRANT OPTION",
		"CREATE USER repl@'%' IDENTIFIED BY "+text(replPassword), "GRANT REPLICATION SLAVE ON *.* TO repl@'%'",
		// Not behind read_only's back, as an application's.
		"CREATE USER app@'%' IDENTIFIED BY 'app'", "GRANT SELECT, INSERT, CREATE, LOCK TABLES ON *.* TO app@'%'",
		"CREATE DATABASE app", "CREATE TABLE app.log (id BIGINT PRIMARY KEY, at VARCHAR(30)) ENGINE=InnoDB", "FLUSH TABLES")
	if err != nil {
		return err
	}
	id, err := n.cmd.Process(ctx)
	if err != nil {
		return err
	}
	h, err := proc.Here.Open(id)
	if err != nil {
		return err
	}
	defer h.Close()
	if err := h.Signal(unix.SIGTERM); err != nil {
		return err
	}
	return h.Wait(ctx)
}

func (n *node) sql(statements ...string) {
	n.t.Helper()
	try.Must(n.t, n.exec(try.Context(n.t), n.root, statements...))
}

// value asks for one value.
func (n *node) value(query string) string {
	n.t.Helper()
	r, err := n.row(try.Context(n.t), n.root, query)
	try.Must(n.t, err)
	for _, v := range r {
		return v
	}
	return ""
}

// state asks the driver.
func (n *node) state() replica.Status {
	n.t.Helper()
	st, err := n.Status(try.Context(n.t))
	try.Must(n.t, err)
	return st
}

// source is n as the primary of another node.
func (n *node) source(save string) replica.Source {
	return replica.Source{Host: "127.0.0.1", Port: n.port, Save: save,
		Seed: func(ctx context.Context, w io.Writer, about func(int64) error) error {
			n.seeds++
			return n.Seed(ctx, w, about)
		}}
}

// join makes b a replica of a, and proves it.
func join(t *testing.T, a, b *node) {
	t.Helper()
	ctx := try.Context(t)
	try.Must(t, b.Resync(ctx, a.source("")))
	g, err := a.Together(ctx, b.state())
	if err != nil || !g.Safe {
		t.Fatalf("together: %+v, %v", g, err)
	}
}

// license is what a caller keeps of a pair: a safe sample of the primary.
func license(t *testing.T, a *node) replica.Claim {
	t.Helper()
	c := replica.Claim{License: a.state().Guarantee}
	if !c.License.Safe {
		t.Fatalf("the sample is not safe: %+v", c.License)
	}
	return c
}

// id is the server's process.
func (n *node) id() proc.ID {
	n.t.Helper()
	id, err := n.cmd.Process(context.Background())
	try.Must(n.t, err)
	return id
}

// freeze stops the server's process until the test, or the function, ends that.
func (n *node) freeze() (thaw func()) {
	n.t.Helper()
	id := n.id()
	try.Must(n.t, proc.Here.Signal(id, unix.SIGSTOP))
	try.Stands(n.t, id.PID)
	return func() { try.Must(n.t, proc.Here.Signal(id, unix.SIGCONT)) }
}

// app is a pool of connections of an application.
func (n *node) app() *sql.DB {
	n.t.Helper()
	db, err := sql.Open("mysql", fmt.Sprintf("app:app@tcp(127.0.0.1:%d)/app", n.port))
	try.Must(n.t, err)
	db.SetMaxIdleConns(8)
	n.t.Cleanup(func() { closed(db) })
	return db
}

// insert begins to write a row; its answer comes when the server has acknowledged it.
func insert(db *sql.DB, id int64) <-chan error {
	done := make(chan error, 1)
	go func() {
		_, err := db.Exec("INSERT INTO log VALUES (?, NOW(6))", id)
		done <- err
	}()
	return done
}

// ledger has the rows that a server has acknowledged.
type ledger struct {
	mu   sync.Mutex
	rows []int64
	next int64
}

// write writes rows, each once, by so many clients until stop is called, which waits for
// them. A client ends at its first error.
func (l *ledger) write(n *node, clients int) (stop func()) {
	db := n.app()
	ctx, cancel := context.WithCancel(context.Background())
	var w sync.WaitGroup
	for range clients {
		w.Add(1)
		go func() {
			defer w.Done()
			for ctx.Err() == nil {
				l.mu.Lock()
				l.next++
				id := l.next
				l.mu.Unlock()
				if _, err := db.ExecContext(ctx, "INSERT INTO log VALUES (?, NOW(6))", id); err != nil {
					return // not acknowledged: it may be there or not
				}
				l.mu.Lock()
				l.rows = append(l.rows, id)
				l.mu.Unlock()
			}
		}()
	}
	return func() {
		cancel()
		w.Wait()
	}
}

// size is how many rows were acknowledged.
func (l *ledger) size() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.rows)
}

// missing are the acknowledged rows that a server does not have.
func (l *ledger) missing(n *node) (out []int64) {
	n.t.Helper()
	rows, err := n.rows(try.Context(n.t), n.root, "SELECT id FROM app.log")
	try.Must(n.t, err)
	there := map[string]bool{}
	for _, r := range rows {
		there[r["id"]] = true
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, id := range l.rows {
		if !there[fmt.Sprint(id)] {
			out = append(out, id)
		}
	}
	return out
}
