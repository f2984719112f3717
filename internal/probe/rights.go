package probe

import (
	"strings"

	"holdfast/internal/cluster"
	"holdfast/internal/store"
)

// Permits says of a write below upgrade-probe/ whether a host may make it that never
// coordinates: it tells the addresses of its guests, what it has counted, how long
// the run takes, and what its guests had lost when its turn began. known is false for other keys.
func Permits(a store.Attempt) (known bool, err error) {
	rest, ok := strings.CutPrefix(a.Key, keyAll)
	if !ok {
		return false, nil
	}
	run, name, _ := strings.Cut(rest, "/")
	own := name == a.Host && name != namePlan // no host has that name
	if a.Value != nil && run != "" && (own || usable(run) && (a.Key == clockKey(run) || a.Key == baseKey(run, cluster.HostID(a.Host)))) {
		return true, nil
	}
	return true, store.ErrNotYours
}
