package commitwait_test

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	gomysql "github.com/go-mysql-org/go-mysql/mysql"
	"github.com/go-mysql-org/go-mysql/replication"

	"holdfast/internal/transition/db/aligntest"
	"holdfast/internal/transition/db/commitwait"
	"holdfast/internal/transition/db/server"
	"holdfast/testbed/need"
)

// deaf is a replica that takes events and never says so.
type deaf struct{ ctx context.Context }

func (d deaf) HandleEvent(e *replication.BinlogEvent) error {
	if _, ok := e.Event.(*replication.XIDEvent); ok {
		<-d.ctx.Done()
	}
	return nil
}

func stream(t *testing.T, rig *aligntest.Rig, file string, pos uint64,
	more func(*replication.BinlogSyncerConfig)) *replication.BinlogStreamer {
	t.Helper()
	cfg := replication.BinlogSyncerConfig{ServerID: uint32(1000 + time.Now().Nanosecond()), Flavor: "mariadb",
		Host: "127.0.0.1", Port: uint16(rig.Port()),
		User: aligntest.User, Password: aligntest.Password, Logger: slog.New(slog.DiscardHandler), DisableRetrySync: true}
	if more != nil {
		more(&cfg)
	}
	s := replication.NewBinlogSyncer(cfg)
	t.Cleanup(s.Close)
	out, err := s.StartSync(gomysql.Position{Name: file, Pos: uint32(pos)})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// written reads the log until a transaction ends, and gives where.
func written(t *testing.T, s *replication.BinlogStreamer, pos uint64) uint64 {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for {
		e, err := s.GetEvent(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if _, ok := e.Event.(*replication.XIDEvent); ok && uint64(e.Header.LogPos) > pos {
			return uint64(e.Header.LogPos)
		}
	}
}

func count(t *testing.T, s *server.Server) (n int) {
	t.Helper()
	if err := s.DB.QueryRowContext(t.Context(), "SELECT COUNT(*) FROM a.t").Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

// TestWhatTheLogTellsCanBeSeen: a server that waits for a replica between its log and
// its tables tells of a row that can not be seen for that long.
func TestWhatTheLogTellsCanBeSeen(t *testing.T) {
	need.More(t)
	for _, vendor := range []string{server.MariaDB, server.MySQL} { // MySQL's way is right for both
		t.Run(vendor, func(t *testing.T) {
			rig := aligntest.MariaDB(t, "--log-bin=bin", "--binlog-format=ROW", "--server-id=1",
				"--rpl-semi-sync-master-enabled=1", "--rpl-semi-sync-master-wait-point=AFTER_SYNC", "--rpl-semi-sync-master-timeout=1500")
			rig.SQL("CREATE DATABASE a; CREATE TABLE a.t (id INT PRIMARY KEY) ENGINE=InnoDB")
			s := rig.Server("source")
			file, pos, ok, err := s.Position(t.Context())
			if err != nil || !ok {
				t.Fatal(ok, err)
			}
			s.Vendor = vendor
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			stream(t, rig, file, pos, func(c *replication.BinlogSyncerConfig) {
				c.SemiSyncEnabled, c.SynchronousEventHandler = true, deaf{ctx}
			})
			events := stream(t, rig, file, pos, nil)
			for end := time.Now().Add(30 * time.Second); rig.SQL("SELECT VARIABLE_VALUE FROM "+
				"information_schema.GLOBAL_STATUS WHERE VARIABLE_NAME = 'Rpl_semi_sync_master_clients'") != "1"; time.Sleep(10 * time.Millisecond) {
				if time.Now().After(end) {
					t.Fatal("the replica is not there")
				}
			}
			var wait sync.WaitGroup
			defer wait.Wait()
			wait.Go(func() {
				if _, err := s.DB.ExecContext(ctx, "INSERT INTO a.t VALUES (1)"); err != nil {
					t.Error(err)
				}
			})
			at := written(t, events, pos)
			if n := count(t, s); n != 0 {
				t.Error("the row was to be seen at once: nothing is tested")
			}
			if err := commitwait.Wait(t.Context(), s, file, at); err != nil {
				t.Fatal(err)
			}
			if n := count(t, s); n != 1 {
				t.Errorf("the row can not be seen after position %d", at)
			}
		})
	}
}

func TestManyAtOnce(t *testing.T) {
	need.More(t)
	rig := aligntest.MariaDB(t, "--log-bin=bin", "--binlog-format=ROW", "--server-id=1")
	rig.SQL("CREATE DATABASE a; CREATE TABLE a.t (id INT PRIMARY KEY) ENGINE=InnoDB")
	s := rig.Server("source")
	file, pos, _, err := s.Position(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	events := stream(t, rig, file, pos, nil)
	const rows, writers = 200, 4
	var wait sync.WaitGroup
	defer wait.Wait()
	for w := range writers {
		wait.Go(func() {
			for i := range rows / writers {
				if _, err := s.DB.ExecContext(t.Context(), fmt.Sprintf("INSERT INTO a.t VALUES (%d)", w*1000+i)); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	for n := range rows {
		pos = written(t, events, pos)
		if err := commitwait.Wait(t.Context(), s, file, pos); err != nil {
			t.Fatal(err)
		}
		if have := count(t, s); have < n+1 {
			t.Fatalf("%d rows can be seen after position %d: want %d", have, pos, n+1)
		}
	}
}

func TestWaitEnds(t *testing.T) {
	need.More(t)
	rig := aligntest.MariaDB(t, "--log-bin=bin", "--server-id=1")
	s := rig.Server("source")
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if err := commitwait.Wait(ctx, s, "bin.000009", 4); err == nil {
		t.Error("a position that the log does not have is settled")
	}
	off := aligntest.MariaDB(t, "--skip-log-bin").Server("source")
	if err := commitwait.Wait(t.Context(), off, "bin.000001", 4); err == nil {
		t.Error("a server without a binary log is settled")
	}
}
