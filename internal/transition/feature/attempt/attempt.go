// Package attempt tries features on a test guest, one after the other, and puts back what they have done. What a
// feature is on a platform is not known here.
package attempt

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"holdfast/internal/lib/clock"
	"holdfast/internal/transition/feature"
)

const (
	// persistFor is how long what fails is tried again: a service that restarts is back by then.
	persistFor = 30 * time.Second
	pause      = time.Second // between two tries
)

// Guest is a test guest on a platform.
type Guest interface {
	Skip(feature.Name) string                // why a feature can not be tried; "": it can
	Ready(context.Context) error             // puts back what was done before, and sees that the guest runs where it ran
	Try(context.Context, feature.Name) error // nil: it was done, and read back
	Restore(context.Context) (left []string) // puts back all that is left to be, and says what it could not
}

// Run tries features in their order, tells when each begins, and notes in rep what came of them. Everything is put
// back, also after a failure or when ctx ends; what could not be is in rep.Left.
func Run(ctx context.Context, rep *feature.Report, all []feature.Name, g Guest, tell func(feature.Progress)) {
	stuck := "" // why nothing more can be tried
	for i, n := range all {
		tell(feature.Progress{Name: n, Done: i, All: len(all), Names: all, Over: slices.Clone(rep.Features)})
		f := feature.Result{Name: n, Result: feature.Skipped, Why: g.Skip(n)}
		if f.Why == "" && stuck == "" && !n.Continues() {
			stuck = Said(g.Ready(ctx))
		}
		if f.Why == "" && ctx.Err() != nil {
			f.Why, rep.Interrupted = "interrupted", true
		}
		if f.Why == "" && stuck != "" {
			f.Result, f.Why = feature.Failed, "before it was tried: "+stuck
		}
		if f.Why == "" {
			begun := time.Now()
			err := g.Try(ctx, n)
			f.Seconds = time.Since(begun).Round(time.Millisecond).Seconds()
			switch {
			case err == nil:
				f.Result = feature.OK
			case ctx.Err() != nil: // that is not the platform's fault
				f.Why, rep.Interrupted = "interrupted", true
			default:
				f.Result, f.Why = feature.Failed, Said(err)
			}
		}
		rep.Features = append(rep.Features, f)
	}
	tell(feature.Progress{Done: len(all), All: len(all), Names: all, Over: slices.Clone(rep.Features)})
	rep.Left = g.Restore(context.WithoutCancel(ctx))
}

// Said is an error in one line.
func Said(err error) string {
	if err == nil {
		return ""
	}
	return strings.Join(strings.Fields(err.Error()), " ")
}

// Undo takes back one thing that a feature has done. It looks first, and may be repeated.
type Undo struct {
	What string // for people, as it is when it is not taken back
	Do   func(context.Context) error
}

// Stack is what is to be put back, the last one first.
type Stack struct {
	Limit time.Duration // for putting back what one feature has done
	undo  []Undo
}

// Later notes what is to be put back. It is called before that is done: nothing is forgotten when the doing breaks off.
func (s *Stack) Later(what string, do func(context.Context) error) {
	s.undo = append(s.undo, Undo{what, do})
}

// Unwind puts back what features have done, the last one first, until one thing can not be.
func (s *Stack) Unwind(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.Limit)
	defer cancel()
	for len(s.undo) > 0 {
		last := s.undo[len(s.undo)-1]
		if err := Persist(ctx, last.Do); err != nil {
			return fmt.Errorf("%s: %w", last.What, err)
		}
		s.undo = s.undo[:len(s.undo)-1]
	}
	return nil
}

// Drain puts back all that is left to be, then does each of last, and says what it could not.
func (s *Stack) Drain(ctx context.Context, last ...Undo) (left []string) {
	for len(s.undo) > 0 {
		if err := s.Unwind(ctx); err != nil {
			left = append(left, Said(err))
			s.undo = s.undo[:len(s.undo)-1] // the others are tried all the same
		}
	}
	ctx, cancel := context.WithTimeout(ctx, s.Limit)
	defer cancel()
	for _, u := range last {
		if err := Persist(ctx, u.Do); err != nil {
			left = append(left, Said(fmt.Errorf("%s: %w", u.What, err)))
		}
	}
	return left
}

// Persist does something that may fail for a moment.
func Persist(ctx context.Context, do func(context.Context) error) error {
	for end := time.Now().Add(persistFor); ; {
		err := do(ctx)
		if err == nil || time.Now().After(end) || !clock.Sleep(ctx, pause) {
			return err
		}
	}
}
