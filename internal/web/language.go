package web

import (
	"time"

	"holdfast/internal/api/told"
)

// colon is what stands between a name and what is said of it.
func colon(v *view) string {
	if v.Lang == "zh" {
		return "："
	}
	return ": "
}

// stop ends a sentence.
func stop(v *view) string {
	if v.Lang == "zh" {
		return "。"
	}
	return "."
}

// units of durations, as told.Ago writes them, in Chinese.
var units = map[byte]string{'s': " 秒", 'm': " 分", 'h': " 小时", 'd': " 天"}

// span writes a duration in a number and a unit.
func span(v *view, d time.Duration) string {
	text := told.Ago(max(0, d))
	if u, known := units[text[len(text)-1]]; known && v.Lang == "zh" {
		return text[:len(text)-1] + u
	}
	return text
}

// age says how long ago a time was by this host's clock, "" where it is not known.
func age(v *view, at, now time.Time) string {
	if at.IsZero() {
		return ""
	}
	return v.T(span(v, now.Sub(at)) + " ago")
}
