package faults

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"
)

// Match reads a log and returns what is known of it: failures first, then as the
// log has them; each fault once, where it was found first. Of long lines the first
// MaxLine bytes are looked at, of a long log the first MaxLog.
func (c *Catalogue) Match(src Source, log io.Reader) ([]Hit, error) {
	var left []entry
	for _, e := range c.entries {
		if e.Where.fits(src) {
			left = append(left, e)
		}
	}
	var hits []Hit
	r := bufio.NewReaderSize(io.LimitReader(log, MaxLog), MaxLine)
	for n := 1; len(left) > 0; n++ {
		line, err := readLine(r)
		if err != nil && !errors.Is(err, io.EOF) {
			return hits, fmt.Errorf("read the log for known faults: %w", err)
		}
		left = slices.DeleteFunc(left, func(e entry) bool {
			if !e.finds(line) {
				return false
			}
			hits = append(hits, e.hit(n, line))
			return true
		})
		if err != nil {
			break
		}
	}
	Sort(hits)
	return hits, nil
}

func (l Level) rank() int { return slices.Index([]Level{Fail, Warn, Info}, l) }

// readLine returns a line without its end, cut at MaxLine; the rest of a longer one
// is passed over.
func readLine(r *bufio.Reader) (string, error) {
	head, long, err := r.ReadLine()
	line := strings.ToValidUTF8(string(head), "\uFFFD")
	if len(line) > MaxLine {
		line = strings.ToValidUTF8(line[:MaxLine], "")
	}
	for long && err == nil {
		_, long, err = r.ReadLine()
	}
	return line, err
}

func (e *entry) finds(line string) bool {
	for _, re := range e.match {
		if re.MatchString(line) {
			return true
		}
	}
	return false
}

func (e *entry) hit(n int, line string) Hit {
	h := Hit{ID: e.ID, Level: e.Level, Causes: e.Causes, Line: n, Text: line}
	if len(h.Causes) == 0 {
		h.Causes = []Cause{{e.Cause, e.Remedy}}
	}
	return h
}

// fits reports whether a fault may be in a source. The patterns were checked when
// the catalogue was read.
func (w Where) fits(s Source) bool {
	name := s.Log
	if name != "" {
		name = path.Base(name)
	}
	for _, g := range [][2]string{{w.Module, s.Module}, {w.Phase, s.Phase}, {w.Log, name}} {
		if g[0] == "" || g[1] == "" {
			continue
		}
		if ok, err := path.Match(g[0], g[1]); err == nil && !ok {
			return false
		}
	}
	return true
}
