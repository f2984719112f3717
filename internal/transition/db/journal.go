package db

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"holdfast/internal/lib/fail"
	"holdfast/internal/lib/text"
	"holdfast/internal/transition/db/copier"
	"holdfast/internal/transition/db/ids"
	"holdfast/internal/transition/db/server"
	"holdfast/internal/transition/db/sqlexpr"
)

// remedyOther is what to do with a journal that is not of this command's copy.
const remedyOther = "go on with what it began with; or begin anew: holdfast transition db clean --rows"

// journal reads the target's journal, nil when there is none. One of a copy that was begun
// with something else, or from another source, is refused.
func (x *Alignment) journal(ctx context.Context) (*copier.Journal, error) {
	j, err := copier.ReadJournal(ctx, x.target.DB)
	if denied(err) {
		return nil, x.rights(ctx, fail.Errorf(fail.Failed, "%w", err))
	}
	if err == nil && j != nil {
		err = x.ours(j)
	}
	return j, err
}

// begun reads the journal, and completes the IDs. One that has had its cut-over is an error
// for who would go on with following.
func (x *Alignment) begun(ctx context.Context, follows bool, note func(string)) (*copier.Journal, error) {
	j, err := x.journal(ctx)
	if err == nil && j != nil && follows && j.State == copier.Done {
		err = cutOver(j.CutOver())
	}
	if err != nil {
		return nil, err
	}
	return j, x.complete(ctx, j, note)
}

// ours looks whether a journal is of this command's copy.
func (x *Alignment) ours(j *copier.Journal) error {
	if j.Mapping != x.hash {
		return fail.Errorf(fail.Refused, "the target has the journal of a copy that began at %s with another "+
			"mapping, other databases, other IDs, another --skip or --leave-out-orphans", j.Begun.Format(time.RFC3339)).With(remedyOther)
	}
	if j.State == copier.Copying || j.State == copier.Following {
		return sameSource(j, x.source, "; or begin anew: holdfast transition db clean --rows with its --source")
	}
	return sameSource(j, x.source, "") // a copy that is whole is nothing to be emptied
}

// sameSource looks whether a journal is of a copy from source. A server is known by what it
// calls itself, which changes when its host gets another name. more is what else helps.
func sameSource(j *copier.Journal, source *server.Server, more string) error {
	if j.Source == source.Name() {
		return nil
	}
	remedy := fmt.Sprintf("give its --source; if it is the same server under a new name, on the target: UPDATE "+
		"%s.run SET source = %s", copier.Database, sqlexpr.Literal(source.Name()))
	return fail.Errorf(fail.Refused, "the target has the journal of a copy that began at %s from %s: this source is %s",
		j.Begun.Format(time.RFC3339), text.Clean(j.Source), source.Name()).With(remedy + more)
}

// complete fills in the IDs that are asked of the target. Where the journal of this copy
// is there, those that it began with count.
func (x *Alignment) complete(ctx context.Context, j *copier.Journal, note func(string)) error {
	if j == nil {
		return kinded(ids.Ask(ctx, x.mapping, x.sets, x.target, x.targetSide), fail.Invalid)
	}
	staged, err := ids.Staged(ctx, x.source, x.mapping.IDs, x.goal())
	if err != nil {
		return err
	}
	notes, err := ids.Resume(ctx, x.mapping, x.sets, staged, x.target, x.targetSide)
	for _, n := range notes {
		note(text.Clean(n))
	}
	if errors.Is(err, ids.ErrChanged) {
		return fail.Errorf(fail.Refused, "%w", err).With(remedyOther)
	}
	return kinded(err, fail.Invalid)
}

// stage puts the IDs on the source, where statements look them up, as those of this copy.
// Who calls it holds the source's lock.
func (x *Alignment) stage(ctx context.Context) error {
	if err := ids.Claim(ctx, x.source, x.goal()); err != nil {
		return err
	}
	return ids.Stage(ctx, x.source, x.mapping, x.sets)
}

// copyHash names what a copy is made by: a journal is gone on with by the same only.
func (x *Alignment) copyHash() (string, error) {
	parts := []any{string(x.text), x.sourceDBs, x.targetDBs, ids.Fixed(x.mapping, x.sets)}
	if len(x.skip) > 0 {
		parts = append(parts, slices.Compact(slices.Sorted(slices.Values(x.skip))))
	}
	if x.orphans {
		parts = append(parts, "leave-out-orphans")
	}
	made, err := json.Marshal(parts)
	if err != nil {
		return "", fmt.Errorf("name the mapping: %w", err)
	}
	sum := sha256.Sum256(made)
	return hex.EncodeToString(sum[:]), nil
}
