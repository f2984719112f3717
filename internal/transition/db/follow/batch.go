package follow

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"strings"
	"time"

	"holdfast/internal/transition/db/mapping"
	"holdfast/internal/transition/db/server"
)

// Sizes of statements.
const (
	keysAtOnce  = 1000 // keys in a condition
	asksAtOnce  = 50   // changed rows in one question for keys
	hurryAt     = 20_000
	mostLeft    = 5 // times hurryAt: keys of rows that the target does not take
	batchOf     = 1000
	batchPeriod = 200 * time.Millisecond
)

// batch is what changed: the keys of rows that are to be carried over, and rows of other
// tables that tell more of them.
type batch struct {
	keys    []map[string][]string // by the plan's tables: SQL of the key's columns, by themselves joined
	touches map[string]touched
	size    int
	since   time.Time // of the first in it
}

// touched is a changed row of a table that is joined.
type touched struct {
	use    use
	table  *table
	values []string
}

func newBatch(p *mapping.Plan) *batch {
	return &batch{keys: make([]map[string][]string, len(p.Tables)), touches: map[string]touched{}}
}

// add notes one image of a changed row.
func (b *batch) add(u use, t *table, values []string) {
	if b.size == 0 {
		b.since = time.Now()
	}
	if u.touch.Main {
		b.key(u.planned, values)
		return
	}
	id := fmt.Sprintf("%d %s %d %s", u.planned, t.name, u.number, strings.Join(values, ", "))
	if _, ok := b.touches[id]; !ok {
		b.touches[id] = touched{u, t, values}
		b.size++
	}
}

func (b *batch) key(planned int, values []string) {
	if b.keys[planned] == nil {
		b.keys[planned] = map[string][]string{}
	}
	id := strings.Join(values, ", ")
	if _, ok := b.keys[planned][id]; !ok {
		b.keys[planned][id] = values
		b.size++
	}
}

// resolve asks the source which keys the changed rows of joined tables concern, and calls
// full after each key. What is found stays found when it is tried again: rows that come to
// be concerned later have changed themselves, or a row has that is joined before.
func (b *batch) resolve(ctx context.Context, p *mapping.Plan, source *server.Server, full func(context.Context) error) error {
	byUse := map[string][]string{}
	for id, t := range b.touches {
		use := fmt.Sprintf("%d %s %d", t.use.planned, t.table.name, t.use.number)
		byUse[use] = append(byUse[use], id)
	}
	for _, list := range byUse {
		for part := range slices.Chunk(list, asksAtOnce) {
			if err := b.concerned(ctx, p, part, source, full); err != nil {
				return err
			}
			for _, id := range part {
				delete(b.touches, id)
			}
			b.size -= len(part)
		}
	}
	return nil
}

// concerned asks one question for some changed rows of one use.
func (b *batch) concerned(ctx context.Context, p *mapping.Plan, ids []string, source *server.Server, full func(context.Context) error) error {
	first := b.touches[ids[0]]
	planned := &p.Tables[first.use.planned]
	asks := make([]string, 0, len(ids))
	for _, id := range ids {
		t := b.touches[id]
		ask, err := t.use.touch.Keys(t.values)
		if err != nil {
			return fatal(fmt.Errorf("%s: rows of table %s: %w", planned.Target, t.table.name, err))
		}
		asks = append(asks, ask)
	}
	return b.ask(ctx, planned, first, source, strings.Join(asks, " UNION "), full)
}

// ask adds the keys that a statement gives, which asks for rows that some like first concern.
func (b *batch) ask(ctx context.Context, planned *mapping.Planned, first touched, source *server.Server, query string, full func(context.Context) error) error {
	fault := func(err error) error {
		return fmt.Errorf("%s: which rows table %s concerns: source: %w", planned.Target, first.table.name, err)
	}
	rows, err := source.DB.QueryContext(ctx, query)
	if err != nil {
		return fault(err)
	}
	defer rows.Close()
	cols := planned.KeyColumns()
	values := make([]sql.RawBytes, len(cols))
	into := make([]any, len(cols))
	for i := range values {
		into[i] = &values[i]
	}
	for rows.Next() {
		if err := rows.Scan(into...); err != nil {
			return fault(err)
		}
		key := make([]string, 0, len(cols))
		for i, v := range values {
			key = append(key, server.Literal(v, cols[i].Type.Kind))
		}
		b.key(first.use.planned, key)
		if err := full(ctx); err != nil {
			return err
		}
	}
	if err := rows.Err(); err != nil {
		return fault(err)
	}
	return nil
}

// held is how many keys are in it.
func (b *batch) held() int { return b.size - len(b.touches) }

// empty takes all keys out. The changed rows of joined tables stay.
func (b *batch) empty() {
	clear(b.keys)
	b.size = len(b.touches)
}

// parts are the keys of a table in lists that a statement can have.
func (b *batch) parts(planned int) (out [][][]string) {
	list := make([][]string, 0, len(b.keys[planned]))
	for _, k := range b.keys[planned] {
		list = append(list, k)
	}
	slices.SortFunc(list, slices.Compare) // the order of locks
	for part := range slices.Chunk(list, keysAtOnce) {
		out = append(out, part)
	}
	return out
}
