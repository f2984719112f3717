package job

import (
	"cmp"
	"fmt"
	"slices"

	"holdfast/internal/cluster"
)

// Generation counts the generations of what agents tell each other about jobs
// through the store: jobs, plans, steps and their arguments, records, and what the
// hosts report. Versions of programs are texts that can not be compared; this is
// the N of "N-1 to N+1".
//
// It is raised by one, once in a release, when the meaning of any of them changes
// so that an agent of the generation before would do the wrong thing: a field that
// must not be overlooked, a kind of step or an argument that means something else,
// a state that was not there. A field that an older agent may overlook raises
// nothing. A release that raises it still does right with what agents of the
// generation before write and read, and a bundle of Holdfast lists as upgradeFrom
// only versions that are at most one generation older.
//
// What agents call of each other (agent.proto) is not counted: a call that an agent does
// not know fails, and the checks before a run find it.
//
// A record that does not say its generation is from before they were counted: 0
// stands for 1.
const Generation = 1

// Together reports whether agents of these generations may work on one job: no two
// are more than one apart.
func Together(generations ...int) bool {
	least, most := bounds(generations)
	return most-least <= 1
}

// Fitting returns the least and the greatest generation that may work together with
// these, which may do so themselves.
func Fitting(generations ...int) (from, to int) {
	least, most := bounds(generations)
	return max(most-1, 1), least + 1
}

// bounds are the least and the greatest, at least 1.
func bounds(generations []int) (least, most int) {
	return max(slices.Min(generations), 1), max(slices.Max(generations), 1)
}

// AgentOf names the agent of a host for people.
func (s HostState) AgentOf(h cluster.HostID) string {
	return fmt.Sprintf("the agent of %s (%s, generation %d)", h, s.VersionOr(), max(s.Generation, 1))
}

// VersionOr is the version for people, also when it is not known.
func (s HostState) VersionOr() string { return cmp.Or(s.Version, "unknown version") }
