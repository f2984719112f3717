//go:build bench

package bench

import (
	"bytes"
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"holdfast/internal/transition/db/aligntest"
	"holdfast/internal/transition/db/copier"
	"holdfast/internal/transition/db/ids"
	"holdfast/internal/transition/db/mapping"
	"holdfast/internal/transition/db/profile"
	"holdfast/internal/transition/db/server"
	"holdfast/internal/transition/db/sqlexpr"
	"holdfast/internal/transition/db/survey"
	"holdfast/internal/transition/db/verify"
)

const (
	alignVar     = "HOLDFAST_BENCH_ALIGN" // how many instances, for a short look at it
	alignServers = 20_000                 // instances, of some 30 rows each
	alignRounds  = 2                      // of ABBA: each way twice
	alignSeed    = 20
	alignProfile = "openstack-liberty-stein"

	comparedServers = 2_000 // instances whose rows are compared one by one, which takes long
)

// alignTuning is how the servers stand: memory for all rows, as a platform's have, and a
// log that is synced at each commit.
var alignTuning = []string{"--innodb-buffer-pool-size=1G", "--innodb-flush-log-at-trx-commit=1",
	"--innodb-log-file-size=512M", "--max-allowed-packet=64M"}

var (
	alignSourceDBs = map[string]string{"nova": "liberty_nova", "glance": "liberty_glance", "cinder": "liberty_cinder",
		"neutron": "liberty_neutron"}
	alignTargetDBs = map[string]string{"nova": "stein_nova", "nova_api": "stein_nova_api", "glance": "stein_glance",
		"cinder": "stein_cinder", "neutron": "stein_neutron"}
)

// alignment is a platform that is carried over.
type alignment struct {
	at, to         *aligntest.Rig // the same for one server
	source, target *server.Server
	mapping        *mapping.Mapping
	plan           *mapping.Plan
	side           mapping.Side // the target's
	rows           int64        // of the target, when all are there
	platform       *aligntest.Platform
}

func alignMany(t *testing.T, usual int) int {
	t.Helper()
	if os.Getenv(resultsVar) == "" {
		t.Skip("a measurement: `make bench` runs it")
	}
	if s := os.Getenv(alignVar); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	return usual
}

// newAlignment makes a Liberty platform of n instances and plans how it becomes Stein,
// on one server or from one to another. opt are more options of the source's server.
func newAlignment(t *testing.T, n int, apart bool, opt ...string) *alignment {
	t.Helper()
	a := &alignment{at: aligntest.MariaDB(t, slices.Concat(alignTuning, opt)...)}
	a.to = a.at
	if apart {
		a.to = aligntest.MariaDB(t, alignTuning...)
	}
	a.platform = aligntest.Fill(t, a.at, alignSeed, n)
	a.source, a.target = a.at.Server("source"), a.to.Server("target")
	a.empty(t)
	var err error
	if a.mapping, _, err = profile.Mapping(alignProfile); err != nil {
		t.Fatal(err)
	}
	a.makePlan(t)
	return a
}

// makePlan plans, and stages the IDs.
func (a *alignment) makePlan(t *testing.T) {
	t.Helper()
	sets, err := ids.Load(a.platform.IDs(t, map[string]map[string]string{"project": nil, "user": nil,
		"volume_type": nil, "service": nil, "backend": {"*": "rbd"}}), a.mapping.IDs)
	if err != nil {
		t.Fatal(err)
	}
	if a.side, err = a.target.Side(t.Context(), alignTargetDBs); err != nil {
		t.Fatal(err)
	}
	if err := ids.Ask(t.Context(), a.mapping, sets, a.target, a.side); err != nil {
		t.Fatal(err)
	}
	found, plan, err := survey.Plan(t.Context(), a.mapping, a.source, a.target, alignSourceDBs, alignTargetDBs, sets)
	if err != nil {
		t.Fatal(err)
	}
	if len(found.Errors) > 0 {
		t.Fatalf("the plan has errors: %+v", found.Errors)
	}
	for _, x := range found.Tables {
		a.rows += x.Rows
	}
	a.plan = plan
	if err := ids.Stage(t.Context(), a.source, a.mapping, sets); err != nil {
		t.Fatal(err)
	}
}

// empty makes the target's databases anew, as a new platform has them.
func (a *alignment) empty(t *testing.T) {
	t.Helper()
	a.to.SQL("DROP DATABASE IF EXISTS migrate_journal")
	for _, db := range alignTargetDBs {
		a.to.SQL("DROP DATABASE IF EXISTS " + db)
	}
	a.to.Load("stein-schema.sql", "stein_", "stein_")
	a.platform.Plane(a.to, "stein_")
}

// costs are what runs of one way have taken: seconds, and seconds of processor time of
// the servers, this process and its children together. The latter tell more on a machine
// that does other things beside.
type costs struct{ wall, cpu series }

// measure adds what f takes.
func (a *alignment) measure(t *testing.T, c *costs, f func(t *testing.T)) {
	t.Helper()
	cpu, began := a.cpu(t), time.Now()
	f(t)
	c.wall, c.cpu = append(c.wall, time.Since(began).Seconds()), append(c.cpu, a.cpu(t)-cpu)
	t.Logf("%.2f s, %.2f s of processor time", c.wall[len(c.wall)-1], c.cpu[len(c.cpu)-1])
}

// cpu is the processor time used so far, in seconds.
func (a *alignment) cpu(t *testing.T) float64 {
	t.Helper()
	rigs := []*aligntest.Rig{a.at}
	if a.to != a.at {
		rigs = append(rigs, a.to)
	}
	var sum float64
	for _, r := range rigs {
		pid := strings.TrimSpace(read(t, filepath.Join(filepath.Dir(r.Socket()), "pid")))
		_, rest, _ := strings.Cut(read(t, "/proc/"+pid+"/stat"), ") ")
		f := strings.Fields(rest)
		sum += (number(t, f[11]) + number(t, f[12])) / 100 // utime, stime of proc(5), in 1/100 s
	}
	for _, who := range []int{unix.RUSAGE_SELF, unix.RUSAGE_CHILDREN} {
		var u unix.Rusage
		if err := unix.Getrusage(who, &u); err != nil {
			t.Fatal(err)
		}
		sum += time.Duration(u.Utime.Nano() + u.Stime.Nano()).Seconds()
	}
	return sum
}

// copy is our way.
func (a *alignment) copy(t *testing.T) {
	t.Helper()
	if _, err := copier.Run(t.Context(), a.plan, "bench", a.source, a.target, copier.Options{Log: slog.New(slog.DiscardHandler)}); err != nil {
		t.Fatal(err)
	}
}

// plain copies by the statements alone, one after another, each whole.
func (a *alignment) plain(t *testing.T) {
	t.Helper()
	for i := range a.plan.Tables {
		if _, err := a.target.DB.ExecContext(t.Context(), a.plan.Tables[i].Statement("")); err != nil {
			t.Fatalf("%s: %v", a.plan.Tables[i].Target, err)
		}
	}
}

// sums are the checksums of what the target has.
func (a *alignment) sums(t *testing.T) (out []string) {
	t.Helper()
	for i := range a.plan.Tables {
		var n int64
		var sum, xor sql.RawBytes
		rows, err := a.target.DB.QueryContext(t.Context(), a.plan.Tables[i].TargetSum(""))
		if err != nil {
			t.Fatal(err)
		}
		for rows.Next() {
			if err := rows.Scan(&n, &sum, &xor); err != nil {
				t.Fatal(err)
			}
			out = append(out, fmt.Sprintf("%s %d %s %s", a.plan.Tables[i].Target, n, sum, xor))
		}
		if err := rows.Err(); err != nil {
			t.Fatal(err)
		}
	}
	return out
}

// race measures two ways in turn, ABBA, and that both make the same rows.
func (a *alignment) race(t *testing.T, ours, theirs func(t *testing.T)) (o, th costs) {
	t.Helper()
	var first []string
	for i := range 4 * alignRounds {
		a.empty(t)
		if i%4 == 1 || i%4 == 2 {
			a.measure(t, &th, theirs)
		} else {
			a.measure(t, &o, ours)
		}
		switch now := a.sums(t); {
		case first == nil:
			first = now
		case !slices.Equal(first, now):
			t.Fatalf("the rows differ: %v, %v", first, now)
		}
	}
	return o, th
}

// TestAlignOneServer carries a platform over on one server, in turn by the copier (with
// its journal, in chunks, in parallel) and by the same INSERT ... SELECT statements, each
// of a whole table, one after another.
func TestAlignOneServer(t *testing.T) {
	a := newAlignment(t, alignMany(t, alignServers), false)
	ours, theirs := a.race(t, a.copy, a.plain)
	result(t, "rows of Liberty into Stein on one server, %d rows of %d tables, %d times each in turn, seconds: "+
		"copier with journal %s, plain INSERT ... SELECT %s; speed, ratio of medians %.2f (aim: at least 0.9); "+
		"processor time %s, %s, ratio %.2f; load %s",
		a.rows, len(a.plan.Tables), len(ours.wall), ours.wall, theirs.wall, theirs.wall.median()/ours.wall.median(),
		ours.cpu, theirs.cpu, theirs.cpu.median()/ours.cpu.median(), loadNow())
}

// TestAlignTwoServers carries a platform from one server to another, in turn by the
// copier and by mariadb-dump | mariadb of the mapped rows, which were made on the source
// before: that they have to be is told, and not counted.
func TestAlignTwoServers(t *testing.T) {
	a := newAlignment(t, alignMany(t, alignServers), true)
	var made costs
	a.measure(t, &made, a.stage)
	ours, theirs := a.race(t, a.copy, a.dump)
	result(t, "rows of Liberty into Stein from server to server, %d rows of %d tables, %d times each in turn, "+
		"seconds: copier, which maps them %s, mariadb-dump | mariadb of rows mapped before %s, which took %s once; "+
		"speed, ratio of medians %.2f (aim: at least 3); processor time of all %s, %s, ratio %.2f; load %s",
		a.rows, len(a.plan.Tables), len(ours.wall), ours.wall, theirs.wall, made.wall,
		theirs.wall.median()/ours.wall.median(), ours.cpu, theirs.cpu, theirs.cpu.median()/ours.cpu.median(), loadNow())
}

// stage makes the mapped rows on the source's server, for dump.
func (a *alignment) stage(t *testing.T) {
	t.Helper()
	here := &alignment{at: a.at, to: a.at, source: a.source, target: a.at.Server("target"), plan: a.plan, platform: a.platform}
	here.empty(t)
	here.plain(t)
	for _, table := range []string{"nova_api.cell_mappings", "cinder.volume_types", "cinder.services"} { // the target has them
		a.at.SQL("SET foreign_key_checks = 0; DELETE FROM stein_" + table)
	}
}

// dump is what people do by hand: mariadb-dump | mariadb.
func (a *alignment) dump(t *testing.T) {
	t.Helper()
	args := append(client(a.source), "--no-create-info", "--no-create-db", "--single-transaction", "--databases")
	for _, db := range alignTargetDBs {
		args = append(args, db)
	}
	from := exec.CommandContext(t.Context(), "mariadb-dump", args...)
	to := exec.CommandContext(t.Context(), "mariadb", client(a.target)...)
	var said bytes.Buffer
	from.Stderr, to.Stderr = &said, &said
	pipe, err := from.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	to.Stdin = pipe
	if err := from.Start(); err != nil {
		t.Fatal(err)
	}
	if err := to.Run(); err != nil {
		t.Fatalf("mariadb: %v: %s", err, said.String())
	}
	if err := from.Wait(); err != nil {
		t.Fatalf("mariadb-dump: %v: %s", err, said.String())
	}
}

// client is how the command line clients reach a server.
func client(s *server.Server) []string {
	out := []string{"--no-defaults", "--default-character-set=utf8mb4", "--max-allowed-packet=64M",
		"--user=" + s.Config.User, "--password=" + s.Config.Passwd}
	if s.Config.Net == "unix" {
		return append(out, "--socket="+s.Config.Addr)
	}
	host, port, _ := strings.Cut(s.Config.Addr, ":")
	return append(out, "--protocol=TCP", "--host="+host, "--port="+port)
}

// TestAlignVerify compares what two servers have, in turn by verify, by fetching the
// rows of both servers one by one, and by reading both in the order of their keys.
func TestAlignVerify(t *testing.T) {
	a := newAlignment(t, alignMany(t, comparedServers), true)
	a.copy(t)
	var ours, single, stream costs
	for i := range 4 * alignRounds {
		switch i % 4 {
		case 0, 3:
			a.measure(t, &ours, a.verify)
			a.measure(t, &stream, func(t *testing.T) { a.compare(t, streamed) })
		default:
			a.measure(t, &single, func(t *testing.T) { a.compare(t, oneByOne) })
		}
	}
	result(t, "all rows of two servers compared, %d rows of %d tables, %d times each in turn, seconds: verify (its "+
		"checks, too) %s, each row fetched by its key from the target %s, ratio of medians %.1f (aim: at least 5); "+
		"both servers read in order of the keys and compared %s, ratio %.1f; processor time of all %s, %s, %s; load %s",
		a.rows, len(a.plan.Tables), len(ours.wall), ours.wall, single.wall, single.wall.median()/ours.wall.median(),
		stream.wall, stream.wall.median()/ours.wall.median(), ours.cpu, single.cpu, stream.cpu, loadNow())
}

func (a *alignment) verify(t *testing.T) {
	t.Helper()
	r, err := verify.Run(t.Context(), a.mapping, a.plan, a.source, a.target, a.side, verify.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range r.Tables {
		if !x.ChecksumEqual {
			t.Fatalf("%+v", x)
		}
	}
}

// compare goes through all tables and counts rows; all must be the same.
func (a *alignment) compare(t *testing.T, way func(ctx context.Context, a *alignment, p *mapping.Planned) (int64, error)) {
	t.Helper()
	var all int64
	for i := range a.plan.Tables {
		n, err := way(t.Context(), a, &a.plan.Tables[i])
		if err != nil {
			t.Fatalf("%s: %v", a.plan.Tables[i].Target, err)
		}
		all += n
	}
	if all != a.rows {
		t.Fatalf("%d rows compared: want %d", all, a.rows)
	}
}

// targetSelect reads the target's columns, in their order, of the rows of p.
func targetSelect(p *mapping.Planned) string {
	return "SELECT `" + strings.Join(p.Columns, "`, `") + "`" + strings.TrimPrefix(p.TargetCount(), "SELECT COUNT(*)")
}

// oneByOne reads the source's rows and fetches each one's counterpart.
func oneByOne(ctx context.Context, a *alignment, p *mapping.Planned) (n int64, err error) {
	if p.Kept == nil {
		return 0, fmt.Errorf("the target's key is not the source's")
	}
	var conds []string
	var at []int
	for _, k := range p.Kept {
		conds = append(conds, "`"+k+"` = ")
		at = append(at, slices.Index(p.Columns, k))
	}
	rows, err := a.source.DB.QueryContext(ctx, p.Select(""))
	if err != nil {
		return 0, err
	}
	defer rows.Close()
	want, have := newRow(len(p.Columns)), newRow(len(p.Columns))
	db, table := p.OnTarget()
	one := "SELECT `" + strings.Join(p.Columns, "`, `") + "` FROM " + sqlexpr.Quote(db) + "." + sqlexpr.Quote(table) + " WHERE "
	for rows.Next() {
		if err := rows.Scan(want.to...); err != nil {
			return n, err
		}
		where := make([]string, 0, len(at))
		for k, i := range at {
			where = append(where, conds[k]+sqlexpr.Literal(string(want.values[i])))
		}
		fetched, err := a.target.DB.QueryContext(ctx, one+strings.Join(where, " AND "))
		if err != nil {
			return n, err
		}
		if !fetched.Next() {
			return n, fmt.Errorf("%v is not there: %w", where, cmp.Or(fetched.Err(), sql.ErrNoRows))
		}
		if err := fetched.Scan(have.to...); err != nil {
			return n, err
		}
		if err := errors.Join(want.same(have, p.Columns), fetched.Close()); err != nil {
			return n, err
		}
		n++
	}
	return n, rows.Err()
}

// streamed reads both in the order of the source's key.
func streamed(ctx context.Context, a *alignment, p *mapping.Planned) (n int64, err error) {
	from, err := a.source.DB.QueryContext(ctx, p.Select("")+" ORDER BY s.`"+strings.Join(p.Key, "`, s.`")+"`")
	if err != nil {
		return 0, err
	}
	defer from.Close()
	to, err := a.target.DB.QueryContext(ctx, targetSelect(p)+" ORDER BY `"+strings.Join(p.Kept, "`, `")+"`")
	if err != nil {
		return 0, err
	}
	defer to.Close()
	want, have := newRow(len(p.Columns)), newRow(len(p.Columns))
	for from.Next() {
		if !to.Next() {
			return n, fmt.Errorf("the target has %d rows only", n)
		}
		if err := from.Scan(want.to...); err != nil {
			return n, err
		}
		if err := to.Scan(have.to...); err != nil {
			return n, err
		}
		if err := want.same(have, p.Columns); err != nil {
			return n, err
		}
		n++
	}
	return n, from.Err()
}

// row is what is read of one.
type row struct {
	values []sql.RawBytes
	to     []any
}

func newRow(n int) *row {
	r := &row{make([]sql.RawBytes, n), make([]any, n)}
	for i := range r.values {
		r.to[i] = &r.values[i]
	}
	return r
}

func (r *row) same(o *row, names []string) error {
	for i := range r.values {
		if (r.values[i] == nil) != (o.values[i] == nil) || !bytes.Equal(r.values[i], o.values[i]) {
			return fmt.Errorf("%s: %q, %q", names[i], r.values[i], o.values[i])
		}
	}
	return nil
}
