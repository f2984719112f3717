// Package logfile writes a log to files that are rotated by day and by size, compressed,
// and together bounded. Who logs never waits for a disk: lines that it can not take are
// dropped and counted.
//
// NAME.log is written to. NAME-20060102T150405.000000000.log was, until that time (UTC);
// it is compressed to the same name with .gz.
package logfile

import (
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"holdfast/internal/lib/durable"
)

// queue is how many lines wait for the disk at most.
const queue = 4096

// closeWithin is how long Close waits for the disk.
const closeWithin = 2 * time.Second

// stamp is in the names of files that are not written to any more. It sorts by time.
const stamp = "20060102T150405.000000000"

// Options say where a log goes.
type Options struct {
	Dir     string // must exist; all logs in it count towards Total
	Name    string // of the files, without extension
	Size    int64  // bytes after which a new file is begun; also at midnight
	Total   int64  // bytes of all files in Dir; the oldest ones are removed
	Now     func() time.Time
	Trouble func(error) // what went wrong; the same is not told again before it has gone well
}

// Log is an io.Writer for one goroutine or many.
type Log struct {
	o     Options
	lines chan []byte
	lost  atomic.Int64 // lines
	done  chan struct{}

	// Of the goroutine that writes.
	f    *os.File
	size int64
	day  string // of the first line, local time
	said bool   // a trouble that is not over
}

// Open begins to write. The current file is continued.
func Open(o Options) (*Log, error) {
	if o.Size <= 0 || o.Total < 2*o.Size {
		return nil, fmt.Errorf("open log %s: files of %d bytes within %d: want two files at least", o.Name, o.Size, o.Total)
	}
	l := &Log{o: o, lines: make(chan []byte, queue), done: make(chan struct{})}
	if err := l.open(); err != nil {
		return nil, err
	}
	go l.run()
	return l, nil
}

// Write takes a line. It does not wait and does not fail.
func (l *Log) Write(p []byte) (int, error) {
	select {
	case l.lines <- slices.Clone(p):
	default:
		l.lost.Add(1)
	}
	return len(p), nil
}

// Close writes what was taken, unless the disk takes longer than 2 s. Nobody may write any
// more.
func (l *Log) Close() error {
	close(l.lines)
	select {
	case <-l.done:
		return nil
	case <-time.After(closeWithin):
		return fmt.Errorf("close log %s: the disk does not answer", l.o.Name)
	}
}

// mode lets the group of the directory's owner read the log.
const mode = 0o640

func (l *Log) current() string { return filepath.Join(l.o.Dir, l.o.Name+".log") }

func (l *Log) open() error {
	f, err := os.OpenFile(l.current(), os.O_WRONLY|os.O_APPEND|os.O_CREATE, mode)
	if err != nil {
		return fmt.Errorf("open log: %w", err)
	}
	info, err := f.Stat()
	if err == nil && info.Size() == 0 {
		err = f.Chmod(mode) // whatever the umask
	}
	if err != nil {
		return errors.Join(fmt.Errorf("open log: %w", err), f.Close())
	}
	l.f, l.size, l.day = f, info.Size(), day(info.ModTime())
	if l.size == 0 {
		l.day = day(l.o.Now())
	}
	return nil
}

func day(t time.Time) string { return t.Format(time.DateOnly) }

func (l *Log) run() {
	defer close(l.done)
	l.tell(l.tidy())
	for p := range l.lines {
		err := l.write(p)
		if n := l.lost.Swap(0); n > 0 {
			err = errors.Join(err, fmt.Errorf("write log %s: %d lines are lost: the disk was too slow", l.current(), n))
		}
		l.tell(err)
	}
	if l.f != nil {
		l.tell(l.f.Close())
	}
}

// tell reports an error once.
func (l *Log) tell(err error) {
	if err != nil && !l.said {
		l.o.Trouble(err)
	}
	l.said = err != nil
}

func (l *Log) write(p []byte) error {
	var err error
	if l.f != nil && l.size > 0 && (l.size+int64(len(p)) > l.o.Size || l.day != day(l.o.Now())) {
		err = l.rotate()
	}
	if l.f == nil {
		if oerr := l.open(); oerr != nil {
			return errors.Join(err, oerr)
		}
	}
	n, werr := l.f.Write(p)
	l.size += int64(n)
	return errors.Join(err, werr)
}

// rotate puts the current file aside. When that fails, the current one is continued.
func (l *Log) rotate() error {
	to := filepath.Join(l.o.Dir, l.o.Name+"-"+l.o.Now().UTC().Format(stamp)+".log")
	for _, taken := range []string{to, to + ".gz"} { // the clock was set back
		if _, err := os.Lstat(taken); err == nil {
			return fmt.Errorf("rotate log: %s is there already", taken)
		}
	}
	if err := durable.Rename(l.current(), to); err != nil && !errors.Is(err, os.ErrNotExist) { // somebody else may have removed it
		return fmt.Errorf("rotate log: %w", err)
	}
	err := l.f.Close()
	l.f = nil
	return errors.Join(err, l.tidy())
}

// tidy compresses what was put aside and removes the oldest files beyond the total.
func (l *Log) tidy() error {
	plain, err := filepath.Glob(filepath.Join(l.o.Dir, l.o.Name+"-*.log"))
	for _, p := range plain {
		err = errors.Join(err, compress(p))
	}
	return errors.Join(err, l.prune())
}

// compress replaces a file by a compressed one.
func compress(file string) error {
	in, err := os.Open(file)
	if err != nil {
		return fmt.Errorf("compress log: %w", err)
	}
	defer in.Close()
	err = durable.Write(file+".gz", mode, func(out *os.File) error {
		z := gzip.NewWriter(out)
		_, err := io.Copy(z, in)
		return errors.Join(err, z.Close())
	})
	if err != nil {
		return fmt.Errorf("compress log: %w", err)
	}
	return os.Remove(file)
}

// prune removes the oldest files that are not written to, of all logs in the directory,
// until a whole new file has room within the total.
func (l *Log) prune() error {
	entries, err := os.ReadDir(l.o.Dir)
	if err != nil {
		return fmt.Errorf("look for old logs: %w", err)
	}
	type old struct {
		path, when string
		size       int64
	}
	var olds []old
	total := l.o.Size
	for _, e := range entries {
		info, err := e.Info()
		if err != nil || !info.Mode().IsRegular() {
			continue // another log's, gone meanwhile; or none
		}
		total += info.Size()
		name := strings.TrimSuffix(strings.TrimSuffix(e.Name(), ".gz"), ".log")
		if i := len(name) - len(stamp); i > 0 && name != e.Name() {
			if _, err := time.Parse(stamp, name[i:]); err == nil {
				olds = append(olds, old{filepath.Join(l.o.Dir, e.Name()), name[i:], info.Size()})
			}
		}
	}
	slices.SortFunc(olds, func(a, b old) int { return strings.Compare(a.when, b.when) })
	for _, o := range olds {
		if total <= l.o.Total {
			break
		}
		if err := os.Remove(o.path); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("remove an old log: %w", err)
		}
		total -= o.size
	}
	return nil
}
