// Package commitwait waits for what the binary log of a server has and its readers do not
// see yet: servers write a transaction into the log first and commit it in the storage
// engine then. Who reads rows because of the log must not read them before.
package commitwait

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"holdfast/internal/lib/database"
	"holdfast/internal/transition/db/server"
)

// Table is the name of our table, of one row, in the database on the source that is ours.
const Table = "barrier"

const (
	staging = "migrate_ids"
	barrier = "`" + staging + "`.`" + Table + "`"
)

// patience is how long a server may need to commit what it has in the log.
const patience = time.Minute

// Wait returns when all transactions up to a position (a file, and the byte in it) of the
// source's binary log can be seen by statements that begin then.
//
// MariaDB tells up to which position a consistent snapshot goes. Of MySQL it is known
// (with binlog_order_commits, which is its default) that transactions are committed in
// the order of the log: one of our own is committed, in database migrate_ids.
func Wait(ctx context.Context, source *server.Server, file string, pos uint64) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if source.Vendor != "MariaDB" {
		return commit(ctx, source.DB)
	}
	conn, err := source.DB.Conn(ctx)
	if err != nil {
		return fmt.Errorf("source: %w", err)
	}
	defer conn.Close()
	if err := database.AwaitCommits(ctx, conn, file, pos); err != nil {
		return fmt.Errorf("source: %w", err)
	}
	return nil
}

// commit commits a transaction of our own.
func commit(ctx context.Context, db *sql.DB) error {
	const count = "INSERT INTO " + barrier + " (id, n) VALUES (1, 1) ON DUPLICATE KEY UPDATE n = n + 1"
	_, err := db.ExecContext(ctx, count)
	if !server.Absent(err) {
		return wrap(err)
	}
	for _, s := range []string{
		"CREATE DATABASE IF NOT EXISTS `" + staging + "`",
		"CREATE TABLE IF NOT EXISTS " + barrier + " (id TINYINT NOT NULL PRIMARY KEY, n BIGINT NOT NULL) ENGINE=InnoDB",
		count,
	} {
		if _, err := db.ExecContext(ctx, s); err != nil {
			return wrap(err)
		}
	}
	return nil
}

func wrap(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("source: a commit in %s, by which all before it is known to be committed: %w", staging, err)
}
