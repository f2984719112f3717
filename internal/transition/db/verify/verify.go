// Package verify compares the mapped rows of the source with those of the target, and
// looks whether what must hold of the target does. It reads only.
//
// Both servers make checksums of chunks of rows at the same time; single rows are looked
// at only in chunks that differ.
package verify

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"holdfast/internal/transition/db/mapping"
	"holdfast/internal/transition/db/server"
)

// Defaults and bounds.
const (
	parallel   = 4
	chunkRows  = 10_000
	toldKeys   = 20 // of a table
	toldChunks = 20 // chunks of a table in which keys are looked for

	heldChunks = 10 // whose rows, 100,000 of some 100 bytes, are in memory where keys are ordered otherwise
)

// Options of a comparison; the zero value will do.
type Options struct {
	Parallel  int            // chunks compared at once, each with a connection to both servers; 0: 4
	ChunkRows int            // rows of the source in a chunk; 0: 10,000
	Progress  func(Progress) // called now and then, at most twice a second, never by two at once

	// Await waits until all that the source has now is in the target, where a run carries over
	// what is written meanwhile; nil: the source stands still.
	Await func(context.Context) error
}

// Progress is how far it is.
type Progress struct {
	Table string // of the target, of the last chunk that was compared
	Rows  int64  // of the source, of all tables so far

	Tables         []Standing // all, in the order of the plan
	Checks, Looked int        // how many there are, and how many were looked at
	Broken         int        // of those that were looked at
}

// Standing is how far a table is.
type Standing struct {
	Table                  string // of the target
	SourceRows, TargetRows int64  // that were compared so far
	Differ                 int    // chunks that differed so far: without Await for good, with it some rows may be behind only
	Running, Done          bool   // Done: all its rows were compared; Running then: rows that differ are looked for
}

// Result is what was found. No list is nil.
type Result struct {
	Tables []TableResult `json:"tables"` // in the order of the plan
	Checks []CheckResult `json:"checks"` // the mapping's, then the target's foreign keys, then the IDs
	Equal  bool          `json:"equal"`  // all tables are, and all checks hold
}

// TableResult is a table compared.
type TableResult struct {
	Target        string       `json:"target"`
	SourceRows    int64        `json:"source_rows"` // mapped rows
	TargetRows    int64        `json:"target_rows"`
	ChecksumEqual bool         `json:"checksum_equal"`          // of all values that the mapping gives, in each chunk
	ChunksDiffer  int          `json:"ranges_differ,omitempty"` // the name that scripts know
	Differences   []Difference `json:"differences,omitempty"`   // the first 20, where the target keeps the source's key
	NotCompared   []string     `json:"not_compared,omitempty"`  // columns of the target to which the mapping gives nothing
}

// Difference is a row that is not as it is to be.
type Difference struct {
	Key  []string `json:"key"`  // of the source's row; what the target's kept
	What string   `json:"what"` // Differs, Missing or Extra
}

// What may be with a row.
const (
	Differs = "differs"
	Missing = "missing in the target"
	Extra   = "extra in the target"
	Moving  = "changed between all looks at it"
)

// Run compares all tables of a plan, as survey.Plan made it, with the IDs staged. Without
// Await, rows that are written meanwhile may show as differences; a chunk that differs is
// read twice before it counts. An error is a server that can not be asked; a difference is
// none.
func Run(ctx context.Context, m *mapping.Mapping, p *mapping.Plan, source, target *server.Server,
	targetSide mapping.Side, opt Options) (*Result, error) {
	if opt.Parallel < 0 || opt.ChunkRows < 0 {
		return nil, fmt.Errorf("verify with %d chunks at once of %d rows: want numbers from 1, or 0 for %d and %d",
			opt.Parallel, opt.ChunkRows, parallel, chunkRows)
	}
	opt.Parallel, opt.ChunkRows = cmp.Or(opt.Parallel, parallel), cmp.Or(opt.ChunkRows, chunkRows)
	v := &verifier{source: source, target: target, opt: opt}
	for i := range p.Tables {
		v.tables = append(v.tables, &table{t: &p.Tables[i], at: Standing{Table: p.Tables[i].Target},
			out: TableResult{Target: p.Tables[i].Target, NotCompared: p.Tables[i].Unnamed()}})
	}
	checks := v.checks(m, p, targetSide)
	v.all = len(checks)
	err := pool(ctx, opt.Parallel, func(ctx context.Context, do func(job)) error {
		for _, t := range v.tables {
			if err := v.chunks(ctx, t, do); err != nil {
				return fmt.Errorf("source: chunks of %s: %w", t.t.Source, err)
			}
		}
		for _, c := range checks {
			do(func(ctx context.Context) error {
				look := v.check
				if v.opt.Await != nil {
					look = v.again
				}
				err := look(ctx, c)
				if err == nil {
					v.looked(c.out.Holds)
				}
				return err
			})
		}
		return nil
	})
	if err == nil {
		err = v.narrow(ctx)
	}
	if err != nil {
		return nil, err
	}
	return v.result(checks), nil
}

// verifier compares tables.
type verifier struct {
	source, target *server.Server
	opt            Options
	tables         []*table

	all int // checks

	mu           sync.Mutex // guards the tables' results while they are compared, how far they are, and what follows
	rows         int64
	last         string // table of the last chunk
	done, broken int    // checks
	told         time.Time
}

// table is a table being compared.
type table struct {
	t      *mapping.Planned
	out    TableResult
	differ []chunk

	at   Standing
	open int // chunks that are not compared yet
}

// chunk is the rows of a table whose keys (SQL each) come after one key, and not after
// another; nil: from the first, to the last.
type chunk struct {
	number      int
	after, upTo []string

	part, of int // instead, where of is not 0: those rows whose keys' checksums divided by of leave part

	more int64 // rows of the target than of the source, when it was compared
}

// conditions on both sides; "" is none.
func (p chunk) conditions(t *mapping.Planned) (source, target string) {
	if p.of > 0 {
		return t.ByChecksum(p.of, p.part)
	}
	there := func(key []string) []string {
		if key == nil {
			return nil
		}
		return t.There(key)
	}
	return mapping.Between(mapping.Main, t.Key, p.after, p.upTo), mapping.Between("", t.Kept, there(p.after), there(p.upTo))
}

// chunks has all rows of a table compared, in chunks where the target has the same key.
func (v *verifier) chunks(ctx context.Context, t *table, do func(job)) error {
	end := v.begin(t) // until all its chunks are known
	var after []string
	for n := 0; ; n++ {
		var upTo []string
		if t.t.Chunked() {
			var err error
			if upTo, err = server.Bound(ctx, v.source.DB, t.t, after, v.opt.ChunkRows); err != nil {
				return err
			}
		}
		p := chunk{number: n, after: after, upTo: upTo}
		compared := v.begin(t)
		do(func(ctx context.Context) error { return compared(v.compare(ctx, t, p)) })
		if upTo == nil {
			return end(ctx.Err())
		}
		after = upTo
	}
}

// compare compares a chunk. One that differs is read once more: a row may have been
// written between the two reads.
func (v *verifier) compare(ctx context.Context, t *table, p chunk) error {
	s, d, err := v.sums(ctx, t, p)
	if err == nil && s != d {
		if v.opt.Await != nil {
			err = v.opt.Await(ctx)
		}
		if err == nil {
			s, d, err = v.sums(ctx, t, p)
		}
	}
	if err != nil {
		return err
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	t.out.SourceRows += s.rows
	t.out.TargetRows += d.rows
	if s != d {
		p.more = d.rows - s.rows
		t.differ = append(t.differ, p)
		t.at.Differ++
	}
	t.at.SourceRows, t.at.TargetRows = t.at.SourceRows+s.rows, t.at.TargetRows+d.rows
	v.rows, v.last = v.rows+s.rows, t.out.Target
	v.tell()
	return nil
}

// sum is what a server says of rows.
type sum struct {
	rows      int64
	all, each string
}

// sums asks both servers at the same time.
func (v *verifier) sums(ctx context.Context, t *table, p chunk) (s, d sum, err error) {
	here, there := p.conditions(t.t)
	err = both(
		func() error { return sumOf(ctx, v.source, t.t.SourceSum(here), t.t.Source, &s) },
		func() error { return sumOf(ctx, v.target, t.t.TargetSum(there), t.t.Target, &d) })
	return s, d, err
}

func sumOf(ctx context.Context, from *server.Server, query, of string, s *sum) error {
	if err := from.DB.QueryRowContext(ctx, query).Scan(&s.rows, &s.all, &s.each); err != nil {
		return fmt.Errorf("%s: checksum of %s: %w", from.Role, of, err)
	}
	return nil
}

// both does two things at the same time.
func both(a, b func() error) error {
	done := make(chan error, 1)
	go func() { done <- a() }()
	err := b()
	return errors.Join(<-done, err)
}

func (v *verifier) result(checks []*check) *Result {
	r := &Result{Tables: []TableResult{}, Checks: []CheckResult{}, Equal: true}
	for _, t := range v.tables {
		t.out.ChunksDiffer, t.out.ChecksumEqual = len(t.differ), len(t.differ) == 0
		r.Tables = append(r.Tables, t.out)
		r.Equal = r.Equal && t.out.ChecksumEqual
	}
	for _, c := range checks {
		r.Checks = append(r.Checks, c.out)
		r.Equal = r.Equal && c.out.Holds
	}
	return r
}

// narrow looks for the rows that differ.
func (v *verifier) narrow(ctx context.Context) error {
	return pool(ctx, v.opt.Parallel, func(_ context.Context, do func(job)) error {
		for _, t := range v.tables {
			if len(t.differ) > 0 && len(t.t.Kept) > 0 {
				slices.SortFunc(t.differ, func(a, b chunk) int { return cmp.Compare(a.number, b.number) })
				find := v.differences
				if v.opt.Await != nil {
					find = v.staying
				}
				do(func(ctx context.Context) error {
					found := v.begin(t)
					return found(find(ctx, t))
				})
			}
		}
		return nil
	})
}
