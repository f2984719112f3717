package text

import (
	"fmt"
	"math"
	"slices"
	"testing"
)

// The sequences are those of a migration whose guest writes memory that was sent already
// (libvirt's remaining of total), of an upload that is begun anew after a cut connection,
// and of a copy whose estimate of the rows grows.
func TestNeverBackwards(t *testing.T) {
	for name, c := range map[string]struct{ measured, want []int }{
		"straight":  {[]int{0, 10, 55, 100}, []int{0, 10, 55, 100}},
		"migration": {[]int{0, 23, 61, 94, 71, 83, 97, 78, 96, 99, 88, 100}, []int{0, 23, 61, 94, 94, 94, 97, 97, 97, 99, 99, 100}},
		"upload":    {[]int{0, 40, 80, 0, 30, 79, 95, 100}, []int{0, 40, 80, 80, 80, 80, 95, 100}},
		"copy":      {[]int{50, 50, 33, 41, 60}, []int{50, 50, 50, 50, 60}},
		"beyond":    {[]int{-5, 130, 99}, []int{0, 100, 100}},
	} {
		var p Percent[int]
		var q Percent[float64]
		for i, m := range c.measured {
			if got, of := p.At(m), q.Of(int64(m), 100); got != c.want[i] || int(of) != c.want[i] {
				t.Errorf("%s, %d: %d shown as %d, %.1f, want %d", name, i, m, got, of, c.want[i])
			}
		}
	}
	var p Percent[float64]
	got := []float64{p.Of(1, 3), p.At(math.NaN()), p.Of(5, 0), p.Of(2, 3)}
	if want := []float64{100. / 3, 100. / 3, 100. / 3, 200. / 3}; !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	if q := PercentFrom(40); q.At(7) != 40 {
		t.Error(fmt.Sprint("what was shown is forgotten: ", q.At(7)))
	}
}
