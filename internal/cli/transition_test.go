package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"holdfast/internal/cli/clitest"
	"holdfast/internal/cli/command"
	"holdfast/internal/transition/db/aligntest"
	"holdfast/internal/transition/db/copier"
	"holdfast/testbed/need"
	"holdfast/testbed/try"
)

// said is what a command has said.
type said struct {
	code     int
	out, err string
}

// commandLine runs a command in this process.
func commandLine(t *testing.T, stdin string, args ...string) said {
	t.Helper()
	var out, errs bytes.Buffer
	code := Main(args, command.Env{Stdout: &out, Stderr: &errs, Stdin: strings.NewReader(stdin)})
	return said{code, out.String(), errs.String()}
}

// oldAndNew is a small old platform and a new one that is empty, both of the mapping
// that writeMapping writes.
const oldPlatform = `CREATE DATABASE old_shop CHARACTER SET utf8mb4; USE old_shop;
CREATE TABLE items (id INT AUTO_INCREMENT PRIMARY KEY, name VARCHAR(100) NOT NULL, owner VARCHAR(36), note VARCHAR(50), deleted INT NOT NULL DEFAULT 0) ENGINE=InnoDB;
CREATE TABLE tags (item INT NOT NULL, tag VARCHAR(40) NOT NULL, PRIMARY KEY (item, tag)) ENGINE=InnoDB;
INSERT INTO items (name, owner, note) VALUES ('one', 'ann', 'x'), ('two', 'bob', NULL), ('three', NULL, '');
INSERT INTO items (name, owner, deleted) VALUES ('gone', 'nobody', 4);
INSERT INTO tags VALUES (1, 'a'), (1, 'b'), (2, 'a');`

const newPlatform = `CREATE DATABASE shop CHARACTER SET utf8mb4; USE shop;
CREATE TABLE items (id INT AUTO_INCREMENT PRIMARY KEY, title VARCHAR(100) NOT NULL, owner VARCHAR(36), uuid CHAR(36) NOT NULL, shelf INT, UNIQUE KEY u (uuid)) ENGINE=InnoDB;
CREATE TABLE shelves (old VARCHAR(10) PRIMARY KEY, new INT) ENGINE=InnoDB; INSERT INTO shelves VALUES ('s', 5), ('*', 0);
CREATE TABLE tags (item_id INT NOT NULL, tag VARCHAR(40) NOT NULL, PRIMARY KEY (item_id, tag), FOREIGN KEY (item_id) REFERENCES items (id)) ENGINE=InnoDB;`

const shopMapping = `format: 1
name: shop
ids:
- {kind: owner, must: true}
- {kind: shelf, query: "SELECT old, new FROM {shop}.shelves"}
tables:
- target: shop.items
  from: shop.items
  where: deleted = 0
  columns:
  - copy: [id]
  - {to: title, value: name}
  - {to: owner, value: owner, map: owner}
  - {to: uuid, value: named_uuid(id)}
  - {to: shelf, value: "'s'", map: shelf}
  drop: [note]
- target: shop.tags
  from: shop.tags
  columns:
  - {to: item_id, value: item}
  - copy: [tag]
  after: [shop.items]
checks:
- {name: every item has a title, rows: "SELECT id FROM {shop}.items WHERE title = ''"}
advice: [open the shop, "Before: close it", sweep the floor]
`

// platforms makes the old and the new platform, on one server or two, and the files in
// the test's own folder; it returns the flags that name them all.
func platforms(t *testing.T, source, target *aligntest.Rig) []string {
	t.Helper()
	source.SQL(oldPlatform)
	target.SQL(newPlatform)
	t.Chdir(t.TempDir())
	write(t, "shop.yaml", shopMapping)
	write(t, "ids/owner.csv", "ann,a-1\nbob,b-2\n")
	return []string{"--mapping", "shop.yaml", "--ids", "ids", "--source-db", "shop=old_shop", "--source", source.DSN(),
		"--target", target.DSN()}
}

// logged are options of a server that can be followed.
var logged = []string{"--log-bin", "--binlog-format=ROW", "--server-id=1"}

func db(command string, flags []string, more ...string) []string {
	return append(append([]string{"transition", "db", command}, flags...), more...)
}

// decode reads a document.
func decode[T any](t *testing.T, s said, code int) (out T) {
	t.Helper()
	if s.code != code {
		t.Fatalf("ended with %d, want %d: %s%s", s.code, code, s.out, s.err)
	}
	if err := json.Unmarshal([]byte(s.out), &out); err != nil {
		t.Fatalf("%v: %s", err, s.out)
	}
	return out
}

// The documents of the commands, as programs read them.
type (
	planDoc struct {
		Tables []struct {
			Target, Source, Statement string
			Rows                      int64
		}
		Errors, Warnings []struct{ Table, Column, Text string }
	}
	runDoc struct {
		Tables []struct {
			Target  string
			Rows    int64
			Seconds *float64
		}
		RowsPerSecond *float64 `json:"rows_per_s"`
		Resumed       *bool
		Follow        *struct{ Transactions int64 }
		Advice        []string
	}
	verifyDoc struct {
		Tables []struct {
			Target     string
			SourceRows int64 `json:"source_rows"`
			TargetRows int64 `json:"target_rows"`
			Equal      *bool `json:"checksum_equal"`

			Differences []struct{ Key []string }
		}
		Checks []struct {
			Name   string
			Broken int64
			Holds  bool
		}
		Equal *bool
	}
)

func TestTransitionDBFromPlanToClean(t *testing.T) {
	rig := aligntest.MariaDB(t)
	flags := platforms(t, rig, rig)

	p := decode[planDoc](t, commandLine(t, "", db("plan", flags, "-o", "json")...), 0)
	if len(p.Tables) != 2 || p.Tables[0].Target != "shop.items" || p.Tables[0].Rows != 3 || p.Tables[1].Rows != 3 ||
		!strings.HasPrefix(p.Tables[0].Statement, "INSERT INTO `shop`.`items`") || p.Errors == nil || len(p.Errors) > 0 {
		t.Errorf("the plan is %+v", p)
	}
	text := commandLine(t, "", db("plan", flags)...)
	if text.code != 0 || !strings.Contains(text.out, "INSERT INTO `shop`.`tags`") ||
		!strings.Contains(text.out, "nothing stands in the way") ||
		!strings.Contains(text.out, "before    close it\n") || strings.Contains(text.out, "sweep") {
		t.Errorf("the plan as text ended with %d: %s%s", text.code, text.out, text.err)
	}
	if left := rig.SQL("SHOW DATABASES LIKE 'migrate%'; SELECT COUNT(*) FROM shop.items"); left != "0" {
		t.Errorf("a plan has written: %s", left)
	}

	r := decode[runDoc](t, commandLine(t, "", db("run", flags, "-o", "json")...), 0)
	if len(r.Tables) != 2 || r.Tables[0].Rows != 3 || r.Tables[0].Seconds == nil || r.RowsPerSecond == nil ||
		r.Resumed == nil || *r.Resumed || fmt.Sprint(r.Advice) != "[open the shop Before: close it sweep the floor]" {
		t.Errorf("the run said %+v", r)
	}
	if got, want := rig.SQL("SELECT id, title, owner FROM shop.items ORDER BY id; SELECT * FROM shop.tags"),
		"1\tone\ta-1\n2\ttwo\tb-2\n3\tthree\tNULL\n1\ta\n1\tb\n2\ta"; got != want {
		t.Errorf("the target has\n%s\nwant\n%s", got, want)
	}
	again := commandLine(t, "", db("run", flags)...)
	if again.code != 0 || !strings.Contains(again.out, "already complete") ||
		!strings.Contains(again.out, "- sweep the floor") || strings.Contains(again.out, "close it") {
		t.Errorf("the same run again ended with %d: %s%s", again.code, again.out, again.err)
	}

	v := decode[verifyDoc](t, commandLine(t, "", db("verify", flags, "-o", "json")...), 0)
	if v.Equal == nil || !*v.Equal || len(v.Tables) != 2 || v.Tables[0].SourceRows != 3 ||
		v.Tables[0].TargetRows != 3 || v.Tables[0].Equal == nil || !*v.Tables[0].Equal || len(v.Checks) != 3 ||
		!v.Checks[0].Holds || !v.Checks[2].Holds {
		t.Errorf("verify said %+v", v)
	}
	rig.SQL("UPDATE shop.items SET title = '' WHERE id = 2")
	v = decode[verifyDoc](t, commandLine(t, "", db("verify", flags, "-o", "json")...), 1)
	if *v.Equal || *v.Tables[0].Equal || !*v.Tables[1].Equal || v.Checks[0].Holds || v.Checks[0].Broken != 1 {
		t.Errorf("verify of a changed row said %+v", v)
	}
	text = commandLine(t, "", db("verify", flags)...)
	if text.code != 1 || !strings.Contains(text.out, "shop.items 2: differs") ||
		!strings.Contains(text.out, "every item has a title: 1 rows break it") || !strings.Contains(text.out, "do not start") {
		t.Errorf("verify of a changed row ended with %d: %s%s", text.code, text.out, text.err)
	}
	rig.SQL("UPDATE shop.items SET title = 'two' WHERE id = 2")

	servers := []string{"--source", rig.DSN(), "--target", rig.DSN()}
	if s := commandLine(t, "no\n", db("clean", servers)...); s.code != 2 ||
		!strings.Contains(s.err, "nothing was dropped") || !strings.Contains(s.err, "is in state copied") {
		t.Errorf("clean that is not confirmed ended with %d: %s%s", s.code, s.out, s.err)
	}
	if s := commandLine(t, "yes\n", db("clean", servers)...); s.code != 0 ||
		s.out != "dropped: migrate_ids on the source, migrate_journal on the target\n" {
		t.Errorf("clean ended with %d: %s%s", s.code, s.out, s.err)
	}
	if left := rig.SQL("SHOW DATABASES LIKE 'migrate%'; SELECT COUNT(*) FROM shop.items"); left != "3" {
		t.Errorf("after clean there is: %s", left)
	}
	for _, how := range []string{"", "--yes"} {
		if s := commandLine(t, "", db("clean", servers, strings.Fields(how)...)...); s.code != 0 ||
			s.out != "there was nothing to drop: no migrate_ids on the source, and no migrate_journal on the target\n" {
			t.Errorf("a second clean %s ended with %d: %s%s", how, s.code, s.out, s.err)
		}
	}
	full := commandLine(t, "", db("run", flags)...)
	if full.code != 3 || !strings.Contains(full.out, "shop.items: the target's table has 3 rows already") ||
		strings.Contains(rig.SQL("SHOW DATABASES"), "migrate") {
		t.Errorf("a run into tables with rows ended with %d: %s%s", full.code, full.out, full.err)
	}
	if s := commandLine(t, "", db("verify", flags)...); s.code != 0 {
		t.Errorf("verify without a journal ended with %d: %s%s", s.code, s.out, s.err)
	}
}

// child begins a command as a process of its own.
func child(t *testing.T, args ...string) (*exec.Cmd, *clitest.Buffer) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	t.Cleanup(cancel)
	cmd := exec.CommandContext(ctx, "holdfast", args...)
	out := &clitest.Buffer{}
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if cmd.ProcessState == nil {
			_ = cmd.Process.Kill() // it may have ended
			_ = cmd.Wait()         // and is reaped
		}
	})
	return cmd, out
}

// ended waits for a process, and returns its exit code.
func ended(t *testing.T, cmd *exec.Cmd) int {
	t.Helper()
	var exit *exec.ExitError
	if err := cmd.Wait(); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode()
}

// TestTransitionDBKilled copies between two servers with the accounts of the page, is
// killed on its way, and goes on.
func TestTransitionDBKilled(t *testing.T) {
	need.Drill(t, "P3, P5: a run that is killed goes on where it was, and the source is only read",
		need.Programs("mariadb-server", "mariadbd"))
	source, target := aligntest.MariaDB(t, logged...), aligntest.MariaDB(t)
	grants := clitest.Blocks(t, "../../docs/transition-db.md")["sql"]
	flags := platforms(t, source, target)
	source.SQL("USE old_shop; INSERT INTO items (name, owner) SELECT REPEAT('row ', 20), IF(seq % 2, 'ann', 'bob') " +
		"FROM seq_1_to_60000; INSERT INTO tags SELECT id, 'many' FROM items WHERE deleted = 0")
	if len(grants) != 2 {
		t.Fatalf("docs/transition-db.md has %d blocks of SQL, want the accounts of both sides", len(grants))
	}
	source.SQL(strings.ReplaceAll(grants[0], "liberty_nova", "old_shop"))
	target.SQL(strings.ReplaceAll(grants[1], "nova.*", "shop.*"))
	for i, f := range flags {
		switch f {
		case "--source":
			flags[i+1] = strings.Replace(source.DSN(), aligntest.User+":"+aligntest.Password, "old_reader:one", 1)
		case "--target":
			flags[i+1] = strings.Replace(target.DSN(), aligntest.User+":"+aligntest.Password, "new_writer:two", 1)
		}
	}
	before := source.SQL("CHECKSUM TABLE old_shop.items, old_shop.tags")

	cmd, out := child(t, db("run", flags, "--parallel", "1")...)
	watch := target.Server("target")
	try.Until(t, "a chunk to be copied", func() bool {
		var n int
		err := watch.DB.QueryRow("SELECT COUNT(*) FROM migrate_journal.ranges WHERE done = 1").Scan(&n)
		return err == nil && n > 1
	})
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	ended(t, cmd)
	j, err := copier.ReadJournal(t.Context(), watch.DB)
	if err != nil || j == nil || j.State != copier.Copying {
		t.Fatalf("the run was not killed on its way: %+v, %v: %s", j, err, out)
	}
	if s := commandLine(t, "", db("verify", flags)...); s.code != 3 || !strings.Contains(s.err, "has not ended") {
		t.Errorf("verify of half a copy ended with %d: %s%s", s.code, s.out, s.err)
	}
	write(t, "other.yaml", strings.Replace(shopMapping, "value: name}", "value: upper(name)}", 1))
	other := append([]string{"--mapping", "other.yaml"}, flags[2:]...)
	if s := commandLine(t, "", db("run", other)...); s.code != 3 || !strings.Contains(s.err, "another mapping") ||
		!strings.Contains(s.err, "begin anew") {
		t.Errorf("a run with another mapping ended with %d: %s%s", s.code, s.out, s.err)
	}
	write(t, "ids/owner.csv", "ann,a-1\nbob,b-3\n")
	if s := commandLine(t, "", db("run", flags)...); s.code != 3 || !strings.Contains(s.err, `"b-2" for "bob", which is "b-3" now`) {
		t.Errorf("a run with other IDs ended with %d: %s%s", s.code, s.out, s.err)
	}
	write(t, "ids/owner.csv", "ann,a-1\nbob,b-2\ncarl,c-3\n")                               // more do not matter
	target.SQL("UPDATE shop.shelves SET new = 6; INSERT INTO shop.shelves VALUES ('t', 1)") // what was asked counts as it was

	r := decode[runDoc](t, commandLine(t, "", db("run", flags, "-o", "json")...), 0)
	if !*r.Resumed || r.Tables[0].Rows != 60003 || r.Tables[1].Rows != 60006 {
		t.Errorf("the run that goes on said %+v", r)
	}
	v := decode[verifyDoc](t, commandLine(t, "", db("verify", flags, "-o", "json", "--parallel", "2")...), 0)
	if !*v.Equal || v.Tables[0].TargetRows != 60003 {
		t.Errorf("verify said %+v", v)
	}
	if shelves := target.SQL("SELECT DISTINCT shelf FROM shop.items"); shelves != "5" {
		t.Errorf("the target has shelves %s, want those of the beginning", shelves)
	}
	if after := source.SQL("CHECKSUM TABLE old_shop.items, old_shop.tags"); after != before {
		t.Errorf("the source was %s and is %s", before, after)
	}
}

// TestTransitionDBFollow carries over what is written meanwhile, is aborted by two
// signals, goes on, and ends at the cut-over by one.
func TestTransitionDBFollow(t *testing.T) {
	rig := aligntest.MariaDB(t, logged...)
	flags := platforms(t, rig, rig)
	follow := db("run", flags, "--follow", "-o", "json")

	cmd, out := child(t, follow...)
	wait := func(what string, ok func() bool) {
		t.Helper()
		try.Until(t, "the end of: "+what, ok)
	}
	until := func(what, query, want string) {
		t.Helper()
		wait(what, func() bool { return rig.SQL(query) == want })
	}
	wait("it does not follow", func() bool { return strings.Contains(out.String(), "is carried over") })
	rig.SQL("USE old_shop; INSERT INTO items (name, owner) VALUES ('new', 'bob'); UPDATE items SET name = 'uno' " +
		"WHERE id = 1; DELETE FROM tags WHERE item = 2; UPDATE items SET deleted = 2 WHERE id = 2")
	until("changes were not carried over", "SELECT GROUP_CONCAT(title ORDER BY id) FROM shop.items", "uno,three,new")
	if s := commandLine(t, "", db("run", flags)...); s.code != 3 || !strings.Contains(s.err, "another run is under way") {
		t.Errorf("a second run ended with %d: %s%s", s.code, s.out, s.err)
	}
	if s := commandLine(t, "", db("clean", []string{"--source", rig.DSN(), "--target", rig.DSN()},
		"--yes")...); s.code != 3 || !strings.Contains(s.err, "another run is under way") {
		t.Errorf("clean beside a run ended with %d: %s%s", s.code, s.out, s.err)
	}
	signal := func() {
		t.Helper()
		if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
			t.Fatal(err)
		}
	}
	held, err := rig.Server("target").DB.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer held.Close()
	if _, err := held.ExecContext(t.Context(), "LOCK TABLES shop.tags READ"); err != nil {
		t.Fatal(err)
	}
	rig.SQL("INSERT INTO old_shop.tags VALUES (1, 'while nobody looked')")
	signal()
	wait("it does not begin the cut-over", func() bool { return strings.Contains(out.String(), "cut-over: carrying over") })
	signal()
	if code := ended(t, cmd); code != 1 || !strings.Contains(out.String(), "the same run goes on") {
		t.Errorf("the abort ended with %d: %s", code, out)
	}
	if _, err := held.ExecContext(t.Context(), "UNLOCK TABLES"); err != nil {
		t.Fatal(err)
	}
	if got := rig.SQL("SELECT COUNT(*) FROM shop.tags WHERE tag LIKE 'while%'"); got != "0" {
		t.Errorf("after the abort the target has %s rows of what was held back", got)
	}

	cmd, out = child(t, follow...)
	until("it does not go on", "SELECT COUNT(*) FROM shop.tags WHERE tag LIKE 'while%'", "1")
	rig.SQL("INSERT INTO old_shop.items (name, owner) VALUES ('last', 'ann')")
	signal()
	if code := ended(t, cmd); code != 0 || !strings.Contains(out.String(), "cut-over") || !strings.Contains(out.String(), `"transactions"`) {
		t.Errorf("the cut-over ended with %d: %s", code, out)
	}
	if v := decode[verifyDoc](t, commandLine(t, "", db("verify", flags, "-o", "json")...), 0); !*v.Equal || v.Tables[0].TargetRows != 4 {
		t.Errorf("verify said %+v", v)
	}
	if got := rig.SQL("SELECT state FROM migrate_journal.run"); got != "done" {
		t.Errorf("after the cut-over the journal says %s", got)
	}
}
