package job

import (
	"time"

	"holdfast/internal/cluster"
)

// Output is what a step has said, by its host.
type Output struct {
	Host     cluster.HostID `json:"host"`
	Log      string         `json:"log,omitempty"`  // its end, at most MaxOutput
	LogBytes int64          `json:"log_bytes"`      // of the whole log, which is on the host
	Line     string         `json:"line,omitempty"` // how far it is, in words; "": it does not tell
	Told     time.Time      `json:"told,omitzero"`  // when it told that
	Parts    []Part         `json:"parts,omitempty"`
}

// Part is a part of what a step works on, such as a table.
type Part struct {
	Name        string        `json:"name"`
	State       string        `json:"state"` // waiting, running, done, failed
	Done        int64         `json:"done"`  // in units
	Total       int64         `json:"total"` // 0: not known
	Unit        string        `json:"unit,omitempty"`
	PerSecond   float64       `json:"per_second,omitempty"`  // units, in the last seconds
	Left        time.Duration `json:"left,omitempty"`        // at this speed; 0: not known
	Differences int64         `json:"differences,omitempty"` // found so far
	Note        string        `json:"note,omitempty"`
}

// Progress is what a program of ours tells of its work, in the file that ProgressEnv names.
type Progress struct {
	Line  string    `json:"line"`
	Told  time.Time `json:"told"`
	Parts []Part    `json:"parts"`
}

// ProgressEnv names the file for a Progress to a program that is run as a step.
const ProgressEnv = "HOLDFAST_PROGRESS"

// MaxOutput bounds Output.Log, bytes.
const MaxOutput = 256 << 10
