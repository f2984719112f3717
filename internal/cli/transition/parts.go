package transition

import (
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"holdfast/internal/cli/output"
	"holdfast/internal/cli/progress"
	"holdfast/internal/job"
	align "holdfast/internal/transition/db"
	"holdfast/internal/transition/feature"
	"holdfast/internal/transition/net"
	"holdfast/internal/transition/net/rebuild"
)

// This file tells people, and an agent that has a command run as a step, how far its parts are.

// tellOn shows what package db tells.
func tellOn(t *progress.Ticker) align.Tell {
	var mu sync.Mutex
	var parts []job.Part // the last ones: a step where nothing is counted leaves them as they are
	return align.Tell{Note: t.Say, Progress: func(p align.Progress) {
		mu.Lock()
		defer mu.Unlock()
		line := progressLine(p)
		t.Show(line)
		switch {
		case p.Copy != nil:
			parts = copied(p.Copy.Tables)
		case p.Follow != nil:
			parts = following(p.Follow)
		case p.Compare != nil:
			parts = comparing(p.Compare)
		}
		t.Parts(line, parts)
	}, Log: slog.New(news{to: t})}
}

// progressLine is how far the work is, in a line.
func progressLine(p align.Progress) string {
	line, waits := p.Step, ""
	switch {
	case p.Copy != nil:
		c := p.Copy
		line, waits = fmt.Sprintf("%s  %s rows  %.0f %%  %s rows/s", c.Table, output.Thousands(c.Done), c.Percent,
			output.Thousands(int64(c.RowsPerSecond))), c.Waiting
		if c.ETA > 0 {
			line += "  " + c.ETA.Round(time.Second).String() + " left"
		}
	case p.Follow != nil:
		f := p.Follow
		line, waits = fmt.Sprintf("following  %s  %s  %s changed rows", f.Position, behind(f),
			output.Thousands(f.RowsChanged)), f.Waits
	case p.Compare != nil:
		line = fmt.Sprintf("%s  %s rows compared", p.Compare.Table, output.Thousands(p.Compare.Rows))
	}
	if waits != "" {
		line += "  waits: " + waits
	}
	return line
}

// behind is how far a run is behind the source.
func behind(f *align.Following) string {
	if f.LagSeconds < 0 {
		return "behind by what is not known yet"
	}
	return fmt.Sprintf("%.1f s behind", f.LagSeconds)
}

// copied are tables as parts of a step.
func copied(all []align.Standing) []job.Part {
	out := make([]job.Part, 0, len(all))
	for _, s := range all {
		p := job.Part{Name: s.Table, State: job.PartWaiting, Done: s.Rows, Total: s.TableRows, Unit: "rows",
			PerSecond: s.RowsPerSecond, Left: s.ETA}
		switch {
		case s.Done:
			p.State = job.PartDone
		case s.Running:
			p.State = job.PartRunning
		}
		out = append(out, p)
	}
	return out
}

// binaryLog is the part that is the source's log.
const binaryLog = "binary log"

// following are the source's log, whose end is not known, and the tables of which rows have changed.
func following(f *align.Following) []job.Part {
	out := []job.Part{{Name: binaryLog, State: job.PartRunning, Done: f.Events, Unit: "events", Note: f.Position + ", " + behind(f)}}
	for _, t := range f.Tables {
		out = append(out, job.Part{Name: t.Table, State: job.PartRunning, Done: t.Rows, Unit: "rows"})
	}
	return out
}

// followedText is what following has carried over.
func followedText(f *align.Followed) string {
	return fmt.Sprintf("%s transactions of the source, up to %s", output.Thousands(f.Transactions), f.Position)
}

// followed tells the end of a run that has followed the source.
func followed(t *progress.Ticker, out *align.Ran) {
	f := out.Follow
	parts := []job.Part{{Name: binaryLog, State: job.PartDone, Done: f.Transactions, Unit: "transactions", Note: f.Position}}
	for _, t := range out.Tables {
		parts = append(parts, job.Part{Name: t.Target, State: job.PartDone, Done: t.Rows, Unit: "rows", Note: "as they were copied"})
	}
	t.Parts(followedText(f), parts)
}

// comparing are tables and checks. How many rows a table has is known at its end.
func comparing(c *align.Comparing) []job.Part {
	out := make([]job.Part, 0, len(c.Tables)+1)
	for _, t := range c.Tables {
		p := job.Part{Name: t.Table, State: job.PartWaiting, Done: t.SourceRows, Unit: "rows"}
		if t.Done {
			p.State, p.Total = job.PartDone, t.SourceRows
		}
		if t.Running {
			p.State = job.PartRunning
		}
		switch {
		case t.Done && t.Running:
			p.Note = "the rows that differ are looked for"
		case t.Differ > 0:
			p.Note = fmt.Sprintf("ranges of rows that differ so far: %d", t.Differ)
		}
		out = append(out, p)
	}
	return append(out, checked(c.Looked, c.Checks, c.Broken)...)
}

// checked are the checks of a comparison as a part, if there are any.
func checked(looked, all, broken int) []job.Part {
	if all == 0 {
		return nil
	}
	p := job.Part{Name: "checks", State: job.PartRunning, Done: int64(looked), Total: int64(all)}
	if broken > 0 {
		p.Note = fmt.Sprintf("that do not hold: %d", broken)
	}
	switch {
	case looked == all && broken > 0:
		p.State = job.PartFailed
	case looked == all:
		p.State = job.PartDone
	case looked == 0:
		p.State = job.PartWaiting
	}
	return []job.Part{p}
}

// compared are the same of a comparison that has ended.
func compared(r *align.Verified) []job.Part {
	out := make([]job.Part, 0, len(r.Tables)+1)
	for _, t := range r.Tables {
		p := job.Part{Name: t.Target, State: job.PartDone, Done: t.TargetRows, Total: t.SourceRows, Unit: "rows",
			Differences: int64(len(t.Differences))}
		if !t.ChecksumEqual {
			p.State = job.PartFailed
		}
		out = append(out, p)
	}
	broken := 0
	for _, c := range r.Checks {
		if !c.Holds {
			broken++
		}
	}
	return append(out, checked(len(r.Checks), len(r.Checks), broken)...)
}

// stepped are the steps of a rebuild so far, with the one that it is at.
func stepped(parts []job.Part, p rebuild.Progress) []job.Part {
	at := slices.IndexFunc(parts, func(x job.Part) bool { return x.Name == p.Step })
	if at < 0 {
		at, parts = len(parts), append(parts, job.Part{Name: p.Step})
	}
	parts[at].State, parts[at].Done, parts[at].Total = job.PartRunning, int64(p.Done), int64(p.Whole)
	if p.Done >= p.Whole {
		parts[at].State = job.PartDone
	}
	return parts
}

// reading is a comparison of a document with a platform, whose objects are read kind after kind, and compared then.
type reading struct {
	shows *progress.Ticker
	parts []job.Part // of the kinds that the document or the platform has
}

func newReading(t *progress.Ticker, d *net.Document) *reading {
	r, have := &reading{shows: t}, d.Counts()
	for _, kind := range net.Kinds() {
		if n := have[kind]; n > 0 {
			r.part(kind).Total = int64(n)
		}
	}
	return r
}

// part is that of a kind.
func (r *reading) part(kind string) *job.Part {
	at := slices.IndexFunc(r.parts, func(p job.Part) bool { return p.Name == kind })
	if at < 0 {
		at, r.parts = len(r.parts), append(r.parts, job.Part{Name: kind, State: job.PartWaiting, Unit: "objects"})
	}
	return &r.parts[at]
}

// tell hears what is read. That all of a kind is, nobody knows before the end.
func (r *reading) tell(p rebuild.Progress) {
	if p.Done > 0 || p.Whole > 0 {
		x := r.part(p.Step)
		x.State, x.Done, x.Total = job.PartRunning, int64(p.Done), int64(p.Whole)
	}
	line := fmt.Sprintf("%s  %d read, of %d in the document", p.Step, p.Done, p.Whole)
	r.shows.Show(line)
	r.shows.Parts(line, slices.Clone(r.parts))
}

// end tells what the comparison has found.
func (r *reading) end(v *rebuild.Verified) {
	for _, d := range v.Differences {
		r.part(d.Kind).Differences++
	}
	for i := range r.parts {
		r.parts[i].State = job.PartDone
		if r.parts[i].Differences > 0 {
			r.parts[i].State = job.PartFailed
		}
	}
	r.shows.Parts("compared", r.parts)
}

// puttingBack is what is done after all features.
const puttingBack = "putting back what is left to be"

// featuresLine is how far a run is, in a line.
func featuresLine(p feature.Progress) string {
	if p.Name == "" {
		return puttingBack
	}
	return fmt.Sprintf("%d of %d  %s", p.Done+1, p.All, p.Name)
}

// trying are the features of a run that is under way.
func trying(p feature.Progress) []job.Part {
	out := tried(p.Over)
	for i := len(out); i < len(p.Names); i++ {
		out = append(out, job.Part{Name: string(p.Names[i]), State: job.PartWaiting})
		if p.Names[i] == p.Name {
			out[i].State = job.PartRunning
		}
	}
	if p.Name == "" {
		out = append(out, job.Part{Name: puttingBack, State: job.PartRunning})
	}
	return out
}

// tried are features that are over.
func tried(all []feature.Result) []job.Part {
	out := make([]job.Part, 0, len(all)+1)
	for _, f := range all {
		state := map[feature.Outcome]string{feature.OK: job.PartDone, feature.Failed: job.PartFailed, feature.Skipped: job.PartSkipped}[f.Result]
		out = append(out, job.Part{Name: string(f.Name), State: state, Note: f.Why})
	}
	return out
}

// allTried tells the end of a run.
func allTried(t *progress.Ticker, r *feature.Report) {
	back := job.Part{Name: puttingBack, State: job.PartDone, Note: strings.Join(r.Left, "; ")}
	if len(r.Left) > 0 {
		back.State = job.PartFailed
	}
	t.Parts("all is tried", append(tried(r.Features), back))
}
