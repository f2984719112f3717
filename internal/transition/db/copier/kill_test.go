package copier

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"testing"
	"time"

	"holdfast/internal/transition/db/aligntest"
	"holdfast/testbed/need"
	"holdfast/testbed/try"
)

// killedRows is about how many rows the source of the kill tests has.
const killedRows = 30_000

// TestKilledAtRandomPoints: whatever is killed, this process, the source's server or the
// target's, and whenever, the rows are there in the end, each once.
func TestKilledAtRandomPoints(t *testing.T) { killedAtRandomPoints(t, 1) }

// TestKilledAtManyRandomPoints is the same with more kills.
func TestKilledAtManyRandomPoints(t *testing.T) {
	need.Drill(t, "P5: rows are copied once, whatever is killed, process or server, at 20 random points each")
	killedAtRandomPoints(t, 20)
}

// killedAtRandomPoints kills each of the three, on one server and across two.
func killedAtRandomPoints(t *testing.T, kills int) {
	seed := time.Now().UnixNano()
	t.Attr("seed", fmt.Sprint(seed))
	chance := rand.New(rand.NewPCG(uint64(seed), 2))
	one := aligntest.MariaDB(t, "--log-bin", "--server-id=1", "--binlog-format=ROW")
	two := aligntest.MariaDB(t)
	across := newWorld(t, one, two, killedRows)
	one.SQL(newSchema)
	within := *across
	within.rt, within.target = one, one.Server("target")
	var err error
	if within.plan, err = makePlan(within.source, within.target, mappingText); err != nil {
		t.Fatal(err)
	}
	before := aligntest.Checksums(t, one, "old", "migrate_ids")
	// How long a run takes tells where to kill.
	took := map[*world]time.Duration{}
	for _, w := range []*world{across, &within} {
		began := time.Now()
		w.run(Options{ChunkRows: chunkRows})
		took[w] = time.Since(began)
		w.check()
	}
	t.Logf("undisturbed: %v across, %v within", took[across], took[&within])
	hit := 0
	for i := range kills {
		w, victim := across, i%3
		if i%6 >= 3 {
			w = &within
		}
		two.SQL("SET GLOBAL local_infile = " + strconv.Itoa(chance.IntN(2)))
		at := time.Duration(chance.Int64N(int64(took[w])))
		away := time.Duration(chance.IntN(400)) * time.Millisecond
		for tries := 0; tries < 4; tries++ {
			w.clear()
			cut := w.killed(victim, at, away)
			if w.check(); t.Failed() {
				t.Fatalf("kill %d: of %s at %v", i, [...]string{"this process", "the source", "the target"}[victim], at)
			}
			if cut {
				hit++
				break
			}
			at = at * 2 / 3 // it was done before
		}
	}
	if after := aligntest.Checksums(t, one, "old", "migrate_ids"); fmt.Sprint(after) != fmt.Sprint(before) {
		t.Errorf("the source was changed: %v, %v", before, after)
	}
	if t.Logf("%d of %d kills were in the middle of a run", hit, kills); hit < kills*5/6 {
		t.Errorf("%d of %d kills were in the middle of a run: too few to prove anything", hit, kills)
	}
}

// killed copies all, with a kill after a time: of a process of ours (0), of the source's
// server (1) or of the target's (2), which are away for a while. It reports whether
// the copy was not done then.
func (w *world) killed(victim int, at, away time.Duration) bool {
	w.t.Helper()
	if victim == 0 {
		cut := w.killChild(at)
		w.run(Options{ChunkRows: chunkRows})
		return cut
	}
	r := w.rs
	if victim == 2 {
		r = w.rt
	}
	ended := make(chan error, 1)
	go func() {
		_, err := Run(try.Context(w.t), w.plan, "hash", w.source, w.target, Options{ChunkRows: chunkRows})
		ended <- err
	}()
	cut := false
	select {
	case err := <-ended:
		ended <- err
	case <-time.After(at):
		cut = true
	}
	r.Kill()
	time.Sleep(away)
	r.Start()
	if err := <-ended; err != nil {
		// In its first steps a run does not wait for what is away.
		w.t.Logf("the run did not survive: %v", err)
		w.run(Options{ChunkRows: chunkRows})
	}
	return cut
}

// killChild runs the copy in a process, and kills it.
func (w *world) killChild(at time.Duration) bool {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	exe, err := os.Executable()
	if err != nil {
		w.t.Fatal(err)
	}
	cmd := exec.CommandContext(ctx, exe)
	cmd.Env = append(os.Environ(), "COPIER_CHILD=1", "COPIER_SOURCE="+w.rs.DSN(), "COPIER_TARGET="+w.rt.DSN())
	begins, err := cmd.StdoutPipe()
	if err != nil {
		w.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
	if _, err := begins.Read(make([]byte, 1)); err != nil {
		w.t.Fatalf("the process does not begin to copy: %v", err)
	}
	time.Sleep(at)
	_ = cmd.Process.Kill() // it may have ended
	return cmd.Wait() != nil
}
