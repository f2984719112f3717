package db

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"holdfast/internal/fail"
	"holdfast/internal/text"
	"holdfast/internal/transition/db/copier"
	"holdfast/internal/transition/db/ids"
	"holdfast/internal/transition/db/server"
	"holdfast/internal/transition/db/sqlexpr"
)

// remedyOther is what to do with a journal that is not of this command's copy.
const remedyOther = "go on with what it began with; or begin anew: holdfast transition db clean, then empty the target's tables"

// journal reads the target's journal, nil when there is none. One of a copy that was begun
// with something else, or from another source, is refused.
func (x *Alignment) journal(ctx context.Context) (*copier.Journal, error) {
	j, err := copier.ReadJournal(ctx, x.target.DB)
	if denied(err) {
		return nil, fail.Errorf(fail.Failed, "%w", err).With("grant " + x.target.Config.User + " all rights on " + copier.Database + ".*")
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
		return fail.Errorf(fail.Refused, "the target has the journal of a copy that began at %s with another mapping, other databases, other IDs or another --skip", j.Begun.Format(time.RFC3339)).With(remedyOther)
	}
	if j.State == copier.Copying || j.State == copier.Following {
		return sameSource(j, x.source, "; or begin anew: holdfast transition db clean with its --source, then empty the target's tables")
	}
	return sameSource(j, x.source, "") // a copy that is whole is nothing to be emptied
}

// sameSource looks whether a journal is of a copy from source. A server is known by what it
// calls itself, which changes when its host gets another name. more is what else helps.
func sameSource(j *copier.Journal, source *server.Server, more string) error {
	if j.Source == source.Name() {
		return nil
	}
	remedy := fmt.Sprintf("give its --source; if it is the same server under a new name, on the target: UPDATE %s.run SET source = %s", copier.Database, sqlexpr.Literal(source.Name()))
	return fail.Errorf(fail.Refused, "the target has the journal of a copy that began at %s from %s: this source is %s", j.Begun.Format(time.RFC3339), text.Clean(j.Source), source.Name()).With(remedy + more)
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
	made, err := json.Marshal(parts)
	if err != nil {
		return "", fmt.Errorf("name the mapping: %w", err)
	}
	sum := sha256.Sum256(made)
	return hex.EncodeToString(sum[:]), nil
}

// Left is what the work has left.
type Left struct {
	What    string          // the databases that are there, "" when none is
	Journal *copier.Journal // nil: there is none
	Open    bool            // the copy has not ended
}

// Clean drops what the work has left. sure is called before, unless there is nothing; its
// error ends it.
func (s *Servers) Clean(ctx context.Context, sure func(context.Context, Left) error) (was Left, err error) {
	ctx, unlock, err := s.lock(ctx)
	if err != nil {
		return was, err
	}
	defer unlock()
	j, err := copier.ReadJournal(ctx, s.target.DB)
	if err != nil {
		return was, err
	}
	if err := s.cleanable(ctx, j); err != nil {
		return was, err
	}
	was.Journal, was.Open = j, j != nil && (j.State == copier.Copying || j.Follows && j.State != copier.Done)
	if was.What, err = s.left(ctx); err != nil {
		return was, err
	}
	if was.What != "" {
		if err := sure(ctx, was); err != nil {
			return was, err
		}
	}
	// The journal first: without it nothing goes on with IDs that are gone.
	if err := copier.Drop(ctx, s.target); err != nil {
		return was, err
	}
	return was, ids.Drop(ctx, s.source)
}

// left names the databases of a copy that are there, "" when none is.
func (s *Servers) left(ctx context.Context) (string, error) {
	var out []string
	for _, x := range []struct {
		at *server.Server
		db string
	}{{s.source, ids.Database}, {s.target, copier.Database}} {
		is, err := x.at.Has(ctx, x.db)
		if err != nil {
			return "", err
		}
		if is {
			out = append(out, x.db+" on the "+x.at.Role)
		}
	}
	return strings.Join(out, ", "), nil
}

// cleanable looks whether the staged IDs and the journal are of one copy: nobody drops
// those of another, which may be under way.
func (s *Servers) cleanable(ctx context.Context, j *copier.Journal) error {
	if j != nil {
		err := sameSource(j, s.source, "; when it is gone for good: DROP DATABASE "+copier.Database+" on the target by hand")
		if err != nil {
			return err
		}
	}
	err := ids.OwnedAt(ctx, s.source, s.target.Name())
	if errors.Is(err, ids.ErrOwner) {
		return fail.Errorf(fail.Refused, "%w", err).With("give its --target; when that is gone for good, and no copy needs the IDs: DROP DATABASE " + ids.Database + " on the source by hand")
	}
	return err
}
