package steps

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"holdfast/internal/host/action/program"
)

// runLog counts the output that the step's log has got, in a file, so that the
// next process of the agent goes on where this one has ended.
type runLog struct {
	to  io.Writer
	f   *os.File
	n   int64 // bytes
	err error // the first of the file
}

// runOpenLog opens the count of an attempt whose directory is there.
func runOpenLog(dir string, to io.Writer) (*runLog, error) {
	f, err := os.OpenFile(filepath.Join(dir, "logged"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the count of what is logged: %w", err)
	}
	l := &runLog{to: to, f: f}
	text, err := io.ReadAll(io.LimitReader(f, 32))
	if err != nil {
		return nil, errors.Join(fmt.Errorf("read the count of what is logged: %w", err), f.Close())
	}
	if n, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64); err == nil && n > 0 {
		l.n = n // without a count the log gets all of it, once more
	}
	return l, nil
}

func (l *runLog) Write(p []byte) (int, error) {
	n, err := l.to.Write(p)
	l.n += int64(n)
	if _, ferr := l.f.WriteAt(fmt.Appendf(nil, "%020d\n", l.n), 0); ferr != nil && l.err == nil {
		l.err = ferr
	}
	return n, err
}

// from is where the output goes on that is not logged yet.
func (l *runLog) from(a *runAttempts) int64 {
	if a.single() {
		return l.n
	}
	return 0
}

// close ends the count. What it could not keep makes a few lines come twice.
func (l *runLog) close() {
	if err := errors.Join(l.err, l.f.Close()); err != nil {
		runSay(l.to, "lines may come twice in this log: %v", err)
	}
}

// runSay adds a line of the agent's own to the log of a step, which never fails.
func runSay(log io.Writer, format string, args ...any) {
	_, _ = fmt.Fprintf(log, "[holdfast: %s]\n", fmt.Sprintf(format, args...))
}

// runNotes adds to the log what is known beside the output.
func runNotes(log io.Writer, r program.Result) {
	if r.Why != "" {
		runSay(log, "%s", r.Why)
	}
	if r.Discarded > 0 {
		runSay(log, "%d bytes of output were not kept", r.Discarded)
	}
	for _, p := range r.Leftovers {
		switch {
		case p.Killed:
			runSay(log, "it left the process %d %q, which was ended", p.PID, p.Name)
		case p.Holds:
			runSay(log, "it left the process %d %q, which keeps its output open", p.PID, p.Name)
		default:
			runSay(log, "it left the process %d %q", p.PID, p.Name)
		}
	}
}

// runExists reports whether a path is there.
func runExists(path string) (bool, error) {
	_, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}
