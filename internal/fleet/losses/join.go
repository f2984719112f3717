package losses

import (
	"cmp"
	"fmt"
	"math"
	"net/netip"
	"slices"
	"time"
)

// joinedVersion is the version of the form of a Joined in JSON.
const joinedVersion = 1

// MaxPoints is how many vantage points are put together at most.
const MaxPoints = 32

// Joined is one result of several measurements of the same targets, made at the same time
// from different vantage points. Times are by the wall clocks of these.
type Joined struct {
	Version int            `json:"version"` // of this form
	Points  []Point        `json:"vantage_points"`
	From    Moment         `json:"from"` // the time in which all measured
	To      Moment         `json:"to"`
	Total   JoinedTotal    `json:"total"`
	Targets []JoinedTarget `json:"targets"` // in the order of the first list, then of the others
}

// Point is a vantage point.
type Point struct {
	Name        string  `json:"name"`
	Began       Moment  `json:"began"`
	Ended       Moment  `json:"ended"`
	Interrupted bool    `json:"interrupted"`
	Rate        float64 `json:"rate"`
	ARPRate     float64 `json:"arp_rate"`
	Total       Total   `json:"total"`
	// UnwatchedPart is which part of the time was not watched, on average of the
	// targets: 0 to 1. When it was is not known.
	UnwatchedPart float64 `json:"unwatched_part"`
}

// JoinedTotal is about all targets.
type JoinedTotal struct {
	Targets       int     `json:"targets"` // that were measured from any vantage point
	Dark          int     `json:"dark"`    // of them, with a span of this kind
	Path          int     `json:"path"`    // the same
	Unclear       int     `json:"unclear"` // that lost packets, without a span of the other kinds
	Alone         int     `json:"alone"`   // that were measured from one vantage point only
	LongestDarkMS float64 `json:"longest_dark_ms"`
	LongestDarkIP string  `json:"longest_dark_ip,omitempty"`
	NotJudged     int64   `json:"gaps_not_judged"`
}

// JoinedTarget is what became of one target.
type JoinedTarget struct {
	Address
	Views []View `json:"views"` // in the order of the vantage points; without those whose list does not have it
	Spans []Span `json:"spans"` // by time; none where one vantage point only has measured it
	// NotJudged are gaps that were outside the time in which all measured, or that a
	// result does not list.
	NotJudged int64 `json:"gaps_not_judged"`
}

// View is what one vantage point saw of a target.
type View struct {
	Point     string  `json:"vantage_point"`
	Silent    bool    `json:"silent"` // it did not answer before the start; all else is 0
	By        Means   `json:"by,omitempty"`
	Sent      int64   `json:"sent"`
	Lost      int64   `json:"lost"`
	LongestMS float64 `json:"longest_gap_ms"`
	Gaps      []Gap   `json:"gaps"`
}

// Kind is what a span says.
type Kind string

// The kinds.
const (
	// Dark: lost from all vantage points that measured the target. The target was not
	// there, or what all their ways have in common.
	Dark Kind = "dark"
	// Path: lost from some, while others had answers: the way from those was not there.
	Path Kind = "path"
	// Unclear: lost from some, for so short that the others may have sent nothing while
	// the target was away.
	Unclear Kind = "unclear"
)

// Span is a time in which a target lost packets.
type Span struct {
	Kind Kind     `json:"kind"`
	At   Moment   `json:"at"`
	MS   float64  `json:"ms"`
	From []string `json:"from"` // the vantage points that lost them
}

// Join puts results together. Each has the name of its vantage point.
func Join(results []*Result) (*Joined, error) {
	if n := len(results); n < 2 || n > MaxPoints {
		return nil, fmt.Errorf("%d results: want 2 to %d", n, MaxPoints)
	}
	j := &Joined{Version: joinedVersion, From: results[0].Began, To: results[0].Ended, Targets: []JoinedTarget{}}
	names := map[string]bool{}
	for _, r := range results {
		if names[r.Name] {
			return nil, fmt.Errorf("two results are from the vantage point %q: want one from each", r.Name)
		}
		names[r.Name] = true
		j.Points = append(j.Points, Point{r.Name, r.Began, r.Ended, r.Interrupted, r.Rate, r.ARPRate, r.Total,
			math.Round(1e4*r.Unwatched()) / 1e4})
		if r.Began.After(j.From.Time) {
			j.From = r.Began
		}
		if r.Ended.Before(j.To.Time) {
			j.To = r.Ended
		}
	}
	if !j.From.Before(j.To.Time) {
		return nil, fmt.Errorf("one measurement began at %s, when another had ended at %s: want results of the same time",
			j.From.UTC().Format(time.RFC3339), j.To.UTC().Format(time.RFC3339))
	}
	j.collect(results)
	j.sum()
	if j.Total.Targets == j.Total.Alone {
		return nil, fmt.Errorf("no target was measured from two vantage points: want results of the same targets")
	}
	return j, nil
}

// collect judges all targets.
func (j *Joined) collect(results []*Result) {
	index := map[netip.Addr]int{} // of targets
	views := [][]seen{}
	add := func(a Address, v seen) {
		i, there := index[a.IP]
		if !there {
			i = len(j.Targets)
			index[a.IP] = i
			j.Targets, views = append(j.Targets, JoinedTarget{Address: a, Views: []View{}, Spans: []Span{}}), append(views, nil)
		}
		t := &j.Targets[i]
		t.Name = cmp.Or(t.Name, a.Name)
		t.Views = append(t.Views, v.View)
		if !v.Silent {
			views[i] = append(views[i], v)
		}
	}
	for _, r := range results {
		for _, t := range r.Targets {
			add(t.Address, seen{View{r.Name, false, t.By, t.Sent, t.Lost, t.LongestMS, t.Gaps}, r.interval(t.By),
				t.GapsLeftOut + t.UnwatchedLeftOut, t.Unwatched})
		}
		for _, s := range r.Silent {
			add(s.Address, seen{View: View{Point: r.Name, Silent: true, Gaps: []Gap{}}})
		}
	}
	for i := range j.Targets {
		j.Targets[i].judge(views[i], j.From.Time, j.To.Time)
	}
}

// interval between two packets to a target that was asked by these means.
func (r *Result) interval(by Means) time.Duration {
	rate := r.Rate
	if by == ARP {
		rate = r.ARPRate
	}
	return time.Duration(float64(time.Second) / rate)
}

// seen is a view, with what judging takes beside it.
type seen struct {
	View
	every     time.Duration // between two packets
	leftOut   int64         // gaps, and times that were not watched
	unwatched []Gap         // by time
}

// reach is how long a gap was with what was not watched in it, which its own figure leaves out.
func (v seen) reach(g Gap) time.Duration {
	end := g.At.Add(duration(g.MS))
	for _, u := range v.unwatched {
		if !u.At.Before(g.At.Time) && !u.At.After(end.Add(v.every)) {
			end = end.Add(duration(u.MS))
		}
	}
	return end.Sub(g.At.Time)
}

func duration(ms float64) time.Duration { return time.Duration(ms * float64(time.Millisecond)) }

// stretch is a time since the beginning of the common one; of each view a bit says that it lost packets in it, and
// another one, MaxPoints higher, that it did not watch.
type stretch struct {
	from, to time.Duration
	who      uint64
}

// lost are the views that lost packets.
func (s stretch) lost() uint32 { return uint32(s.who) }

// answers reports whether a view watched, and lost nothing.
func (s stretch) answers(view int) bool { return s.who&(1<<view|1<<(view+MaxPoints)) == 0 }

// judge finds the spans of a target from the views that measured it.
func (t *JoinedTarget) judge(views []seen, from, to time.Time) {
	end := to.Sub(from)
	var coarsest time.Duration
	var all []stretch
	add := func(g Gap, long time.Duration, who uint64) (within bool) {
		at := g.At.Sub(from)
		s := stretch{max(0, at), min(end, at+long), who}
		if s.from < s.to {
			all = append(all, s)
		}
		return s.from < s.to
	}
	for i, v := range views {
		coarsest = max(coarsest, v.every)
		t.NotJudged += v.leftOut
		for _, g := range v.Gaps {
			if !add(g, v.reach(g), 1<<i) {
				t.NotJudged++
			}
		}
		for _, u := range v.unwatched {
			add(u, duration(u.MS), 1<<(i+MaxPoints))
		}
	}
	if len(views) < 2 {
		return
	}
	everybody := uint32(1<<len(views) - 1)
	// A gap begins up to an interval after the target went away, and the first answer
	// after it comes up to an interval after the target came back. So what others did not
	// lose for no longer than both, they may not have asked for.
	grain := 2 * coarsest
	runs := slices.DeleteFunc(overlaid(all), func(r stretch) bool { return r.lost() == 0 })
	dark := func(i int) bool { return runs[i].lost() == everybody }
	for i := 0; i < len(runs); {
		n := i + 1
		for n < len(runs) && dark(n) == dark(i) && runs[n].from == runs[n-1].to {
			n++
		}
		if dark(i) {
			t.add(Dark, runs[i:n], views, from)
			i = n
			continue
		}
		edge := i > 0 && dark(i-1) && runs[i-1].to == runs[i].from || n < len(runs) && dark(n) && runs[n].from == runs[n-1].to
		switch {
		case answered(runs[i:n], len(views)) > grain:
			t.add(Path, runs[i:n], views, from)
		case !edge: // else it is the edge of what is dark
			t.add(Unclear, runs[i:n], views, from)
		}
		i = n
	}
}

// add adds a span of runs that follow one another.
func (t *JoinedTarget) add(kind Kind, runs []stretch, views []seen, from time.Time) {
	first, last := runs[0], runs[len(runs)-1]
	s := Span{Kind: kind, At: Moment{from.Add(first.from)}, MS: MS(last.to - first.from)}
	for i, v := range views {
		if slices.ContainsFunc(runs, func(r stretch) bool { return r.lost()&(1<<i) != 0 }) {
			s.From = append(s.From, v.Point)
		}
	}
	t.Spans = append(t.Spans, s)
}

// overlaid lays stretches of one view each over one another: what follows has no overlaps, and
// is sorted by time.
func overlaid(lost []stretch) (runs []stretch) {
	type edge struct {
		at    time.Duration
		who   uint64
		delta int
	}
	var edges []edge
	for _, s := range lost {
		edges = append(edges, edge{s.from, s.who, 1}, edge{s.to, s.who, -1})
	}
	slices.SortFunc(edges, func(a, b edge) int { return cmp.Compare(a.at, b.at) })
	open := map[uint64]int{} // stretches of a view: two of one that touch may overlap by what was rounded
	var who uint64
	for i, e := range edges {
		if last := len(runs) - 1; i > 0 && who != 0 && edges[i-1].at < e.at {
			if last >= 0 && runs[last].who == who && runs[last].to == edges[i-1].at {
				runs[last].to = e.at
			} else {
				runs = append(runs, stretch{edges[i-1].at, e.at, who})
			}
		}
		if open[e.who] += e.delta; open[e.who] > 0 {
			who |= e.who
		} else {
			who &^= e.who
		}
	}
	return runs
}

// answered is the longest time in runs that follow one another in which one of the views watched, and lost
// nothing.
func answered(runs []stretch, views int) (longest time.Duration) {
	for i := range views {
		var free time.Duration
		for _, r := range runs {
			free += r.to - r.from
			if !r.answers(i) {
				free = 0
			}
			longest = max(longest, free)
		}
	}
	return longest
}

// has reports whether there is a span of a kind.
func (t JoinedTarget) has(k Kind) bool {
	return slices.ContainsFunc(t.Spans, func(s Span) bool { return s.Kind == k })
}

// Longest is the longest span of a kind; one of 0 ms: there is none.
func (t JoinedTarget) Longest(k Kind) (longest Span) {
	for _, s := range t.Spans {
		if s.Kind == k && s.MS > longest.MS {
			longest = s
		}
	}
	return longest
}

// Lost is how many packets were lost, from all vantage points.
func (t JoinedTarget) Lost() (n int64) {
	for _, v := range t.Views {
		n += v.Lost
	}
	return n
}

// sum makes the sums.
func (j *Joined) sum() {
	s := JoinedTotal{}
	for _, t := range j.Targets {
		measured := 0
		for _, v := range t.Views {
			if !v.Silent {
				measured++
			}
		}
		if measured == 0 {
			continue
		}
		s.Targets++
		s.NotJudged += t.NotJudged
		dark, path := t.has(Dark), t.has(Path)
		if measured == 1 {
			s.Alone++
		}
		if dark {
			s.Dark++
		}
		if path {
			s.Path++
		}
		if !dark && !path && t.Lost() > 0 {
			s.Unclear++
		}
		if d := t.Longest(Dark); d.MS > s.LongestDarkMS {
			s.LongestDarkMS, s.LongestDarkIP = d.MS, t.IP.String()
		}
	}
	j.Total = s
}

// Worst are the targets that lost packets: those that were dark the longest first, then those
// to which a path was lost.
func (j *Joined) Worst() []JoinedTarget {
	out := slices.DeleteFunc(slices.Clone(j.Targets), func(t JoinedTarget) bool { return t.Lost() == 0 })
	slices.SortStableFunc(out, func(a, b JoinedTarget) int {
		return cmp.Or(cmp.Compare(b.Longest(Dark).MS, a.Longest(Dark).MS),
			cmp.Compare(b.Longest(Path).MS, a.Longest(Path).MS), cmp.Compare(b.Lost(), a.Lost()))
	})
	return out
}
