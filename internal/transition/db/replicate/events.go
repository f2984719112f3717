package replicate

import (
	"context"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/go-mysql-org/go-mysql/replication"

	"holdfast/internal/transition/db/column"
	"holdfast/internal/transition/db/mapping"
)

// This file takes events of the binary log in.

// table is one of the source's of which rows are made, and how.
type table struct {
	name   string // as in the mapping
	schema *mapping.Schema
	uses   []use

	changed int64 // rows
}

// changedOf are those tables of which rows have changed, by name.
func changedOf(all map[[2]string]*table) (out []Changed) {
	for _, t := range all {
		if t.changed > 0 {
			out = append(out, Changed{t.name, t.changed})
		}
	}
	slices.SortFunc(out, func(a, b Changed) int { return strings.Compare(a.Table, b.Table) })
	return out
}

// use is one way in which a row concerns a target's table.
type use struct {
	planned int // of the plan
	number  int // of its touches by this table
	touch   mapping.Touch
	at      []int // places of the touch's columns in a row
}

// tablesOf finds for each table of the source's, by its names there, what it concerns;
// with fold, in small letters.
func tablesOf(p *mapping.Plan, fold bool) map[[2]string]*table {
	out := map[[2]string]*table{}
	for i := range p.Tables {
		t := &p.Tables[i]
		for _, from := range t.Reads() {
			db, name := t.SourceName(from)
			if fold {
				db, name = strings.ToLower(db), strings.ToLower(name)
			}
			x := out[[2]string{db, name}]
			if x == nil {
				x = &table{name: from, schema: t.SourceSchema(from)}
				out[[2]string{db, name}] = x
			}
			for n, touch := range t.Touched(from) {
				u := use{planned: i, number: n, touch: touch}
				for _, c := range touch.Columns {
					u.at = append(u.at, slices.IndexFunc(x.schema.Columns, func(have column.Column) bool { return have.Name == c }))
				}
				x.uses = append(x.uses, u)
			}
		}
	}
	return out
}

// find is a table by its names on the source's server; nil for one that is not mapped.
func (f *follower) find(db, name string) *table {
	if f.fold {
		db, name = strings.ToLower(db), strings.ToLower(name)
	}
	return f.tables[[2]string{db, name}]
}

// mapped reports whether rows are made of a table, or with table "" of any of a database.
func (f *follower) mapped(db, name string) bool {
	if name != "" {
		return f.find(db, name) != nil
	}
	for k := range f.tables {
		if k[0] == db || f.fold && strings.EqualFold(k[0], db) {
			return true
		}
	}
	return false
}

// Flags of MariaDB's events that begin transactions.
const (
	standalone = 1  // one statement, which is no transaction
	prepared   = 64 // of a transaction that is committed by XA COMMIT, later
)

// event takes one event in.
func (f *follower) event(ctx context.Context, e *replication.BinlogEvent) error {
	f.events++
	f.idle = false
	if e.Header.Timestamp > 0 {
		f.stamp = e.Header.Timestamp
	}
	if p, ok := e.Event.(*payload); ok {
		if err := f.compressed(ctx, p); err != nil {
			return err
		}
	} else if err := f.apply(e); err != nil {
		return err
	}
	f.advance(e)
	return nil
}

// compressed takes the events of a compressed transaction in. Between them it is as between
// those of others: what there is may be carried over, and the position stays before it all.
func (f *follower) compressed(ctx context.Context, p *payload) error {
	f.blind = true // until it is whole, and advance notes where it ends
	for len(p.left) > 0 {
		if err := f.work(ctx); err != nil {
			return err
		}
		f.tell("")
		e, err := p.next()
		if err != nil {
			return err
		}
		if err := f.apply(e); err != nil {
			return err
		}
	}
	return nil
}

// apply does what an event says, but for its position.
func (f *follower) apply(e *replication.BinlogEvent) error {
	switch x := e.Event.(type) {
	case *replication.RotateEvent:
		f.within, f.xa = false, false // what a server that died left of one is no transaction
		f.here = place{string(x.NextLogName), x.Position}
		if f.at.before(f.here) {
			f.at, f.from, f.last = f.here, f.here, f.here
		}
	case *replication.FormatDescriptionEvent:
		f.within, f.xa = false, false
	case *replication.MariadbGTIDEvent:
		f.within, f.xa = x.Flags&standalone == 0, x.Flags&prepared != 0
	case *replication.XIDEvent:
		f.end()
	case *replication.QueryEvent:
		return f.query(x)
	case *replication.RowsEvent:
		return f.rows(e, x)
	case *replication.ExecuteLoadQueryEvent:
		return f.load(e.RawData)
	case *replication.TableMapEvent, *replication.RowsQueryEvent, *replication.MariadbAnnotateRowsEvent, // rows come after them
		// names of transactions
		*replication.GTIDEvent, *replication.GtidTaggedLogEvent, *replication.PreviousGTIDsEvent, *replication.MariadbGTIDListEvent,
		*replication.MariadbBinlogCheckPointEvent,                  // for the server's own repair
		*replication.IntVarEvent, *replication.BeginLoadQueryEvent: // what a statement uses that comes after them
	default:
		return f.unknown(e.Header)
	}
	return nil
}

// harmless are the events that change no row, and that the library knows by number only:
// their statements, rows or commits are told in others.
var harmless = []replication.EventType{
	replication.STOP_EVENT, replication.HEARTBEAT_EVENT, replication.HEARTBEAT_LOG_EVENT_V2,
	replication.IGNORABLE_EVENT, replication.MARIADB_START_ENCRYPTION_EVENT,
	replication.RAND_EVENT, replication.USER_VAR_EVENT, replication.APPEND_BLOCK_EVENT, replication.DELETE_FILE_EVENT,
	replication.XA_PREPARE_LOG_EVENT, replication.TRANSACTION_CONTEXT_EVENT, replication.VIEW_CHANGE_EVENT,
}

// unknown judges an event of which only the number is known. A server marks those that a
// reader may pass over. Any other may be of changed rows, in a form that is newer than
// this program, or say that there are none: that the server has lost some.
func (f *follower) unknown(h *replication.EventHeader) error {
	if slices.Contains(harmless, h.EventType) || h.Flags&replication.LOG_EVENT_IGNORABLE_F != 0 {
		return nil
	}
	what := "an event that is not known, and may be of changed rows"
	if h.EventType == replication.INCIDENT_EVENT {
		what = "the server has lost events"
	}
	return fatal(fmt.Errorf("source: after position %s of the binary log: %s (%s, number %d): want %s", f.at, what,
		h.EventType, h.EventType, anew))
}

// load judges a LOAD DATA that is logged as a statement and its file's text, as a session
// does whose binlog_format is not ROW. The library leaves its statement out. It is after
// the header and 26 bytes of the event, of which bytes 8 and 11 and 12 say how long
// settings and the database's name are that come in between (MySQL's source,
// Execute_load_query_log_event). A checksum may come after it.
func (f *follower) load(raw []byte) error {
	const fixed = replication.EventHeaderSize + 26
	var schema, text string
	if len(raw) > fixed {
		body := raw[fixed:]
		name := int(binary.LittleEndian.Uint16(raw[replication.EventHeaderSize+11:]))
		end := name + int(raw[replication.EventHeaderSize+8])
		if end < len(body) {
			schema, text = string(body[name:end]), string(body[end+1:])
		}
	}
	if keyword(text) == "" { // it can not be told what it changes
		return f.spoilt("", "is not understood", text)
	}
	if what, how := spoils(schema, text, f.mapped); what != "" {
		return f.spoilt(what, how, text)
	}
	return nil
}

// advance moves the position on: what is before it is in the batch. Events tell the last
// 32 bits of where they end; MariaDB from 11.4 on tells nothing of most events within a
// transaction. Their sizes tell the rest, but for events that are not sent to readers.
func (f *follower) advance(e *replication.BinlogEvent) {
	h := e.Header
	begins := false // a name comes before what it names: no run begins in between
	switch e.Event.(type) {
	case *replication.RotateEvent:
		return
	case *replication.MariadbGTIDEvent, *replication.GTIDEvent, *replication.GtidTaggedLogEvent:
		begins = true
	}
	counted := f.here.pos
	if written(h) {
		counted += uint64(h.EventSize)
	}
	if h.LogPos == 0 {
		f.here.pos, f.blind = counted, f.blind || written(h)
		return
	}
	f.here.pos = nearest(counted, h.LogPos)
	if f.last.before(f.here) {
		f.last, f.blind = f.here, false
	}
	if begins || f.within || !f.at.before(f.here) {
		return
	}
	// What is behind a transaction that makes a file longer than 4 GiB is read again, from
	// before that, when the connection is lost before the next file begins.
	if f.at = f.here; f.at.reachable() {
		f.from = f.at
	}
}

// written reports whether an event is in the log's file: a server makes some up.
func written(h *replication.EventHeader) bool {
	switch h.EventType {
	case replication.HEARTBEAT_EVENT, replication.HEARTBEAT_LOG_EVENT_V2:
		return false
	case replication.FORMAT_DESCRIPTION_EVENT: // one that begins a file tells where it ends
		return h.LogPos > 0
	}
	return h.Flags&replication.LOG_EVENT_ARTIFICIAL_F == 0
}

// nearest is the position that ends with some 32 bits and is nearest to one that was counted.
func nearest(counted uint64, bits uint32) uint64 {
	const round = 1 << 32
	p := counted&^(round-1) | uint64(bits)
	switch {
	case p > counted+round/2 && p >= round:
		return p - round
	case p+round/2 < counted:
		return p + round
	}
	return p
}

// end ends a transaction.
func (f *follower) end() {
	f.within, f.xa = false, false
	if f.concerned {
		f.transactions++
		f.concerned = false
	}
}

func (f *follower) query(q *replication.QueryEvent) error {
	text := string(q.Query)
	word := keyword(text)
	switch first, _, _ := strings.Cut(word, " "); {
	case first == "BEGIN", word == "START TRANSACTION":
		f.within = true
		return nil
	case first == "COMMIT", word == "ROLLBACK":
		f.end()
		return nil
	case first == "SAVEPOINT", first == "ROLLBACK", first == "RELEASE":
		return nil
	case word == "XA START", word == "XA BEGIN":
		f.within, f.xa = true, true
		return nil
	case first == "XA":
		f.end()
		return nil
	}
	if what, how := spoils(string(q.Schema), text, f.mapped); what != "" {
		return f.spoilt(what, how, text)
	}
	return nil
}

// anew is what is wanted when the log does not tell what has changed.
const anew = "the copy begun anew: holdfast transition db clean --rows"

// spoilt is the error of a statement that ends what can be followed.
func (f *follower) spoilt(what, how, text string) error {
	if what != "" {
		what += ", "
	}
	return fatal(fmt.Errorf("source: %safter position %s of the binary log: a statement %s: %.200q: what follows can "+
		"not be carried over: want %s", what, f.at, how, text, anew))
}

// rows notes which rows of the target a changed row concerns.
func (f *follower) rows(b *replication.BinlogEvent, e *replication.RowsEvent) error {
	t := f.find(string(e.Table.Schema), string(e.Table.Table))
	if t == nil {
		return nil
	}
	f.came, f.concerned = time.Now(), true
	where := fmt.Sprintf("source: table %s, after position %s of the binary log", t.name, f.at)
	switch {
	case f.xa:
		return fatal(fmt.Errorf("%s: a transaction of XA: it can not be told when its rows are there: want none "+
			"while following, or begin the copy anew", where))
	case int(e.ColumnCount) != len(t.schema.Columns):
		return fatal(fmt.Errorf("%s: its rows have %d columns, the table has %d: it was changed: want %s", where,
			e.ColumnCount, len(t.schema.Columns), anew))
	}
	each := 1
	if e.Type() == replication.EnumRowsEventTypeUpdate || b.Header.EventType == replication.PARTIAL_UPDATE_ROWS_EVENT {
		each = 2
	}
	f.changed += int64(len(e.Rows) / each)
	t.changed += int64(len(e.Rows) / each)
	for i, row := range e.Rows {
		for _, u := range t.uses {
			values := make([]string, 0, len(u.at))
			for _, at := range u.at {
				if slices.Contains(e.SkippedColumns[i], at) {
					return fatal(fmt.Errorf("%s: a row without column %s: want binlog_row_image FULL in all sessions", where, t.schema.Columns[at].Name))
				}
				v, err := literal(t.schema.Columns[at], row[at])
				if err != nil {
					return fatal(fmt.Errorf("%s: %w", where, err))
				}
				values = append(values, v)
			}
			f.batch.add(u, t, values)
		}
	}
	return nil
}
