package web

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"holdfast/internal/api/told"
	"holdfast/internal/upgrade/check"
)

// Bounds of the guests on a page, those first that have lost most.
const (
	lossesShown  = 200
	lossesMapped = 3000
)

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

// lossy are the guests of which there is something to tell, those first that have lost most, and how many others there are.
func lossy(all []check.Loss) (worst []check.Loss, well int) {
	for _, l := range mostLost(all) {
		if l.Lost > 0 || l.Sent == 0 || l.Note != "" || l.UnwatchedMS >= 1000 {
			worst = append(worst, l)
		} else {
			well++
		}
	}
	return worst, well
}

// lossTitle says what a square of the map stands for.
func lossTitle(v *view, l check.Loss) string {
	return told.Clean(l.Guest) + colon(v) + v.T(fmt.Sprintf("%d of %d lost, longest gap %d ms", l.Lost, l.Sent, l.LongestMS))
}
