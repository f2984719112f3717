package text

// Percent is how far something is, as people are shown it. What is measured may go
// backwards: a guest writes memory that was sent already, an upload begins anew, an
// estimate grows. Then the greatest value stays until it is passed. The zero value is the
// beginning; work that begins anew for another end takes a new one.
type Percent[T int | float64] struct{ most T }

// PercentFrom is work that has been shown to be so far.
func PercentFrom[T int | float64](percent T) Percent[T] {
	var p Percent[T]
	p.At(percent)
	return p
}

// At takes in what was measured, and returns what to show, 0 to 100. What is no number
// changes nothing.
func (p *Percent[T]) At(percent T) T {
	if percent > p.most {
		p.most = min(percent, 100)
	}
	return p.most
}

// Of is At for a part of a whole; of a whole that is not known nothing is done.
func (p *Percent[T]) Of(done, whole int64) T {
	if whole <= 0 {
		return p.most
	}
	return p.At(T(100 * float64(done) / float64(whole)))
}
