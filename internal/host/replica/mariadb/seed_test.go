package mariadb

import (
	"context"
	"errors"
	"io"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"holdfast/internal/host/replica"
	"holdfast/testbed/need"
	"holdfast/testbed/try"
)

// TestACopyThatIsCutShort: one that does not come whole leaves the data as they were; one
// that came whole, but did not follow yet, follows at the next call, without another copy.
func TestACopyThatIsCutShort(t *testing.T) {
	need.Drill(t, "P3: a copy that does not come whole leaves the data as they were",
		need.Programs("mariadb-server", "mariadbd"), need.Programs("mariadb-backup", "mariadb-backup"))
	a, b := pair(t)
	ctx := try.Context(t)
	db := a.app()
	try.Must(t, <-insert(db, 1)) // nobody waits: there is no replica yet
	before := b.id()
	from := a.source("")
	from.Seed = nil
	refused(t, "no copy", b.Resync(ctx, from))
	broken := errors.New("the link is cut")
	from.Seed = func(_ context.Context, w io.Writer, _ func(int64) error) error {
		_, err := w.Write([]byte("no stream"))
		return errors.Join(err, broken)
	}
	if err := b.Resync(ctx, from); !errors.Is(err, broken) {
		t.Fatalf("a copy that is cut: %v", err)
	}
	if c, ok := b.Copying(); ok {
		t.Errorf("after a copy that was cut: %+v", c)
	}
	if _, err := os.Stat(b.datadir + stage); !os.IsNotExist(err) || b.id() != before {
		t.Fatalf("after a copy that was cut: %v, process %v, it was %v", err, b.id(), before)
	}
	password := b.cfg.Replication.PasswordFile
	from.Seed = func(ctx context.Context, w io.Writer, about func(int64) error) error {
		err := a.Seed(ctx, w, about)
		return errors.Join(err, os.Chmod(password, 0o644)) // what comes after the copy fails
	}
	if err := b.Resync(ctx, from); err == nil {
		t.Fatal("it follows without a password")
	}
	if b.id() == before {
		t.Fatal("the data were not replaced: this tests nothing")
	}
	try.Must(t, os.Chmod(password, 0o600))
	try.Must(t, <-insert(db, 2))
	from.Seed = nil
	try.Must(t, b.Resync(ctx, from))
	g, err := a.Together(ctx, b.state())
	if err != nil || !g.Safe {
		t.Fatalf("%+v, %v", g, err)
	}
	try.Until(t, "the rows", func() bool { return b.value("SELECT GROUP_CONCAT(id ORDER BY id) FROM app.log") == "1,2" })
	if _, fresh, err := b.copied(); err != nil || fresh {
		t.Errorf("it still counts as a copy: %v, %v", fresh, err)
	}
}

// watched lets a test look at each part of a copy that comes.
type watched struct {
	io.Writer
	look func(bytes int64) // that have come before, and with it
	all  int64
}

func (w *watched) Write(b []byte) (int, error) {
	n, err := w.Writer.Write(b)
	w.all += int64(n)
	w.look(w.all)
	return n, err
}

// TestACopyIsCounted: what has come, and what is to come as the primary estimates it, without
// its logs.
func TestACopyIsCounted(t *testing.T) {
	need.Drill(t, "what has come of a copy is told, with an estimate of what is to come",
		need.Programs("mariadb-server", "mariadbd"), need.Programs("mariadb-backup", "mariadb-backup"))
	a, b := pair(t)
	ctx := try.Context(t)
	a.sql("CREATE TABLE app.big (v LONGTEXT) ENGINE=InnoDB", "INSERT INTO app.big SELECT REPEAT(MD5(seq), 4096) FROM app.seq_1_to_60",
		"DELETE FROM app.big", "INSERT INTO app.big SELECT REPEAT(MD5(seq), 4096) FROM app.seq_1_to_60", "FLUSH BINARY LOGS")
	if c, ok := b.Copying(); ok {
		t.Errorf("before a copy: %+v", c)
	}
	from := a.source("")
	var came int64
	from.Seed = func(ctx context.Context, w io.Writer, about func(int64) error) error {
		told := false
		in := &watched{Writer: w, look: func(bytes int64) {
			c, ok := b.Copying()
			if !told || !ok || c.Stage != replica.Receiving || c.Bytes != bytes || c.About <= 0 || !c.Ended.IsZero() {
				t.Errorf("after %d bytes, estimate told %v: %+v, %v", bytes, told, c, ok)
			}
			came = bytes
		}}
		return a.Seed(ctx, in, func(bytes int64) error { told = true; return about(bytes) })
	}
	begun := time.Now()
	try.Must(t, b.Resync(ctx, from))
	c, ok := b.Copying()
	if !ok || c.Stage != replica.Copied || c.Bytes != came || c.Begun.Before(begun) || c.Ended.Before(c.Begun) {
		t.Errorf("%+v, %v: want %d bytes", c, ok, came)
	}
	if diff := c.Bytes - c.About; diff > c.About/3 || diff < -c.About/3 {
		t.Errorf("%d bytes came, %d were estimated", c.Bytes, c.About)
	}
	t.Logf("%d bytes came, %d were estimated", c.Bytes, c.About)
}

// TestDataThatAreLost: a replica whose data directory is empty copies the primary. Where the directory
// is not there it does nothing: its file system may not be mounted.
func TestDataThatAreLost(t *testing.T) {
	need.Drill(t, "P3: a replica whose data are lost copies the primary, and does nothing where its disk may "+
		"not be mounted", need.Programs("mariadb-server", "mariadbd"), need.Programs("mariadb-backup", "mariadb-backup"))
	a, b := pair(t)
	join(t, a, b)
	ctx := try.Context(t)
	try.Must(t, <-insert(a.app(), 1))
	try.Must(t, b.cmd.Kill9(ctx))
	info, err := os.Stat(b.datadir)
	try.Must(t, err)
	try.Must(t, os.Rename(b.datadir, b.datadir+".away"))
	refused(t, "no data directory", b.Resync(ctx, a.source("")))
	if _, err := os.Stat(b.datadir); !os.IsNotExist(err) {
		t.Fatalf("the data directory was made: %v", err)
	}
	try.Must(t, os.Mkdir(b.datadir, info.Mode().Perm()))
	try.Must(t, os.Chown(b.datadir, int(info.Sys().(*syscall.Stat_t).Uid), int(info.Sys().(*syscall.Stat_t).Gid)))
	try.Must(t, b.Resync(ctx, a.source("")))
	if g, err := a.Together(ctx, b.state()); err != nil || !g.Safe {
		t.Fatalf("%+v, %v", g, err)
	}
	try.Until(t, "the row", func() bool { return b.value("SELECT COUNT(*) FROM app.log") == "1" })
}

// TestACopyThatNobodyTakes: at the end of a copy no commit passes; a receiver that stands still then
// does not hold them up for ever.
func TestACopyThatNobodyTakes(t *testing.T) {
	need.Drill(t, "P3: a receiver of a copy that stands still does not hold commits up for ever",
		need.Programs("mariadb-server", "mariadbd"), need.Programs("mariadb-backup", "mariadb-backup"))
	a, _ := pair(t)
	ctx := try.Context(t)
	var all int64
	count := &watched{Writer: io.Discard, look: func(bytes int64) { all = bytes }}
	try.Must(t, a.Seed(ctx, count, func(int64) error { return nil }))
	// The end: what is copied while no commit passes begins some 600 KiB before it.
	stands, goOn := make(chan struct{}), make(chan struct{})
	var once sync.Once
	stalled := &watched{Writer: io.Discard, look: func(bytes int64) {
		if bytes > all-200<<10 {
			once.Do(func() { close(stands) })
			<-goOn
		}
	}}
	ended := make(chan error, 1)
	go func() { ended <- a.Seed(ctx, stalled, func(int64) error { return nil }) }()
	<-stands
	db, written := a.app(), []<-chan error(nil)
	for id := int64(1); id <= 3; id++ {
		written = append(written, insert(db, id))
	}
	for _, w := range written {
		try.Must(t, <-w)
	}
	close(goOn)
	if err := <-ended; err == nil || !strings.Contains(err.Error(), "commits waited") {
		t.Errorf("the copy: %v", err)
	}
}

// TestACopyBesideCommitsThatWait: no copy begins while commits wait for a replica that is not connected, nor does one go on whose end
// waits for them. A proof does not wait for a replica that has left, either, and none of it lets a commit go that nobody has.
func TestACopyBesideCommitsThatWait(t *testing.T) {
	need.Drill(t, "P2, P3: neither a proof nor a copy waits with the commits for a replica that has left",
		need.Programs("mariadb-server", "mariadbd"), need.Programs("mariadb-backup", "mariadb-backup"))
	a, b := pair(t)
	ctx := try.Context(t)
	join(t, a, b)
	standby, db := b.state(), a.app()
	b.sql("STOP SLAVE")
	try.Until(t, "the replica's leave", func() bool { return !a.state().Connected })
	answer := insert(db, 1)
	try.Until(t, "a blocked commit", func() bool { return a.state().Blocked == 1 })
	if _, err := a.Together(ctx, standby); err == nil || !strings.Contains(err.Error(), "not connected") {
		t.Fatalf("together with a replica that has left: %v", err)
	}
	copies := func() bool {
		return a.value("SELECT COUNT(*) FROM information_schema.processlist WHERE info LIKE 'BACKUP STAGE%'") != "0"
	}
	var alone atomic.Bool
	ended := make(chan error, 1)
	from := func(look func(bytes int64)) {
		go func() {
			ended <- a.Seed(ctx, &watched{Writer: io.Discard, look: look}, func(int64) error { return nil })
		}()
	}
	from(func(int64) {
		if !alone.Load() {
			t.Error("a copy began while a commit waits")
		}
	})
	for end := time.Now().Add(2 * time.Second); time.Now().Before(end); time.Sleep(interval) {
		if copies() {
			t.Fatal("a copy has its lock while a commit waits")
		}
		pending(t, answer)
	}
	alone.Store(true)
	try.Must(t, a.Alone(ctx))
	try.Must(t, <-answer)
	try.Must(t, <-ended)

	// One that has begun.
	var once sync.Once
	from(func(int64) {
		once.Do(func() {
			if err := a.tighten(ctx); err != nil {
				t.Error(err)
			}
			answer = insert(db, 2)
			try.Until(t, "a blocked commit", func() bool { return a.state().Blocked == 1 })
		})
	})
	if err := <-ended; err == nil || !strings.Contains(err.Error(), "and they for a replica that is not connected") {
		t.Errorf("the copy: %v", err)
	}
	pending(t, answer)
	try.Until(t, "the end of its wait", func() bool { return !copies() })
	try.Must(t, a.Alone(ctx))
	try.Must(t, <-answer)
}
