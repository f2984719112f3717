package losses

import "time"

// Heat shows where and when packets are lost: rows are targets that stand beside one another in the list, columns equal
// times since the beginning. When all columns are full, each two become one, so it always has the whole measurement.
type Heat struct {
	Every time.Duration // of a column
	Rows  []HeatRow

	rows, columns int // at most
	last          []Counted
}

// HeatRow is a target, and so many that follow it in the list.
type HeatRow struct {
	First   Address
	More    int
	Columns []Share
}

// Share is what was sent in a time to some targets, and is answered or lost by now.
type Share struct{ Sent, Lost int64 }

// NewHeat makes one of at most so many rows and columns, 1 and 2 at least, whose columns are a second each at first.
func NewHeat(rows, columns int) *Heat {
	return &Heat{Every: time.Second, rows: max(1, rows), columns: max(2, columns)}
}

// Add takes in what was counted of each target since the beginning. The targets are the same each time. What passed does
// not go backwards.
func (h *Heat) Add(passed time.Duration, each []Counted) {
	if h.Rows == nil {
		h.Rows = make([]HeatRow, (len(each)+h.per(len(each))-1)/h.per(len(each)))
		h.last = make([]Counted, len(each))
	}
	at := int(max(0, passed-1) / h.Every)
	for ; at >= h.columns; at /= 2 {
		h.halve()
	}
	per := h.per(len(each))
	for i := range h.Rows {
		r := &h.Rows[i]
		from, to := i*per, min((i+1)*per, len(each))
		r.First, r.More = each[from].Address, to-from-1
		for len(r.Columns) <= at {
			r.Columns = append(r.Columns, Share{})
		}
		c := &r.Columns[at]
		for j := from; j < to; j++ {
			c.Sent += each[j].Sent - h.last[j].Sent
			c.Lost += each[j].Lost - h.last[j].Lost
		}
	}
	copy(h.last, each)
}

// per is how many targets a row has.
func (h *Heat) per(targets int) int { return max(1, (targets+h.rows-1)/h.rows) }

// halve makes one column of each two.
func (h *Heat) halve() {
	h.Every *= 2
	for i := range h.Rows {
		r := &h.Rows[i]
		for j, c := range r.Columns {
			if j%2 == 0 {
				r.Columns[j/2] = c
				continue
			}
			r.Columns[j/2].Sent += c.Sent
			r.Columns[j/2].Lost += c.Lost
		}
		r.Columns = r.Columns[:(len(r.Columns)+1)/2]
	}
}
