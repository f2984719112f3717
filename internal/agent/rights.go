package agent

import (
	"fmt"
	"slices"

	"holdfast/internal/fleet/drain"
	"holdfast/internal/ha/loop"
	"holdfast/internal/ha/records"
	"holdfast/internal/inventory/report"
	"holdfast/internal/job/engine"
	"holdfast/internal/store"
	"holdfast/internal/store/etcdstore"
	"holdfast/internal/upgrade/probe"
)

// guestsOnly are the rights of hosts that run guests only, which every member enforces
// (docs/adr/0026).
func guestsOnly() *etcdstore.Guard {
	return &etcdstore.Guard{Secret: []string{records.KeyBeat, records.KeyAccess}, Permits: permits,
		Rates: slices.Concat(loop.Rates(), drain.Rates())}
}

// maxKey bounds a key, bytes: that of a step's record has the name of a job (100) and of the step (200).
const maxKey = 512

// permits returns nil for a write that a host may make which runs guests only: what it tells
// of itself and its jobs, by the rules of the tools that have records, and that it goes into
// maintenance.
func permits(a store.Attempt) error {
	if len(a.Key) > maxKey {
		return fmt.Errorf("%w: a key of %d bytes, at most %d are allowed", store.ErrTooLarge, len(a.Key), maxKey)
	}
	if err := a.Light(); err != nil {
		return err
	}
	for _, rule := range []func(store.Attempt) (bool, error){engine.Permits, probe.Permits, report.Permits, drain.PermitsCarry, loop.Permits} {
		if known, err := rule(a); known {
			return err
		}
	}
	return store.ErrNotYours
}
