package verify

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"

	"holdfast/internal/transition/db/mapping"
	"holdfast/internal/transition/db/server"
)

// differences names rows of the chunks that differ, the first ones. A table whose sides
// order its keys otherwise is one chunk: it is taken apart by checksums of its keys.
func (v *verifier) differences(ctx context.Context, t *table) error {
	for _, p := range v.apart(t, toldChunks) {
		more := toldKeys - len(t.out.Differences)
		if more <= 0 {
			break
		}
		found, err := v.differing(ctx, t.t, p, more)
		if err != nil {
			return fmt.Errorf("rows of %s that differ: %w", t.t.Target, err)
		}
		t.out.Differences = append(t.out.Differences, found...)
	}
	slices.SortStableFunc(t.out.Differences, byKey)
	return nil
}

// apart are the chunks of a table whose rows are compared, most of those that differ.
func (v *verifier) apart(t *table, most int) (out []chunk) {
	if t.t.Chunked() {
		return t.differ[:min(most, len(t.differ))]
	}
	of := int(max(t.out.SourceRows, t.out.TargetRows))/(heldChunks*v.opt.ChunkRows) + 1
	for i := range of {
		out = append(out, chunk{part: i, of: of})
	}
	return out
}

// differing gives the rows of a chunk that differ, most of them.
func (v *verifier) differing(ctx context.Context, t *mapping.Planned, p chunk, most int) (out []Difference, err error) {
	err = v.unlike(ctx, t, p, func(key, _, what string) error {
		if out = append(out, Difference{split(key), what}); len(out) >= most {
			return server.ErrEnough
		}
		return nil
	})
	slices.SortFunc(out, byKey)
	return out, err
}

// unlike compares a chunk row by row: its rows of the source are held in memory, those of
// the target are read one after the other. tell gets the source's checksum of a row that
// differs, and may end it by server.ErrEnough.
func (v *verifier) unlike(ctx context.Context, t *mapping.Planned, p chunk, tell func(key, digest, what string) error) error {
	here, there := p.conditions(t)
	digests := map[string]string{}
	err := server.Walk(ctx, v.source.DB, t.SourceRows(here), func(row []sql.RawBytes) error {
		digests[keyOf(row)] = string(row[len(row)-1])
		return nil
	})
	if err != nil {
		return fmt.Errorf("source: %w", err)
	}
	enough := false
	each := func(key, digest, what string) error {
		err := tell(key, digest, what)
		enough = errors.Is(err, server.ErrEnough)
		return err
	}
	err = server.Walk(ctx, v.target.DB, t.TargetRows(there), func(row []sql.RawBytes) (err error) {
		key := keyOf(row)
		switch digest, ok := digests[key]; {
		case !ok:
			err = each(key, "", Extra)
		case digest != string(row[len(row)-1]):
			err = each(key, digest, Differs)
		}
		delete(digests, key)
		return err
	})
	if err != nil {
		return fmt.Errorf("target: %w", err)
	}
	if enough { // not all rows of the target were seen
		return nil
	}
	for _, key := range slices.SortedFunc(maps.Keys(digests), func(a, b string) int { return byValues(split(a), split(b)) }) {
		if err := tell(key, digests[key], Missing); errors.Is(err, server.ErrEnough) {
			return nil
		} else if err != nil {
			return err
		}
	}
	return nil
}

// keyOf writes the values of a key, each after its length.
func keyOf(row []sql.RawBytes) string {
	var b strings.Builder
	for _, v := range row[:len(row)-1] {
		fmt.Fprintf(&b, "%d:%s", len(v), v)
	}
	return b.String()
}

// split gives a key's values as they are told.
func split(key string) (out []string) {
	for key != "" {
		length, rest, _ := strings.Cut(key, ":")
		n, err := strconv.Atoi(length)
		if err != nil {
			panic(err) // keyOf has written it
		}
		out, key = append(out, server.ForPeople(rest[:n])), rest[n:]
	}
	return out
}

// byKey orders differences for people.
func byKey(a, b Difference) int { return byValues(a.Key, b.Key) }

// byValues orders keys for people: numbers by their length first.
func byValues(a, b []string) int {
	return slices.CompareFunc(a, b, func(x, y string) int {
		return cmp.Or(cmp.Compare(len(x), len(y)), cmp.Compare(x, y))
	})
}

// job is a part of the work.
type job func(context.Context) error

// pool does what feed gives it, several at once. The first error stops all.
func pool(ctx context.Context, parallel int, feed func(ctx context.Context, do func(job)) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	jobs := make(chan job)
	var wg sync.WaitGroup
	for range parallel {
		wg.Go(func() {
			for j := range jobs {
				if err := j(ctx); err != nil {
					cancel(err)
				}
			}
		})
	}
	err := feed(ctx, func(j job) {
		select {
		case jobs <- j:
		case <-ctx.Done():
		}
	})
	if err != nil {
		cancel(err)
	}
	close(jobs)
	wg.Wait()
	return context.Cause(ctx)
}
