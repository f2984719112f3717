package database

import (
	"context"
	"slices"
	"strings"
)

// Looks is how often things are compared at most, each time after all that the first place had is in the second. A difference counts
// when it was seen Sure times with the same thing in the first place: between the first and the last of them that stood still, and
// the second place was looked at after it had been carried over.
const (
	Looks = 8
	Sure  = 3
)

// Difference is a thing that differed at all looks.
type Difference struct {
	Key  string
	What string // how, in the words of the last look
	Sure bool   // it stood still meanwhile; else it was written to between all looks
}

// movingState is how a thing was that differs.
type movingState struct {
	digest, what string
	times        int // one after the other, from 1
}

// Stay gives what differs, sorted by its key. look tells all that differs now: its key, a digest of it in the first place ("": it is
// not there), and how it differs. await returns when all that the first place has now is in the second. What was equal at one look is
// right: what was written to it since is in motion.
func Stay(ctx context.Context, look func(tell func(key, digest, what string) error) error,
	await func(context.Context) error) (out []Difference, err error) {
	var last map[string]movingState
	for n := 1; ; n++ {
		now, unsure := map[string]movingState{}, false
		err := look(func(key, digest, what string) error {
			s, was := movingState{digest, what, 1}, last[key]
			switch {
			case n > 1 && was.times == 0: // it was equal
				return nil
			case was.digest == digest && was.what == what:
				s.times += was.times
			}
			now[key], unsure = s, unsure || s.times < Sure
			return nil
		})
		if err != nil {
			return nil, err
		}
		if last = now; !unsure || n == Looks {
			break
		}
		if err := await(ctx); err != nil {
			return nil, err
		}
	}
	for key, s := range last {
		out = append(out, Difference{key, s.what, s.times >= Sure})
	}
	slices.SortFunc(out, func(a, b Difference) int { return strings.Compare(a.Key, b.Key) })
	return out, nil
}
