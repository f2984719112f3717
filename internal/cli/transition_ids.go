package cli

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"holdfast/internal/fail"
	"holdfast/internal/transition/db/copier"
	"holdfast/internal/transition/db/ids"
	"holdfast/internal/transition/db/server"
	"holdfast/internal/transition/db/sqlexpr"
)

// remedyOther is what to do with a journal that is not of this command's copy.
const remedyOther = "go on with what it began with; or begin anew: holdfast transition db clean, then empty the target's tables"

// journal reads the target's journal, nil when there is none. One of a copy that was begun
// with something else, or from another source, is refused.
func (x *alignment) journal(ctx context.Context) (*copier.Journal, error) {
	j, err := copier.ReadJournal(ctx, x.target.DB)
	switch {
	case denied(err):
		return nil, fail.Errorf(fail.Failed, "%w", err).With("grant " + x.target.Config.User + " all rights on " + copier.Database + ".*")
	case err != nil:
		return nil, err
	case j == nil:
		return nil, nil
	}
	return j, x.ours(j)
}

// ours looks whether a journal is of this command's copy.
func (x *alignment) ours(j *copier.Journal) error {
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
	return fail.Errorf(fail.Refused, "the target has the journal of a copy that began at %s from %s: this source is %s", j.Begun.Format(time.RFC3339), clean(j.Source), source.Name()).With(remedy + more)
}

// complete fills in the IDs that are asked of the target. Where the journal of this copy
// is there, those that it began with count.
func (x *alignment) complete(ctx context.Context, j *copier.Journal, warn func(string)) error {
	if j == nil {
		return kinded(ids.Ask(ctx, x.mapping, x.sets, x.target, x.targetSide), fail.Invalid)
	}
	staged, err := ids.Staged(ctx, x.source, x.mapping.IDs, x.goal())
	if err != nil {
		return err
	}
	notes, err := ids.Resume(ctx, x.mapping, x.sets, staged, x.target, x.targetSide)
	for _, n := range notes {
		warn(clean(n))
	}
	if errors.Is(err, ids.ErrChanged) {
		return fail.Errorf(fail.Refused, "%w", err).With(remedyOther)
	}
	return kinded(err, fail.Invalid)
}

// stage puts the IDs on the source, where statements look them up, as those of this copy.
// Who calls it holds the source's lock.
func (x *alignment) stage(ctx context.Context) error {
	if err := ids.Claim(ctx, x.source, x.goal()); err != nil {
		return err
	}
	return ids.Stage(ctx, x.source, x.mapping, x.sets)
}

// goal names the target: its server as that calls itself, by which clean knows it again
// (see ids.OwnedAt), and the databases.
func (x *alignment) goal() string {
	return fmt.Sprintf("%s, databases %s", x.target.Name(), strings.Join(slices.Sorted(maps.Values(x.targetDBs)), ", "))
}

// copyHash names what a copy is made by: a journal is gone on with by the same only.
func (x *alignment) copyHash() (string, error) {
	parts := []any{string(x.text), x.sourceDBs, x.targetDBs, ids.Fixed(x.mapping, x.sets)}
	if len(x.skip) > 0 {
		parts = append(parts, slices.Compact(slices.Sorted(slices.Values(x.skip))))
	}
	text, err := json.Marshal(parts)
	if err != nil {
		return "", fmt.Errorf("name the mapping: %w", err)
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:]), nil
}
