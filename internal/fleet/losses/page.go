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

//go:embed joined.html
var joinedHTML string

//go:embed page.css
var style string

// Sizes of the page.
const (
	pageRows  = 100 // targets at most
	pageSlots = 60  // of time
)

// page is what the template shows.
type page struct {
	*Result
	Style        template.CSS
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
	slot := slotOf(r.Began, r.Ended)
	p := page{
		Result: r, Style: template.CSS(style), Began: r.Began.UTC().Format(time.DateTime), Ended: r.Ended.UTC().Format(time.DateTime),
		Slot: slot.Round(time.Millisecond).String(), Unwatched: fmt.Sprintf("%.1f", 100*r.Unwatched()),
	}
	for _, t := range r.Worst() {
		if len(p.Rows) == pageRows {
			p.More++
			continue
		}
		p.Rows = append(p.Rows, pageRow{t, cells(t.Gaps, r.Began.Time, slot)})
	}
	return write(w, pageHTML, p)
}

// write writes a page.
func write(w io.Writer, text string, page any) error {
	t, err := template.New("page").Parse(text)
	if err != nil {
		return fmt.Errorf("read the template of results: %w", err)
	}
	if err := t.Execute(w, page); err != nil {
		return fmt.Errorf("write the result as HTML: %w", err)
	}
	return nil
}

// slotOf is how long a slot of time is.
func slotOf(began, ended Moment) time.Duration {
	return max(time.Millisecond, ended.Sub(began.Time)/pageSlots)
}

// cells are the slots of time of a target, with its gaps.
func cells(gaps []Gap, began time.Time, slot time.Duration) []pageCell {
	dark := make([]time.Duration, pageSlots)
	for _, g := range gaps {
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

// joinedPage is what the template of several results shows.
type joinedPage struct {
	*Joined
	Style        template.CSS
	Began, Ended string
	Points       []joinedPoint
	Rows         []joinedRow
	More         int // targets with losses that have no row
	Slot         string
}

type joinedPoint struct {
	Point
	Unwatched string
}

// joinedRow is a view of a target, or when it was dark.
type joinedRow struct {
	Address
	View
	First bool // of the target
	All   bool // not a view: when it was dark
	Cells []pageCell
}

// WriteHTML writes the result as one page that needs nothing else: the targets that were dark
// the longest, as each vantage point saw them.
func (j *Joined) WriteHTML(w io.Writer) error {
	slot := slotOf(j.From, j.To)
	p := joinedPage{Joined: j, Style: template.CSS(style), Began: j.From.UTC().Format(time.DateTime),
		Ended: j.To.UTC().Format(time.DateTime), Slot: slot.Round(time.Millisecond).String()}
	for _, x := range j.Points {
		p.Points = append(p.Points, joinedPoint{x, fmt.Sprintf("%.1f", 100*x.UnwatchedPart)})
	}
	for i, t := range j.Worst() {
		if i >= pageRows {
			p.More++
			continue
		}
		p.Rows = append(p.Rows, t.rows(j.From.Time, slot)...)
	}
	return write(w, joinedHTML, p)
}

// rows of a target: when it was dark, and each view.
func (t JoinedTarget) rows(began time.Time, slot time.Duration) (rows []joinedRow) {
	if longest := t.Longest(Dark); longest.MS > 0 {
		var dark []Gap
		for _, s := range t.Spans {
			if s.Kind == Dark {
				dark = append(dark, Gap{At: s.At, MS: s.MS})
			}
		}
		rows = append(rows, joinedRow{Address: t.Address, View: View{LongestMS: longest.MS}, All: true, Cells: cells(dark, began, slot)})
	}
	for _, v := range t.Views {
		rows = append(rows, joinedRow{Address: t.Address, View: v, Cells: cells(v.Gaps, began, slot)})
	}
	rows[0].First = true
	return rows
}
