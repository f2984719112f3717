package cluster

import (
	"errors"
	"time"
)

// LogQuery asks for lines of the log of a host's agent.
type LogQuery struct {
	Host  HostID // "": the one that answers
	After int64  // number of a line: only later ones; 0: all
	Most  int    // lines, the newest; 0: DefaultLogLines; at most MaxLogLines
	Least string // level: DEBUG, INFO, WARN or ERROR; "": all
	Text  string // words, each of which is in a line, whatever the case
}

// Bounds of the lines of one answer.
const (
	DefaultLogLines = 200
	MaxLogLines     = 500
)

// LogLevels are those of lines, from the least on.
var LogLevels = []string{"DEBUG", "INFO", "WARN", "ERROR"}

// HostLog is what a host's agent has logged, without secrets: lines that it keeps in memory.
type HostLog struct {
	Host  HostID    `json:"host"`
	From  time.Time `json:"from,omitzero"` // of the oldest line that is kept
	Lines []LogLine `json:"lines"`         // oldest first
	Next  int64     `json:"next"`          // after which later lines come
	Left  int       `json:"left"`          // lines out that fit, and are older than those told
}

// LogLine is one of them.
type LogLine struct {
	Number int64     `json:"number"`
	Time   time.Time `json:"time,omitzero"`
	Level  string    `json:"level,omitempty"`
	Text   string    `json:"text"`
	Fields string    `json:"fields,omitempty"` // name=value, with a space between them
}

// FenceTest is what the fence devices of a host have answered when they were asked for their state.
type FenceTest struct {
	Host    HostID        `json:"host"`
	By      HostID        `json:"by"` // who has asked them
	Time    time.Time     `json:"time"`
	Took    time.Duration `json:"took"`
	Answers []FenceAnswer `json:"answers"` // in the order in which they are ordered
}

// FenceAnswer is what one device has answered.
type FenceAnswer struct {
	Device string `json:"device"`
	On     bool   `json:"on"`              // it shows the host as on; without an error
	Error  string `json:"error,omitempty"` // why it can not be relied on; "": nothing is wrong
}

// FenceAnswered is the answer of a device, or why it has none.
func FenceAnswered(device string, on bool, err error) FenceAnswer {
	if err != nil {
		return FenceAnswer{Device: device, Error: err.Error()}
	}
	return FenceAnswer{Device: device, On: on}
}

// Works reports whether some device may be relied on.
func (t FenceTest) Works() bool {
	for _, a := range t.Answers {
		if a.Error == "" {
			return true
		}
	}
	return false
}

// FenceTrouble joins what is wrong with devices; nil: nothing.
func FenceTrouble(all []FenceAnswer) error {
	var errs []error
	for _, a := range all {
		if a.Error != "" {
			errs = append(errs, errors.New(a.Error))
		}
	}
	return errors.Join(errs...)
}
