package lab

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// ObserveInterval is the time between two looks of Observe.
const ObserveInterval = 50 * time.Millisecond

// spacesFor is how old a look may be whose PID namespaces the next one takes over: far below the time in
// which a machine begins so many processes that their numbers come again (32,768 at least).
const spacesFor = time.Second

// ranTime is the CPU time of its virtual CPUs, within one look, from which a
// process counts as having run its guest. Work that QEMU does on the threads of
// a guest that stands still (starting them, loading a migration's state, ending
// them) stays below it; the laboratory's guest goes above it several times per
// second.
const ranTime = 2 * time.Millisecond

// Holder is one QEMU process of the guest, from the outside.
type Holder struct {
	Host     string
	Process  Process
	Incoming bool      // it was started to receive a live migration
	First    time.Time // first and last look that saw the process
	Last     time.Time
	Ran      time.Time // first and last look that saw its guest run, zero if none did
	LastRan  time.Time
}

// Observation is the record of the outside observer.
//
// It reads the machine's process table and the kernel's CPU accounting, and asks
// neither libvirt nor QEMU nor agents. What counts as holding the guest:
//
//   - a process that was started normally holds it for as long as the process
//     exists, running, paused or frozen (it may run on at any moment);
//   - a process that was started with -incoming holds it from the first look in
//     which its virtual CPUs ran (2 ms of CPU time or more) until it ends;
//   - when a holder hands over to an incoming process, it holds the guest only
//     until the last look in which it ran itself. So a source that stands still
//     after a migration does not count, one that runs on does.
//
// A doubled guest is missed only while it lives shorter than a look, or, after
// a migration, until its virtual CPUs take 2 ms within one look: below 250 ms
// with the laboratory's guest. The guest's own answers (Ask: boot id and
// counter) are the second witness.
type Observation struct {
	Looks   int
	Late    time.Duration // longest time between two looks
	Holders []Holder      // in order of First
	Max     int           // most holders at once
	Overlap []Overlap     // each pair of processes that held the guest at the same time
}

// Overlap is a time in which two processes held the guest.
type Overlap struct {
	A, B     string // hosts
	From, To time.Time
}

// Observe looks at the hosts every 50 ms until ctx ends, whose end is no error,
// for processes of the guest with the UUID.
func (l *Lab) Observe(ctx context.Context, uuid string) (Observation, error) {
	o := &observer{uuid: uuid, ran: map[Process]time.Duration{}}
	t := time.NewTicker(ObserveInterval)
	defer t.Stop()
	for {
		if err := o.look(l.p.Dir, time.Now()); err != nil {
			return Observation{}, fmt.Errorf("observe guest %s: %w", uuid, err)
		}
		select {
		case <-t.C:
		case <-ctx.Done():
			return o.result(), nil
		}
	}
}

// observer collects looks.
type observer struct {
	uuid    string
	looks   int
	late    time.Duration
	last    time.Time
	known   spaces // at the last look
	holders []Holder
	ran     map[Process]time.Duration // CPU time of the virtual CPUs at the last look
}

func (o *observer) look(dir string, now time.Time) error {
	s, err := loadState(dir)
	if err != nil {
		return err
	}
	if now.Sub(o.last) > spacesFor {
		o.known = nil
	}
	var procs []qemuProcess
	if procs, o.known, err = lookForQEMU(s, o.known); err != nil {
		return err
	}
	if o.looks++; !o.last.IsZero() {
		o.late = max(o.late, now.Sub(o.last))
	}
	o.last = now
	for _, q := range procs {
		if !q.of(o.uuid) {
			continue
		}
		cpu, err := guestTime(q.PID)
		if err != nil {
			return err
		}
		o.saw(q, cpu, now)
	}
	return nil
}

// saw notes one process at one look.
func (o *observer) saw(q qemuProcess, cpu time.Duration, now time.Time) {
	i := slices.IndexFunc(o.holders, func(h Holder) bool { return h.Process == q.Process })
	if i < 0 {
		i = len(o.holders)
		o.holders = append(o.holders, Holder{Host: q.host, Process: q.Process, Incoming: q.incoming, First: now})
		o.ran[q.Process] = cpu
	}
	h := &o.holders[i]
	h.Last = now
	// A process between fork and exec of QEMU still has its parent's command line.
	h.Incoming = h.Incoming || q.incoming
	if cpu-o.ran[q.Process] >= ranTime {
		if h.Ran.IsZero() {
			h.Ran = now
		}
		h.LastRan = now
	}
	o.ran[q.Process] = cpu
}

// result finds the times in which two processes held the guest.
func (o *observer) result() Observation {
	r := Observation{Looks: o.looks, Late: o.late, Holders: o.holders}
	type span struct{ from, to time.Time }
	spans := make([]span, len(o.holders))
	for i, h := range o.holders {
		from, to := h.First, h.Last
		if h.Incoming {
			from = h.Ran
		}
		for j, next := range o.holders {
			// Handed over: an incoming process began to run its guest while this one was there.
			if i != j && next.Incoming && !next.Ran.IsZero() && next.Ran.After(from) && !next.Ran.After(h.Last) {
				to = h.LastRan
			}
		}
		if !from.IsZero() && !to.Before(from) {
			spans[i] = span{from, to}
			r.Max = max(r.Max, 1)
		}
	}
	for i, a := range spans {
		at := 1
		for j, b := range spans {
			if i == j || a.from.IsZero() || b.from.IsZero() {
				continue
			}
			// At a's begin, b holds. Two that only meet in one look did not overlap:
			// one may have ended before the other began.
			if !b.from.After(a.from) && b.to.After(a.from) {
				at++
				end := a.to
				if b.to.Before(end) {
					end = b.to
				}
				if end.After(a.from) && (b.from.Before(a.from) || j < i) {
					r.Overlap = append(r.Overlap, Overlap{A: o.holders[j].Host, B: o.holders[i].Host, From: a.from, To: end})
				}
			}
		}
		if !a.from.IsZero() {
			r.Max = max(r.Max, at)
		}
	}
	return r
}

// guestTime is the CPU time that the virtual CPUs of a QEMU process have taken:
// of its threads named "CPU n/...". A process that is gone has taken none.
func guestTime(pid int) (time.Duration, error) {
	tasks := filepath.Join("/proc", strconv.Itoa(pid), "task")
	threads, err := os.ReadDir(tasks)
	if gone(err) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("read threads of QEMU: %w", err)
	}
	var sum time.Duration
	for _, t := range threads {
		name, err := os.ReadFile(filepath.Join(tasks, t.Name(), "comm"))
		if gone(err) || err == nil && !strings.HasPrefix(string(name), "CPU ") {
			continue
		}
		stat, err2 := os.ReadFile(filepath.Join(tasks, t.Name(), "schedstat"))
		if gone(err2) {
			continue
		}
		if err := errors.Join(err, err2); err != nil {
			return 0, fmt.Errorf("read thread of QEMU: %w", err)
		}
		// The first field: nanoseconds on a CPU.
		ns, err := strconv.ParseInt(strings.Fields(string(stat))[0], 10, 64)
		if err != nil {
			return 0, fmt.Errorf("read CPU time of QEMU's thread: %w", err)
		}
		sum += time.Duration(ns)
	}
	return sum, nil
}

// gone reports whether a file of /proc could not be read because its process ended.
func gone(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, errNoProcess)
}
