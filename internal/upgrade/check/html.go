package check

import (
	_ "embed" // report.html
	"fmt"
	"html/template"
	"io"
	"slices"
	"strings"

	"holdfast/internal/cluster"
	plain "holdfast/internal/lib/text"
)

//go:embed report.html
var reportHTML string

// page is what the template shows.
type page struct {
	Report   *Report
	Title    string
	Level    Level
	Began    string
	Ended    string
	Tally    []tally
	Urgent   []Finding // failures and warnings, the worst first
	Cluster  []Finding // the rest, about the cluster
	Passed   []string  // titles of checks without a warning
	Groups   []groupPart
	Versions string
	Lost     []lossRow
	Failures []failurePart
}

type tally struct {
	Level Level
	N     int
}

// groupPart is a group of hosts.
type groupPart struct {
	Name  string
	Level Level
	Notes []Finding
	Hosts []hostPart
}

type hostPart struct {
	HostRow
	Level    Level
	Findings []Finding
}

// failurePart is a step that was not done as it should be.
type failurePart struct {
	Failure
	Text string
}

type lossRow struct {
	Loss
	Unknown string
	Percent string
}

// WriteHTML writes the report as one page that needs nothing else: no script, no
// file of another place.
func WriteHTML(w io.Writer, r Report) error {
	t, err := template.New("report").Funcs(template.FuncMap{
		"mark":       func(l Level) string { return strings.Trim(mark(l), "[] -") },
		"checkTitle": titleOf,
		"place":      place,
	}).Parse(reportHTML)
	if err != nil {
		return fmt.Errorf("read the template of reports: %w", err)
	}
	if err := t.Execute(w, newPage(r)); err != nil {
		return fmt.Errorf("write the report as HTML: %w", err)
	}
	return nil
}

// cleaned is a copy without characters that steer: one that turns the direction of
// text would turn what follows it, too.
func cleaned(r Report) Report {
	fs, hosts, losses := slices.Clone(r.Findings), slices.Clone(r.Hosts), slices.Clone(r.Losses)
	texts := []*string{&r.Title, &r.Cluster, &r.From, &r.To, &r.Bundle, &r.State}
	for i := range fs {
		texts = append(texts, &fs[i].Where, &fs[i].Text, &fs[i].Remedy, &fs[i].Check)
	}
	for i := range hosts {
		texts = append(texts, &hosts[i].Version, &hosts[i].Kernel, &hosts[i].Note, &hosts[i].Group)
	}
	for i := range losses {
		texts = append(texts, &losses[i].Guest)
	}
	for _, t := range texts {
		*t = plain.Plain(clean(*t))
	}
	r.Findings, r.Hosts, r.Losses = fs, hosts, losses
	r.Failures = slices.Clone(r.Failures)
	for i := range r.Failures {
		f := &r.Failures[i]
		f.Why, f.By, f.Tail = plain.Plain(clean(f.Why)), clean(f.By), cleanLines(f.Tail)
		f.Faults = slices.Clone(f.Faults)
		for j := range f.Faults {
			f.Faults[j].Text, f.Faults[j].File = clean(f.Faults[j].Text), clean(f.Faults[j].File)
		}
	}
	return r
}

// cleanLines does the same for a text of several lines.
func cleanLines(s string) string {
	var b strings.Builder
	for line := range strings.Lines(s) {
		b.WriteString(clean(strings.TrimRight(line, "\r\n")) + "\n")
	}
	return b.String()
}

func newPage(r Report) page {
	r = cleaned(r)
	Sort(r.Findings)
	p := page{Report: &r, Title: r.title(), Level: r.Worst(), Began: shown(r.Began, &r), Ended: shown(r.Ended, &r)}
	n := Count(r.Findings)
	for _, l := range Levels() {
		p.Tally = append(p.Tally, tally{l, n[l]})
	}
	if r.From != "" || r.To != "" {
		p.Versions = orUnknown(r.From) + " to " + orUnknown(r.To)
	}
	byHost := map[cluster.HostID][]Finding{}
	byGroup := map[string][]Finding{}
	for _, f := range r.Findings {
		switch {
		case f.Level == OK:
			p.Passed = append(p.Passed, f.Text)
			continue
		case f.Level == Fail || f.Level == Warn:
			p.Urgent = append(p.Urgent, f)
		case f.Scope == ScopeCluster:
			p.Cluster = append(p.Cluster, f)
		}
		if f.Scope == ScopeGroup {
			byGroup[f.Where] = append(byGroup[f.Where], f)
		} else if f.Host != "" {
			byHost[f.Host] = append(byHost[f.Host], f)
		}
	}
	for _, f := range r.Failures {
		p.Failures = append(p.Failures, failurePart{f, f.String()})
	}
	p.Groups = groupParts(r.Hosts, byHost, byGroup)
	for _, l := range r.Losses {
		row := lossRow{Loss: l, Percent: "-", Unknown: strings.TrimPrefix(l.unwatched(), "; ")}
		if l.Sent > 0 {
			row.Percent = fmt.Sprintf("%.3f %%", 100*float64(l.Lost)/float64(l.Sent))
		}
		p.Lost = append(p.Lost, row)
	}
	return p
}

// groupParts puts hosts into their groups, the ones with the worst findings first.
func groupParts(rows []HostRow, byHost map[cluster.HostID][]Finding, byGroup map[string][]Finding) []groupPart {
	parts := map[string]*groupPart{}
	group := func(name string) *groupPart {
		if parts[name] == nil {
			parts[name] = &groupPart{Name: name, Level: Worst(byGroup[name]), Notes: byGroup[name]}
		}
		return parts[name]
	}
	for name := range byGroup {
		group(name)
	}
	add := func(row HostRow) {
		g := group(row.Group)
		h := hostPart{HostRow: row, Findings: byHost[row.Name], Level: Worst(byHost[row.Name])}
		g.Hosts = append(g.Hosts, h)
		if h.Level.rank() < g.Level.rank() {
			g.Level = h.Level
		}
		delete(byHost, row.Name)
	}
	for _, row := range rows {
		add(row)
	}
	for _, h := range keys(byHost) { // not among the rows: still shown
		add(HostRow{Name: h})
	}
	var out []groupPart
	for _, name := range keys(parts) {
		g := parts[name]
		byLevel(g.Hosts, func(h hostPart) Level { return h.Level })
		out = append(out, *g)
	}
	byLevel(out, func(g groupPart) Level { return g.Level })
	return out
}
