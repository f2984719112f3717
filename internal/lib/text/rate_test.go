package text

import (
	"testing"
	"time"
)

// Looks are 100 ms apart, as often as nothing of ours looks.
func TestRate(t *testing.T) {
	for name, c := range map[string]struct {
		done func(tenths int64) int64
		to   int64   // tenths of a second
		want float64 // at the last look
		off  float64
	}{
		"the first look":    {func(int64) int64 { return 7 }, 0, 0, 0},
		"steady":            {func(n int64) int64 { return 100 * n }, 50, 1000, 1e-6},
		"steady, for long":  {func(n int64) int64 { return 100 * n }, 5000, 1000, 1e-6},
		"it began far on":   {func(n int64) int64 { return 1_000_000 + 100*n }, 50, 1000, 1e-6},
		"slower since 20 s": {func(n int64) int64 { return 1000*min(n, 300) + 10*max(0, n-300) }, 500, 100, 1e-6},
		"stands since 5 s":  {func(n int64) int64 { return 100 * min(n, 250) }, 300, 500, 50},
		"stands since 11 s": {func(n int64) int64 { return 100 * min(n, 190) }, 300, 0, 1e-6},
		"backwards":         {func(n int64) int64 { return -n }, 50, 0, 0},
	} {
		var r Rate
		at, got := time.Unix(1, 0), 0.
		for n := int64(0); n <= c.to; n++ {
			got = r.At(at.Add(time.Duration(n)*time.Second/10), c.done(n))
			if len(r.seen) > marks+2 {
				t.Fatalf("%s: it keeps %d looks", name, len(r.seen))
			}
		}
		if got < c.want-c.off || got > c.want+c.off {
			t.Errorf("%s: %.1f, want %.1f", name, got, c.want)
		}
	}
	var r Rate
	at := time.Unix(1, 0)
	if a, b := r.At(at, 0), r.At(at, 5); a != 0 || b != 0 {
		t.Errorf("two looks at the same time: %v, %v", a, b)
	}
}
