package group

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"holdfast/internal/cluster"
	"holdfast/testbed/need"
	"holdfast/testbed/try"
)

// TestAStrayRow: somebody has written to a quiet standby. A switch is refused before anything is stopped, the standby is complete no more
// and says which transaction it is, and what was written is saved before it is copied anew. What can not be saved is told with a remedy.
func TestAStrayRow(t *testing.T) {
	need.Drill(t, "P1: a standby that somebody has written to is complete no more, and what was written is saved before it is copied anew")
	need.Real(t, need.Programs("mariadb-server", "mariadbd"), need.Programs("mariadb-backup", "mariadb-backup"))
	r := newRig(t)
	a, b := r.node["a"], r.node["b"]
	ctx := try.Context(t)
	var mu sync.Mutex
	var told []string
	for _, n := range []*node{a, b} {
		try.Must(t, n.ask(ctx, func() {
			n.events = func(_ context.Context, ev cluster.Event) error {
				mu.Lock()
				defer mu.Unlock()
				told = append(told, string(ev.Kind)+" "+ev.Detail)
				return nil
			}
		}))
	}
	write := func(statements ...string) {
		t.Helper()
		for _, s := range statements {
			_, err := b.root.ExecContext(ctx, s)
			try.Must(t, err)
		}
	}
	r.assign("a", cluster.ProofFirst)
	r.complete()
	quiet := func() {
		t.Helper()
		was, since := "", time.Now()
		try.Until(t, "nobody to write", func() bool {
			var now string
			try.Must(t, a.root.QueryRowContext(ctx, "SELECT @@gtid_binlog_state").Scan(&now))
			if now != was {
				was, since = now, time.Now()
			}
			return time.Since(since) > 2*time.Second
		})
	}
	quiet()
	write("INSERT INTO app.log VALUES (-7)")
	stops := filepath.Join(a.dir, "vip")
	was := inode(t, stops)
	if err := a.Migrate(ctx, "", false); err == nil {
		t.Error("a switch to a standby that somebody has written to")
	}
	if now := inode(t, stops); now != was {
		t.Error("something was stopped")
	}
	try.Until(t, "it to be told", func() bool {
		p := r.told("b")
		return !p.Fit && strings.Contains(p.Problem, "somebody has written to this standby") && strings.Contains(p.Problem, ", up to 0-2-") &&
			strings.Contains(p.Problem, b.db.SaveDir)
	})
	r.complete()
	try.Until(t, "its end to be told", func() bool { return r.told("b").Problem == "" })
	files, err := filepath.Glob(filepath.Join(b.dir, "saved", "*"))
	try.Must(t, err)
	if !slices.ContainsFunc(files, func(path string) bool {
		text, err := os.ReadFile(path)
		return err == nil && strings.Contains(string(text), "@1=-7")
	}) || rows(t, b, "SELECT 1 FROM app.log WHERE id=-7") != 0 {
		t.Errorf("%v have not what the standby had alone, or it has it still", files)
	}

	// What is in no file can not be saved.
	quiet()
	write("INSERT INTO app.log VALUES (-8)")
	logs, err := filepath.Glob(filepath.Join(b.dir, "data", "bin.0*"))
	try.Must(t, err)
	for _, path := range logs {
		try.Must(t, os.Remove(path))
	}
	try.Until(t, "the remedy to be told", func() bool {
		p := r.told("b")
		return p.Lasting && !p.Fit && strings.Contains(p.Problem, "holdfast pair recover 192.0.2.2") &&
			strings.Contains(p.Problem, ", up to 0-2-")
	})
	try.Must(t, Disown(b.dir))
	r.complete()
	r.move("a", "b")
	r.complete()
	mu.Lock()
	defer mu.Unlock()
	if len(told) > 0 {
		t.Errorf("events: %q", told)
	}
}
