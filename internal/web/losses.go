package web

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"holdfast/internal/upgrade/check"
)

// lossesShown bounds the guests of a page, those first that have lost most.
const lossesShown = 200

// mostLost puts the guests first that have lost most, then those that nobody has watched.
func mostLost(all []check.Loss) []check.Loss {
	out := slices.Clone(all)
	slices.SortStableFunc(out, func(a, b check.Loss) int {
		return cmp.Or(cmp.Compare(b.Lost, a.Lost), cmp.Compare(b.UnwatchedMS, a.UnwatchedMS), cmp.Compare(a.Guest, b.Guest))
	})
	return out
}

// lossSum says what all guests have lost together.
func lossSum(v *view, all []check.Loss) string {
	var sent, lost, longest int64
	for _, l := range all {
		sent, lost, longest = sent+l.Sent, lost+l.Lost, max(longest, l.LongestMS)
	}
	return v.T(fmt.Sprintf("Lost packets: %d of %d, longest gap %d ms", lost, sent, longest))
}

// notWatched says for how long nobody pinged a guest, "" for hardly.
func notWatched(v *view, l check.Loss) string {
	if d := time.Duration(l.UnwatchedMS) * time.Millisecond; d >= time.Second {
		return v.T(fmt.Sprintf("not measured for %s", d.Round(time.Second)))
	}
	return ""
}

// lossClass is the style of a guest's losses.
func lossClass(l check.Loss) string {
	switch {
	case l.Sent == 0:
		return "n"
	case l.Lost == 0:
		return ""
	case l.LongestMS < 1000:
		return "a"
	}
	return "b"
}
