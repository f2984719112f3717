package supervise

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// ident names one process for ever: ids and start times repeat, but not both
// in one boot.
type ident struct {
	PID   int    `json:"pid,omitempty"`
	Start uint64 `json:"start,omitempty"` // clock ticks since boot, field 22 of /proc/PID/stat
	Boot  string `json:"boot,omitempty"`  // the kernel's boot id
}

// record is the content of NAME.json.
type record struct {
	ident
	Args       []string  `json:"args,omitempty"` // command line with the program
	Since      time.Time `json:"since,omitzero"`
	Restarts   int       `json:"restarts"`
	LastExit   string    `json:"last_exit,omitempty"`
	LastExitAt time.Time `json:"last_exit_at,omitzero"`
}

// State is what is known of a child.
type State struct {
	PID        int       // 0: not running
	Since      time.Time // start or adoption of the running child
	Restarts   int       // how often a child ended and was to be started again
	LastExit   string    // how the last child ended ("exit status 1", "signal: killed"); empty: none did
	LastExitAt time.Time
}

// Read tells the state of a child, for any process that may read the directory.
// A child that was never started has the zero State.
func Read(dir, name string) (State, error) {
	rec, err := readRecord(dir, name)
	if err != nil {
		return State{}, fmt.Errorf("read state of %s: %w", name, err)
	}
	s := State{Restarts: rec.Restarts, LastExit: rec.LastExit, LastExitAt: rec.LastExitAt}
	id, ok, err := fromRecord(rec)
	if err != nil {
		return State{}, fmt.Errorf("read state of %s: %w", name, err)
	}
	if ok {
		s.PID, s.Since = id.PID, rec.Since
	}
	return s, nil
}

func recordFile(dir, name string) string { return filepath.Join(dir, name+".json") }

func readRecord(dir, name string) (record, error) {
	data, err := os.ReadFile(recordFile(dir, name))
	if errors.Is(err, os.ErrNotExist) {
		return record{}, nil
	}
	if err != nil {
		return record{}, fmt.Errorf("read record: %w", err)
	}
	var r record
	if err := json.Unmarshal(data, &r); err != nil {
		return record{}, fmt.Errorf("parse record %s: %w", recordFile(dir, name), err)
	}
	return r, nil
}

// writeRecord replaces the record as a whole. It need not outlive the kernel,
// as the process does not either, so it is not synced.
func writeRecord(dir, name string, r record) error {
	data, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return fmt.Errorf("encode record: %w", err)
	}
	temp := recordFile(dir, name) + ".new"
	if err := os.WriteFile(temp, append(data, '\n'), 0o600); err != nil {
		return fmt.Errorf("write record: %w", err)
	}
	if err := os.Rename(temp, recordFile(dir, name)); err != nil {
		return fmt.Errorf("put record in place: %w", err)
	}
	return nil
}

// lock makes the caller the only keeper. The lock ends with the process at the
// latest, as no child inherits it.
func lock(dir, name string) (unlock func() error, err error) {
	f, err := os.OpenFile(filepath.Join(dir, name+".lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open lock: %w", err)
	}
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		err = fmt.Errorf("%s: %w", f.Name(), ErrKept)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("take lock: %w", err), f.Close())
	}
	return f.Close, nil
}
