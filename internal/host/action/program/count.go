package program

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// count passes what commands say on to the log of a step, and keeps in a file how many
// bytes that were: the next process of the agent goes on where this one has ended.
type count struct {
	to  io.Writer
	f   *os.File // nil: it is not kept
	n   int64    // bytes
	err error    // the first of the file
}

// openCount opens the count of an attempt whose directory is there.
func openCount(dir string, to io.Writer) (*count, error) {
	f, err := os.OpenFile(filepath.Join(dir, fileLogged), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the count of what is logged: %w", err)
	}
	c := &count{to: to, f: f}
	text, err := io.ReadAll(io.LimitReader(f, 32))
	if err != nil {
		return nil, errors.Join(fmt.Errorf("read the count of what is logged: %w", err), f.Close())
	}
	if n, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64); err == nil && n > 0 {
		c.n = n // without a count the log gets all of it, once more
	}
	return c, nil
}

func (c *count) Write(p []byte) (int, error) {
	n, err := c.to.Write(p)
	c.n += int64(n)
	if c.f != nil {
		if _, ferr := c.f.WriteAt(fmt.Appendf(nil, "%020d\n", c.n), 0); ferr != nil && c.err == nil {
			c.err = ferr
		}
	}
	return n, err
}

// close ends the count. What it could not keep makes a few lines come twice.
func (c *count) close() {
	if err := errors.Join(c.err, c.f.Close()); err != nil {
		Say(c.to, "lines may come twice in this log: %v", err)
	}
}

// Say adds a line of the agent's own to a log that never fails.
func Say(log io.Writer, format string, args ...any) {
	_, _ = fmt.Fprintf(log, "[holdfast: %s]\n", fmt.Sprintf(format, args...))
}

// note adds to the log what is known beside the output.
func (r Result) note(log io.Writer) {
	if r.Why != "" {
		Say(log, "%s", r.Why)
	}
	if r.Discarded > 0 {
		Say(log, "%d bytes of output were not kept", r.Discarded)
	}
	for _, p := range r.Leftovers {
		switch {
		case p.Killed:
			Say(log, "it left the process %d %q, which was ended", p.PID, p.Name)
		case p.Holds:
			Say(log, "it left the process %d %q, which keeps its output open", p.PID, p.Name)
		default:
			Say(log, "it left the process %d %q", p.PID, p.Name)
		}
	}
}
