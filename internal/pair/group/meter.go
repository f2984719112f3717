package group

import (
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/host/replica"
	"holdfast/internal/lib/text"
)

// meter makes of what a driver counts of a copy what people are shown.
type meter struct {
	begun time.Time // of the copy that the rest is of
	most  text.Percent[int]
	rate  text.Rate
}

// look says how far the copy is, at a time that is not before that of the last call.
func (m *meter) look(c replica.Copy, at time.Time) *cluster.PairCopy {
	if !c.Begun.Equal(m.begun) {
		*m = meter{begun: c.Begun}
	}
	if c.Stage == replica.Copied {
		at = c.Ended
	}
	elapsed := max(0, at.Sub(c.Begun))
	out := &cluster.PairCopy{Stage: string(c.Stage), Elapsed: elapsed.Truncate(time.Second), Bytes: c.Bytes, About: c.About}
	rate := m.rate.At(at, c.Bytes)
	if c.Stage != replica.Receiving {
		out.Percent = m.most.At(100)
		if c.Stage == replica.Copied && elapsed > 0 {
			out.Rate = int64(float64(c.Bytes) / elapsed.Seconds())
		}
		return out
	}
	out.Rate = int64(rate)
	if c.About > 0 { // an estimate: more may come
		out.Percent = m.most.At(int(min(99, 100*float64(c.Bytes)/float64(c.About))))
	}
	if left := c.About - c.Bytes; left > 0 && rate > 0 {
		out.Left = time.Duration(float64(left) / rate * float64(time.Second)).Round(time.Second)
	}
	return out
}
