package verify

import (
	"context"
	"fmt"
	"slices"

	"holdfast/internal/lib/database"
)

// This file compares rows while the source is written to and a run carries that over. A row
// that is behind is no difference; one that differs for good is.

// staying names rows of the chunks that differ for good, or that changed between all looks. A
// chunk without any is equal.
func (v *verifier) staying(ctx context.Context, t *table) error {
	var differ []chunk
	for _, p := range v.apart(t, len(t.differ)) {
		if len(t.out.Differences) >= toldKeys {
			differ = append(differ, p) // it did, and is not looked at again
			continue
		}
		found, err := v.stay(ctx, t, p)
		if err != nil {
			return fmt.Errorf("rows of %s that differ: %w", t.t.Target, err)
		}
		if len(found) == 0 {
			t.out.TargetRows -= p.more // all were equal at one of the looks
			continue
		}
		differ = append(differ, p)
		t.out.Differences = append(t.out.Differences, found[:min(len(found), toldKeys-len(t.out.Differences))]...)
	}
	if !t.t.Chunked() && len(differ) == 0 {
		t.out.TargetRows = t.out.SourceRows
	}
	t.differ = differ
	slices.SortStableFunc(t.out.Differences, byKey)
	return nil
}

// stay gives the rows of a chunk that differ for good, and those that differ at all looks and are
// not sure then.
func (v *verifier) stay(ctx context.Context, t *table, p chunk) (out []Difference, err error) {
	all, err := database.Stay(ctx, func(tell func(key, digest, what string) error) error { return v.unlike(ctx, t.t, p, tell) }, v.opt.Await)
	for _, d := range all {
		if !d.Sure {
			d.What = Moving
		}
		out = append(out, Difference{split(d.Key), d.What})
	}
	slices.SortFunc(out, byKey)
	return out, err
}

// again asks a check anew, each time after all that the source had is in the target, until it
// holds or was broken database.Sure times.
func (v *verifier) again(ctx context.Context, c *check) error {
	for n := 1; ; n++ {
		err := v.check(ctx, c)
		if err != nil || c.out.Holds || c.ids || n == database.Sure {
			return err
		}
		if err := v.opt.Await(ctx); err != nil {
			return err
		}
		c.out.Broken, c.out.Keys, c.out.Error = 0, nil, ""
	}
}
