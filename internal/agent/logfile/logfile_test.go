package logfile

import (
	"compress/gzip"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"holdfast/testbed/need"

	"holdfast/testbed/try"
)

// rig is a log with a clock of its own.
type rig struct {
	*Log
	dir   string
	clock atomic.Pointer[time.Time]
	mu    sync.Mutex
	told  []string
}

func newRig(t *testing.T, dir string, size, total int64) *rig {
	t.Helper()
	r := &rig{dir: dir}
	r.at(time.Now())
	l, err := Open(r.options("agent", size, total))
	if err != nil {
		t.Fatal(err)
	}
	r.Log = l
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	return r
}

func (r *rig) options(name string, size, total int64) Options {
	return Options{Dir: r.dir, Name: name, Size: size, Total: total, Now: func() time.Time { return *r.clock.Load() },
		Trouble: func(err error) {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.told = append(r.told, err.Error())
		}}
}

func (r *rig) at(now time.Time) { r.clock.Store(&now) }

// troubles are what was told since the last look.
func (r *rig) troubles() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	defer func() { r.told = nil }()
	return r.told
}

// say writes a line and waits until it was dealt with.
func (r *rig) say(t *testing.T, line string) {
	t.Helper()
	if n, err := r.Write([]byte(line)); n != len(line) || err != nil {
		t.Fatalf("write: %d, %v", n, err)
	}
	r.drain(t)
}

// drain waits until all lines are dealt with: the queue takes nothing while it is full.
func (r *rig) drain(t *testing.T) {
	t.Helper()
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	r.reopen(t)
}

func (r *rig) reopen(t *testing.T) {
	t.Helper()
	l, err := Open(r.o)
	if err != nil {
		t.Fatal(err)
	}
	r.Log = l
}

// text is what all files have, the oldest first. The log is closed meanwhile: it
// removes files.
func (r *rig) text(t *testing.T) (text string, names []string) {
	t.Helper()
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	defer r.reopen(t)
	names, err := filepath.Glob(filepath.Join(r.dir, "agent-*"))
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(names)
	for _, n := range append(slices.Clone(names), r.current()) {
		f, err := os.Open(n)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		var in io.Reader = f
		if strings.HasSuffix(n, ".gz") {
			if in, err = gzip.NewReader(f); err != nil {
				t.Fatal(n, err)
			}
		}
		b, err := io.ReadAll(in)
		if err != nil {
			t.Fatal(n, err)
		}
		text += string(b)
	}
	return text, names
}

func (r *rig) wants(t *testing.T, text string, files int) {
	t.Helper()
	got, names := r.text(t)
	if got != text || len(names) != files {
		t.Errorf("%q in %v, want %q in %d files beside the current one", got, names, text, files)
	}
	for _, n := range names {
		if !strings.HasSuffix(n, ".log.gz") {
			t.Errorf("%s is not compressed", n)
		}
	}
	if told := r.troubles(); len(told) > 0 {
		t.Errorf("troubles: %q", told)
	}
}

func TestFilesAreRotatedBySizeAndDay(t *testing.T) {
	if !try.UnderUmask(t) {
		return
	}
	r := newRig(t, t.TempDir(), 10, 1000)
	noon := time.Date(2026, 1, 2, 12, 0, 0, 0, time.Local)
	r.at(noon)
	if err := os.Chtimes(r.current(), noon, noon); err != nil {
		t.Fatal(err)
	}
	r.say(t, "12345\n")
	r.wants(t, "12345\n", 0)
	r.say(t, "6789\n") // 11 bytes are too many
	r.wants(t, "12345\n6789\n", 1)
	_, files := r.text(t)
	for _, f := range append(files, r.current()) {
		if info, err := os.Stat(f); err != nil || info.Mode() != 0o640 {
			t.Errorf("%s: %v, %v", f, info.Mode(), err)
		}
	}
	r.at(noon.Add(time.Second))
	r.say(t, "a line that is longer than a file\n")
	r.wants(t, "12345\n6789\na line that is longer than a file\n", 2)
}

func TestMidnightAndClocksThatJump(t *testing.T) {
	r := newRig(t, t.TempDir(), 1000, 10000)
	now := time.Now()
	r.say(t, "today\n")
	r.at(now.AddDate(0, 0, 1))
	r.say(t, "tomorrow\n")
	r.wants(t, "today\ntomorrow\n", 1)
	// The file is of today by the disk's clock: one that is a year behind begins another.
	r.at(now.AddDate(-1, 0, 0))
	if _, err := r.Write([]byte("last year\n")); err != nil {
		t.Fatal(err)
	}
	r.drain(t)
	if _, names := r.text(t); len(names) != 2 {
		t.Errorf("files: %v", names)
	}
	if told := r.troubles(); len(told) > 0 {
		t.Errorf("troubles: %q", told)
	}
}

func TestTheTotalIsKept(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"store-20260102T150405.000000000.log.gz": strings.Repeat("x", 300), // another log's: counted, and the oldest
		"notes":                                  strings.Repeat("y", 300), // no log: counted, and kept
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o640); err != nil {
			t.Fatal(err)
		}
	}
	r := newRig(t, dir, 100, 1000)
	began := time.Now()
	for i := range 40 {
		r.at(began.Add(time.Duration(i) * time.Millisecond))
		r.say(t, strings.Repeat(string(rune('a'+i%26)), 59)+"\n")
		var total int64
		entries, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			if info, err := e.Info(); err == nil { // else it is being removed
				total += info.Size()
			}
		}
		if total > 1000 {
			t.Fatalf("%d bytes after %d lines: %v", total, i+1, entries)
		}
	}
	text, names := r.text(t)
	if len(names) < 3 || !strings.HasSuffix(text, "lllll\n"+strings.Repeat("m", 59)+"\n"+strings.Repeat("n", 59)+"\n") {
		t.Errorf("%v: %s", names, text)
	}
	if _, err := os.Stat(filepath.Join(dir, "notes")); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "store-20260102T150405.000000000.log.gz")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the oldest file is kept: %v", err)
	}
}

// TestWhatFailsIsToldOnceAndGoesOn: a name that is taken, then a file that is removed by others.
func TestWhatFailsIsToldOnceAndGoesOn(t *testing.T) {
	r := newRig(t, t.TempDir(), 10, 1000)
	now := time.Now()
	r.at(now)
	taken := filepath.Join(r.dir, "agent-"+now.UTC().Format(stamp)+".log.gz")
	if err := os.WriteFile(taken, nil, 0o640); err != nil {
		t.Fatal(err)
	}
	for range 5 {
		if _, err := r.Write([]byte("1234567\n")); err != nil {
			t.Fatal(err)
		}
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(r.current()); err != nil || string(b) != strings.Repeat("1234567\n", 5) {
		t.Errorf("%q, %v: want all lines in the current file", b, err)
	}
	if told := r.troubles(); len(told) != 1 || !strings.Contains(told[0], taken) {
		t.Errorf("troubles: %q", told)
	}
	if err := errors.Join(os.Remove(taken), os.Remove(r.current())); err != nil {
		t.Fatal(err)
	}
	var err error
	if r.Log, err = Open(r.o); err != nil {
		t.Fatal(err)
	}
	r.say(t, "again\n")
	r.wants(t, "again\n", 0)
}

// TestAFullDisk: lines are lost, the log goes on when there is room.
func TestAFullDisk(t *testing.T) {
	need.Real(t, need.Root)
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=64k"); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	}()
	filler := filepath.Join(dir, "filler")
	if err := os.WriteFile(filler, make([]byte, 60<<10), 0o600); err != nil {
		t.Fatal(err)
	}
	r := newRig(t, dir, 1<<20, 4<<20)
	line := strings.Repeat("x", 1023) + "\n"
	for range 20 {
		if _, err := r.Write([]byte(line)); err != nil {
			t.Fatal(err)
		}
	}
	r.drain(t)
	if told := r.troubles(); len(told) != 1 || !strings.Contains(told[0], "no space left") {
		t.Errorf("troubles: %q", told)
	}
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	r.say(t, "there is room again\n")
	if text, _ := r.text(t); !strings.HasSuffix(text, "there is room again\n") {
		t.Errorf("%d bytes end with %q", len(text), text[max(0, len(text)-40):])
	}
}

// TestWhoLogsNeverWaits: with nobody who writes, lines are lost and counted.
func TestWhoLogsNeverWaits(t *testing.T) {
	l := &Log{lines: make(chan []byte, 2)}
	for range 5 {
		if n, err := l.Write([]byte("x\n")); n != 2 || err != nil {
			t.Errorf("%d, %v", n, err)
		}
	}
	if n := l.lost.Load(); n != 3 || len(l.lines) != 2 {
		t.Errorf("%d lost, %d wait", n, len(l.lines))
	}
}

func TestOpenRefuses(t *testing.T) {
	for _, o := range []Options{{Dir: t.TempDir(), Name: "a", Size: 0, Total: 10},
		{Dir: t.TempDir(), Name: "a", Size: 10, Total: 19}, {Dir: "/proc/none", Name: "a", Size: 1, Total: 10}} {
		o.Now = time.Now
		if l, err := Open(o); err == nil {
			t.Errorf("%+v is taken: %v", o, l.Close())
		}
	}
}
