package probe

import (
	"fmt"
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
	switch {
	case a.Value == nil, a.Key == addrKey(cluster.HostID(a.Host)) && name == namePlan:
		return true, store.ErrNotYours
	case a.Key == addrKey(cluster.HostID(a.Host)):
		return true, form[addresses](a)
	case !usable(run) || name == namePlan: // no host has that name
		return true, store.ErrNotYours
	}
	var value error
	switch a.Key {
	case recordKey(run, cluster.HostID(a.Host)):
		value = form[record](a)
	case clockKey(run):
		value = form[reading](a)
	case baseKey(run, cluster.HostID(a.Host)):
		value = form[base](a)
	default:
		return true, store.ErrNotYours
	}
	if value != nil {
		return true, value
	}
	// Only of a run that is measured, or of a job that is there: else one host could make
	// keys without end.
	plan, err := a.Read(planKey(run))
	if err != nil {
		return true, err
	}
	if len(plan) == 0 {
		return true, fmt.Errorf("%w: nobody measures run %.80q", store.ErrNotYours, run)
	}
	return true, nil
}

// WriterOf is the host that has written a record of a run, or its addresses; "": one that has coordinated, or any. known is
// false for other keys.
func WriterOf(kv store.KV) (host string, known bool) {
	rest, known := strings.CutPrefix(kv.Key, keyAll)
	run, name, _ := strings.Cut(rest, "/")
	name = strings.TrimPrefix(name, keyBase)
	if run == "" || name == namePlan || strings.Contains(name, "/") {
		return "", known
	}
	return name, known
}

// form refuses what its readers would leave out.
func form[T checked](a store.Attempt) error {
	if _, err := formed[T](store.KV{Key: a.Key, Value: a.Value}); err != nil {
		return fmt.Errorf("%w: %w", store.ErrForm, err)
	}
	return nil
}
