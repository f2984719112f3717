package aid

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"sync"
	"time"
)

// Bounds of what a ring keeps.
const (
	ringLines = 5000
	ringBytes = 1 << 20
	lineBytes = 8 << 10 // of one line; the rest of it is left out
)

// Ring keeps the last lines of a log in memory: an io.Writer that takes a line at a time.
type Ring struct {
	mu    sync.Mutex
	lines []line // oldest first
	bytes int
	last  int64 // number
}

// line is one as it was written.
type line struct {
	number int64
	text   string
}

// NewRing makes an empty one. Its numbers are above those of a ring that was made before it, unless the clock was set back.
func NewRing() *Ring { return &Ring{last: time.Now().UnixMicro()} }

// Write takes a line.
func (r *Ring) Write(p []byte) (int, error) {
	text := string(bytes.TrimRight(p[:min(len(p), lineBytes)], "\n"))
	r.mu.Lock()
	defer r.mu.Unlock()
	r.last++
	r.lines = append(r.lines, line{r.last, text})
	r.bytes += len(text)
	drop := 0
	for r.bytes > ringBytes || len(r.lines)-drop > ringLines {
		r.bytes -= len(r.lines[drop].text)
		drop++
	}
	r.lines = r.lines[drop:]
	return len(p), nil
}

// Fill takes the last lines that an agent before this one has written into a file; one that is not there has none.
func (r *Ring) Fill(file string) (err error) {
	f, err := os.Open(file)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read the log before: %w", err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	info, err := f.Stat()
	if err != nil {
		return fmt.Errorf("read the log before: %w", err)
	}
	from := max(0, info.Size()-ringBytes/2)
	b, err := io.ReadAll(io.NewSectionReader(f, from, ringBytes/2))
	if err != nil {
		return fmt.Errorf("read the log before: %w", err)
	}
	if from > 0 { // its first line began before
		b = b[bytes.IndexByte(b, '\n')+1:]
	}
	for text := range bytes.Lines(b) {
		if _, err := r.Write(text); err != nil {
			return err
		}
	}
	return nil
}

// all are the lines, oldest first, and the number after which the next ones come.
func (r *Ring) all() (lines []line, last int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.lines), r.last
}
