package group

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"
	"golang.org/x/sys/unix"

	"holdfast/internal/host/replica/mariadb"
	"holdfast/internal/lib/proc"
	"holdfast/internal/pair"
	"holdfast/internal/transition/db/aligntest"
	"holdfast/testbed/drbdnode"
	"holdfast/testbed/need"
	"holdfast/testbed/try"
)

// emulatedSocket is the server's on an emulated host, and templateFile names what makeOnNode copies.
const (
	emulatedSocket = "/run/database"
	templateFile   = "/run/template"
)

// emulatedServer is the server on the file system of an emulated host.
func emulatedServer() *Server {
	args := []string{"--no-defaults", "--user=root", "--datadir=/mnt/mysql", "--socket=" + emulatedSocket,
		"--skip-networking", "--tmpdir=/tmp", "--pid-file=/run/pid",
		"--innodb-buffer-pool-size=24M", "--innodb-log-file-size=4M", "--innodb-data-file-path=ibdata1:6M:autoextend", "--performance-schema=OFF"}
	return &Server{Name: "database", Socket: emulatedSocket,
		Cmd: &mariadb.Command{Path: "/usr/sbin/mariadbd", Args: args, Datadir: "/mnt/mysql", Log: "/run/database.log"}}
}

// makeOnNode makes a file system and a database that was made before: an emulated host takes
// minutes for its own.
func makeOnNode(ctx context.Context, m *Mount) error {
	from, err := os.ReadFile(templateFile)
	if err == nil {
		err = run(ctx, []string{"mkfs.ext4", "-q", "-F", m.Device})
	}
	if err == nil {
		err = m.Start(ctx)
	}
	if err != nil {
		return err
	}
	return errors.Join(run(ctx, []string{"cp", "-a", string(from), "/mnt/mysql"}), m.Stop(ctx, false))
}

// insertRows writes numbered rows into the server of a node, from where they end, and says each
// one when it is acknowledged.
func insertRows() error {
	c := mysql.NewConfig()
	c.User, c.Net, c.Addr = "root", "unix", emulatedSocket
	connector, err := mysql.NewConnector(c)
	if err != nil {
		return err
	}
	db := sql.OpenDB(connector)
	for _, s := range []string{"CREATE DATABASE IF NOT EXISTS app", "CREATE TABLE IF NOT EXISTS app.log (id INT PRIMARY KEY) ENGINE=InnoDB"} {
		if _, err := db.Exec(s); err != nil {
			return err
		}
	}
	var all, last int
	if err := db.QueryRow("SELECT COUNT(*), COALESCE(MAX(id), 0) FROM app.log").Scan(&all, &last); err != nil {
		return err
	}
	fmt.Println("rows", all, last)
	for i := last + 1; ; i++ {
		if _, err := db.Exec("INSERT INTO app.log VALUES (?)", i); err != nil {
			return err
		}
		fmt.Println(i)
		time.Sleep(drbdnode.WriterRests)
	}
}

// inserter is insertRows on a node.
type inserter struct {
	t     *testing.T
	end   func()
	lines <-chan string
	last  int // that was acknowledged
}

// insert begins, and fails where a row is not there that was acknowledged: they have no gaps.
func (n deviceNode) insert(acked int) *inserter {
	n.t.Helper()
	ctx, end := context.WithCancel(n.t.Context())
	i := &inserter{t: n.t, end: end, lines: n.Stream(ctx, "/node", "insert")}
	line := <-i.lines
	var all, last int
	if _, err := fmt.Sscanf(line, "rows %d %d", &all, &last); err != nil {
		n.t.Fatalf("%s: %q: %v: %s", n.Name(), line, err, n.Run("tail", "-n", "20", "/run/database.log"))
	}
	n.t.Logf("%s: %d rows, the last one %d; %d were acknowledged", n.Name(), all, last, acked)
	if all != last || last < acked {
		n.t.Errorf("%s: %d rows, the last one %d: %d were acknowledged", n.Name(), all, last, acked)
	}
	i.last = last
	return i
}

// stop ends it, and takes the rest.
func (i *inserter) stop() {
	i.end()
	for i.take(time.Minute) {
	}
}

// take takes a row, and reports that there was one within the time.
func (i *inserter) take(within time.Duration) bool {
	select {
	case line, ok := <-i.lines:
		if !ok {
			return false
		}
		if _, err := fmt.Sscanf(line, "%d", &i.last); err != nil {
			return false // why it ended
		}
		return true
	case <-time.After(within):
		return false
	}
}

func (i *inserter) more(n int) {
	i.t.Helper()
	for range n {
		if !i.take(5 * time.Minute) {
			i.t.Fatal("no row is acknowledged")
		}
	}
}

// databaseOnDRBD: a database on the mount of a copy, through a loss of power, and an end while
// all writes are held back.
func databaseOnDRBD(t *testing.T, a, b deviceNode, template string) {
	for _, n := range []deviceNode{a, b} {
		n.Run("sh", "-c", "printf %s "+template+" >"+templateFile)
		n.do("create", "look")
	}
	a.until("the peer", func(l deviceLook) bool { return l.Copy.Connection == "Connected" })
	a.do("demote") // as an agent does that finds nothing of its own
	a.do("begin")
	b.until("a good copy", func(l deviceLook) bool { return l.Replica.Whole && l.Replica.Linked && !l.Replica.Wrote })
	if l := a.look(); l.Replica.Role != pair.RoleStandby || l.Mount != pair.Down || l.Server != pair.Down {
		t.Errorf("after the beginning: %+v", l)
	}
	a.do("begin") // again changes nothing

	a.do("promote", "mount", "start")
	if l := a.look(); l.Server != pair.Up || l.Mount != pair.Up {
		t.Errorf("it serves: %+v", l)
	}
	rows := a.insert(0)
	rows.more(20)
	a.Crash()
	rows.stop()
	b.until("the loss", func(l deviceLook) bool { return l.Copy.Connection != "Connected" })
	b.do("promote", "alone", "mount", "start")
	rows = b.insert(rows.last)
	rows.more(10)
	rows.stop() // a copy of all comes on slowly beside writes

	// The former active comes back, and knows of it by its disk, which this host has not.
	a.Boot()
	a.Wait()
	a.Run("touch", wroteFile("/var/lib"))
	a.do("create", "look")
	a.follows(b)
	rows = b.insert(rows.last)
	rows.more(10)

	// The peer is lost: a database that hangs is ended, with the mount, and acknowledges nothing.
	b.Cut(true)
	b.until("frozen writes", func(l deviceLook) bool { return l.Copy.Frozen() && l.Replica.Waits })
	for rows.take(3 * time.Second) {
	}
	b.do("kill-server")
	for line := range rows.lines {
		if n := strings.TrimSpace(line); n != "" && strings.Trim(n, "0123456789") == "" {
			t.Errorf("row %s was acknowledged after the peer was lost", n)
		}
	}
	if l := b.look(); l.Server != pair.Down || l.Mount != pair.Down {
		t.Errorf("ended: %+v", l)
	}
	b.do("demote")
	a.until("the loss", func(l deviceLook) bool { return l.Copy.Connection != "Connected" })
	a.do("promote", "alone", "mount", "start")
	rows = a.insert(rows.last)
	rows.more(5)
	a.do("stop", "umount", "demote")
	if l := a.look(); l.Server != pair.Down || l.Mount != pair.Down || l.Replica.Role != pair.RoleStandby {
		t.Errorf("ended in an orderly way: %+v", l)
	}
}

// TestAServerWhoseEndWasCutShort: one with a binary log that was killed when it had closed that, and
// had not yet written its last commits, starts again with them.
func TestAServerWhoseEndWasCutShort(t *testing.T) {
	need.Drill(t, "P1: a database that was killed between its log and its last commits starts again with them",
		need.Programs("mariadb-server", "mariadbd"))
	t.Parallel()
	ctx := try.Context(t)
	own := aligntest.NewOwn(t, try.ShortDir(t), []string{"log_bin=log", "sync_binlog=1"})
	s := &Server{Name: "database", Socket: own.Socket,
		Cmd: &mariadb.Command{Path: own.Program, Args: []string{"--defaults-file=" + own.Options}, Datadir: own.Data, Log: own.Log, Tied: true}}
	t.Cleanup(func() {
		try.Must(t, s.Stop(context.Background(), true))
		own.Tell(t, s.Name)
	})
	try.Must(t, s.Start(ctx))
	c := mysql.NewConfig()
	c.User, c.Net, c.Addr = "root", "unix", own.Socket
	connector, err := mysql.NewConnector(c)
	try.Must(t, err)
	db := sql.OpenDB(connector)
	t.Cleanup(func() { _ = db.Close() }) // of a server that has ended
	for _, s := range []string{"CREATE DATABASE app", "CREATE TABLE app.log (id INT PRIMARY KEY) ENGINE=InnoDB"} {
		_, err := db.Exec(s)
		try.Must(t, err)
	}
	for round := 1; ; round++ {
		_, err := db.Exec("INSERT INTO app.log VALUES (?)", round)
		try.Must(t, err)
		logs, err := filepath.Glob(filepath.Join(own.Data, "log.0*"))
		try.Must(t, err)
		last, err := os.Open(slices.Max(logs))
		try.Must(t, err)
		id, err := s.Cmd.Process(ctx)
		try.Must(t, err)
		try.Must(t, proc.Here.Signal(id, unix.SIGTERM))
		for inUse := []byte{1}; inUse[0]&1 != 0; { // LOG_EVENT_BINLOG_IN_USE_F
			_, err := last.ReadAt(inUse, 21)
			try.Must(t, err)
		}
		try.Must(t, s.Stop(ctx, true))
		try.Must(t, last.Close())
		try.Must(t, s.Start(ctx))
		var rows int
		try.Must(t, db.QueryRow("SELECT COUNT(*) FROM app.log").Scan(&rows))
		if rows != round {
			t.Fatalf("%d rows, %d were acknowledged", rows, round)
		}
		said, err := os.ReadFile(own.Log)
		try.Must(t, err)
		if strings.Contains(string(said), "prepared transactions! It means that server was not shut down properly") {
			t.Logf("it refused to start after end %d", round)
			return
		}
		if round == 20 {
			t.Fatal("it never refused to start: the test shows nothing")
		}
	}
}
