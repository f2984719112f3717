package replicate

import (
	"context"
	"strings"
	"testing"
	"time"

	"holdfast/internal/transition/db/copier"
	"holdfast/testbed/need"
)

// driven is a run whose steps a test takes by itself.
type driven struct {
	*follower
	t *testing.T
	s *stream
}

func (w *world) drive(room int) *driven {
	w.t.Helper()
	f, err := begin(w.t.Context(), w.plan, w.source, w.target, Options{Quiet: quiet, Patience: 10 * time.Second})
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(f.disconnect)
	f.room = room
	s, err := open(w.t.Context(), w.source, f.from, f.mapped)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(s.close)
	return &driven{f, w.t, s}
}

// next takes the next event in, if one comes.
func (d *driven) next() bool {
	d.t.Helper()
	e, err := d.s.next(d.t.Context(), time.Second)
	if err != nil {
		d.t.Fatal(err)
	}
	if e == nil {
		return false
	}
	if err := d.event(d.t.Context(), e); err != nil {
		d.t.Fatal(err)
	}
	return true
}

// transactionEnds takes events in up to the end of one that changed mapped tables.
func (d *driven) transactionEnds() {
	d.t.Helper()
	before := d.transactions
	for end := time.Now().Add(patient); d.transactions == before; d.next() {
		if time.Now().After(end) {
			d.t.Fatal("no transaction comes")
		}
	}
}

const manyText = `
format: 1
name: many rows of one
tables:
- target: api.specs
  from: nova.instances
  join:
  - {as: x, table: nova.projects, match: "x.name = s.project"}
  columns:
  - copy: [id]
  - {to: spec, value: "concat(s.name, ' ', x.title)"}
  drop: [uuid, notes, at, level, owner, deleted]
`

// TestOneRowThatConcernsMany: its keys go through memory in pages.
func TestOneRowThatConcernsMany(t *testing.T) {
	need.More(t)
	both(t, func(t *testing.T, w *world) {
		w.src.SQL(`USE old_nova; CREATE TABLE projects (name VARCHAR(64) CHARACTER SET utf8mb3 PRIMARY KEY, title VARCHAR(40) NOT NULL) ENGINE=InnoDB;
INSERT INTO projects VALUES ('p1', 'one'), ('p2', 'two');
INSERT INTO instances (id, uuid, name, project) SELECT seq, CONCAT('u', seq), CONCAT('vm', seq), IF(seq % 10, 'p1', 'p2') FROM seq_1_to_1000`)
		w.planOf(manyText)
		w.copy()
		w.src.SQL("USE old_nova; UPDATE projects SET title = CONCAT(title, ' more')")
		d := w.drive(100)
		d.transactionEnds()
		pages := 0
		err := d.collect(t.Context(), func(ctx context.Context) error {
			if pages++; d.batch.size > 110 { // the changed rows of projects are among them
				t.Errorf("%d keys are held", d.batch.size)
			}
			return d.page(ctx)
		})
		if err != nil {
			t.Fatal(err)
		}
		if pages < 9 || d.state(w) != copier.Copied {
			t.Errorf("%d pages, the journal says %s", pages, d.state(w))
		}
		if err := d.write(t.Context(), copier.Following); err != nil {
			t.Fatal(err)
		}
		w.equal()
		if got := w.dst.SQL("SELECT COUNT(*) FROM new_api.specs WHERE spec LIKE '% more'"); got != "1000" {
			t.Error(got)
		}
	})
}

func (d *driven) state(w *world) copier.State { return w.state().State }

// TestKeysThatWait: while the target does not take a row, those that it takes do not pile
// up behind it.
func TestKeysThatWait(t *testing.T) {
	need.More(t)
	both(t, func(t *testing.T, w *world) {
		w.src.SQL(firstRows)
		w.copy()
		w.dst.SQL("INSERT INTO new_api.aggregates VALUES (77, 'taken')")
		w.src.SQL("USE old_nova; INSERT INTO aggregates (id, name) VALUES (50, 'taken'), (51, 'free')")
		d := w.drive(50)
		d.transactionEnds()
		if err := d.carry(t.Context()); err != nil || d.failures != 1 {
			t.Fatal(err, d.failures)
		}
		saved := w.state().Pos
		w.src.SQL(`USE old_nova;
DELIMITER //
FOR i IN 1..400 DO INSERT INTO tags VALUES (CONCAT('w', i), 'x', i); END FOR//`)
		d.again.file = "bin.999999" // the end is far
		for d.next() {
			if err := d.work(t.Context()); err != nil {
				t.Fatal(err)
			}
			if d.batch.size > 60 {
				t.Fatalf("%d keys are held", d.batch.size)
			}
		}
		if d.left != 1 || w.state().Pos != saved {
			t.Errorf("%d keys are left, the journal went from %d to %d", d.left, saved, w.state().Pos)
		}
		if got := w.dst.SQL("SELECT COUNT(*) >= 340 AND (SELECT COUNT(*) FROM new_api.aggregates WHERE id = 51) = 1 " +
			"FROM new_nova.tags WHERE tag = 'x'"); got != "1" {
			t.Error("rows that fit are not there:", got)
		}
		w.dst.SQL("DELETE FROM new_api.aggregates WHERE id = 77")
		if err := d.carry(t.Context()); err != nil || d.failures != 0 || d.left != 0 {
			t.Fatal(err, d.failures, d.left)
		}
		w.equal()
	})
}

// TestValuesThatGoRoundInLittleRoom: each row has a value that another one gives away
// in another part of what memory holds.
func TestValuesThatGoRoundInLittleRoom(t *testing.T) {
	need.More(t)
	both(t, func(t *testing.T, w *world) {
		w.src.SQL("USE old_nova; INSERT INTO aggregates (id, name) SELECT seq, CONCAT('n', seq) FROM seq_1_to_200")
		w.copy()
		w.src.SQL("USE old_nova; START TRANSACTION; UPDATE aggregates SET name = CONCAT('tmp', id); UPDATE " +
			"aggregates SET name = CONCAT('n', 201 - id); COMMIT")
		d := w.drive(50)
		if err := d.run(t.Context()); err != nil {
			t.Fatal(err)
		}
		w.equal()
	})
}

// TestTooManyThatAreNotTaken ends before memory does.
func TestTooManyThatAreNotTaken(t *testing.T) {
	need.More(t)
	w := newWorld(t, false)
	w.src.SQL(firstRows)
	w.copy()
	w.dst.SQL("USE new_api; INSERT INTO aggregates SELECT 1000 + seq, CONCAT('n', seq) FROM seq_1_to_200")
	w.src.SQL("USE old_nova;\nDELIMITER //\nFOR i IN 1..200 DO INSERT INTO aggregates (id, name) VALUES (100 + i, CONCAT('n', i)); END FOR//")
	d := w.drive(20)
	err := d.run(t.Context())
	if err == nil || !strings.Contains(err.Error(), "does not take more than 100") ||
		!strings.Contains(err.Error(), "Duplicate entry") || passing(err) {
		t.Error(err)
	}
}

// TestServersThatAreBusy: rows wait until servers have less to do.
func TestServersThatAreBusy(t *testing.T) {
	need.More(t)
	w := newWorld(t, false)
	w.src.SQL(firstRows)
	w.copy()
	var busy []context.CancelFunc
	for range 4 {
		ctx, cancel := context.WithCancel(t.Context())
		busy = append(busy, cancel)
		conn, err := w.target.DB.Conn(ctx)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		go func() { _, _ = conn.ExecContext(ctx, "DO SLEEP(60)") }() // it is cancelled
	}
	w.src.SQL("USE old_nova; UPDATE instances SET name = 'waits'")
	var waits string
	waited := make(chan struct{})
	ended := make(chan error, 1)
	go func() {
		_, err := w.follow(Options{Quiet: quiet, Patience: time.Second, Throttle: copier.Throttle{MaxThreadsRunning: 3},
			Progress: func(p Progress) {
				if p.Waits != "" && waits == "" {
					waits = p.Waits
					close(waited)
				}
			}})
		ended <- err
	}()
	select {
	case <-waited:
	case err := <-ended:
		t.Fatal("it did not wait: ", err)
	}
	time.Sleep(2 * time.Second) // more than servers may be away
	if got := w.dst.SQL("SELECT COUNT(*) FROM new_nova.instances WHERE name = 'waits'"); got != "0" ||
		!strings.Contains(waits, "the target has ") {
		t.Error("rows that did not wait: ", got, waits)
	}
	time.AfterFunc(time.Second, func() {
		for _, cancel := range busy {
			cancel()
		}
	})
	f := &follower{source: w.source, target: w.target, opt: Options{Throttle: copier.Throttle{MaxThreadsRunning: 3}}}
	if err := f.hold(t.Context()); err != nil || time.Since(f.good) > 10*time.Second {
		t.Errorf("error %v, the servers were last well at %s", err, f.good)
	}
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	w.equal()
}
