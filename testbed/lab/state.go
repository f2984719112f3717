package lab

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// state is what state.json holds: everything that Down must remove.
type state struct {
	Plan      plan                 `json:"plan"`
	Options   Options              `json:"options"`
	Netns     bool                 `json:"netns"` // the switch's namespace is ours
	Hosts     map[string]hostState `json:"hosts"`
	Watchdogs Process              `json:"watchdogs,omitzero"`
	Chassis   Process              `json:"chassis,omitzero"` // switches the hosts' power for their management controllers
	Power     Process              `json:"power,omitzero"`   // reboots hosts at their own request
	BMCs      map[string]bmcState  `json:"bmcs,omitempty"`
	Disk      Process              `json:"disk,omitzero"` // serves the guest's disk with DiskNBD
	Mon       Process              `json:"mon,omitzero"`  // of the Ceph cluster with DiskCeph
	OSD       Process              `json:"osd,omitzero"`  // the same
	Cuts      []cut                `json:"cuts,omitempty"`
}

// hostState is one host's power and what was done to it.
type hostState struct {
	Init  Process `json:"init,omitzero"` // PID 1 of the host, in the machine's PID namespace
	Boots int     `json:"boots"`         // number of power-ons
	// Orders counts the power-offs that the management controller has carried out.
	Orders int     `json:"orders,omitempty"`
	Hang   Process `json:"hang,omitzero"` // covers the shared folder
	// Clock is how far the wall clock of its Holdfast processes is off, ns.
	Clock time.Duration `json:"clock,omitempty"`
}

func (s *state) on(h string) bool { return s.Hosts[h].Init.alive() }

func loadState(dir string) (*state, error) {
	path := filepath.Join(dir, "state.json")
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("load laboratory: %w", err)
	}
	s := &state{BMCs: map[string]bmcState{}}
	if err := json.Unmarshal(raw, s); err != nil {
		return nil, fmt.Errorf("load laboratory from %s: %w", path, err)
	}
	return s, nil
}

// writeJSON replaces the file at path in one step.
func writeJSON(path string, v any) error {
	raw, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	tmp := path + ".tmp"
	if err := os.WriteFile(tmp, append(raw, '\n'), 0o644); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	if err := os.Rename(tmp, path); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}

func (s *state) save() error { return writeJSON(s.Plan.path("state.json"), s) }

// lock takes the folder's lock. The file may be removed by a Down while we
// wait, so what was locked must still be what the path names.
func lock(ctx context.Context, dir string) (*os.File, error) {
	path := filepath.Join(dir, "lock")
	var held *os.File
	err := poll(ctx, patience, "the lock "+path, func() (bool, error) {
		f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR|unix.O_CLOEXEC, 0o644)
		if err != nil {
			return false, err
		}
		if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
			f.Close()
			if errors.Is(err, unix.EWOULDBLOCK) || errors.Is(err, unix.EINTR) {
				return false, nil
			}
			return false, err
		}
		mine, err1 := f.Stat()
		there, err2 := os.Stat(path)
		if err1 != nil || err2 != nil || !os.SameFile(mine, there) {
			f.Close()
			return false, err1
		}
		held = f
		return true, nil
	})
	return held, err
}

// change runs fn on the state under the lock and saves what fn left, also when
// fn fails: it must leave what is true.
func (l *Lab) change(ctx context.Context, fn func(*state) error) error {
	if _, err := os.Stat(l.p.Dir); errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("no laboratory in %s: %w", l.p.Dir, err)
	}
	f, err := lock(ctx, l.p.Dir)
	if err != nil {
		return err
	}
	defer f.Close()
	s, err := loadState(l.p.Dir)
	if err != nil {
		return err
	}
	err = fn(s)
	return errors.Join(err, s.save())
}

// Event is one line of events.jsonl: what was done to the laboratory.
type Event struct {
	Time time.Time `json:"time"`
	Host string    `json:"host,omitempty"`
	What string    `json:"what"` // on, ready, off, crash, isolate, heal, cut, freeze, thaw, pause, resume, kill, watchdog, guest, bmc,
	// hang, unhang, clock, reboot
	Note string `json:"note,omitempty"`
}

// record appends an event. One write of a short line to a file opened for
// append is not torn by other writers.
func (p plan) record(host, what, note string) error {
	line, err := json.Marshal(Event{time.Now(), host, what, note})
	if err != nil {
		return fmt.Errorf("record event %s: %w", what, err)
	}
	f, err := os.OpenFile(p.path("events.jsonl"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return fmt.Errorf("record event %s: %w", what, err)
	}
	_, err = f.Write(append(line, '\n'))
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("record event %s: %w", what, err)
	}
	return nil
}

// Events reads what was done to the laboratory so far, in the order in which it
// was written.
func (l *Lab) Events() ([]Event, error) {
	raw, err := os.ReadFile(l.p.path("events.jsonl"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read events: %w", err)
	}
	var all []Event
	for line := range bytes.Lines(raw) {
		var e Event
		if err := json.Unmarshal(line, &e); err != nil {
			return nil, fmt.Errorf("read events: line %d: %w", len(all)+1, err)
		}
		all = append(all, e)
	}
	return all, nil
}
