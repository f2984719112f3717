package check

import (
	"bufio"
	"fmt"
	"io"
	"strings"
	"time"
	"unicode"

	"holdfast/internal/cluster"
	plain "holdfast/internal/lib/text"
	"holdfast/internal/upgrade/check/faults"
)

// WriteText writes the report in the lines that operators of the platforms know:
// `[ -OK- ] Host(h1) post-check... Done.`
func WriteText(w io.Writer, r Report) error {
	t := &textWriter{w: bufio.NewWriter(w), r: &r}
	t.head()
	byHost := t.cluster()
	for _, h := range r.Hosts {
		t.host(h, byHost[h.Name])
		delete(byHost, h.Name)
	}
	for _, h := range keys(byHost) { // not among the rows: still said
		t.host(HostRow{Name: h}, byHost[h])
	}
	t.failures()
	t.losses()
	t.end()
	if err := t.w.Flush(); err != nil {
		return fmt.Errorf("write the report as text: %w", err)
	}
	return nil
}

type textWriter struct {
	w *bufio.Writer
	r *Report
}

// line writes one line; the writer keeps the first error until it is flushed.
func (t *textWriter) line(mark, format string, args ...any) {
	_, _ = t.w.WriteString(mark + clean(fmt.Sprintf(format, args...)) + "\n")
}

const (
	markOK   = "[ -OK- ] "
	markInfo = "[INFO] "
	markWarn = "[WARN] "
	markFail = "[FAIL] "
	markNone = "       "
)

func mark(l Level) string {
	return map[Level]string{OK: markOK, Info: markInfo, Warn: markWarn, Fail: markFail}[l]
}

// clean puts a blank in the place of what would begin a line or steer a terminal.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || unicode.Is(unicode.Cf, r) {
			return ' '
		}
		return r
	}, s)
}

func (t *textWriter) head() {
	r := t.r
	t.line(markInfo, "Begin to %s status of %s environment. Please wait....", r.verb(), orThis(r.Cluster))
	t.line(markInfo, "%s begin time: %s.", r.title(), shown(r.Began, r))
	if r.From != "" || r.To != "" {
		t.line(markInfo, "Version: %s -> %s.", orUnknown(r.From), orUnknown(r.To))
	}
	if r.Bundle != "" {
		t.line(markInfo, "Bundle: %s.", r.Bundle)
	}
	if r.Unsigned {
		t.line(markWarn, "The bundle has no signature.")
	}
	if r.State != "" {
		t.line(markInfo, "State of the cluster: %s.", r.State)
	}
	if r.Steps != nil {
		t.line(markInfo, "Steps of the run: %s.", r.Steps)
	}
}

func orThis(name string) string {
	if name == "" {
		return "this"
	}
	return name
}

func orUnknown(s string) string {
	if s == "" {
		return "unknown"
	}
	return s
}

// shown writes a time as operators read it, in the location of the report's end.
func shown(at time.Time, r *Report) string {
	if at.IsZero() {
		return "unknown"
	}
	return at.In(r.Ended.Location()).Format(time.DateTime)
}

// cluster writes each check with what it found about the cluster and its groups,
// and returns the findings about hosts and what is on them.
func (t *textWriter) cluster() map[cluster.HostID][]Finding {
	byHost := map[cluster.HostID][]Finding{}
	byCheck := map[string][]Finding{}
	var order []string
	for _, f := range t.r.Findings {
		if _, ok := byCheck[f.Check]; !ok {
			order = append(order, f.Check)
		}
		byCheck[f.Check] = append(byCheck[f.Check], f)
		if f.Host != "" {
			byHost[f.Host] = append(byHost[f.Host], f)
		}
	}
	for _, id := range inListOrder(order) {
		title := titleOf(id)
		t.line(markInfo, "%s %sing. Please wait....", title, t.r.verb())
		fs := byCheck[id]
		for _, f := range fs {
			if f.Host == "" && f.Level != OK {
				t.finding(f)
			}
		}
		t.outcome(title+" "+t.r.verb(), fs)
	}
	return byHost
}

// inListOrder puts ids of checks into the order of List, unknown ones last.
func inListOrder(ids []string) []string {
	have := map[string]bool{}
	for _, id := range ids {
		have[id] = true
	}
	var out []string
	for _, c := range List() {
		if have[c.ID] {
			out = append(out, c.ID)
			delete(have, c.ID)
		}
	}
	return append(out, keys(have)...)
}

func (t *textWriter) finding(f Finding) {
	text := f.Text
	if f.Scope == ScopeVM {
		text = f.Where + ": " + text
	}
	t.line(mark(f.Level), "%s", plain.Plain(text))
	if f.Remedy != "" {
		t.line(markNone, "Remedy: %s", f.Remedy)
	}
}

// outcome closes a section.
func (t *textWriter) outcome(what string, fs []Finding) { t.verdict(what, Count(fs)) }

func (t *textWriter) verdict(what string, n map[Level]int) {
	switch {
	case n[Fail] > 0:
		t.line(markFail, "%s... %s.", what, counts(n))
	case n[Warn] > 0:
		t.line(markWarn, "%s... Done, %s.", what, counts(n))
	default:
		t.line(markOK, "%s... Done.", what)
	}
}

// counts says how many have failed, and how many warnings there are.
func counts(n map[Level]int) string {
	var parts []string
	if n[Fail] > 0 {
		parts = append(parts, fmt.Sprintf("%d failed", n[Fail]))
	}
	switch {
	case n[Warn] == 1:
		parts = append(parts, "1 warning")
	case n[Warn] > 1:
		parts = append(parts, fmt.Sprintf("%d warnings", n[Warn]))
	}
	return strings.Join(parts, ", ")
}

func (t *textWriter) host(h HostRow, fs []Finding) {
	name := fmt.Sprintf("Host(%s)", h.Name)
	if h.Local {
		name = fmt.Sprintf("Local host(%s)", h.Name)
	}
	what := name + " " + t.r.verb()
	t.line(markInfo, "%sing. Please wait....", what)
	var about []string
	for _, p := range [][2]string{{"group ", h.Group}, {"version ", h.Version}, {"kernel ", h.Kernel}, {"", h.Note}} {
		if p[1] != "" {
			about = append(about, p[0]+p[1])
		}
	}
	if len(about) > 0 {
		t.line(markInfo, "%s: %s.", name, strings.Join(about, ", "))
	}
	for _, f := range fs {
		if f.Level != OK {
			t.finding(f)
		}
	}
	t.outcome(what, fs)
}

// failures writes the steps that were not done as they should be, with the ends of
// their logs and what is known of it.
func (t *textWriter) failures() {
	for _, f := range t.r.Failures {
		t.line(mark(f.Level), "%s.", strings.TrimRight(plain.Plain(f.String()), ".\n "))
		for line := range strings.Lines(f.Tail) {
			t.line(markNone, "| %s", strings.TrimRight(line, "\r\n"))
		}
		for _, hit := range f.Faults {
			if f.State == StepDone || hit.File != "" {
				t.line(markNone, "%s", place(hit))
			}
			for _, c := range hit.Causes {
				t.line(markNone, "Known (%s): %s", hit.ID, c.Cause)
				t.line(markNone, "Remedy: %s", c.Remedy)
			}
		}
	}
}

// place is the line of a fault, and the report in which it is.
func place(f faults.Hit) string {
	if f.File == "" {
		return f.Text
	}
	return f.Text + " (" + f.File + ")"
}

func (t *textWriter) losses() {
	if len(t.r.Losses) == 0 {
		return
	}
	t.line(markInfo, "Lost packets per guest during the upgrade:")
	for _, l := range t.r.Losses {
		t.line(markInfo, "%s: %d of %d lost, longest gap %d ms%s.", l.Guest, l.Lost, l.Sent, l.LongestMS, l.unwatched())
	}
}

// unwatched says what is not known, "" when that is little.
func (l *Loss) unwatched() (text string) {
	if d := time.Duration(l.UnwatchedMS) * time.Millisecond; d >= time.Second {
		text = fmt.Sprintf("; not measured for %s", d.Round(time.Second))
	}
	if l.Note != "" {
		text += "; " + l.Note
	}
	return text
}

func (t *textWriter) end() {
	t.line(markInfo, "%s end time: %s.", t.r.title(), shown(t.r.Ended, t.r))
	n := Count(t.r.Findings)
	for _, f := range t.r.Failures {
		n[f.Level]++
	}
	t.verdict(fmt.Sprintf("%s status of %s environment", t.r.title(), orThis(t.r.Cluster)), n)
}
