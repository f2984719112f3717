package mariadb

import (
	"context"
	"strings"
	"testing"
	"time"

	"holdfast/testbed/need"
	"holdfast/testbed/try"
)

// TestTrimLogs: old binary logs go, the last one and as many as fit stay, and a replica that was away for longer gets a copy.
func TestTrimLogs(t *testing.T) {
	need.Drill(t, "Usphere: binary logs do not fill the disk, and a standby that was away for too long gets a copy",
		need.Programs("mariadb-server", "mariadbd"), need.Programs("mariadb-backup", "mariadb-backup"))
	a, b := pair(t)
	ctx := try.Context(t)
	join(t, a, b)
	try.Must(t, b.cmd.Kill9(ctx))
	try.Must(t, a.Alone(ctx))
	logs := func() (names []string) {
		all, err := a.rows(ctx, a.root, "SHOW BINARY LOGS")
		try.Must(t, err)
		for _, l := range all {
			names = append(names, l["log_name"])
		}
		return names
	}
	for i := range 5 {
		a.sql("INSERT INTO app.log VALUES ("+string(rune('1'+i))+", REPEAT('x', 30))", "FLUSH BINARY LOGS")
	}
	was := logs()
	try.Must(t, a.trimLogs(ctx, 1<<30))
	if got := logs(); len(got) != len(was) {
		t.Errorf("of %v only %v are left, and all fit", was, got)
	}
	try.Must(t, a.trimLogs(ctx, 1000))
	got := logs()
	if len(got) >= len(was) || len(got) < 2 || got[len(got)-1] != was[len(was)-1] {
		t.Errorf("of %v %v are left", was, got)
	}
	try.Until(t, "the last one to be left alone", func() bool { // the one before is kept until the engine has written a checkpoint
		try.Must(t, a.trimLogs(ctx, 1))
		return len(logs()) == 1
	})
	seeds := a.seeds
	try.Must(t, b.Resync(ctx, a.source(t.TempDir()+"/saved.sql")))
	if a.seeds != seeds+1 || b.value("SELECT COUNT(*) FROM app.log") != "5" {
		t.Errorf("%d copies, %s rows", a.seeds-seeds, b.value("SELECT COUNT(*) FROM app.log"))
	}
}

// TestWhoWaitsForALock: a client's statement counts as one that waits for a lock, a thread of the server does not.
func TestWhoWaitsForALock(t *testing.T) {
	need.Real(t, need.Programs("mariadb-server", "mariadbd"))
	a := newNode(t, 1)
	ctx := try.Context(t)
	files := data(t)
	try.Must(t, files.Write(a.datadir))
	try.Must(t, a.start(ctx, "MASTER"))
	a.sql("SET GLOBAL read_only=OFF", "SET GLOBAL event_scheduler=ON", "CREATE EVENT app.e ON SCHEDULE EVERY 1 SECOND DO SELECT 1")
	c, err := a.root.Conn(ctx)
	try.Must(t, err)
	defer c.Close()
	_, err = c.ExecContext(ctx, "FLUSH TABLES WITH READ LOCK")
	try.Must(t, err)
	try.Until(t, "the thread of the events to wait", func() bool {
		return a.value("SELECT COUNT(*) FROM information_schema.processlist WHERE user='event_scheduler' AND "+
			"state='Waiting for backup lock' AND time_ms > 500") == "1"
	})
	sample, err := a.count(ctx, a.db, "")
	try.Must(t, err)
	if sample.locked != 0 {
		t.Errorf("only a thread of the server waits: %d sessions", sample.locked)
	}
	answer := insert(a.app(), 1)
	try.Until(t, "a client to wait", func() bool {
		sample, err = a.count(ctx, a.db, "")
		try.Must(t, err)
		return sample.locked > 0
	})
	if sample.locked != 1 {
		t.Errorf("%d sessions wait", sample.locked)
	}
	_, err = c.ExecContext(ctx, "UNLOCK TABLES")
	try.Must(t, err)
	try.Must(t, <-answer)
}

// TestAllConnectionsAreTaken is told after a while, also where they come and go; a server that was started anew counts anew.
func TestAllConnectionsAreTaken(t *testing.T) {
	var d Driver
	begun := time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)
	for _, look := range []struct {
		at      float64 // seconds
		taken   int
		refused uint64
		want    string
	}{
		{0, 4, 7, ""}, {1, 10, 7, ""}, {5.5, 10, 9, ""}, {6, 10, 12, "all 10 connections are taken, and further ones are refused: "}, // steadily
		{7, 9, 12, "all 10 connections are taken again and again, and further ones are refused: "}, {9.5, 9, 12, ""},
		// at no look
		{20, 9, 13, ""}, {22, 9, 14, ""}, {24, 8, 15, ""},
		{26, 9, 16, "all 10 connections are taken again and again, and further ones are refused: "},
		// another run
		{27, 9, 0, ""}, {28, 9, 1, ""}, {30, 9, 2, ""},
		{33, 9, 3, "all 10 connections are taken again and again, and further ones are refused: "},
	} {
		got := d.outage(counts{most: 10, taken: look.taken, refused: look.refused}, begun.Add(time.Duration(look.at*float64(time.Second))))
		if (got == "") != (look.want == "") || !strings.HasPrefix(got, look.want) {
			t.Errorf("after %v s: %q, want %q", look.at, got, look.want)
		}
	}
}

// TestCommitsThatWaitForAStandby: what is told names the cause, and does not end while a commit waits.
func TestCommitsThatWaitForAStandby(t *testing.T) {
	var d Driver
	begun := time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)
	waits := counts{most: 10, enabled: true, noSlave: true, point: "AFTER_SYNC", timeout: forever, waiting: 2, pos: "0-1-5"}
	locked, connected, over := waits, waits, waits
	locked.locked = 3 // behind a copy, which waits for them
	connected.clients, connected.replicas, connected.serving = 1, 1, []session{{}}
	over.enabled, over.waiting = false, 0
	const standby = "2 commits wait for the standby, which is not connected"
	for _, look := range []struct {
		at     float64 // seconds
		c      counts
		copies int32
		want   string
	}{
		{0, waits, 0, ""}, {3, locked, 1, ""}, {6, locked, 1, ""}, {9, locked, 1, ""}, {10, locked, 1, standby},
		{13, waits, 0, standby}, {16, waits, 0, standby},
		{20, connected, 0, ""}, {24, waits, 0, ""}, {26, over, 0, ""},
	} {
		d.copies.Store(look.copies)
		got := d.outage(look.c, begun.Add(time.Duration(look.at*float64(time.Second))))
		if (got == "") != (look.want == "") || !strings.Contains(got, look.want) {
			t.Errorf("after %v s: %q, want %q", look.at, got, look.want)
		}
	}
}

// TestALockOfAllWrites is told when writes have waited for it for a while, whether the clients do or give up and come again; PeerAnswers
// tells a server that stands still.
func TestALockOfAllWrites(t *testing.T) {
	need.Drill(t, "Usphere: a primary on which nothing can be written is not called healthy",
		need.Programs("mariadb-server", "mariadbd"), need.Programs("mariadb-backup", "mariadb-backup"))
	a, b := pair(t)
	ctx := try.Context(t)
	join(t, a, b)
	c, err := a.root.Conn(ctx)
	try.Must(t, err)
	defer c.Close()
	_, err = c.ExecContext(ctx, "FLUSH TABLES WITH READ LOCK")
	try.Must(t, err)
	locked := func() {
		t.Helper()
		begun, says := time.Now(), ""
		try.Until(t, "the lock to be told", func() bool {
			says = a.state().Outage
			return says != ""
		})
		if !strings.Contains(says, "nothing could be written for 1") || !strings.Contains(says, "sessions wait: one has a lock of all writes") {
			t.Errorf("%q", says)
		}
		if took := time.Since(begun); took < lockedLimit-time.Second {
			t.Errorf("told after %s", took)
		}
		_, err = c.ExecContext(ctx, "UNLOCK TABLES")
		try.Must(t, err)
	}
	over := func() {
		t.Helper()
		try.Until(t, "that to be over", func() bool { return a.state().Outage == "" })
	}
	answer := insert(a.app(), 1)
	locked()
	try.Must(t, <-answer)
	over()

	// Clients that give up after 2 s, and come again after a while.
	_, err = c.ExecContext(ctx, "FLUSH TABLES WITH READ LOCK")
	try.Must(t, err)
	app, impatient := a.app(), make(chan struct{})
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		for {
			once, cancel := context.WithTimeout(ctx, 2*time.Second)
			_, err := app.ExecContext(once, "INSERT INTO log VALUES (2, NOW(6))")
			cancel()
			if err == nil {
				return
			}
			select {
			case <-impatient:
				return
			case <-time.After(500 * time.Millisecond):
			}
		}
	}()
	locked()
	over()
	close(impatient)
	<-gone

	// Writes that wait now and then, and are written, are no outage.
	for range 4 {
		_, err = c.ExecContext(ctx, "FLUSH TABLES WITH READ LOCK")
		try.Must(t, err)
		answer := insert(app, time.Now().UnixNano())
		for end := time.Now().Add(3500 * time.Millisecond); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
			if says := a.state().Outage; says != "" {
				t.Fatalf("%q", says)
			}
		}
		_, err = c.ExecContext(ctx, "UNLOCK TABLES")
		try.Must(t, err)
		try.Must(t, <-answer)
	}

	try.Must(t, a.PeerAnswers(ctx, b.source("")))
	if err := b.PeerAnswers(ctx, a.source("")); err == nil {
		t.Error("a primary counts as one that could take the group")
	}
	thaw := b.freeze()
	begun := time.Now()
	if err := a.PeerAnswers(ctx, b.source("")); err == nil {
		t.Error("a server that stands still answers")
	}
	t.Logf("told after %s", time.Since(begun))
	thaw()
	try.Until(t, "an answer", func() bool { return a.PeerAnswers(ctx, b.source("")) == nil })
}
