package group

import (
	"context"
	"database/sql"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"holdfast/internal/cluster"
	"holdfast/testbed/need"
	"holdfast/testbed/try"
)

// TestClientsThatAreKeptOut: what keeps clients from the active database is told, by events, too. Who makes it read-only by hand ends
// nothing that stands on it.
func TestClientsThatAreKeptOut(t *testing.T) {
	need.Drill(t, "P3: what keeps clients from the active database is told, and ends nothing that stands on it")
	need.Real(t, need.Programs("mariadb-server", "mariadbd"), need.Programs("mariadb-backup", "mariadb-backup"))
	r := newRig(t)
	a := r.node["a"]
	ctx := try.Context(t)
	var mu sync.Mutex
	var events []cluster.Event
	told := func(kind cluster.EventKind, words string) bool {
		mu.Lock()
		defer mu.Unlock()
		for _, e := range events {
			if e.Kind == kind && e.Host == "a" && strings.Contains(e.Detail, words) {
				return true
			}
		}
		return false
	}
	try.Must(t, a.ask(ctx, func() {
		a.events = func(_ context.Context, ev cluster.Event) error {
			mu.Lock()
			defer mu.Unlock()
			events = append(events, ev)
			return nil
		}
	}))
	r.assign("a", cluster.ProofFirst)
	r.complete()
	c, err := a.root.Conn(ctx)
	try.Must(t, err)
	defer c.Close()
	do := func(statement string) {
		t.Helper()
		_, err := c.ExecContext(ctx, statement)
		try.Must(t, err)
	}

	// The address that is a file is not put up anew.
	stops := filepath.Join(a.dir, "vip")
	was := inode(t, stops)
	pid := a.pid()
	for range 3 {
		do("SET GLOBAL read_only=ON")
		try.Until(t, "the database to be writable again", func() bool { return rows(t, a, "SELECT 1 FROM DUAL WHERE @@read_only=0") == 1 })
		r.serves("a")
	}
	try.Until(t, "an event of it", func() bool { return told(cluster.EvOutage, "somebody had made the active database read-only") })
	if now := inode(t, stops); now != was || a.pid() != pid {
		t.Errorf("what stands on the database was started anew: %d after %d, process %d after %d", now, was, a.pid(), pid)
	}
	failures := 0
	try.Must(t, a.ask(ctx, func() { failures = len(a.m.Failures) }))
	if failures > 0 {
		t.Errorf("%d failures", failures)
	}
	r.complete()

	for _, o := range []struct{ begin, end, words string }{
		{"SET GLOBAL tx_read_only=ON", "SET GLOBAL tx_read_only=OFF", "tx_read_only is ON"},
		{"SET GLOBAL max_connections=10", "SET GLOBAL max_connections=151", "all 10 connections are taken"},
	} {
		if strings.Contains(o.begin, "connections") {
			app, err := sql.Open("mysql", fmt.Sprintf("app:app@tcp(127.0.0.1:%d)/app", a.port)) // they leave the one for administrators
			try.Must(t, err)
			defer app.Close()
			for range 11 {
				if c, err := app.Conn(ctx); err == nil {
					defer c.Close()
				}
			}
		}
		do(o.begin)
		try.Until(t, "it to be told: "+o.words, func() bool {
			p := r.told("a")
			return p.Outage && strings.Contains(p.Problem, o.words) && told(cluster.EvOutage, o.words)
		})
		if err := a.Migrate(ctx, "", false); err == nil || !strings.Contains(err.Error(), "nothing was stopped") ||
			!strings.Contains(err.Error(), o.words) {
			t.Errorf("a move: %v: want %s", err, o.words)
		}
		if now := inode(t, stops); now != was {
			t.Error("the address was taken away")
		}
		mu.Lock()
		events = nil
		mu.Unlock()
		do(o.end)
		try.Until(t, "its end to be told", func() bool { return r.told("a").Problem == "" && told(cluster.EvOutageOver, "") })
	}

	// What ends all writes would wait for a lock: nothing is stopped for a move.
	do("FLUSH TABLES WITH READ LOCK")
	if err := a.Migrate(ctx, "", false); err == nil || !strings.Contains(err.Error(), "nothing was stopped") ||
		!strings.Contains(err.Error(), "FLUSH TABLES WITH READ LOCK") {
		t.Errorf("a move beside a lock of all writes: %v", err)
	}
	if now := inode(t, stops); now != was {
		t.Error("the address was taken away")
	}
	do("UNLOCK TABLES")

	// A hand-over that fails says why: an account that may write at any time comes again and again.
	sctx, stop := context.WithCancel(ctx)
	var administrators sync.WaitGroup
	for range 8 {
		administrators.Go(func() {
			for sctx.Err() == nil {
				if c, err := a.root.Conn(sctx); err == nil {
					_, _ = c.ExecContext(sctx, "DO SLEEP(1000)") // it is killed
					_ = c.Close()
				}
			}
		})
	}
	try.Until(t, "the administrators", func() bool {
		return rows(t, a, "SELECT 1 FROM information_schema.processlist WHERE state='User sleep'") == 8
	})
	err = a.Migrate(ctx, "", false)
	if err == nil || !strings.Contains(err.Error(), "the group could not be handed over: the database did not become "+
		"read-only in time, and was ended: ") {
		t.Errorf("a move beside administrators: %v", err)
	}
	stop()
	administrators.Wait()
	r.serves("a")
	r.complete()

	// A write that is under way, and who holds a table, are ended instead.
	tables, err := a.root.Conn(ctx)
	try.Must(t, err)
	defer tables.Close()
	for _, s := range []string{"CREATE TABLE app.long_one (id INT PRIMARY KEY) ENGINE=InnoDB",
		"CREATE TABLE app.held (id INT PRIMARY KEY) ENGINE=InnoDB", "LOCK TABLES app.held WRITE"} {
		_, err := tables.ExecContext(ctx, s)
		try.Must(t, err)
	}
	wrote := make(chan error, 1)
	go func() {
		_, err := a.root.ExecContext(ctx, "INSERT INTO app.long_one SELECT SLEEP(1000)")
		wrote <- err
	}()
	try.Until(t, "the long write", func() bool {
		return rows(t, a, "SELECT 1 FROM information_schema.processlist WHERE state='User sleep'") == 1
	})
	r.move("a", "b")
	if err := <-wrote; err == nil {
		t.Error("the long write has ended well")
	}
}

func inode(t *testing.T, path string) uint64 {
	t.Helper()
	var st unix.Stat_t
	try.Must(t, unix.Stat(path, &st))
	return st.Ino
}
