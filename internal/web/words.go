package web

import (
	"holdfast/internal/api/told"
	"holdfast/internal/cluster"
)

// alertRole has a screen reader say at once what has failed.
func alertRole(v *view) string {
	if v.Failed {
		return "alert"
	}
	return "status"
}

func first[T any](all []T, n int) []T { return all[:min(n, len(all))] }

func inMaintenance(v *view, h cluster.HostStatus) bool { return told.InMaintenance(v.Status, h.Name) }

// kindOf is the kind of an event in the words of what the cluster keeps.
func kindOf(v *view, e cluster.Event) string {
	if v.Status.OfPair() {
		return told.PairWord(string(e.Kind))
	}
	return told.Clean(string(e.Kind))
}

// watchdog says what resets a host, and after how long.
func watchdog(h cluster.HostStatus) string {
	switch {
	case h.HandsOff:
		return "disarmed"
	case h.Guard == 0:
		return "none"
	case h.Watchdog == "":
		return told.Secs(h.Guard)
	}
	return told.Clean(h.Watchdog) + ", " + told.Secs(h.Guard)
}
