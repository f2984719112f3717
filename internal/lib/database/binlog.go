package database

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// AwaitCommits returns when statements that begin then see all transactions up to a position (a file, and the byte in it) of
// a MariaDB server's binary log. Servers write a transaction into the log first and commit it in the storage engine then:
// readers do not see one yet whose commit waits, such as for a standby to acknowledge it.
func AwaitCommits(ctx context.Context, conn *sql.Conn, file string, pos uint64) error {
	for pause := time.Millisecond; ; pause = min(2*pause, 100*time.Millisecond) {
		f, p, err := snapshot(ctx, conn)
		if err != nil {
			return fmt.Errorf("how far a snapshot goes in the binary log: %w", err)
		}
		if ComparePlaces(f, p, file, pos) >= 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("position %s:%d of the binary log is not committed: a snapshot goes up to %s:%d: %w", file, pos, f, p, ctx.Err())
		case <-time.After(pause):
		}
	}
}

// snapshot takes a consistent snapshot and tells up to where it goes.
func snapshot(ctx context.Context, conn *sql.Conn) (file string, pos uint64, err error) {
	if _, err = conn.ExecContext(ctx, "START TRANSACTION WITH CONSISTENT SNAPSHOT"); err != nil {
		return "", 0, err
	}
	rows, err := conn.QueryContext(ctx, "SHOW STATUS LIKE 'binlog_snapshot_%'")
	if err == nil {
		file, pos, err = position(rows)
	}
	_, end := conn.ExecContext(ctx, "COMMIT")
	return file, pos, errors.Join(err, end)
}

func position(rows *sql.Rows) (file string, pos uint64, err error) {
	defer rows.Close()
	for rows.Next() {
		var name, value string
		if err := rows.Scan(&name, &value); err != nil {
			return "", 0, err
		}
		switch strings.ToLower(name) {
		case "binlog_snapshot_file":
			file = value
		case "binlog_snapshot_position":
			var err error
			if pos, err = strconv.ParseUint(value, 10, 64); err != nil {
				return "", 0, fmt.Errorf("%s is %q: want a number of 64 bits", name, value)
			}
		}
	}
	if err := rows.Err(); err != nil {
		return "", 0, err
	}
	if file == "" {
		return "", 0, errors.New("it tells no binlog_snapshot_file: the binary log is off")
	}
	return file, pos, nil
}

// ComparePlaces tells which of two positions of a binary log comes first: -1, 0 or 1. Files are compared by the number at
// their end.
func ComparePlaces(fileA string, posA uint64, fileB string, posB uint64) int {
	a, b := fileNumber(fileA), fileNumber(fileB)
	switch {
	case a != b && a < b, a == b && posA < posB:
		return -1
	case a == b && posA == posB:
		return 0
	}
	return 1
}

// fileNumber is the number at the end of a file's name, 0 for none.
func fileNumber(file string) uint64 {
	n, err := strconv.ParseUint(file[strings.LastIndexByte(file, '.')+1:], 10, 64)
	if err != nil {
		return 0 // before all
	}
	return n
}
