package mariadb_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"holdfast/internal/host/backup"
	"holdfast/internal/host/backup/mariadb"
	"holdfast/testbed/need"
	"holdfast/testbed/try"
)

func TestDump(t *testing.T) {
	r := newRig(t, true)
	r.fill()
	const password = `p"w\n#'; =x`
	r.sql("CREATE USER keeper@'127.0.0.1' IDENTIFIED BY '" +
		strings.NewReplacer(`\`, `\\`, `'`, `''`).Replace(password) + "'; GRANT ALL ON *.* TO keeper@'127.0.0.1' WITH GRANT OPTION;")
	want := r.state()
	p, ctx := mariadb.Provider{}, try.Context(t)
	at := mariadb.Connection{Address: "127.0.0.1", Port: r.port, User: "keeper", Password: r.secret(password + "\n")}
	q := r.request("before-2-1", mariadb.Options{Method: mariadb.Dump, Connection: at})
	expect(t, p, q, backup.NotDone)
	rec, err := p.Backup(ctx, q)
	if err != nil {
		t.Fatal(err)
	}
	expect(t, p, q, backup.Done)
	if err := p.Verify(ctx, rec); err != nil {
		t.Fatal(err)
	}
	if len(rec.Notes) < 2 || !strings.Contains(rec.Notes[1], "1 tables have no transactions") {
		t.Errorf("the table without transactions is not noted: %q", rec.Notes)
	}
	noSecrets(t, q.Dir, password)
	if !strings.Contains(rec.Tool, "mariadb-dump") {
		t.Errorf("made by %q", rec.Tool)
	}
	if again, err := p.Backup(ctx, q); err != nil || again.SHA256 != rec.SHA256 {
		t.Errorf("the second call gives another backup: %v, %v", again, err)
	}
	r.spoil()
	if got := r.sql("SELECT COUNT(*) FROM shop.goods"); got == "5001\n" {
		t.Fatal("nothing is spoilt")
	}
	for range 2 {
		if err := p.Restore(ctx, rec); err != nil {
			t.Fatal(err)
		}
		if got := r.state(); got != want {
			t.Errorf("after the restore:\n%s\nbefore:\n%s", got, want)
		}
	}
	if got := r.sql("SHOW TABLES FROM later"); got != "kept\n" {
		t.Errorf("a database that the dump does not know: %q", got)
	}
	if err := os.Truncate(rec.Where, rec.Size-10); err != nil {
		t.Fatal(err)
	}
	for _, err := range []error{p.Verify(ctx, rec), p.Restore(ctx, rec)} {
		if !errors.Is(err, backup.ErrDamaged) {
			t.Errorf("a dump that was cut off: %v", err)
		}
	}
	remove(t, p, rec, q)
}

func TestFiles(t *testing.T) {
	need.Drill(t, "P5: files of a stopped database are copied, verified and put back")
	r := newRig(t, false)
	r.fill()
	want := r.state()
	p, ctx := mariadb.Provider{}, try.Context(t)
	q := r.request("phys", mariadb.Options{Connection: mariadb.Connection{Socket: r.socket, User: "root"}})
	rec, err := p.Backup(ctx, q)
	if err != nil {
		t.Fatal(err)
	}
	if rec.Size < 1<<20 || !strings.Contains(rec.Tool, "mariadb-backup") {
		t.Errorf("%d bytes, by %q", rec.Size, rec.Tool)
	}
	expect(t, p, q, backup.Done)
	if err := p.Verify(ctx, rec); err != nil {
		t.Fatal(err)
	}
	r.spoil()
	if err := p.Restore(ctx, rec); !errors.Is(err, backup.ErrBusy) {
		t.Fatalf("restored under a running server: %v", err)
	}
	for range 2 {
		r.stop()
		if err := p.Restore(ctx, rec); err != nil {
			t.Fatal(err)
		}
		r.start()
		if got := r.state(); got != want {
			t.Errorf("after the restore:\n%s\nbefore:\n%s", got, want)
		}
		if got := r.sql("SHOW DATABASES LIKE 'later'"); got != "" {
			t.Errorf("the database that came later is there: %q", got)
		}
	}
	if _, err := os.Stat(filepath.Join(r.dir, ".data.phys.before", "later")); err != nil {
		t.Errorf("what was there before the first restore is not kept: %v", err)
	}
	flip(t, filepath.Join(rec.Where, "ibdata1"))
	if err := p.Verify(ctx, rec); !errors.Is(err, backup.ErrDamaged) {
		t.Errorf("a changed file: %v", err)
	}
	remove(t, p, rec, q)
	left, err := filepath.Glob(filepath.Join(r.dir, ".data.*"))
	if err != nil || len(left) > 0 {
		t.Errorf("left beside the data directory: %v, %v", left, err)
	}
}

func TestServer(t *testing.T) {
	need.Drill(t, "P5: what a backup finds out of a database server of its own")
	r := newRig(t, false)
	t.Run("partial", func(t *testing.T) { partial(t, r) })
	t.Run("refused", func(t *testing.T) { refused(t, r) })
	got, err := mariadb.Datadir(try.Context(t), mariadb.Connection{Socket: r.socket, User: "root"}, r.dir)
	if err != nil || got != r.data {
		t.Errorf("got %q, %v, want %q", got, err, r.data)
	}
}

func partial(t *testing.T, r *rig) {
	p, ctx := mariadb.Provider{}, try.Context(t)
	at := mariadb.Connection{Socket: r.socket, User: "root"}
	for _, m := range []string{mariadb.Files, mariadb.Dump} {
		q := r.request("crashed-"+m, mariadb.Options{Method: m, Connection: at})
		// What a process leaves that was killed in the middle.
		left := q.Path(".sql.zst.part")
		if m == mariadb.Files {
			left = q.Path(".data.part") + "/half"
		}
		if err := os.MkdirAll(filepath.Dir(left), 0o700); err != nil {
			t.Fatal(err)
		}
		for _, f := range []string{left, q.Path(".cnf")} {
			if err := os.WriteFile(f, []byte("half"), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		expect(t, p, q, backup.Partial)
		rec, err := p.Backup(ctx, q)
		if err != nil {
			t.Fatal(err)
		}
		if err := p.Verify(ctx, rec); err != nil {
			t.Error(err)
		}
		remove(t, p, rec, q)
	}
}

func refused(t *testing.T, r *rig) {
	p, ctx := mariadb.Provider{}, try.Context(t)
	open := r.secret("x")
	if err := os.Chmod(string(open), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name string
		o    mariadb.Options
		want string
	}{
		{"method", mariadb.Options{Method: "copy"}, "want backup or dump"},
		{"nobody there", mariadb.Options{Connection: mariadb.Connection{Socket: r.socket + "x", User: "root"}}, "no server answers"},
		{"wrong password", mariadb.Options{Connection: mariadb.Connection{Socket: r.socket, User: "reader",
			Password: r.secret("bad")}}, "Access denied"},
		{"password file", mariadb.Options{Connection: mariadb.Connection{Socket: r.socket, User: "root", Password: open}}, "chmod 600"},
		{"option file", mariadb.Options{Connection: mariadb.Connection{Socket: r.socket, Defaults: string(open)}}, "chmod 600"},
		{"both", mariadb.Options{Connection: mariadb.Connection{Socket: r.socket, Address: "localhost"}}, "want one of them"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			q := r.request("no", tc.o)
			if _, err := p.Backup(ctx, q); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want %q", err, tc.want)
			}
			empty(t, q.Dir)
		})
	}
}

func expect(t *testing.T, p backup.Provider, q backup.Request, want backup.State) {
	t.Helper()
	if got, err := p.Probe(t.Context(), q); err != nil || got != want {
		t.Errorf("probe: got %q, %v, want %q", got, err, want)
	}
}

// remove deletes a backup twice, and looks that nothing is left.
func remove(t *testing.T, p backup.Provider, rec backup.Receipt, q backup.Request) {
	t.Helper()
	for range 2 {
		if err := p.Delete(try.Context(t), rec); err != nil {
			t.Error(err)
		}
	}
	empty(t, rec.Dir)
	expect(t, p, q, backup.NotDone)
}

func empty(t *testing.T, dir string) {
	t.Helper()
	left, err := os.ReadDir(dir)
	if err != nil && !os.IsNotExist(err) {
		t.Error(err)
	}
	for _, e := range left {
		t.Errorf("left in %s: %s", dir, e.Name())
	}
}

// noSecrets looks into every file of a directory.
func noSecrets(t *testing.T, dir, secret string) {
	t.Helper()
	left, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range left {
		b, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(b), secret) || strings.HasSuffix(e.Name(), ".cnf") {
			t.Errorf("%s has the password", e.Name())
		}
	}
}

// flip changes one bit in the middle of a file.
func flip(t *testing.T, path string) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	b[len(b)/2] ^= 1
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}
