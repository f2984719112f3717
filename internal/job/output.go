package job

import (
	"slices"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/lib/text"
)

// Output is what a step has said, by its host.
type Output struct {
	Host     cluster.HostID `json:"host"`            // "": nobody has claimed it
	Log      string         `json:"log,omitempty"`   // its end, at most MaxOutput
	LogBytes int64          `json:"log_bytes"`       // of the whole log, which is on the host
	Line     string         `json:"line,omitempty"`  // how far it is, in words; "": it does not tell
	Told     time.Time      `json:"told,omitzero"`   // when it told that
	Parts    []Part         `json:"parts,omitempty"` // at most MaxParts
	More     int            `json:"more,omitempty"`  // parts that are not in Parts
}

// Part is a part of what a step works on, such as a table.
type Part struct {
	Name        string        `json:"name"`
	State       string        `json:"state"` // one of PartWaiting and so on
	Done        int64         `json:"done"`  // in units
	Total       int64         `json:"total"` // 0: not known
	Unit        string        `json:"unit,omitempty"`
	PerSecond   float64       `json:"per_second,omitempty"`  // units, in the last seconds
	Left        time.Duration `json:"left,omitempty"`        // at this speed; 0: not known
	Differences int64         `json:"differences,omitempty"` // found so far
	Note        string        `json:"note,omitempty"`
}

// States of a part.
const (
	PartWaiting = "waiting"
	PartRunning = "running"
	PartDone    = "done"
	PartFailed  = "failed"
	PartSkipped = "skipped" // it is not worked on, as Note says
)

// Progress is what a program of ours tells of its work, in the file that ProgressEnv names. It is written and read Bounded.
type Progress struct {
	Line  string    `json:"line"`
	Told  time.Time `json:"told"`
	Parts []Part    `json:"parts"`
	More  int       `json:"more,omitempty"` // parts that are not in Parts
}

// ProgressEnv names the file for a Progress to a program that is run as a step.
const ProgressEnv = "HOLDFAST_PROGRESS"

// MaxOutput bounds Output.Log, bytes.
const MaxOutput = 256 << 10

// MaxParts bounds Output.Parts: more than people look through, and with the longest texts 1.1 MB, of the 4 MiB that an
// answer about a job may have.
const MaxParts = 2_000

// Bounds of the texts of a Progress, bytes.
const (
	maxLine     = 1_000
	maxPartName = 200
	maxPartNote = 300
	maxPartWord = 20 // a state, a unit
)

// MaxProgress bounds the file of a Progress, bytes. One that is Bounded is smaller: JSON makes six bytes at most of one.
const MaxProgress = 8 << 20

// Bounded is a progress with short texts and MaxParts parts at most, the first of Ranked; the others are counted in More.
// Where there is room for all they stay in their order.
func (p Progress) Bounded() Progress {
	parts := p.Parts
	if more := len(parts) - MaxParts; more > 0 {
		parts, p.More = Ranked(parts)[:MaxParts], p.More+more
	}
	p.Line, p.Parts = text.Cut(p.Line, maxLine), slices.Clone(parts)
	for i := range p.Parts {
		x := &p.Parts[i]
		x.Name, x.Note = text.Cut(x.Name, maxPartName), text.Cut(x.Note, maxPartNote)
		x.State, x.Unit = text.Cut(x.State, maxPartWord), text.Cut(x.Unit, maxPartWord)
	}
	return p
}

// Ranked are parts in the order in which people want to see them: those that failed or in which something was found, then
// those that are under way, those that wait, and the others.
func Ranked(all []Part) []Part {
	rank := func(p Part) int {
		switch {
		case p.State == PartFailed || p.Differences > 0:
			return 0
		case p.State == PartRunning:
			return 1
		case p.State == PartWaiting:
			return 2
		}
		return 3
	}
	return slices.SortedStableFunc(slices.Values(all), func(a, b Part) int { return rank(a) - rank(b) })
}
