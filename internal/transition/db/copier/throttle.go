package copier

import (
	"context"
	"database/sql"
	"fmt"
	"strconv"
	"strings"
	"time"

	"holdfast/internal/lib/clock"
	"holdfast/internal/transition/db/server"
)

// Throttle holds a copy back while servers have too much to do. Its zero value does not.
type Throttle struct {
	MaxThreadsRunning int           // of the source, and of the target, those of the copy too; 0: any number
	Replica           *sql.DB       // a replica of the target; nil: none is looked at
	MaxLag            time.Duration // that it may be behind; in whole seconds, as servers tell it
}

// throttleLook is the time between two looks at a server that has too much to do.
const throttleLook = 500 * time.Millisecond

// Hold waits until work may go on, and says through waits why it does not; "": it does.
func (t Throttle) Hold(ctx context.Context, source, target *sql.DB, waits func(why string)) error {
	held := false
	for {
		why, err := t.look(ctx, source, target)
		if err != nil {
			return err
		}
		if why == "" {
			if held {
				waits("")
			}
			return nil
		}
		held = true
		waits(why)
		if !clock.Sleep(ctx, throttleLook) {
			return context.Cause(ctx)
		}
	}
}

// look says why work is to wait, "" for nothing.
func (t Throttle) look(ctx context.Context, source, target *sql.DB) (string, error) {
	if t.MaxThreadsRunning > 0 {
		for _, s := range []struct {
			role string
			db   *sql.DB
		}{{"source", source}, {"target", target}} {
			n, err := threads(ctx, s.db)
			if err != nil {
				return "", fmt.Errorf("%s: %w", s.role, err)
			}
			if n > t.MaxThreadsRunning {
				return fmt.Sprintf("the %s has %d threads running: waiting until it has %d at most", s.role, n, t.MaxThreadsRunning), nil
			}
		}
	}
	if t.Replica == nil {
		return "", nil
	}
	lag, why, err := lag(ctx, t.Replica)
	switch {
	case err != nil && ctx.Err() != nil:
		return "", err
	case err != nil:
		return "the replica can not be asked: " + err.Error(), nil
	case why != "":
		return why, nil
	case lag > t.MaxLag:
		return fmt.Sprintf("the replica is %s behind: waiting until it is %s at most", lag, t.MaxLag), nil
	}
	return "", nil
}

// threads is how many threads of a server run, without the one that asks.
func threads(ctx context.Context, db *sql.DB) (int, error) {
	var name, value string
	if err := db.QueryRowContext(ctx, "SHOW GLOBAL STATUS LIKE 'Threads_running'").Scan(&name, &value); err != nil {
		return 0, fmt.Errorf("ask for Threads_running: %w", err)
	}
	n, err := strconv.Atoi(value)
	if err != nil {
		return 0, fmt.Errorf("status Threads_running: %q: want a number", value)
	}
	return n - 1, nil
}

// lag is how far a replica is behind the worst of its sources; why: it does not replicate.
func lag(ctx context.Context, replica *sql.DB) (lag time.Duration, why string, err error) {
	var version string
	if err := replica.QueryRowContext(ctx, "SELECT VERSION()").Scan(&version); err != nil {
		return 0, "", err
	}
	statement := "SHOW SLAVE STATUS"
	if newWords(version) {
		statement = "SHOW REPLICA STATUS"
	}
	all, err := server.Named(ctx, replica, statement)
	if err != nil {
		return 0, "", fmt.Errorf("%s: %w", statement, err)
	}
	if len(all) == 0 {
		return 0, "the replica does not replicate: " + statement + " gives nothing", nil
	}
	for _, row := range all {
		behind := row["seconds_behind_master"] + row["seconds_behind_source"] // one of them is there
		seconds, err := strconv.Atoi(behind)
		if err != nil {
			return 0, "the replica does not replicate: " + strings.TrimSpace(row["last_io_error"]+" "+row["last_sql_error"]), nil
		}
		lag = max(lag, time.Duration(seconds)*time.Second)
	}
	return lag, "", nil
}

// newWords reports whether a server is a MySQL that says replica: since 8.0.22, and since
// 8.4 nothing else. MariaDB knows the old words in all versions.
func newWords(version string) bool {
	if strings.Contains(version, "MariaDB") {
		return false
	}
	var a, b, c int
	if n, _ := fmt.Sscanf(version, "%d.%d.%d", &a, &b, &c); n < 3 {
		return false
	}
	return a > 8 || a == 8 && (b > 0 || c >= 22)
}
