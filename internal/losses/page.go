package losses

import (
	_ "embed" // page.html
	"fmt"
	"html/template"
	"io"
	"time"
)

//go:embed page.html
var pageHTML string

// Sizes of the page.
const (
	pageRows  = 100 // targets at most
	pageSlots = 60  // of time
)

// page is what the template shows.
type page struct {
	*Result
	Began, Ended string
	Rows         []pageRow
	More         int // targets with losses that have no row
	Slot         string
	Unwatched    string
}

type pageRow struct {
	Target
	Cells []pageCell
}

// pageCell is a slot of time of a target.
type pageCell struct {
	Heat int // 0: no gap; 1 to 5: the part of the slot that is in gaps, 5: all of it
	Tip  string
}

// WriteHTML writes the result as one page that needs nothing else: the targets that
// lost the most, with their gaps over the time.
func (r *Result) WriteHTML(w io.Writer) error {
	t, err := template.New("page").Parse(pageHTML)
	if err != nil {
		return fmt.Errorf("read the template of results: %w", err)
	}
	slot := max(time.Millisecond, r.Ended.Sub(r.Began.Time)/pageSlots)
	p := page{
		Result: r, Began: r.Began.UTC().Format(time.DateTime), Ended: r.Ended.UTC().Format(time.DateTime),
		Slot: slot.Round(time.Millisecond).String(), Unwatched: fmt.Sprintf("%.1f", 100*r.Unwatched()),
	}
	for _, t := range r.Worst() {
		if len(p.Rows) == pageRows {
			p.More++
			continue
		}
		p.Rows = append(p.Rows, pageRow{t, t.cells(r.Began.Time, slot)})
	}
	if err := t.Execute(w, p); err != nil {
		return fmt.Errorf("write the result as HTML: %w", err)
	}
	return nil
}

// cells are the slots of time of a target.
func (t Target) cells(began time.Time, slot time.Duration) []pageCell {
	dark := make([]time.Duration, pageSlots)
	for _, g := range t.Gaps {
		from := g.At.Sub(began)
		to := from + time.Duration(g.MS*float64(time.Millisecond))
		for i := range dark {
			begin := slot * time.Duration(i)
			dark[i] += max(0, min(to, begin+slot)-max(from, begin))
		}
	}
	out := make([]pageCell, pageSlots)
	for i, d := range dark {
		if d <= 0 {
			continue
		}
		d = min(d, slot)
		out[i] = pageCell{
			Heat: max(1, int(5*d/slot)),
			Tip:  fmt.Sprintf("%s: %v ms", began.Add(slot*time.Duration(i)).UTC().Format("15:04:05.000"), MS(d)),
		}
	}
	return out
}
