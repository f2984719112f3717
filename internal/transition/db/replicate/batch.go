package replicate

import (
	"context"
	"database/sql"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"holdfast/internal/transition/db/mapping"
	"holdfast/internal/transition/db/server"
)

// Sizes of statements.
const (
	keysAtOnce  = 1000 // keys in a condition
	asksAtOnce  = 250  // changed rows in a question for keys: MySQL 8 takes their SELECTs for nested, and has little stack for that
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
func (b *batch) concerned(ctx context.Context, p *mapping.Plan, ids []string, source *server.Server,
	full func(context.Context) error) error {
	first := b.touches[ids[0]]
	planned := &p.Tables[first.use.planned]
	changed := make([][]string, 0, len(ids))
	for _, id := range ids {
		changed = append(changed, b.touches[id].values)
	}
	ask, err := first.use.touch.Keys(changed)
	if err != nil {
		return fatal(fmt.Errorf("%s: rows of table %s: %w", planned.Target, first.table.name, err))
	}
	var ended error // by full
	err = server.Walk(ctx, source.DB, ask, func(row []sql.RawBytes) error {
		b.key(first.use.planned, server.Key(planned.KeyKinds(), row))
		ended = full(ctx)
		return ended
	})
	if err != nil && ended == nil {
		return fmt.Errorf("%s: which rows table %s concerns: source: %w", planned.Target, first.table.name, err)
	}
	return err
}

// held is how many keys are in it.
func (b *batch) held() int { return b.size - len(b.touches) }

// empty takes all keys out. The changed rows of joined tables stay.
func (b *batch) empty() {
	clear(b.keys)
	b.size = len(b.touches)
}

// parts are the keys of a table in lists that a statement can have.
func (b *batch) parts(planned int) [][][]string { return parts(b.keys[planned]) }

func parts(keys map[string][]string) [][][]string {
	list := slices.SortedFunc(maps.Values(keys), slices.Compare) // the order of locks
	return slices.Collect(slices.Chunk(list, keysAtOnce))
}

// renewal is what is to be done for the keys of a batch in one table: rows of old are taken
// out of the target, and rows of now made anew.
type renewal struct {
	planned  int // of the plan
	table    *mapping.Planned
	old, now [][][]string
}

// renewals asks the source how it writes keys that can be written in several ways. The log
// told them as they were: one row may have been of several since, and is to be made once.
// What the target has of it may be written like any of them, or as it is now, if it was
// made by a change that the log is still to tell.
func (b *batch) renewals(ctx context.Context, p *mapping.Plan, source *server.Server) ([]renewal, error) {
	out := make([]renewal, 0, len(p.Tables))
	for i := range p.Tables {
		c := renewal{planned: i, table: &p.Tables[i], old: b.parts(i)}
		if c.now = c.old; c.table.Spelled() {
			old, now := maps.Clone(b.keys[i]), map[string][]string{}
			for _, part := range c.old {
				err := server.Walk(ctx, source.DB, c.table.KeysOf(part), func(row []sql.RawBytes) error {
					key := server.Key(c.table.KeyKinds(), row)
					id := strings.Join(key, ", ")
					old[id], now[id] = key, key
					return nil
				})
				if err != nil {
					return nil, fmt.Errorf("%s: keys of table %s: source: %w", c.table.Target, c.table.Source, err)
				}
			}
			c.old, c.now = parts(old), parts(now)
		}
		if len(c.old) > 0 {
			out = append(out, c)
		}
	}
	return out, nil
}
