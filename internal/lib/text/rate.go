package text

import "time"

// span is the time of which a Rate tells, and marks is how many looks of it are kept.
const (
	span  = 10 * time.Second
	marks = 20
)

// Rate is how fast something goes on: by the last ten seconds, or since the first look. The
// zero value has not been looked at.
type Rate struct{ seen []mark }

type mark struct {
	at   time.Time
	done int64
}

// At takes in how much is done at a time, and returns how much is done each second; 0: that is
// not known yet, or nothing goes on. Neither done nor the times go backwards.
func (r *Rate) At(at time.Time, done int64) float64 {
	n := len(r.seen)
	if n == 0 || at.Sub(r.seen[n-1].at) >= span/marks {
		r.seen = append(r.seen, mark{at, done})
	}
	for len(r.seen) > 1 && at.Sub(r.seen[1].at) >= span {
		r.seen = r.seen[1:]
	}
	took := at.Sub(r.seen[0].at).Seconds()
	if took <= 0 {
		return 0
	}
	return max(0, float64(done-r.seen[0].done)/took)
}
