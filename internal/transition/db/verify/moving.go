package verify

import (
	"context"
	"fmt"
	"slices"
)

// This file compares rows while the source is written to and a run carries that over. A row
// that is behind is no difference; one that differs for good is.

// looks is how often the rows of a chunk are compared at most, each time after all that the
// source had is in the target. A difference counts when it was seen sure times with the same row
// of the source: between the first and the last of them the source's row stood still, and the
// target's was read after that row had been carried over.
const (
	looks = 8
	sure  = 3
)

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

// seen is how a row was that differs.
type seen struct {
	digest string // of the source's row; "": it has none
	what   string
	times  int // one after the other, from 1
}

// stay gives the rows of a chunk that differ for good, and those that differ at all looks and are
// not sure then. A row that was equal at one of them is right: what was written to it since is
// in motion.
func (v *verifier) stay(ctx context.Context, t *table, p chunk) (out []Difference, err error) {
	var last map[string]seen
	for n := 1; ; n++ {
		now, unsure := map[string]seen{}, false
		err := v.unlike(ctx, t.t, p, func(key, digest, what string) error {
			s, was := seen{digest, what, 1}, last[key]
			switch {
			case n > 1 && was.times == 0: // it was equal
				return nil
			case was.digest == digest && was.what == what:
				s.times += was.times
			}
			now[key], unsure = s, unsure || s.times < sure
			return nil
		})
		if err != nil {
			return nil, err
		}
		if last = now; !unsure || n == looks {
			break
		}
		if err := v.opt.Await(ctx); err != nil {
			return nil, err
		}
	}
	for key, s := range last {
		if s.times < sure {
			s.what = Moving
		}
		out = append(out, Difference{split(key), s.what})
	}
	slices.SortFunc(out, byKey)
	return out, nil
}

// again asks a check anew, each time after all that the source had is in the target, until it
// holds or was broken sure times.
func (v *verifier) again(ctx context.Context, c *check) error {
	for n := 1; ; n++ {
		err := v.check(ctx, c)
		if err != nil || c.out.Holds || c.ids || n == sure {
			return err
		}
		if err := v.opt.Await(ctx); err != nil {
			return err
		}
		c.out.Broken, c.out.Keys, c.out.Error = 0, nil, ""
	}
}
