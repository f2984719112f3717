package try

import (
	"hash/maphash"
	"maps"
	"runtime/debug"
	"slices"
)

// Space is what a search of all courses of a machine looks through.
type Space[S any] struct {
	Next   func(s S, visit func(S))     // gives each state that may follow
	Key    func(s S) []byte             // the same for states that need not be told apart
	Broken func(s S, number int) string // what is wrong with the state, which is the number-th
	Goals  map[string]func(s S) bool    // by name
	Want   []string                     // the goals that must be met, so that the search has looked where it matters
	Limit  int                          // of states
}

// Search visits every state that can be reached from start, those after fewest steps first. It ends
// at the first one with which something is wrong, and says what; or after Limit states.
// missed are the wanted goals that were not met.
func (x Space[S]) Search(start S) (n int, bad S, why string, missed []string) {
	debug.SetGCPercent(400) // of the whole program, for good: searches run beside each other. Most of what they make is kept
	seeds := [2]maphash.Seed{maphash.MakeSeed(), maphash.MakeSeed()}
	left := map[string]func(S) bool{}
	for _, name := range x.Want {
		left[name] = x.Goals[name]
	}
	seen := map[[2]uint64]struct{}{}
	var none S
	queue := []S{start}
	for len(queue) > 0 && why == "" && len(seen) < x.Limit {
		s := queue[0]
		queue[0], queue = none, queue[1:]
		x.Next(s, func(next S) {
			k := x.Key(next)
			h := [2]uint64{maphash.Bytes(seeds[0], k), maphash.Bytes(seeds[1], k)}
			if _, was := seen[h]; was || why != "" {
				return
			}
			seen[h] = struct{}{}
			maps.DeleteFunc(left, func(_ string, is func(S) bool) bool { return is(next) })
			if why = x.Broken(next, len(seen)); why != "" {
				bad = next
				return
			}
			queue = append(queue, next)
		})
	}
	return len(seen), bad, why, slices.Sorted(maps.Keys(left))
}
