package service

import (
	"holdfast/internal/evacuate/drain"
	"holdfast/internal/inventory/report"
	"holdfast/internal/job/engine"
	"holdfast/internal/probe"
	"holdfast/internal/store"
)

// Permits says of a write whether a host may make it that runs guests only, and so
// never coordinates nor speaks for operators. known is false for keys that are not of
// jobs and hosts.
func Permits(a store.Attempt) (known bool, err error) {
	for _, rule := range []func(store.Attempt) (bool, error){engine.Permits, probe.Permits, report.Permits, drain.PermitsCarry} {
		if known, err := rule(a); known {
			return true, err
		}
	}
	return false, nil
}
