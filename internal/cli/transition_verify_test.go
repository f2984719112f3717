package cli

import (
	"context"
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"holdfast/internal/lib/clock"
	"holdfast/internal/transition/db/aligntest"
	"holdfast/testbed/need"
	"holdfast/testbed/try"
)

// TestTransitionDBVerifiedBeforeItsCutOver: while the source is written to and a run follows, rows in
// motion are no differences, a row that is wrong is found, and the end of that run is told.
func TestTransitionDBVerifiedBeforeItsCutOver(t *testing.T) {
	need.Drill(t, "360, databases: rows are compared before the cut-over, while the old platform writes",
		need.Programs("mariadb-server", "mariadbd"))
	source, target := aligntest.MariaDB(t, logged...), aligntest.MariaDB(t)
	flags := platforms(t, source, target)
	source.SQL("USE old_shop; INSERT INTO items (name, owner) SELECT REPEAT('row ', 20), IF(seq % 2, 'ann', 'bob') FROM seq_1_to_30000")
	run, out := child(t, db("run", flags, "--follow")...)
	try.Until(t, "it to follow", func() bool { return strings.Contains(out.String(), "is carried over") })

	ctx, cancel := context.WithCancel(t.Context())
	wrote := make(chan int)
	go func() {
		n := 0
		defer func() { wrote <- n }()
		for s := source.Server("source"); clock.Sleep(ctx, time.Millisecond); n++ {
			_, err := s.DB.ExecContext(t.Context(), fmt.Sprintf("UPDATE old_shop.items SET name = 'n %d' WHERE id = %d", n, n%20000+4))
			if err == nil {
				_, err = s.DB.ExecContext(t.Context(), "INSERT INTO old_shop.items (name, owner) VALUES ('new', 'bob')")
			}
			if err != nil {
				t.Error(err)
				return
			}
		}
	}()
	type doc struct {
		Tables []struct {
			Target                 string
			SourceRows, TargetRows int64
			Differences            []struct {
				Key  []string
				What string
			}
		}
		Equal, Following bool
	}
	for range 3 {
		if r := decode[doc](t, commandLine(t, "", db("verify", flags, "-o", "json")...), 0); !r.Equal || !r.Following {
			t.Errorf("while it is written to: %+v", r)
		}
	}
	target.SQL("UPDATE shop.items SET title = 'wrong' WHERE id = 25000")
	if r := decode[doc](t, commandLine(t, "", db("verify", flags, "-o", "json")...), 1); r.Equal ||
		len(r.Tables[0].Differences) != 1 || r.Tables[0].Differences[0].What != "differs" || r.Tables[0].Differences[0].Key[0] != "25000" {
		t.Errorf("with a row that is wrong: %+v", r)
	}
	source.SQL("UPDATE old_shop.items SET name = 'anew' WHERE id = 25000")
	if s := commandLine(t, "", db("verify", flags)...); s.code != 0 ||
		!strings.Contains(strings.Join(strings.Fields(s.out), " "), "compare again after the cut-over") {
		t.Errorf("with the row made anew: %d: %s%s", s.code, s.out, s.err)
	}
	cancel()
	if n := <-wrote; n < 100 {
		t.Errorf("only %d rows were written meanwhile", n)
	}

	// A run that stands still is waited for; when it is gone, that is told.
	if err := run.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	source.SQL("INSERT INTO old_shop.items (name, owner) VALUES ('late', 'ann')")
	verify, said := child(t, db("verify", flags)...)
	try.Until(t, "it to say what it waits for", func() bool {
		return strings.Contains(said.String(),
			"waits for the run that follows: it is at ")
	})
	if err := run.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if code := ended(t, verify); code != 3 || !strings.Contains(said.String(), "no run follows the source any more") {
		t.Errorf("when the run was gone, it ended with %d: %s", code, said)
	}
	_ = run.Wait() // it was killed
	if s := commandLine(t, "", db("run", flags, "--follow", "--quiet", "1s")...); s.code != 0 {
		t.Fatalf("the cut-over: %s%s", s.out, s.err)
	}
	if r := decode[doc](t, commandLine(t, "", db("verify", flags, "-o", "json")...), 0); !r.Equal || r.Following {
		t.Errorf("after the cut-over: %+v", r)
	}
}
