package engine

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"holdfast/internal/job"
)

// Sizes of logs on a host.
const (
	maxLog   = 16 << 20 // bytes of one attempt
	keepLogs = 20       // jobs
)

// LogFile is the name of the file with the whole log of an attempt.
func LogFile(dir, id, step string, attempt int) string {
	// '~' is in no step's id, so two steps never have the same file.
	return filepath.Join(dir, "jobs", id, fmt.Sprintf("%s.%d.log", strings.ReplaceAll(step, "/", "~"), attempt))
}

// logFile is the log of one attempt: a file that does not grow beyond a limit,
// and the end of all that was written.
type logFile struct {
	mu    sync.Mutex
	f     *os.File // nil: closed
	size  int64
	limit int64
	last  []byte
	said  time.Time // when something was last written; zero: by an earlier process, or nothing
	err   error     // the first of the file
}

// openLog goes on with a log that is there. The directories are made.
func openLog(file string, limit int64) (*logFile, error) {
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return nil, fmt.Errorf("make the directory of the log: %w", err)
	}
	f, err := os.OpenFile(file, os.O_CREATE|os.O_APPEND|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the log: %w", err)
	}
	l := &logFile{f: f, limit: limit}
	if err := l.resume(); err != nil {
		return nil, fmt.Errorf("read the log %s: %w", file, firstOf(err, f.Close()))
	}
	return l, nil
}

func firstOf(a, b error) error {
	if a != nil {
		return a
	}
	return b
}

// resume reads the end of what an earlier process has written.
func (l *logFile) resume() error {
	st, err := l.f.Stat()
	if err != nil {
		return err
	}
	l.size = st.Size()
	n := min(l.size, job.MaxTail)
	l.last = make([]byte, n)
	_, err = l.f.ReadAt(l.last, l.size-n)
	return err
}

// Write never fails: a log that can not be written is no reason to stop in the
// middle of a step.
func (l *logFile) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.said = time.Now()
	l.last = append(l.last, p[max(0, len(p)-job.MaxTail):]...)
	if over := len(l.last) - job.MaxTail; over > 0 {
		l.last = slices.Delete(l.last, 0, over)
	}
	if l.f == nil || l.size >= l.limit {
		return len(p), nil
	}
	b := p[:min(int64(len(p)), l.limit-l.size)]
	l.keep(b)
	if l.size >= l.limit {
		l.keep([]byte("\n[the log is full: what comes is not kept]\n"))
	}
	return len(p), nil
}

func (l *logFile) keep(b []byte) {
	n, err := l.f.Write(b)
	l.size += int64(n)
	if l.err == nil && err != nil {
		l.err = fmt.Errorf("write the log: %w", err)
	}
}

// tail is the end of the log as text.
func (l *logFile) tail() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	b := l.last
	if int64(len(b)) == job.MaxTail {
		// The beginning may be in the middle of a character.
		for i := 0; i < 3 && len(b) > 0 && b[0]&0xC0 == 0x80; i++ {
			b = b[1:]
		}
	}
	return end(printable(b), job.MaxTail)
}

// put shows the end of the log in a record, if anything was written since.
func (l *logFile) put(r job.Record) job.Record {
	l.mu.Lock()
	said := l.said
	l.mu.Unlock()
	if !said.IsZero() {
		r.Tail, r.Said = l.tail(), said.UTC().Round(0)
	}
	return r
}

// close closes the file. The error is the first of all, for the agent's log.
func (l *logFile) close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.f == nil {
		return nil
	}
	err := l.f.Close()
	l.f = nil
	return firstOf(l.err, err)
}

// pruneLogs removes the logs of the oldest jobs.
func pruneLogs(dir string) error {
	type aged struct {
		name string
		mod  int64
	}
	entries, err := os.ReadDir(filepath.Join(dir, "jobs"))
	if os.IsNotExist(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("list the logs of jobs: %w", err)
	}
	var all []aged
	for _, e := range entries {
		info, err := e.Info()
		if err == nil && info.Mode().Type() == fs.ModeDir {
			all = append(all, aged{e.Name(), info.ModTime().UnixNano()})
		}
	}
	slices.SortFunc(all, func(a, b aged) int {
		if a.mod != b.mod {
			return int(max(-1, min(1, b.mod-a.mod)))
		}
		return strings.Compare(b.name, a.name)
	})
	for _, a := range all[min(keepLogs, len(all)):] {
		if err := os.RemoveAll(filepath.Join(dir, "jobs", a.name)); err != nil {
			return fmt.Errorf("remove the logs of job %s: %w", a.name, err)
		}
	}
	return nil
}
