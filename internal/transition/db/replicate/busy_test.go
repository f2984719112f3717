package replicate

import (
	"context"
	"database/sql"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/go-mysql-org/go-mysql/replication"

	"holdfast/internal/transition/db/copier"
	"holdfast/testbed/need"
)

// manyWorld has rows of which each of a hundred others concerns ten, all of which changed.
func manyWorld(t *testing.T) *driven {
	w := newWorld(t, false)
	w.src.SQL(`USE old_nova; CREATE TABLE projects (name VARCHAR(64) CHARACTER SET utf8mb3 PRIMARY KEY, title VARCHAR(40) NOT NULL) ENGINE=InnoDB;
INSERT INTO projects SELECT CONCAT('p', seq), 'one' FROM seq_0_to_99;
INSERT INTO instances (id, uuid, name, project) SELECT seq, CONCAT('u', seq), CONCAT('vm', seq), CONCAT('p', seq % 100) FROM seq_1_to_1000`)
	w.planOf(manyText)
	w.copy()
	w.src.SQL("USE old_nova; UPDATE projects SET title = CONCAT(title, ' more')")
	d := w.drive(10)
	d.transactionEnds()
	return d
}

// TestChangedRowsAreNoKeys: however many rows of joined tables changed, it is keys that
// are told apart into those that the target takes and those that it does not.
func TestChangedRowsAreNoKeys(t *testing.T) {
	need.More(t)
	d := manyWorld(t)
	if n := len(d.batch.touches); n <= mostLeft*d.room || d.batch.held() != 0 {
		t.Fatal(n, d.batch.held())
	}
	pages := 0
	err := d.collect(t.Context(), func(ctx context.Context) error {
		if pages++; d.batch.held() != d.room {
			t.Errorf("%d keys are held", d.batch.held())
		}
		return d.page(ctx)
	})
	if err != nil || pages != 100 || d.left != 0 {
		t.Error(err, pages, d.left)
	}
}

// TestPagesAreNotHeldUp: while a question to the source is open, servers are not asked
// whether they have too much to do: that question is a part of it. A page that is carried
// over is a success.
func TestPagesAreNotHeldUp(t *testing.T) {
	need.More(t)
	d := manyWorld(t)
	ctx, cancel := context.WithTimeout(t.Context(), patient)
	defer cancel()
	replica, err := sql.Open("mysql", d.target.Config.FormatDSN())
	if err != nil {
		t.Fatal(err)
	}
	if err := replica.Close(); err != nil { // what can not be asked is waited for
		t.Fatal(err)
	}
	err = d.collect(ctx, func(ctx context.Context) error {
		d.opt.Throttle = copier.Throttle{Replica: replica}
		d.good = time.Time{}
		if err := d.page(ctx); err != nil || d.good.IsZero() {
			t.Fatalf("error %v, the last success was at %s", err, d.good)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestFaultsOfTheTargetAreItsOwn: they are not told as those of a question to the source.
func TestFaultsOfTheTargetAreItsOwn(t *testing.T) {
	need.More(t)
	d := manyWorld(t)
	fault := errors.New("target: full")
	if err := d.collect(t.Context(), func(context.Context) error { return fault }); err != fault {
		t.Error(err)
	}
	d.source.DB.SetMaxOpenConns(1)
	conn, err := d.source.DB.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	err = d.batch.resolve(ctx, d.plan, d.source, func(context.Context) error { return nil })
	if !errors.Is(err, context.DeadlineExceeded) || !strings.HasPrefix(err.Error(),
		"api.specs: which rows table nova.projects concerns: source: ") {
		t.Error(err)
	}
}

// TestTheLogWaitsForItsReader: while rows are carried over, nothing is read of the log, for
// longer than its server waits by its own settings.
func TestTheLogWaitsForItsReader(t *testing.T) {
	need.More(t)
	w := newWorld(t, false)
	w.src.SQL(firstRows)
	w.copy()
	w.src.SQL("SET GLOBAL net_write_timeout = 1; CREATE TABLE old_nova.large (id INT PRIMARY KEY, b MEDIUMBLOB) ENGINE=InnoDB")
	d := w.drive(1000)
	w.src.SQL("USE old_nova; INSERT INTO large SELECT seq, REPEAT('x', 262144) FROM seq_1_to_200")
	time.Sleep(4 * time.Second) // the server can not send all of it meanwhile
	rows := 0
	for end := time.Now().Add(patient); rows < 200; {
		e, err := d.s.next(t.Context(), time.Second)
		if err != nil || time.Now().After(end) {
			t.Fatalf("after %d rows: %v", rows, err)
		}
		if e == nil {
			continue
		}
		if _, ok := e.Event.(*replication.RowsEvent); ok {
			rows++
		}
	}
}
