package web

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"holdfast/internal/api/told"
	"holdfast/internal/cluster"
	"holdfast/internal/job"
	"holdfast/internal/upgrade/request"
)

// Bounds of what a page shows of a run; the command line has all of it.
const (
	gridHosts = 60
	gridSteps = 6000 // of a run; of one that has more no table of steps is made
)

// grid is a run as hosts by steps.
type grid struct {
	Columns []string // kinds of steps, in the order of the plan
	Rows    []gridRow
	More    int // hosts that are not shown
}

// gridRow is what a host does.
type gridRow struct {
	Host  cluster.HostID // "": what is done for the whole cluster
	About []told.Cell    // as told.UpgradeHeads; nil: the host is none of the run's
	Cells []gridCell     // as Columns
}

// gridCell sums the steps of a kind on a host up.
type gridCell struct {
	State   string        // of all steps together, as job.StepView.State; "": there is none
	N, Over int           // steps, and those that are over
	Percent int           // of those that run and are over
	Took    time.Duration // since the first began, until the last ended or now
	Why     string        // of one that is stuck, or what one that runs does
}

// gridOf makes the table of a run at a time by this host's clock.
func gridOf(u request.Standing, j job.View, now time.Time) grid {
	var g grid
	type place struct {
		host cluster.HostID
		word string
	}
	steps := map[place][]job.StepView{}
	var hosts []cluster.HostID
	for _, s := range j.Steps {
		p := place{s.Host, stepWord(s)}
		if !slices.Contains(g.Columns, p.word) {
			g.Columns = append(g.Columns, p.word)
		}
		steps[p] = append(steps[p], s)
	}
	about := map[cluster.HostID][]told.Cell{}
	for _, h := range told.UpgradeHosts(u) {
		about[h.Name] = h.Cells
		hosts = append(hosts, h.Name)
	}
	if len(hosts) <= gridHosts { // in the order of their turns
		hosts = hosts[:0]
		for _, h := range u.Hosts {
			hosts = append(hosts, h.Name)
		}
	}
	for _, s := range j.Steps {
		if _, known := about[s.Host]; !known {
			about[s.Host] = nil
			hosts = append(hosts, s.Host)
		}
	}
	g.More = max(0, len(hosts)-gridHosts)
	for _, h := range hosts[:min(len(hosts), gridHosts)] {
		r := gridRow{Host: h, About: about[h]}
		for _, c := range g.Columns {
			r.Cells = append(r.Cells, cellOf(steps[place{h, c}], now))
		}
		g.Rows = append(g.Rows, r)
	}
	return g
}

// stepWord is what a step is about: the word behind its host in HOST/WORD/WORD.
func stepWord(s job.StepView) string {
	if words := strings.Split(s.ID, "/"); len(words) > 1 {
		return words[1]
	}
	return s.ID
}

// cellOf sums steps up. The worst of them counts.
func cellOf(steps []job.StepView, now time.Time) gridCell {
	c := gridCell{N: len(steps)}
	if c.N == 0 {
		return c
	}
	var began, ended time.Time
	has, percent := map[string]string{}, 0 // by state why, or what it does
	for _, s := range steps {
		if s.Over() {
			c.Over++
			percent += 100
		} else if s.State == "running" {
			percent += s.Percent
		}
		if _, is := has[s.State]; !is {
			why := s.Why
			if why == "" {
				why = s.Note
			}
			has[s.State] = why
		}
		if !s.Began.IsZero() && (began.IsZero() || s.Began.Before(began)) {
			began = s.Began
		}
		if s.Ended.After(ended) {
			ended = s.Ended
		}
	}
	c.Percent = percent / c.N
	for _, state := range []string{"failed", "unknown", "running", "granted", "pending", "dropped", "skipped", "done"} {
		if why, is := has[state]; is {
			c.State, c.Why = state, why
			break
		}
	}
	switch {
	case began.IsZero():
	case c.State == "running":
		c.Took = max(0, now.Sub(began))
	case !ended.IsZero():
		c.Took = max(0, ended.Sub(began))
	}
	return c
}

// mark is the sign of a cell: colour never stands alone.
func (c gridCell) mark() string {
	return map[string]string{"failed": "✗", "unknown": "?", "done": "✓", "skipped": "»", "dropped": "–"}[c.State]
}

// class is the style of a cell.
func (c gridCell) class() string {
	return map[string]string{"failed": "f", "unknown": "f", "running": "r", "granted": "r", "done": "d", "skipped": "k",
		"dropped": "k"}[c.State]
}

// cellText is what a cell shows, and what it says to who can not see it.
func cellText(v *view, c gridCell) (shown, said string) {
	state := v.T(c.State)
	var parts []string
	if m := c.mark(); m != "" {
		parts = append(parts, m)
	}
	switch {
	case c.N == 0:
		return "", v.T("no such step")
	case c.State == "running":
		parts = append(parts, fmt.Sprintf("%d %%", c.Percent))
	case c.State == "granted":
		parts = append(parts, v.T("begins"))
	case c.State == "pending" && c.Over > 0:
		parts = append(parts, fmt.Sprintf("%d/%d", c.Over, c.N))
	}
	if c.Took >= time.Second {
		parts = append(parts, span(v, c.Took))
	}
	said = state
	if c.N > 1 {
		said += ", " + v.T(fmt.Sprintf("%d of %d steps", c.Over, c.N))
	}
	if c.Why != "" {
		said += ": " + v.T(told.Clean(c.Why))
	}
	return strings.Join(parts, " "), said
}
