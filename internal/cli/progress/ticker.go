// Package progress shows how far long work is: jobs that are followed to their end, what became of their steps, and a
// line that is written over on a terminal.
package progress

import (
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"holdfast/internal/cli/output"
	"holdfast/internal/job"
)

// newsEvery is how often a line of progress is written where it can not be written over.
const newsEvery = 10 * time.Second

// Ticker shows how far long work is: a line that is written over on a terminal, a line
// now and then elsewhere. It may be used by several goroutines.
type Ticker struct {
	mu       sync.Mutex
	w        io.Writer
	Terminal bool
	last     time.Time // when a line was written
	shown    int       // columns of the line that is to be written over
	above    int       // lines of a picture above it, which are, too
	err      error     // of the first write that failed; the work goes on

	File  string        // by which an agent is told of parts; "": nobody is
	parts *job.Progress // that is to be told
	told  time.Time     // when something was told last
	deaf  bool          // it could not be told

	events map[string]int // how often each kind of event has come, see news
}

// NewTicker shows it on w.
func NewTicker(w io.Writer) *Ticker {
	return &Ticker{w: w, Terminal: output.IsTerminal(w), events: map[string]int{}, File: os.Getenv(job.ProgressEnv)}
}

// Show shows a line of progress.
func (t *Ticker) Show(text string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	text = output.Clean(text)
	if !t.Terminal {
		if t.last.IsZero() || time.Since(t.last) >= newsEvery {
			t.last = time.Now()
			t.write(text + "\n")
		}
		return
	}
	text = output.Fit(t.w, text)
	n := output.Columns(text)
	t.write("\r" + text + strings.Repeat(" ", max(0, t.shown-n)))
	t.shown = n
}

// Picture shows lines above the line of progress, over those that it showed before. It is for terminals; the last one
// stays.
func (t *Ticker) Picture(lines []string, text string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	const clear = "\x1b[K" // to the end of the line
	var b strings.Builder
	b.WriteString("\r")
	if t.above > 0 {
		fmt.Fprintf(&b, "\x1b[%dA", t.above)
	}
	for _, l := range lines {
		b.WriteString(l + clear + "\n")
	}
	text = output.Fit(t.w, output.Clean(text))
	b.WriteString(text + clear)
	t.write(b.String())
	t.above, t.shown = len(lines), output.Columns(text)
}

// Say writes a line that stays.
func (t *Ticker) Say(text string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.wipe()
	t.write(text + "\n")
}

// eventsShown is how many events of a kind are shown each by a line: more help nobody.
const eventsShown = 20

// Event writes a line for an event of a kind, unless there were many of it.
func (t *Ticker) Event(kind, text string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.events[kind]++; t.events[kind] > eventsShown {
		return
	}
	t.wipe()
	t.write(text + "\n")
	if t.events[kind] == eventsShown {
		t.write("  " + kind + ": more of this is counted, and told at the end\n")
	}
}

// End removes the line of progress, tells how many events were not shown, and whether all
// could be written.
func (t *Ticker) End() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.wipe()
	t.tell()
	for _, kind := range slices.Sorted(maps.Keys(t.events)) {
		if more := t.events[kind] - eventsShown; more > 0 {
			t.write(fmt.Sprintf("%s: %s more times\n", kind, output.Thousands(int64(more))))
		}
	}
	clear(t.events)
	return t.err
}

func (t *Ticker) wipe() {
	if t.shown > 0 {
		t.write("\r" + strings.Repeat(" ", t.shown) + "\r")
		t.shown = 0
	}
}

func (t *Ticker) write(s string) {
	if err := output.Text(t.w, s); t.err == nil {
		t.err = err
	}
}
