// Package film makes a picture that moves, in SVG, of what a terminal shows.
package film

import (
	"slices"
	"strings"
	"sync"
	"time"
)

// Times of a film. It runs as fast as the demo did, but for the waits.
const (
	every   = time.Second      // between two frames of the same table
	longest = time.Second      // what is left of a longer wait
	ending  = 12 * time.Second // how long the last frame stands
)

// maxRows is how many lines of the terminal the film shows: the last ones.
const maxRows = 52

// Film records what a terminal shows. A nil Film records nothing. Its methods may be used
// concurrently.
type Film struct {
	mu     sync.Mutex
	above  []string // lines that stay
	table  []string // below them, replaced each time
	frames []frame
}

// frame is what the terminal showed from a moment on.
type frame struct {
	at    time.Time
	lines []string
}

// New begins with the command that was typed.
func New(command string, now time.Time) *Film {
	f := &Film{}
	f.Print(now, "$ "+command)
	return f
}

// Print adds lines that stay; the table that was there stays above them.
func (f *Film) Print(now time.Time, lines ...string) {
	if f == nil {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.above = slices.Concat(f.above, f.table, lines)
	f.table = nil
	f.shoot(now)
}

// Draw replaces the table.
func (f *Film) Draw(now time.Time, lines []string) {
	if f == nil {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	soon := len(f.table) > 0 && now.Sub(f.frames[len(f.frames)-1].at) < every
	f.table = slices.Clone(lines)
	if !soon {
		f.shoot(now)
	}
}

// shoot adds a frame. The caller holds mu.
func (f *Film) shoot(now time.Time) {
	all := strings.Split(strings.Join(slices.Concat(f.above, f.table), "\n"), "\n")
	f.frames = append(f.frames, frame{now, all[max(0, len(all)-maxRows):]})
}
