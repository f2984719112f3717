package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"
)

// ledgerFile has a line for each run of a drill, and is committed: docs/drills.md is made from it.
const ledgerFile = "docs/drills.jsonl"

// Results of a run of a drill.
const (
	passedResult  = "passed"
	failedResult  = "failed"
	skippedResult = "skipped" // the machine lacks something
	damagedResult = "damaged" // an emulator was, as a kernel's words on a console prove: the run does not count
)

// entry is a line of the ledger.
type entry struct {
	Drill   string    `json:"drill"`
	At      time.Time `json:"at"`      // when it began, UTC
	Commit  string    `json:"commit"`  // "+" at the end: with changes that were not committed
	Machine string    `json:"machine"` // processors, memory, kernel
	Seed    string    `json:"seed,omitempty"`
	Result  string    `json:"result"`
	Try     int       `json:"try"` // 2: after a failure
	Seconds float64   `json:"seconds"`
	Logs    string    `json:"logs,omitempty"` // folder, of one that did not pass
	Said    string    `json:"said,omitempty"` // why it was not run
}

// ledger is the whole, oldest first.
type ledger []entry

// readLedger reads a ledger; there may be none yet. A last line that was cut off by a crash or
// a full disk is left out: that run is done again.
func readLedger(file string) (out ledger, err error) {
	raw, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	lines := bufio.NewScanner(bytes.NewReader(raw))
	lines.Buffer(nil, 1<<20)
	for n := 1; lines.Scan(); n++ {
		var e entry
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			if !bytes.HasSuffix(raw, []byte("\n")) && bytes.HasSuffix(raw, lines.Bytes()) {
				break
			}
			return nil, fmt.Errorf("%s:%d: %w", file, n, err)
		}
		out = append(out, e)
	}
	return out, lines.Err()
}

// appendLedger adds a line, on disk. After a line that was cut off it begins a new one, without the rest.
func appendLedger(file string, e entry) error {
	line, err := json.Marshal(e)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(file, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return err
	}
	defer f.Close()
	raw, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	end := int64(bytes.LastIndexByte(raw, '\n') + 1)
	if err := f.Truncate(end); err != nil {
		return err
	}
	if _, err := f.WriteAt(append(line, '\n'), end); err != nil {
		return err
	}
	return f.Sync()
}

// passed is the last run of a drill that passed, at whichever try.
func (l ledger) passed(name string) (entry, bool) {
	for _, e := range slices.Backward(l) {
		if e.Drill == name && e.Result == passedResult {
			return e, true
		}
	}
	return entry{}, false
}

// last is the last run that says something of a drill.
func (l ledger) last(name string) (entry, bool) {
	for _, e := range slices.Backward(l) {
		if e.Drill == name && (e.Result == passedResult || e.Result == failedResult) {
			return e, true
		}
	}
	return entry{}, false
}

// length is how long a drill is expected to take.
func (l ledger) length(name string) time.Duration {
	if e, ok := l.last(name); ok {
		return time.Duration(e.Seconds * float64(time.Second))
	}
	return unknownLength
}

// git asks for commits, once for each.
type git struct {
	ctx   context.Context
	files map[string][]string // changed since a commit; nil: everything, as git does not know it
	at    string
}

// head is the commit of the tree.
func (g *git) head() string {
	if g.at != "" {
		return g.at
	}
	out, err := exec.CommandContext(g.ctx, "git", "rev-parse", "--short=10", "HEAD").Output()
	if err != nil {
		return "unknown"
	}
	g.at = strings.TrimSpace(string(out))
	state, err := exec.CommandContext(g.ctx, "git", "status", "--porcelain", "--untracked-files=no", "--", ".", ":!docs/drills.*").Output()
	if err != nil || len(state) > 0 {
		g.at += "+"
	}
	return g.at
}

// changed says whether what a drill is made of has changed since a commit: its own file, or, but for the many
// of e2e, one of its package.
func (g *git) changed(since string, d drill) bool {
	if g.files == nil {
		g.files = map[string][]string{}
	}
	files, ok := g.files[since]
	if !ok {
		out, err := exec.CommandContext(g.ctx, "git", "diff", "--name-only", strings.TrimSuffix(since, "+")).Output()
		if err == nil {
			files = append([]string{}, strings.Fields(string(out))...)
		}
		g.files[since] = files
	}
	if files == nil {
		return true
	}
	if d.pkg == "" {
		return len(files) > 0
	}
	return slices.ContainsFunc(files, func(f string) bool {
		if d.pkg == "holdfast/e2e" {
			return f == d.File
		}
		return filepath.Dir(f) == strings.TrimPrefix(d.pkg, "holdfast/")
	})
}

// machine tells what a machine is, not which.
func machine() string {
	kernel, err := os.ReadFile("/proc/sys/kernel/osrelease")
	if err != nil {
		kernel = []byte("unknown")
	}
	return fmt.Sprintf("%d processors, %s, Linux %s", runtime.NumCPU(), runtime.GOARCH, strings.TrimSpace(string(kernel)))
}
