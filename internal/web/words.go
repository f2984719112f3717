package web

import (
	"net/url"
	"slices"

	"github.com/a-h/templ"

	"holdfast/internal/api/told"
	"holdfast/internal/cluster"
)

func first[T any](all []T, n int) []T { return all[:min(n, len(all))] }

// newestOf are the last n of a list whose newest is the last, newest first.
func newestOf[T any](all []T, n int) []T {
	out := slices.Clone(all[max(0, len(all)-n):])
	slices.Reverse(out)
	return out
}

// hostPath is the page of a host.
func hostPath(h cluster.HostID) templ.SafeURL {
	return templ.SafeURL("/hosts/" + url.PathEscape(string(h)))
}

// kindOf is the kind of an event in the words of what the cluster keeps.
func kindOf(v *view, k cluster.EventKind) string {
	if v.Status.OfPair() {
		return told.PairWord(string(k))
	}
	return told.Clean(string(k))
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
