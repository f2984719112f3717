package mariadb

import (
	"context"
	"database/sql"
	"fmt"
	"strconv"
	"sync"
	"testing"
	"time"

	"holdfast/internal/host/replica"
	"holdfast/testbed/need"
	"holdfast/testbed/try"
)

// TestDemoteWithAllConnectionsTaken: a primary becomes read-only with all connections taken, also when another call of the driver has the
// one for administrators for a moment.
func TestDemoteWithAllConnectionsTaken(t *testing.T) {
	need.Real(t, need.Programs("mariadb-server", "mariadbd"), need.Programs("mariadb-backup", "mariadb-backup"))
	a := newNode(t, 1)
	ctx := try.Context(t)
	files := data(t)
	try.Must(t, files.Write(a.datadir))
	try.Must(t, a.start(ctx, "MASTER"))
	a.sql("SET GLOBAL max_connections=30, read_only=OFF")
	a.db.SetMaxIdleConns(-1) // the clients shall have the driver's, too
	app := a.app()
	app.SetMaxIdleConns(100)
	for {
		c, err := app.Conn(ctx)
		if err != nil {
			break
		}
		defer func(c *sql.Conn) { c.Close() }(c)
	}
	a.db.SetMaxIdleConns(2)
	// The client that was refused has the last one until the server has noticed its end.
	other, err := admitted(ctx, func() (*sql.Conn, error) { return a.db.Conn(ctx) })
	try.Must(t, err)
	if _, err := a.db.Conn(ctx); !isError(err, 1040) {
		t.Fatalf("a connection is left: %v", err)
	}
	time.AfterFunc(300*time.Millisecond, func() { other.Close() })
	begun := time.Now()
	dctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	killed, err := a.Quiet(dctx)
	try.Must(t, err)
	if killed != nil {
		t.Errorf("the database was ended: %v", killed)
	}
	if took := time.Since(begun); took < 250*time.Millisecond {
		t.Errorf("read-only after %s: this tests nothing", took)
	}
	a.wants(replica.Idle)
}

// TestWhyADatabaseWasEnded: Quiet says why it had to kill the server.
func TestWhyADatabaseWasEnded(t *testing.T) {
	need.Real(t, need.Programs("mariadb-server", "mariadbd"))
	a := newNode(t, 1)
	ctx := try.Context(t)
	files := data(t)
	try.Must(t, files.Write(a.datadir))
	try.Must(t, a.start(ctx, "MASTER"))
	a.sql("SET GLOBAL read_only=OFF")
	a.freeze()
	dctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	killed, err := a.Quiet(dctx)
	try.Must(t, err)
	if killed == nil {
		t.Error("a server that stands still was ended, and not said why")
	}
	a.wants(replica.Down)
}

// TestDemoteBesideManySessions: a primary becomes read-only beside hundreds of sessions that sleep, and is not ended for it.
func TestDemoteBesideManySessions(t *testing.T) {
	need.Drill(t, "P2: a planned switch ends the sessions of clients, however many and whatever they wait for",
		need.Programs("mariadb-server", "mariadbd"))
	a := newNode(t, 1)
	ctx := try.Context(t)
	files := data(t)
	try.Must(t, files.Write(a.datadir))
	try.Must(t, a.start(ctx, "MASTER"))
	const many = 800 // killed without a pause they take the server some 20 s
	a.sql(fmt.Sprintf("SET GLOBAL max_connections=%d, read_only=OFF", many+100))
	app := a.app()
	app.SetMaxIdleConns(-1)
	var clients sync.WaitGroup
	for range many {
		c, err := app.Conn(ctx)
		try.Must(t, err)
		clients.Go(func() {
			_, _ = c.ExecContext(ctx, "DO SLEEP(1000)") // it is killed
			_ = c.Close()
		})
	}
	try.Until(t, "the sessions", func() bool {
		return a.value("SELECT COUNT(*) FROM information_schema.processlist WHERE state='User sleep'") == strconv.Itoa(many)
	})
	killed, err := a.Quiet(ctx)
	try.Must(t, err)
	if killed != nil {
		t.Errorf("the database was ended: %v", killed)
	}
	a.wants(replica.Idle)
	clients.Wait()
}
