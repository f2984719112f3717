package aligntest

import (
	"bytes"
	"context"
	"database/sql"
	"fmt"
	"io"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"
)

const (
	sheetBytes = 4 << 20 // of rows, loaded by one statement
	loaders    = 2
)

// loader brings rows into tables by LOAD DATA; foreign keys are not checked.
type loader struct {
	ctx    context.Context
	t      testing.TB
	db     *sql.DB
	sheets map[string]*sheet
	work   chan load
	done   sync.WaitGroup
	stop   func()

	mu     sync.Mutex
	failed error
}

// sheet is rows of one table.
type sheet struct {
	table, columns string // DATABASE.TABLE, quoted
	width          int
	rows           int64
	buf            []byte
}

// load is what one statement loads.
type load struct {
	*sheet
	data []byte
}

// loads numbers the readers that the driver knows of, in the whole process.
var loads struct {
	sync.Mutex
	n int
}

func newLoader(ctx context.Context, t testing.TB, r *Rig) *loader {
	t.Helper()
	config := r.Server("source").Config.Clone()
	config.Params = map[string]string{"sql_mode": "'STRICT_ALL_TABLES,NO_AUTO_VALUE_ON_ZERO'",
		"foreign_key_checks": "0", "unique_checks": "0", "time_zone": "'+00:00'"}
	connector, err := mysql.NewConnector(config)
	if err != nil {
		t.Fatal(err)
	}
	l := &loader{ctx: ctx, t: t, db: sql.OpenDB(connector), sheets: map[string]*sheet{}, work: make(chan load)}
	l.stop = sync.OnceFunc(func() {
		close(l.work)
		l.done.Wait()
	})
	t.Cleanup(func() {
		l.stop()
		if err := l.db.Close(); err != nil {
			t.Error(err)
		}
	})
	for db, tables := range libertyTables {
		for table, columns := range tables {
			names := strings.Fields(columns)
			l.sheets[db+"."+table] = &sheet{
				table: "`liberty_" + db + "`.`" + table + "`", columns: "`" + strings.Join(names, "`, `") + "`", width: len(names),
			}
		}
	}
	for range loaders {
		l.done.Go(l.run)
	}
	return l
}

// put adds a row to a table, named as in libertyTables.
func (l *loader) put(table string, values []any) {
	s := l.sheets[table]
	if s == nil || len(values) != s.width {
		l.t.Fatalf("table %s: %d values: want those of libertyTables", table, len(values))
	}
	s.rows++
	for i, v := range values {
		if i > 0 {
			s.buf = append(s.buf, '\t')
		}
		s.buf = field(s.buf, v)
	}
	if s.buf = append(s.buf, '\n'); len(s.buf) >= sheetBytes {
		l.flush(s)
	}
}

// field writes a value as LOAD DATA reads it.
func field(to []byte, v any) []byte {
	switch v := v.(type) {
	case nil:
		return append(to, `\N`...)
	case int:
		return strconv.AppendInt(to, int64(v), 10)
	case bool:
		if v {
			return append(to, '1')
		}
		return append(to, '0')
	case float64:
		return strconv.AppendFloat(to, v, 'g', -1, 64)
	case time.Time:
		return v.AppendFormat(to, time.DateTime)
	case string:
		for i := range len(v) {
			switch c := v[i]; c {
			case '\\', '\t', '\n':
				to = append(to, '\\', c)
			default:
				to = append(to, c)
			}
		}
		return to
	}
	panic(fmt.Sprintf("a value of type %T", v))
}

func (l *loader) flush(s *sheet) {
	if len(s.buf) > 0 {
		l.work <- load{s, s.buf}
		s.buf = make([]byte, 0, sheetBytes+1<<16)
	}
}

// run loads until there is no more. After an error it only takes what comes.
func (l *loader) run() {
	for w := range l.work {
		l.mu.Lock()
		failed := l.failed
		l.mu.Unlock()
		if failed != nil {
			continue
		}
		if err := l.load(w); err != nil {
			l.mu.Lock()
			l.failed = fmt.Errorf("%s: %w", w.table, err)
			l.mu.Unlock()
		}
	}
}

func (l *loader) load(w load) error {
	loads.Lock()
	loads.n++
	name := fmt.Sprintf("liberty-%d", loads.n)
	loads.Unlock()
	mysql.RegisterReaderHandler(name, func() io.Reader { return bytes.NewReader(w.data) })
	defer mysql.DeregisterReaderHandler(name)
	conn, err := l.db.Conn(l.ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	if _, err = conn.ExecContext(l.ctx, "LOAD DATA LOCAL INFILE 'Reader::"+name+"' INTO TABLE "+
		w.table+" CHARACTER SET utf8mb4 ("+w.columns+")"); err != nil {
		return err
	}
	return warning(l.ctx, conn)
}

// warning is the first of the last statement: LOAD DATA LOCAL changes what a column can
// not hold, and leaves out rows that break a unique key.
func warning(ctx context.Context, conn *sql.Conn) error {
	var level, text string
	var code int
	switch err := conn.QueryRowContext(ctx, "SHOW WARNINGS LIMIT 1").Scan(&level, &code, &text); err {
	case nil:
		return fmt.Errorf("%s %d: %s", level, code, text)
	case sql.ErrNoRows:
		return nil
	default:
		return err
	}
}

// close loads the rest.
func (l *loader) close() {
	l.t.Helper()
	for _, s := range l.sheets {
		l.flush(s)
	}
	l.stop()
	if l.failed != nil {
		l.t.Fatal(l.failed)
	}
}

// rows counts what was put, and that it is there.
func (l *loader) rows() map[string]int64 {
	l.t.Helper()
	out := map[string]int64{}
	for _, s := range l.sheets {
		var n int64
		if err := l.db.QueryRowContext(l.ctx, "SELECT COUNT(*) FROM "+s.table).Scan(&n); err != nil {
			l.t.Fatal(err)
		}
		if n != s.rows {
			l.t.Fatalf("%s has %d rows: want the %d that were made", s.table, n, s.rows)
		}
		out[strings.ReplaceAll(s.table, "`", "")] = n
	}
	return out
}
