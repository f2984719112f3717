package cli

import (
	"io"
	"strings"
	"sync"
	"time"
	"unicode/utf8"
)

// newsEvery is how often a line of progress is written where it can not be written over.
const newsEvery = 10 * time.Second

// ticker shows how far long work is: a line that is written over on a terminal, a line
// now and then elsewhere. It may be used by several goroutines.
type ticker struct {
	mu    sync.Mutex
	w     io.Writer
	term  bool
	last  time.Time // when a line was written
	shown int       // columns of the line that is to be written over
	err   error     // of the first write that failed; the work goes on
}

func newTicker(w io.Writer) *ticker { return &ticker{w: w, term: isTerminal(w)} }

// show shows a line of progress.
func (t *ticker) show(text string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	text = clean(text)
	if !t.term {
		if t.last.IsZero() || time.Since(t.last) >= newsEvery {
			t.last = time.Now()
			t.write(text + "\n")
		}
		return
	}
	text = shorten(text, width-1) // a full line would wrap
	n := utf8.RuneCountInString(text)
	t.write("\r" + text + strings.Repeat(" ", max(0, t.shown-n)))
	t.shown = n
}

// say writes a line that stays.
func (t *ticker) say(text string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.wipe()
	t.write(text + "\n")
}

// end removes the line of progress, and tells whether all could be written.
func (t *ticker) end() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.wipe()
	return t.err
}

func (t *ticker) wipe() {
	if t.shown > 0 {
		t.write("\r" + strings.Repeat(" ", t.shown) + "\r")
		t.shown = 0
	}
}

func (t *ticker) write(s string) {
	if err := writeText(t.w, s); t.err == nil {
		t.err = err
	}
}
