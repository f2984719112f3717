package copier

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/go-sql-driver/mysql"

	"holdfast/internal/transition/db/mapping"
	"holdfast/internal/transition/db/server"
)

// Session is one connection to a server, or a transaction of it.
type Session interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

// How is the way in which rows go from the source to the target.
type How string

// Ways of rows.
const (
	OneServer How = "INSERT ... SELECT"      // both are one server
	Load      How = "LOAD DATA LOCAL INFILE" // streamed through this process
	Insert    How = "INSERT ... VALUES"      // the same where the target does not take LOAD DATA LOCAL
)

// Mover brings rows from the source into the target.
type Mover struct {
	How    How
	source *sql.DB
	packet int  // bytes: the longest statement that the target takes
	serial bool // statements that fill a column of AUTO_INCREMENT come one after another
}

// NewMover finds out how the plan's rows can go. The staged IDs must be there.
func NewMover(ctx context.Context, p *mapping.Plan, source, target *server.Server) (*Mover, error) {
	m := &Mover{How: OneServer, source: source.DB}
	same, err := server.Same(ctx, source, target)
	if err != nil {
		return nil, err
	}
	var mode int
	if err := target.DB.QueryRowContext(ctx, "SELECT @@innodb_autoinc_lock_mode").Scan(&mode); err != nil {
		return nil, fmt.Errorf("target: ask for its settings: %w", err)
	}
	m.serial = mode < 2 // 2 is MySQL 8's default, 1 that of all others
	if same {
		if same, err = readable(ctx, p, target.DB); err != nil || same {
			return m, err
		}
	}
	var local bool
	if err := target.DB.QueryRowContext(ctx, "SELECT @@local_infile, @@max_allowed_packet").Scan(&local, &m.packet); err != nil {
		return nil, fmt.Errorf("target: ask for its settings: %w", err)
	}
	m.How = Load
	if !local {
		m.How, m.serial = Insert, false // as it is known how many rows VALUES has, the lock is short
	}
	return m, nil
}

// batch is how long a statement of Insert becomes before it is sent, bytes.
const batch = 1 << 20

// readable reports whether the target's user may read the source's rows on that server.
func readable(ctx context.Context, p *mapping.Plan, target *sql.DB) (bool, error) {
	for i := range p.Tables {
		rows, err := target.QueryContext(ctx, p.Tables[i].Select("")+" LIMIT 0")
		if err == nil {
			err = errors.Join(rows.Err(), rows.Close())
		}
		switch {
		case server.Denied(err):
			return false, nil
		case err != nil:
			return false, fmt.Errorf("source's table %s, asked by the target's user: %w", p.Tables[i].Source, err)
		}
	}
	return true, nil
}

// Prepare makes a session of the target ready: what LOAD DATA changes or leaves out is
// counted as warnings, and with foreign false, foreign keys are not looked at.
func Prepare(ctx context.Context, target Session, foreign bool) error {
	_, err := target.ExecContext(ctx, "SET SESSION sql_notes = 0, max_error_count = 64, unique_checks = 1, "+
		"foreign_key_checks = "+strconv.Itoa(map[bool]int{true: 1}[foreign]))
	return err
}

// Move brings the planned rows for which more holds (as for mapping.Planned.Select) into the
// target, whose session must be in a transaction and prepared: after an error it is to
// be rolled back, as some rows may be there. It returns how many rows it wrote. With
// replace, rows of the target that have a unique value of a new one give way to it, and
// it returns how many rows the server changed.
func (m *Mover) Move(ctx context.Context, target Session, p *mapping.Planned, more string, replace bool) (int64, error) {
	if m.How == OneServer {
		query := p.Statement(more)
		if replace {
			query = "REPLACE" + strings.TrimPrefix(query, "INSERT")
		}
		res, err := target.ExecContext(ctx, query)
		if err != nil {
			return 0, err
		}
		return res.RowsAffected()
	}
	e := p.Export(more)
	source, err := m.source.Conn(ctx)
	if err != nil {
		return 0, fmt.Errorf("source: %w", err)
	}
	defer source.Close()
	// Notes are not kept, and as much as can be of the rest, so that none hides behind others.
	if _, err := source.ExecContext(ctx, "SET SESSION sql_notes = 0, max_error_count = 65535"); err != nil {
		return 0, fmt.Errorf("source: %w", err)
	}
	rows, err := source.QueryContext(ctx, e.Select)
	if err != nil {
		return 0, fmt.Errorf("source: %w", err)
	}
	defer rows.Close()
	r := newRecords(rows, e.Forms)
	var n int64
	if m.How == Load {
		n, err = load(ctx, target, e, r, replace)
	} else {
		n, err = m.insert(ctx, target, e, r, replace)
	}
	if err != nil {
		return 0, err
	}
	if err := rows.Close(); err != nil {
		return 0, fmt.Errorf("source: %w", err)
	}
	if err := warned(ctx, source, harmless); err != nil {
		return 0, fmt.Errorf("source: %w", err)
	}
	return n, nil
}

// harmless are the warnings of a SELECT that do not say that a value is not what its
// expression should give: old words (1287, 1681), old names of utf8mb3 (3719) and of its
// collations (3778). Any other may: cut, out of range, no number or date, broken JSON,
// NULL because it would be longer than max_allowed_packet. A strict statement that writes
// makes an error of it, and servers have more of them with each version.
var harmless = []uint16{1287, 1681, 3719, 3778}

// load streams rows as a file that is none.
func load(ctx context.Context, target Session, e mapping.Export, r *records, replace bool) (int64, error) {
	how := ""
	if replace {
		how = "REPLACE "
	}
	name := "holdfast-" + rand.Text()
	lines := &lines{records: r}
	mysql.RegisterReaderHandler(name, func() io.Reader { return lines })
	defer mysql.DeregisterReaderHandler(name)
	res, err := target.ExecContext(ctx, "LOAD DATA LOCAL INFILE 'Reader::"+name+"' "+how+"INTO TABLE "+e.Into+
		" CHARACTER SET "+e.Charset+` FIELDS TERMINATED BY '\t' ESCAPED BY '\\' LINES TERMINATED BY '\n' `+e.Load)
	if err != nil {
		return 0, err
	}
	if err := warned(ctx, target, nil); err != nil {
		return 0, err
	}
	n, err := res.RowsAffected()
	if err == nil && n != r.n && !replace {
		err = fmt.Errorf("%d rows were sent, and the target has taken %d", r.n, n)
	}
	return n, err
}

// warned makes an error of what the last statement warned of, but for some codes. LOAD
// DATA LOCAL does not stop at a value that a column can not hold, or at a key that is
// there. SHOW WARNINGS must be the first question: any other makes some servers forget.
func warned(ctx context.Context, s Session, but []uint16) error {
	rows, err := s.QueryContext(ctx, "SHOW WARNINGS")
	if err != nil {
		return err
	}
	defer rows.Close()
	var first *mysql.MySQLError
	n := 0
	for rows.Next() {
		var level string
		var e mysql.MySQLError
		if err := rows.Scan(&level, &e.Number, &e.Message); err != nil {
			return err
		}
		if level == "Note" || slices.Contains(but, e.Number) {
			continue
		}
		if n++; first == nil {
			first = &e
		}
	}
	if err := rows.Err(); err != nil || first == nil {
		return err
	}
	if n > 1 {
		return fmt.Errorf("%w (and %d more)", first, n-1)
	}
	return first
}

// insert sends rows as statements.
func (m *Mover) insert(ctx context.Context, target Session, e mapping.Export, r *records, replace bool) (int64, error) {
	verb := "INSERT"
	if replace {
		verb = "REPLACE"
	}
	begin := verb + " INTO " + e.Into + " (" + names(e.Columns) + ") VALUES "
	buf := []byte(begin)
	send := func() error {
		if len(buf) == len(begin) {
			return nil
		}
		_, err := target.ExecContext(ctx, string(buf))
		buf = buf[:len(begin)]
		return err
	}
	var row []byte
	for {
		ok, err := r.next()
		if err != nil {
			return 0, err
		}
		if !ok {
			return r.n, send()
		}
		row = appendTuple(row[:0], r.values, e.Forms)
		if n := len(begin) + len(row); n >= m.packet {
			return 0, fmt.Errorf("a row makes a statement of %d bytes: the target's max_allowed_packet is %d, and it "+
				"does not take LOAD DATA LOCAL (local_infile), which has no such limit", n, m.packet)
		}
		if len(buf)+1+len(row) > min(batch, m.packet-1) {
			if err := send(); err != nil {
				return 0, err
			}
		}
		if len(buf) > len(begin) {
			buf = append(buf, ',')
		}
		buf = append(buf, row...)
	}
}

func names(columns []string) string {
	out := make([]string, 0, len(columns))
	for _, c := range columns {
		out = append(out, "`"+strings.ReplaceAll(c, "`", "``")+"`")
	}
	return strings.Join(out, ", ")
}

// isDuplicate reports that a unique key has the value.
func isDuplicate(err error) bool {
	var told *mysql.MySQLError
	return errors.As(err, &told) && told.Number == 1062
}

// number writes a number of the journal.
func number(n int64) string { return strconv.FormatInt(n, 10) }
