package ids_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/go-sql-driver/mysql"

	"holdfast/internal/transition/db/aligntest"
	"holdfast/internal/transition/db/ids"
	"holdfast/internal/transition/db/mapping"
	"holdfast/internal/transition/db/server"
	"holdfast/testbed/need"
)

func mappingOf(kinds ...mapping.Kind) *mapping.Mapping { return &mapping.Mapping{IDs: kinds} }

// staged is all that the database of IDs has.
func staged(r *aligntest.Rig) string {
	var out []string
	for _, table := range strings.Fields(r.SQL("SELECT TABLE_NAME FROM information_schema.TABLES WHERE TABLE_SCHEMA " +
		"= 'migrate_ids' ORDER BY 1")) {
		rows := r.SQL("SELECT * FROM migrate_ids.`" + table + "` ORDER BY 1")
		out = append(out, table+": "+strings.NewReplacer("\t", "=", "\n", " ").Replace(rows))
	}
	return strings.Join(out, "; ")
}

func TestStage(t *testing.T) {
	r := aligntest.MariaDB(t)
	s := r.Server("source")
	other, long, odd := "other", strings.Repeat("\U0001f600", 255), `it's \ "x"`
	m := mappingOf(mapping.Kind{Kind: "user"}, mapping.Kind{Kind: "project"}, mapping.Kind{Kind: "zone"})
	sets := map[string]ids.Set{
		"user":    {Pairs: map[string]string{"a": "1", "A": "2", "\u00e4": "3", "": "4"}, Default: &other},
		"project": {Pairs: map[string]string{long: long, odd: odd}},
		"foreign": {Pairs: map[string]string{"x": "y"}}, // not of the mapping
	}
	want := fmt.Sprintf("ids_default: user=other; ids_project: %s=%s %s=%s; ids_user: =4 A=2 a=1 \u00e4=3", odd, odd, long, long)
	for range 2 { // again: the same
		if err := ids.Stage(t.Context(), s, m, sets); err != nil {
			t.Fatal(err)
		}
		if got := staged(r); got != want {
			t.Fatalf("\n got %s\nwant %s", got, want)
		}
	}
	if got := r.SQL("SELECT DISTINCT CHARACTER_SET_NAME, COLLATION_NAME FROM information_schema.COLUMNS WHERE " +
		"TABLE_SCHEMA = 'migrate_ids'"); got != "utf8mb4\tutf8mb4_bin" {
		t.Errorf("columns are %s", got)
	}
	if got := r.SQL("SELECT GROUP_CONCAT(CONCAT(TABLE_NAME, ' ', COLUMN_NAME) ORDER BY 1) FROM " +
		"information_schema.STATISTICS WHERE TABLE_SCHEMA = 'migrate_ids' AND INDEX_NAME = 'PRIMARY'"); got != "ids_default kind,ids_project old,ids_user old" {
		t.Errorf("keys %s", got)
	}
	// Fewer than before: what is not given any more goes. What a dead run left, too.
	r.SQL("CREATE TABLE migrate_ids.`ids_user$new` (x INT); CREATE TABLE migrate_ids.`ids_gone$was` (x INT)")
	if err := ids.Stage(t.Context(), s, m, map[string]ids.Set{"user": {Pairs: map[string]string{"a": "9"}}}); err != nil {
		t.Fatal(err)
	}
	if got := staged(r); got != "ids_default: ; ids_user: a=9" {
		t.Errorf("staged %s", got)
	}
	for range 2 {
		if err := ids.Drop(t.Context(), s); err != nil {
			t.Fatal(err)
		}
	}
	if got := r.SQL("SHOW DATABASES LIKE 'migrate%'"); got != "" {
		t.Errorf("left: %s", got)
	}
	if err := ids.Stage(t.Context(), s, mappingOf(mapping.Kind{Kind: "default"}),
		map[string]ids.Set{"default": {}}); err == nil || !strings.Contains(err.Error(), `kind "default": want another word`) {
		t.Errorf("a kind of the name of the table of defaults: %v", err)
	}
}

// TestStageLeavesOthersAlone: a database of that name that somebody else has.
func TestStageLeavesOthersAlone(t *testing.T) {
	need.More(t)
	r := aligntest.MariaDB(t)
	s := r.Server("source")
	r.SQL("CREATE DATABASE migrate_ids; CREATE TABLE migrate_ids.precious (x INT); INSERT INTO migrate_ids.precious VALUES (7)")
	const want = "it has table precious, which is not ours"
	if err := ids.Stage(t.Context(), s, mappingOf(mapping.Kind{Kind: "user"}),
		map[string]ids.Set{"user": {}}); err == nil || !strings.Contains(err.Error(), want) || !strings.HasPrefix(err.Error(), "source: ") {
		t.Errorf("stage: %v", err)
	}
	if err := ids.Drop(t.Context(), s); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("drop: %v", err)
	}
	if got := staged(r); got != "precious: 7" {
		t.Errorf("left: %s", got)
	}
}

// TestStageIsWholeOrAsItWas: cut off anywhere, what is looked into is all the old or all
// the new, and the next run is right.
func TestStageIsWholeOrAsItWas(t *testing.T) {
	need.More(t)
	r := aligntest.MariaDB(t)
	s := r.Server("source")
	m := mappingOf(mapping.Kind{Kind: "a"}, mapping.Kind{Kind: "b"})
	sets := func(v string) map[string]ids.Set {
		out := map[string]ids.Set{}
		for _, k := range []string{"a", "b"} {
			pairs := map[string]string{}
			for i := range 3000 {
				pairs[fmt.Sprint(i)] = v
			}
			out[k] = ids.Set{Pairs: pairs, Default: &v}
		}
		return out
	}
	if err := ids.Stage(t.Context(), s, m, sets("0")); err != nil {
		t.Fatal(err)
	}
	was, cut := "0", 0
	for i := 1; i <= 25; i++ {
		v := fmt.Sprint(i)
		ctx := &after{Context: t.Context(), done: make(chan struct{}), left: i}
		err := ids.Stage(ctx, s, m, sets(v))
		if err != nil {
			cut++
		}
		got := r.SQL("SELECT CONCAT_WS(' ', MIN(v), MAX(v), COUNT(*)) FROM (SELECT new AS v FROM migrate_ids.ids_a " +
			"UNION ALL SELECT new FROM migrate_ids.ids_b UNION ALL SELECT new FROM migrate_ids.ids_default) AS r")
		if got != was+" "+was+" 6002" && got != v+" "+v+" 6002" || err == nil && !strings.HasPrefix(got, v+" ") {
			t.Fatalf("cut at %d (%v): %s, before it %s", i, err, got, was)
		}
		was = strings.Fields(got)[0]
	}
	if cut < 5 {
		t.Errorf("cut off %d times only", cut)
	}
	if err := ids.Stage(t.Context(), s, m, sets("end")); err != nil {
		t.Fatal(err)
	}
	if got := r.SQL("SELECT GROUP_CONCAT(TABLE_NAME ORDER BY 1) FROM information_schema.TABLES WHERE TABLE_SCHEMA = " +
		"'migrate_ids'"); got != "ids_a,ids_b,ids_default" {
		t.Errorf("tables %s", got)
	}
}

// after is a context that ends when it was asked for its end often enough: so it ends
// between two statements, each time at another one.
type after struct {
	context.Context
	done chan struct{}
	mu   sync.Mutex
	left int
}

func (a *after) Err() error {
	select {
	case <-a.done:
		return context.Canceled
	default:
		return nil
	}
}

func (a *after) Done() <-chan struct{} {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.left--; a.left == 0 {
		close(a.done)
	}
	return a.done
}

func TestAsk(t *testing.T) {
	need.More(t)
	r := aligntest.MariaDB(t)
	r.SQL(`CREATE DATABASE real_api; CREATE TABLE real_api.cells (id INT PRIMARY KEY, name VARCHAR(20)) ENGINE=InnoDB; INSERT INTO real_api.cells VALUES (1, 'cell0'), (5, 'cell1'), (6, NULL);
DELIMITER //
CREATE FUNCTION real_api.cleared() RETURNS INT BEGIN DELETE FROM real_api.cells; RETURN 1; END//`)
	s := r.Server("target")
	side, err := s.Side(t.Context(), map[string]string{"api": "real_api"})
	if err != nil {
		t.Fatal(err)
	}
	ask := func(query string, sets map[string]ids.Set) error {
		return ids.Ask(t.Context(), mappingOf(mapping.Kind{Kind: "cell", Query: query}, mapping.Kind{Kind: "user"}), sets, s, side)
	}
	for _, c := range []struct{ query, want string }{
		{"SELECT '1', id FROM {api}.cells WHERE name = 'cell1'", "map[1:5] "},
		{"SELECT '1', 5 UNION ALL SELECT '1', '5' UNION ALL SELECT '*', 7 UNION ALL SELECT '*', 7", "map[1:5] 7"}, // the same again
		{"SELECT name, id FROM {api}.cells WHERE name IS NOT NULL", "map[cell0:1 cell1:5] "},
	} {
		sets := map[string]ids.Set{}
		if err := ask(c.query, sets); err != nil {
			t.Errorf("%s: %v", c.query, err)
			continue
		}
		d := ""
		if sets["cell"].Default != nil {
			d = *sets["cell"].Default
		}
		if got := fmt.Sprint(sets["cell"].Pairs, " ", d); got != c.want || sets["cell"].From != "query" || len(sets) != 1 {
			t.Errorf("%s: %s, %v: want %s", c.query, got, sets, c.want)
		}
	}
	for _, c := range []struct{ query, want string }{
		{"SELECT '1', id FROM {api}.cells WHERE name = 'none'", "IDs of cell: query at the target: gives no rows"},
		{"SELECT id FROM {api}.cells", "gives 1 columns: want two, old and new"},
		{"SELECT '1', id FROM {api}.cells WHERE name IS NOT NULL",
			`IDs of cell: query: row 2: "1", "5": the old value is in row 1 already, for "1"`},
		{"SELECT '*', id FROM {api}.cells WHERE name IS NOT NULL", `row 2: "*", "5": the value for all others is in row 1 already: "1"`},
		{"SELECT name, id FROM {api}.cells", `"", "6": is NULL: want an old and a new value`},
		{"SELECT '1', ''", "the new value is empty"},
		{"SELECT 'x ', 'y'", "the old value begins or ends with a blank"},
		{"SELECT '1', id FROM {none}.cells", "query at the target: Error 1064"},
		{"INSERT INTO {api}.cells VALUES (9, 'x')", "want a statement that begins with SELECT or WITH"},
		{"DROP TABLE {api}.cells", "want a statement that begins with SELECT or WITH"},
		{"SELECT real_api.cleared(), 1", "READ ONLY"},
		{"SELECT 1, 2; DROP TABLE {api}.cells", "Error 1064"},
		{"COMMIT", "want a statement that begins with SELECT or WITH"},
		{"SELECT 1, 2 INTO @a, @b", "gives 0 columns"},
	} {
		sets := map[string]ids.Set{}
		if err := ask(c.query, sets); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v: want %q", c.query, err, c.want)
		}
	}
	if got := r.SQL("SELECT COUNT(*) FROM real_api.cells"); got != "3" {
		t.Errorf("%s rows: a query changed them", got)
	}
	given := map[string]ids.Set{"cell": {Pairs: map[string]string{"1": "8"}, From: "cell.csv"}}
	if err := ask("SELECT nothing", given); err != nil || given["cell"].From != "cell.csv" {
		t.Errorf("a kind with a file is asked for: %v", err)
	}
}

// TestStageOnOldServers: where a key of 255 characters is too long, it is done without.
// There is no such server here: its errors come from between.
func TestStageOnOldServers(t *testing.T) {
	need.More(t)
	r := aligntest.MariaDB(t)
	for _, number := range []uint16{1071, 1709} {
		inner, err := mysql.NewConnector(r.Server("source").Config)
		if err != nil {
			t.Fatal(err)
		}
		old := &server.Server{DB: sql.OpenDB(narrow{inner, number}), Role: "source"}
		pairs := map[string]string{}
		for i := range 2000 {
			pairs[strings.Repeat("x", i%250)+fmt.Sprint(i)] = fmt.Sprint(i)
		}
		err = ids.Stage(t.Context(), old, mappingOf(mapping.Kind{Kind: "user"}), map[string]ids.Set{"user": {Pairs: pairs}})
		if e := old.Close(); err != nil || e != nil {
			t.Fatal(err, e)
		}
		if got := r.SQL("SELECT COUNT(*), COUNT(DISTINCT old), SUM(new) FROM migrate_ids.ids_user"); got != "2000\t2000\t1999000" {
			t.Errorf("staged %s", got)
		}
		if got := r.SQL("EXPLAIN SELECT new FROM migrate_ids.ids_user WHERE old = 'xx2'"); !strings.Contains(got, "\tref\told\t") {
			t.Errorf("a value is not found by the key: %s", got)
		}
	}
}

// narrow is a server that takes no keys of 255 characters.
type narrow struct {
	driver.Connector
	number uint16
}

func (n narrow) Connect(ctx context.Context) (driver.Conn, error) {
	c, err := n.Connector.Connect(ctx)
	return narrowConn{c, n.number}, err
}

type narrowConn struct {
	driver.Conn
	number uint16
}

func (c narrowConn) ExecContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	if strings.Contains(query, "VARCHAR(255)") && strings.Contains(query, "PRIMARY KEY") {
		return nil, &mysql.MySQLError{Number: c.number, Message: "Specified key was too long; max key length is 767 bytes"}
	}
	return c.Conn.(driver.ExecerContext).ExecContext(ctx, query, args)
}

func (c narrowConn) QueryContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Rows, error) {
	return c.Conn.(driver.QueryerContext).QueryContext(ctx, query, args)
}
