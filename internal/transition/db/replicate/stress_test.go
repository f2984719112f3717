package replicate

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"

	"holdfast/internal/transition/db/aligntest"
	"holdfast/internal/transition/db/mapping"
	"holdfast/internal/transition/db/server"
	"holdfast/testbed/need"
)

// child is the variable that makes this program a run that follows, for tests that kill it.
const child = "HOLDFAST_FOLLOW_CHILD"

func TestMain(m *testing.M) {
	if dsns := os.Getenv(child); dsns != "" {
		if err := asChild(strings.Split(dsns, "\n")); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(aligntest.Main(m))
}

// asChild follows without an end.
func asChild(dsns []string) error {
	ctx, cancel := context.WithTimeout(context.Background(), patient)
	defer cancel()
	w := &world{sourceDB: map[string]string{"nova": "old_nova"}, dstDBs: map[string]string{"nova": "new_nova", "api": "new_api"}}
	var err error
	if w.source, err = server.Open(ctx, "source", dsns[0], server.Options{}); err != nil {
		return err
	}
	if w.target, err = server.Open(ctx, "target", dsns[1], server.Options{}); err != nil {
		return err
	}
	m, err := mapping.ParseMapping("m.yaml", []byte(mappingText))
	if err != nil {
		return err
	}
	from, err := w.source.Side(ctx, w.sourceDB)
	if err != nil {
		return err
	}
	to, err := w.target.Side(ctx, w.dstDBs)
	if err != nil {
		return err
	}
	p := mapping.MakePlan(m, from, to, map[string]mapping.IDs{"project": {Given: true}, "user": {Given: true, Default: true}})
	var said sync.Once
	_, err = Run(ctx, m, &p, w.source, w.target, w.sourceDB,
		Options{Progress: func(Progress) { said.Do(func() { fmt.Println("it follows") }) }})
	return err
}

// writer writes in the source's tables, by chance, until it is stopped.
type writer struct {
	w     *world
	stop  chan struct{}
	wait  sync.WaitGroup
	did   atomic.Int64 // transactions
	fault atomic.Pointer[error]
}

func (w *world) writers(n int, seed uint64) *writer {
	x := &writer{w: w, stop: make(chan struct{})}
	for i := range n {
		x.wait.Go(func() { x.run(rand.New(rand.NewPCG(seed, uint64(i)))) })
	}
	w.t.Cleanup(x.end)
	return x
}

func (x *writer) end() {
	select {
	case <-x.stop:
	default:
		close(x.stop)
	}
	x.wait.Wait()
	if err := x.fault.Load(); err != nil {
		x.w.t.Error(*err)
	}
}

func (x *writer) run(r *rand.Rand) {
	for {
		select {
		case <-x.stop:
			return
		default:
		}
		err := x.transaction(r)
		var my *mysql.MySQLError
		switch {
		case err == nil:
			x.did.Add(1)
		case errors.As(err, &my) && (my.Number == 1062 || my.Number == 1467 || passing(err)):
			// A value that is there; the table's next id could not be locked, as on a server that is being ended; a deadlock.
		case !errors.As(err, &my): // the server is away
			time.Sleep(20 * time.Millisecond)
		default:
			x.fault.Store(&err)
			return
		}
		time.Sleep(time.Duration(r.IntN(12)) * time.Millisecond)
	}
}

func (x *writer) transaction(r *rand.Rand) error {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	tx, err := x.w.source.DB.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	for range 1 + r.IntN(5) {
		if _, err := tx.ExecContext(ctx, "USE old_nova"); err != nil {
			return err
		}
		if err := change(ctx, tx, r); err != nil {
			return err
		}
	}
	if r.IntN(8) == 0 {
		return tx.Rollback()
	}
	return tx.Commit()
}

// hard are texts that are hard to carry.
var hard = []string{"NULL", "''", "'a'", "'ünï 💥'", `'\\'`, `'\''`, "'tab\tline\nend'", "REPEAT('ö', 30000)", "X'00'", "' '", "'A'"}

// change changes something. Values that must be unique are few, so that they move.
func change(ctx context.Context, tx *sql.Tx, r *rand.Rand) error {
	id, uuid, project := 1+r.IntN(300), fmt.Sprintf("'u%d'", 1+r.IntN(300)), fmt.Sprintf("'p%d'", r.IntN(10))
	word := hard[r.IntN(len(hard))]
	short := "LEFT(" + word + ", 100)"
	agg, name := 1+r.IntN(12), fmt.Sprintf("'agg%d'", 1+r.IntN(14))
	all := []string{
		"INSERT INTO instances (id, uuid, name, notes, level, project, owner) VALUES (" + fmt.Sprint(id) + ", " +
			uuid + ", " + short + ", " + word + ", " + fmt.Sprint(r.IntN(256)) + ", " + project + ", 'o')",
		"UPDATE instances SET name = " + short + ", at = IF(at IS NULL, '2026-01-01 10:00:00.5', NULL) WHERE id = " + fmt.Sprint(id),
		"UPDATE instances SET deleted = 1 - deleted, project = IF(project IS NULL, " + project + ", NULL) WHERE id = " + fmt.Sprint(id),
		"UPDATE instances SET id = id + 1000 * (1 - 2 * (id > 1000)) WHERE uuid = " + uuid,
		"UPDATE instances SET uuid = " + uuid + " WHERE id = " + fmt.Sprint(id),
		"DELETE FROM instances WHERE id = " + fmt.Sprint(id),
		"INSERT INTO extra (instance, flavor) VALUES (" + uuid + ", " + word + ")",
		"UPDATE extra SET flavor = " + word + " WHERE instance = " + uuid,
		"UPDATE extra SET deleted = IF(deleted = 0, id, 0) WHERE instance = " + uuid,
		"UPDATE extra SET instance = " + uuid + " WHERE id = " + fmt.Sprint(id),
		"DELETE FROM extra WHERE id = " + fmt.Sprint(id),
		"INSERT INTO bdm (instance, boot_index, kind) VALUES (" + uuid + ", 0, 'volume')",
		"UPDATE bdm SET boot_index = NULLIF(1 - COALESCE(boot_index, 1), 1), kind = 'volume' WHERE instance = " + uuid,
		"UPDATE bdm SET instance = " + uuid + " WHERE id = " + fmt.Sprint(id),
		"DELETE FROM bdm WHERE instance = " + uuid,
		"REPLACE INTO tags VALUES (" + uuid + ", CONVERT('tä" + fmt.Sprint(r.IntN(5)) + "' USING latin1), " + fmt.Sprint(r.Uint64()) + ")",
		"UPDATE tags SET tag = UPPER(tag) WHERE resource = " + uuid,
		"DELETE FROM tags WHERE resource = " + uuid,
		"INSERT INTO aggregates (id, name) VALUES (" + fmt.Sprint(agg) + ", " + name + ")",
		"UPDATE aggregates SET name = " + name + " WHERE id = " + fmt.Sprint(agg),
		"UPDATE aggregates SET deleted = IF(deleted = 0, id, 0) WHERE id = " + fmt.Sprint(agg),
		"DELETE FROM aggregates WHERE id = " + fmt.Sprint(agg),
		"REPLACE INTO bins VALUES (X'00" + fmt.Sprintf("%02X", r.IntN(256)) + "', RAND(), 'b', " + fmt.Sprint(r.IntN(512)) + ", RAND() * 1000)",
		"UPDATE bins SET k = UNHEX(CONCAT(HEX(k), '')), f = -f WHERE k < X'0080'",
		"UPDATE other SET x = x + 1",
	}
	if r.IntN(300) == 0 {
		all = []string{"UPDATE instances SET name = " + short, "DELETE FROM extra",
			"INSERT IGNORE INTO extra (instance, flavor) SELECT uuid, name FROM instances", "UPDATE bins SET f = f + 1"}
	}
	_, err := tx.ExecContext(ctx, all[r.IntN(len(all))])
	return err
}

func seed(t *testing.T) uint64 {
	s := uint64(time.Now().UnixNano())
	t.Attr("seed", fmt.Sprint(s))
	return s
}

// TestWritesGoOnWhileRowsAreCopied: the rows are those of the source when it is cut over.
func TestWritesGoOnWhileRowsAreCopied(t *testing.T) {
	need.More(t)
	both(t, func(t *testing.T, w *world) {
		w.src.SQL(firstRows)
		writers := w.writers(3, seed(t))
		time.Sleep(300 * time.Millisecond)
		w.copy()
		stop := make(chan struct{})
		go func() {
			time.Sleep(3 * time.Second)
			writers.end() // as a cut-over does: no writes, then what is left
			close(stop)
		}()
		r, err := w.follow(Options{Stop: stop})
		if err != nil {
			t.Fatal(err)
		}
		w.equal()
		t.Logf("%d transactions written, %+v", writers.did.Load(), *r)
		if r.Transactions < 10 {
			t.Errorf("%+v", r)
		}
	})
}

// TestKilledAnywhere: a run, and servers, die at points of chance while writes go on.
func TestKilledAnywhere(t *testing.T) { killedAnywhere(t, 3) }

// TestKilledAgainAndAgain is the same with more kills.
func TestKilledAgainAndAgain(t *testing.T) {
	need.Drill(t, "P3, P5: following goes on from where it was, whatever is killed while writes go on, 30 times")
	killedAnywhere(t, 30)
}

func killedAnywhere(t *testing.T, kills int) {
	both(t, func(t *testing.T, w *world) {
		s := seed(t)
		r := rand.New(rand.NewPCG(s, 99))
		w.src.SQL(firstRows)
		w.copy()
		writers := w.writers(2, s)
		for i := range kills {
			c := w.child()
			if i%3 > 0 { // a run that begins may find no server, one that follows waits for it
				c.follows(t)
			}
			time.Sleep(time.Duration(200+r.IntN(1500)) * time.Millisecond)
			switch kill := i % 3; {
			case kill == 1:
				w.src.Kill()
				time.Sleep(time.Duration(r.IntN(500)) * time.Millisecond)
				w.src.Start()
			case kill == 2:
				w.dst.Kill()
				time.Sleep(time.Duration(r.IntN(500)) * time.Millisecond)
				w.dst.Start()
			}
			if i%3 > 0 { // it has to go on by itself
				time.Sleep(time.Duration(500+r.IntN(1000)) * time.Millisecond)
				if c.ended() {
					t.Fatalf("kill %d: the run has ended: %s", i, c.out.String())
				}
			}
			c.kill()
		}
		writers.end()
		result := w.mustFollow()
		w.equal()
		t.Logf("%d transactions written, %+v", writers.did.Load(), *result)
	})
}

// process is a run in a process of its own.
type process struct {
	cmd  *exec.Cmd
	said io.Reader // what it writes to standard output
	out  *strings.Builder
	done chan struct{}
}

func (w *world) child() *process {
	w.t.Helper()
	p := &process{cmd: exec.Command(os.Args[0], "-test.run=^$"), out: &strings.Builder{}, done: make(chan struct{})}
	p.cmd.Env = append(os.Environ(), child+"="+w.src.DSN()+"\n"+w.dst.DSN())
	p.cmd.Stderr = p.out
	said, to, err := os.Pipe()
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { _ = said.Close() })
	p.said, p.cmd.Stdout = said, to
	defer func() { _ = to.Close() }() // the process has its own
	if err := p.cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
	go func() {
		defer close(p.done)
		_ = p.cmd.Wait() // it is killed
	}()
	w.t.Cleanup(p.kill)
	return p
}

// follows waits until the run follows.
func (p *process) follows(t *testing.T) {
	t.Helper()
	if _, err := p.said.Read(make([]byte, 1)); err != nil { // its end, too, ends the wait
		t.Fatalf("it does not follow: %v: %s", err, p.out)
	}
}

func (p *process) ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

func (p *process) kill() {
	_ = p.cmd.Process.Kill() // gone already, if it can not
	<-p.done
}
