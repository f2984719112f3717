package mariadb

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-sql-driver/mysql"

	"holdfast/internal/cluster"
	"holdfast/internal/lib/database"
	"holdfast/internal/lib/fail"
)

// kind is how the values of a key's column are written into a statement.
type kind struct {
	valid *regexp.Regexp
	form  string // of fmt, for a valid value
	read  string // the same, for the column's name: an expression whose text is a value
}

var (
	number = kind{regexp.MustCompile(`^-?[0-9]+(\.[0-9]+)?$`), "%s", "%s"}
	moment = kind{regexp.MustCompile(`^[0-9 :.-]+$`), "'%s'", "%s"}
	octets = kind{regexp.MustCompile(`^([0-9A-F]{2})*$`), "x'%s'", "HEX(%s)"}
	kinds  = map[string]kind{
		"tinyint": number, "smallint": number, "mediumint": number, "int": number, "bigint": number, "decimal": number, "year": number,
		"date": moment, "datetime": moment, "binary": octets, "varbinary": octets, "char": octets, "varchar": octets,
	}
)

// keyColumn is a column of the key by which rows are told apart.
type keyColumn struct {
	name    string
	charset string // of text; "": it is none
	kind
}

// literal is a value for a statement.
func (k keyColumn) literal(v string) (string, error) {
	if !k.valid.MatchString(v) {
		return "", fail.Errorf(fail.Invalid, "key value %.40q of column %s: want one that matches %s", v, k.name, k.valid)
	}
	l := fmt.Sprintf(k.form, v)
	if k.charset != "" {
		l = "_" + k.charset + " " + l
	}
	return l, nil
}

// shape is a table's.
type shape struct {
	table string // DATABASE.TABLE, quoted
	key   []keyColumn
	sum   string // an expression: a digest of a row
	is    string // the shape, to be compared
	left  string // why it can not be compared
}

// Rows are rows of this node, without a lock, or its tables.
func (d *Driver) Rows(ctx context.Context, q cluster.RowsQuery) (p cluster.RowsPart, err error) {
	if q.Each { // they are compared for good: what the other node has applied must be seen here
		if done, err := d.committed(ctx); err != nil || !done {
			return cluster.RowsPart{Slow: true}, err
		}
	}
	return d.readRows(ctx, q)
}

// commitsWithin is how long a commit may take that is in the binary log; one that waits for a standby takes longer.
const commitsWithin = 4 * time.Second

// committed waits until all can be seen that the binary log has now. A commit is in the log first, and on a standby, while it
// waits for that one's word: a row would seem to stand still here, and to be another one there. It is not done in time where a
// commit waits for longer.
func (d *Driver) committed(ctx context.Context) (done bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, commitsWithin)
	defer cancel()
	conn, err := d.db.Conn(ctx)
	if err != nil {
		return false, asked(err)
	}
	defer conn.Close()
	r, err := d.row(ctx, conn, "SHOW MASTER STATUS")
	if err != nil {
		return false, err
	}
	to, err := strconv.ParseUint(r["position"], 10, 64)
	if err != nil {
		return false, fmt.Errorf("the database tells the position %.40q of its binary log", r["position"])
	}
	switch err := database.AwaitCommits(ctx, conn, r["file"], to); {
	case err == nil:
		return true, nil
	case ctx.Err() != nil:
		return false, nil
	default:
		return false, asked(err)
	}
}

// readRows is Rows as they can be seen now.
func (d *Driver) readRows(ctx context.Context, q cluster.RowsQuery) (p cluster.RowsPart, err error) {
	if q.Table == "" {
		p.Tables, err = d.tables(ctx)
	} else {
		p, err = d.rowsOf(ctx, q)
	}
	if err != nil {
		return p, err
	}
	// What a read has seen is in the binary log before.
	at, err := d.row(ctx, d.db, "SELECT @@gtid_binlog_pos AS at")
	p.At = at["at"]
	return p, err
}

// rowsOf are rows of a table.
func (d *Driver) rowsOf(ctx context.Context, q cluster.RowsQuery) (p cluster.RowsPart, err error) {
	s, err := d.shape(ctx, q.Database, q.Table)
	if err != nil || s == nil {
		return cluster.RowsPart{Gone: err == nil}, err
	}
	if s.left != "" {
		return cluster.RowsPart{Shape: s.is, Left: s.left}, nil
	}
	if p, err = d.read(ctx, s, q); err != nil {
		var e *mysql.MySQLError
		if errors.As(err, &e) {
			switch e.Number {
			case 1146, 1054: // ER_NO_SUCH_TABLE, ER_BAD_FIELD_ERROR: it was dropped, or altered, meanwhile
				return cluster.RowsPart{Gone: true}, nil
			case 1969: // ER_STATEMENT_TIMEOUT
				return cluster.RowsPart{Shape: s.is, Slow: true}, nil
			}
			return cluster.RowsPart{Shape: s.is, Left: "its rows can not be read: " + e.Error()}, nil
		}
	}
	return p, err
}

// read reads the rows of a part.
func (d *Driver) read(ctx context.Context, s *shape, q cluster.RowsQuery) (p cluster.RowsPart, err error) {
	p.Shape, p.Last = s.is, q.Until
	if len(q.Until) == 0 && q.Limit > 0 {
		if p.Last, err = d.bound(ctx, s, q); err != nil {
			return p, err
		}
	}
	where, err := s.where(q.After, p.Last)
	if err != nil {
		return p, err
	}
	r, err := d.row(ctx, d.db, limited+fmt.Sprintf("SELECT COUNT(*) AS n, COALESCE(BIT_XOR(%s), 0) AS sum FROM %s%s", s.sum, s.table, where))
	if err != nil {
		return p, err
	}
	if p.Count, err = strconv.ParseInt(r["n"], 10, 64); err == nil {
		p.Digest, err = strconv.ParseUint(r["sum"], 10, 64)
	}
	if err != nil {
		return p, fmt.Errorf("the database counts %.40q rows with the digest %.40q", r["n"], r["sum"])
	}
	if q.Each {
		p.Rows, err = d.each(ctx, s, where)
	}
	return p, err
}

// limited is before a SELECT that would not end with its connection; less than limit.
const limited = "SET STATEMENT max_statement_time=4 FOR "

// tables are all but the server's own and this package's.
func (d *Driver) tables(ctx context.Context) (out []cluster.RowsTable, err error) {
	var own []string
	for _, s := range append([]string{"holdfast_replica"}, systemSchemas...) {
		own = append(own, text(s))
	}
	rows, err := d.rows(ctx, d.db, "SELECT table_schema, table_name, engine FROM information_schema.tables WHERE "+
		"table_type = 'BASE TABLE' AND table_schema NOT IN ("+
		strings.Join(own, ", ")+") ORDER BY 1, 2")
	for _, r := range rows {
		t := cluster.RowsTable{Database: r["table_schema"], Table: r["table_name"]}
		if e := r["engine"]; !strings.EqualFold(e, "InnoDB") {
			t.Left = "its engine is " + e
		}
		out = append(out, t)
	}
	return out, err
}

// Left are the lines of a comparison that tell of tables that were left out, without those whose table is gone.
func (d *Driver) Left(ctx context.Context, lines []string) ([]string, error) {
	all, err := d.tables(ctx)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(slices.Clone(lines), func(l string) bool {
		return !strings.HasPrefix(l, "and ") && !slices.ContainsFunc(all,
			func(t cluster.RowsTable) bool { return strings.HasPrefix(l, t.String()+": ") })
	}), nil
}

// shape asks for a table's; nil when it is gone.
func (d *Driver) shape(ctx context.Context, db, table string) (*shape, error) {
	of := " WHERE table_schema = " + text(db) + " AND table_name = " + text(table)
	columns, err := d.rows(ctx, d.db, "SELECT column_name, column_type, data_type, character_set_name, is_generated "+
		"FROM information_schema.columns"+of+" ORDER BY ordinal_position")
	if err != nil || len(columns) == 0 {
		return nil, err
	}
	index, err := d.rows(ctx, d.db, "SELECT index_name, column_name, sub_part, nullable FROM information_schema.statistics"+of+
		" AND non_unique = 0 ORDER BY index_name <> 'PRIMARY', index_name, seq_in_index")
	if err != nil {
		return nil, err
	}
	s := &shape{table: name(db) + "." + name(table)}
	by := map[string]map[string]string{}
	var sums []string
	for _, c := range columns {
		by[c["column_name"]] = c
		s.is += c["column_name"] + " " + c["column_type"] + " " + c["character_set_name"] + "; "
		if c["is_generated"] == "ALWAYS" {
			continue
		}
		of := name(c["column_name"])
		if c["data_type"] == "timestamp" { // its text depends on the time zone
			of = "UNIX_TIMESTAMP(" + of + ")"
		}
		sums = append(sums, "IFNULL(CRC32("+of+"), '-')")
	}
	s.sum = "CRC32(CONCAT_WS(',', " + strings.Join(sums, ", ") + "))"
	for _, columns := range grouped(index) {
		if s.key = keyOf(columns, by); s.key != nil {
			break
		}
	}
	if s.key == nil {
		s.left = "it has no unique key of numbers, texts or dates"
	}
	for _, k := range s.key {
		s.is += k.name + " "
	}
	return s, nil
}

// grouped has a group for each index.
func grouped(index []map[string]string) (out [][]map[string]string) {
	for i, r := range index {
		if i == 0 || r["index_name"] != index[i-1]["index_name"] {
			out = append(out, nil)
		}
		out[len(out)-1] = append(out[len(out)-1], r)
	}
	return out
}

// keyOf is a unique index as a key; nil when it can not be one.
func keyOf(index []map[string]string, columns map[string]map[string]string) (key []keyColumn) {
	for _, r := range index {
		c := columns[r["column_name"]]
		k, known := kinds[c["data_type"]]
		if _, part := r["sub_part"]; !known || part || r["nullable"] == "YES" {
			return nil
		}
		key = append(key, keyColumn{r["column_name"], c["character_set_name"], k})
	}
	return key
}

// where is a condition for the rows behind one key, up to another one.
func (s *shape) where(after, until []string) (string, error) {
	behind, err := s.beside(after, ">", "")
	if err != nil {
		return "", err
	}
	upTo, err := s.beside(until, "<", "=")
	if err != nil {
		return "", err
	}
	switch {
	case behind == "" && upTo == "":
		return "", nil
	case behind == "" || upTo == "":
		return " WHERE " + behind + upTo, nil
	}
	return " WHERE " + behind + " AND " + upTo, nil
}

// beside is a condition for the rows on one side of a key, whose columns are compared one after the other: the optimizer takes no
// range from a comparison of whole rows. The first column alone gives it one.
func (s *shape) beside(key []string, side, or string) (string, error) {
	if len(key) == 0 {
		return "", nil
	}
	if len(key) != len(s.key) {
		return "", fail.Errorf(fail.Invalid, "a key of %d values: want %d", len(key), len(s.key))
	}
	var same, any []string
	first := ""
	for i, k := range s.key {
		v, err := k.literal(key[i])
		if err != nil {
			return "", err
		}
		op := side
		if i == len(key)-1 {
			op += or
		}
		any = append(any, "("+strings.Join(append(slices.Clone(same), name(k.name)+" "+op+" "+v), " AND ")+")")
		same = append(same, name(k.name)+" = "+v)
		if i == 0 {
			first = name(k.name) + " " + side + "= " + v
		}
	}
	return "(" + strings.Join([]string{first, "(" + strings.Join(any, " OR ") + ")"}, " AND ") + ")", nil
}

// fields are the key's columns as they are read, and the order by them.
func (s *shape) fields() (read, order string) {
	var reads, names []string
	for i, k := range s.key {
		reads = append(reads, strings.Join([]string{fmt.Sprintf(k.read, name(k.name)), "k" + strconv.Itoa(i)}, " AS "))
		names = append(names, name(k.name))
	}
	return strings.Join(reads, ", "), " ORDER BY " + strings.Join(names, ", ")
}

// keyIn is the key in a row.
func (s *shape) keyIn(r map[string]string) (out []string) {
	for i := range s.key {
		out = append(out, r["k"+strconv.Itoa(i)])
	}
	return out
}

// bound is the key of the last row of a part; none when fewer are left.
func (d *Driver) bound(ctx context.Context, s *shape, q cluster.RowsQuery) ([]string, error) {
	where, err := s.where(q.After, nil)
	if err != nil {
		return nil, err
	}
	read, order := s.fields()
	r, err := d.rows(ctx, d.db, limited+fmt.Sprintf("SELECT %s FROM %s%s%s LIMIT 1 OFFSET %d", read, s.table, where,
		order, min(q.Limit, mostEach)-1))
	if err != nil || len(r) == 0 {
		return nil, err
	}
	return s.keyIn(r[0]), nil
}

// each are the rows themselves.
func (d *Driver) each(ctx context.Context, s *shape, where string) (out []cluster.RowsRow, err error) {
	read, order := s.fields()
	rows, err := d.rows(ctx, d.db, limited+fmt.Sprintf("SELECT %s, %s AS sum FROM %s%s%s LIMIT %d", read, s.sum,
		s.table, where, order, mostEach))
	for _, r := range rows {
		var words []string
		for i, v := range s.keyIn(r) {
			words = append(words, s.key[i].name+" "+s.key[i].shown(v))
		}
		out = append(out, cluster.RowsRow{Key: strings.Join(words, ", "), Digest: r["sum"]})
	}
	return out, err
}

// shown is a value for people.
func (k keyColumn) shown(v string) string {
	if k.charset == "" || !strings.HasPrefix(k.charset, "utf8") && k.charset != "latin1" && k.charset != "ascii" {
		return v
	}
	b, err := hex.DecodeString(v)
	if err != nil {
		return v
	}
	return strconv.QuoteToGraphic(string(b))
}
