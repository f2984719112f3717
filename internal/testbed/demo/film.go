package demo

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"holdfast/internal/durable"
	"holdfast/internal/fail"
)

// Times of a film. It runs as fast as the demo did, but for the waits.
const (
	filmEvery = time.Second      // between two frames of the same table
	filmWait  = time.Second      // what is left of a longer wait
	filmEnd   = 12 * time.Second // how long the last frame stands
)

// filmRows is how many lines of the terminal the film shows: the last ones.
const filmRows = 44

// film records what a terminal shows. A nil film records nothing. Its methods may be used
// concurrently.
type film struct {
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

// newFilm begins with the command that was typed.
func newFilm(command string, now time.Time) *film {
	f := &film{}
	f.print(now, "$ "+command)
	return f
}

// print adds lines that stay; the table that was there stays above them.
func (f *film) print(now time.Time, lines ...string) {
	if f == nil {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.above = slices.Concat(f.above, f.table, lines)
	f.table = nil
	f.shoot(now)
}

// draw replaces the table.
func (f *film) draw(now time.Time, lines []string) {
	if f == nil {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	soon := len(f.table) > 0 && now.Sub(f.frames[len(f.frames)-1].at) < filmEvery
	f.table = slices.Clone(lines)
	if !soon {
		f.shoot(now)
	}
}

// shoot adds a frame. The caller holds mu.
func (f *film) shoot(now time.Time) {
	all := strings.Split(strings.Join(slices.Concat(f.above, f.table), "\n"), "\n")
	f.frames = append(f.frames, frame{now, all[max(0, len(all)-filmRows):]})
}

// save writes the film into a file, in place of one that is there.
func (f *film) save(file string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := durable.WriteFile(file, f.svg(), 0o644); err != nil {
		return fmt.Errorf("write the recording: %w", err)
	}
	return nil
}

// checkRecord refuses a file that could not take a recording, before anything is done.
func checkRecord(file string) error {
	if filepath.Ext(file) != ".svg" {
		return fail.Errorf(fail.Invalid, "--record: value %q: want a name that ends in .svg", file)
	}
	if st, err := os.Stat(filepath.Dir(file)); err != nil || !st.IsDir() {
		return fail.Errorf(fail.Invalid, "--record: value %q: want a file in a folder that is there", file)
	}
	if st, err := os.Lstat(file); err == nil && !st.Mode().IsRegular() {
		return fail.Errorf(fail.Invalid, "--record: value %q: want a file, and this is none", file)
	}
	return nil
}
