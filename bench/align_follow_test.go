//go:build bench

package bench

import (
	"context"
	"database/sql"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"holdfast/internal/transition/db/copier"
	"holdfast/internal/transition/db/replicate"
)

const (
	followPerSecond = 1000             // changed rows
	followFor       = 10 * time.Second // how long the source is written before the cut-over
	followRounds    = 5
	followWriters   = 4
	followAtOnce    = 10 // rows in a transaction
)

// followed are the ways in which rows are changed.
var followed = []struct{ name, table, key, change string }{
	{"instances, by their key", "liberty_nova.instances", "id", "memory_mb = memory_mb + 1"},
	{"key_pairs, whose instances no index tells", "liberty_nova.key_pairs", "id", "fingerprint = REVERSE(fingerprint)"},
	{"spelling of the keys of backups, binary in the target", "liberty_cinder.backups", "id",
		"id = IF(BINARY id = LOWER(id), UPPER(id), LOWER(id))"},
}

// TestAlignFollow measures how long a source is read only at the cut-over: from the moment
// that it is, after it was written followPerSecond rows a second for followFor, until the run has
// ended. All rows must be equal then.
func TestAlignFollow(t *testing.T) {
	a := newAlignment(t, alignMany(t, alignServers), true, "--log-bin=bin", "--binlog-format=ROW", "--server-id=1")
	a.to.SQL("ALTER TABLE stein_cinder.backup_metadata DROP FOREIGN KEY backup_metadata_ibfk_1; ALTER TABLE " +
		"stein_cinder.backups MODIFY id VARCHAR(36) CHARACTER SET utf8mb3 COLLATE utf8mb3_bin NOT NULL")
	// More rows of each, so that few are changed twice in a batch.
	a.at.SQL(`CREATE DATABASE bench; CREATE TABLE bench.b AS SELECT b.* FROM liberty_cinder.backups AS b JOIN bench.seq_1_to_20; UPDATE bench.b SET id = UUID(); INSERT INTO liberty_cinder.backups SELECT * FROM bench.b; DROP DATABASE bench;
INSERT INTO liberty_nova.key_pairs (created_at, name, user_id, fingerprint, public_key, deleted, type) SELECT NOW(), CONCAT('bench', seq), (SELECT MIN(user_id) FROM liberty_nova.instances), 'ab', 'ssh-rsa AAAA', 0, 'ssh' FROM liberty_nova.seq_1_to_5000`)
	a.makePlan(t)
	if _, err := copier.Run(t.Context(), a.plan, "bench", a.source, a.target,
		copier.Options{Log: slog.New(slog.DiscardHandler), Follows: true}); err != nil {
		t.Fatal(err)
	}
	for _, x := range followed {
		var windows, changes series
		for range followRounds {
			window, n := a.follow(t, x.table, x.key, x.change)
			windows, changes = append(windows, window), append(changes, n)
			t.Logf("%s: %.0f rows changed, %.2f s", x.name, n, window)
		}
		a.verify(t)
		result(t, "read-only window of a followed source, %s, %d times, %d rows of %s: seconds %s, at %s changed rows a second; load %s",
			x.name, followRounds, a.count(t, x.table), x.table, windows, changes, loadNow())
	}
}

func (a *alignment) count(t *testing.T, table string) (n int) {
	t.Helper()
	if err := a.source.DB.QueryRowContext(t.Context(), "SELECT COUNT(*) FROM "+table).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

// follow runs until the cut-over, and tells how long the source was read only, in seconds,
// and how many rows were changed a second before.
func (a *alignment) follow(t *testing.T, table, key, change string) (window, perSecond float64) {
	t.Helper()
	began, stop, ended := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	var once sync.Once
	go func() {
		_, err := replicate.Run(t.Context(), a.mapping, a.plan, a.source, a.target, alignSourceDBs,
			replicate.Options{Stop: stop, Progress: func(replicate.Progress) { once.Do(func() { close(began) }) }})
		ended <- err
	}()
	select {
	case <-began:
	case err := <-ended:
		t.Fatal("it has ended: ", err)
	}
	from := time.Now()
	n := a.write(t, table, key, change)
	perSecond = float64(n) / time.Since(from).Seconds()
	a.at.SQL("SET GLOBAL read_only = ON")
	from = time.Now()
	close(stop)
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	window = time.Since(from).Seconds()
	a.at.SQL("SET GLOBAL read_only = OFF")
	return window, perSecond
}

// write changes rows of a table, some in a transaction, and tells how many.
func (a *alignment) write(t *testing.T, table, key, change string) (n int) {
	t.Helper()
	rows, err := a.source.DB.QueryContext(t.Context(), "SELECT "+key+" FROM "+table)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	var keys []string
	for rows.Next() {
		var k string
		if err := rows.Scan(&k); err != nil {
			t.Fatal(err)
		}
		keys = append(keys, k)
	}
	if err := rows.Err(); err != nil || len(keys) == 0 {
		t.Fatal(len(keys), err)
	}
	todo, failed := make(chan []any), make(chan error, followWriters)
	query := fmt.Sprintf("UPDATE %s SET %s WHERE %s IN (?%s)", table, change, key, strings.Repeat(", ?", followAtOnce-1))
	var wait sync.WaitGroup
	for range followWriters {
		wait.Go(func() { failed <- a.writer(t.Context(), query, todo) })
	}
	for from := time.Now(); time.Since(from) < followFor; n += followAtOnce {
		some := make([]any, 0, followAtOnce)
		for i := range followAtOnce {
			some = append(some, keys[(n+i)%len(keys)])
		}
		todo <- some
		time.Sleep(time.Until(from.Add(time.Duration(n+followAtOnce) * time.Second / followPerSecond)))
	}
	close(todo)
	wait.Wait()
	for range followWriters {
		if err := <-failed; err != nil {
			t.Fatal(err)
		}
	}
	return n
}

// writer runs a statement for each of some keys.
func (a *alignment) writer(ctx context.Context, query string, keys <-chan []any) (err error) {
	var conn *sql.Conn
	if conn, err = a.source.DB.Conn(ctx); err == nil {
		defer conn.Close()
		_, err = conn.ExecContext(ctx, "SET SESSION foreign_key_checks = 0")
	}
	for k := range keys { // all of them: somebody hands them over
		if err == nil {
			_, err = conn.ExecContext(ctx, query, k...)
		}
	}
	return err
}
