package copier

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"holdfast/internal/transition/db/aligntest"
	"holdfast/testbed/need"
	"holdfast/testbed/try"
)

// TestThrottle: with a real replica, that is stopped, late, and well.
func TestThrottle(t *testing.T) {
	need.More(t)
	target := aligntest.MariaDB(t, "--log-bin", "--server-id=1", "--binlog-format=ROW")
	replica := aligntest.MariaDB(t, "--server-id=2")
	ts, rs := target.Server("target"), replica.Server("source")
	ctx := try.Context(t)
	look := func(th Throttle) string {
		t.Helper()
		why, err := th.look(ctx, ts.DB, ts.DB)
		if err != nil {
			t.Fatal(err)
		}
		return why
	}
	if why := look(Throttle{}); why != "" {
		t.Errorf("without limits: %s", why)
	}
	if why := look(Throttle{MaxThreadsRunning: 100}); why != "" {
		t.Errorf("idle: %s", why)
	}
	for range 3 {
		go func() { _, _ = ts.DB.ExecContext(ctx, "DO SLEEP(60)") }() // ends with the server
	}
	var busy string
	waitFor(t, func() bool { // the target is asked after the source, when one more may run
		busy = look(Throttle{MaxThreadsRunning: 2})
		return strings.Contains(busy, "the source has 3 ")
	})
	if !strings.Contains(busy, "2 at most") {
		t.Error(busy)
	}
	th := Throttle{Replica: rs.DB, MaxLag: time.Second}
	if why := look(th); !strings.Contains(why, "does not replicate") {
		t.Errorf("no replica: %q", why)
	}
	replica.SQL(fmt.Sprintf("CHANGE MASTER TO MASTER_HOST='127.0.0.1', MASTER_PORT=%d, MASTER_USER='%s', "+
		"MASTER_PASSWORD='%s', MASTER_USE_GTID=no; START SLAVE", target.Port(), aligntest.User, aligntest.Password))
	waitFor(t, func() bool { return look(th) == "" })
	replica.SQL("STOP SLAVE")
	if why := look(th); !strings.Contains(why, "does not replicate") {
		t.Errorf("stopped: %q", why)
	}
	// A run waits, says why, and goes on.
	source := aligntest.MariaDB(t)
	w := newWorld(t, source, target, 1000)
	waited, did := make(chan bool, 1), false
	go func() {
		if <-waited {
			replica.SQL("START SLAVE")
		}
	}()
	defer close(waited)
	w.run(Options{Throttle: th, ChunkRows: 100, Progress: func(p Progress) {
		if !did && strings.Contains(p.Waiting, "does not replicate") {
			did = true
			waited <- true
		}
	}})
	if w.check(); !did {
		t.Error("it did not wait")
	}
	waitFor(t, func() bool {
		return replica.SQL("CHECKSUM TABLE new.wide, new.items") == target.SQL("CHECKSUM TABLE new.wide, new.items")
	})
}
