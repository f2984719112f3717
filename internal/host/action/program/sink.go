package program

import (
	"fmt"
	"os"
)

// sink keeps the output of a program in a file: without secrets, and not more
// than a limit. It never fails: a program must not end because its log can not
// be kept, so the first error is for the result.
type sink struct {
	file      *os.File
	redact    *redactor
	left      int64
	kept      int64
	discarded int64
	err       error
}

func newSink(path string, limit int64, r *redactor) (*sink, error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the file for the output: %w", err)
	}
	return &sink{file: f, redact: r, left: limit}, nil
}

func (s *sink) write(p []byte) { s.keep(s.redact.pass(p)) }

func (s *sink) keep(p []byte) {
	n := min(int64(len(p)), s.left)
	s.put(p[:n])
	s.left -= n
	if n < int64(len(p)) {
		if s.discarded == 0 {
			s.note("more output than is kept; the rest is discarded")
		}
		s.discarded += int64(len(p)) - n
	}
}

// note writes a line of the helper's own.
func (s *sink) note(text string) { s.put(fmt.Appendf(nil, "\n[holdfast: %s]\n", text)) }

func (s *sink) put(p []byte) {
	if len(p) == 0 {
		return
	}
	if s.err != nil {
		s.discarded += int64(len(p))
		return
	}
	n, err := s.file.Write(p)
	s.kept += int64(n)
	s.discarded += int64(len(p) - n)
	if err != nil {
		s.err = fmt.Errorf("keep the output: %w", err)
	}
}

// close writes what was held back.
func (s *sink) close() {
	s.keep(s.redact.rest())
	if err := s.file.Close(); err != nil && s.err == nil {
		s.err = fmt.Errorf("keep the output: %w", err)
	}
}
