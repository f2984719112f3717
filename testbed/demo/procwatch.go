package demo

import (
	"context"
	"errors"
	"fmt"
	"time"

	"holdfast/internal/lib/proc"
)

// Watches play the watchdogs, ask the VM on every host, and read the process
// table.
func (s *procStage) Watches() []func(context.Context) error {
	all := []func(context.Context) error{s.lookAtProcesses}
	for _, m := range s.machines {
		all = append(all,
			func(ctx context.Context) error { return m.watch(ctx, nil) },
			func(ctx context.Context) error { return s.askGuest(ctx, m) })
	}
	return all
}

// askGuest asks the VM on one host every 20 ms.
func (s *procStage) askGuest(ctx context.Context, m *procMachine) error {
	client := s.guests[m.name]
	defer client.Close()
	tick := time.NewTicker(askEvery)
	defer tick.Stop()
	for {
		reachable, sent := m.Reachable(), time.Now()
		// No answer is no error here: its lack is what is measured.
		if a, err := client.Ask(ctx); err == nil {
			s.answered(a, sent, reachable && m.Reachable())
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// lookAtProcesses reads the process table every 20 ms, outside of the agents.
func (s *procStage) lookAtProcesses(ctx context.Context) error {
	tick := time.NewTicker(askEvery)
	defer tick.Stop()
	for {
		if err := s.look(); err != nil {
			return fmt.Errorf("observe the processes: %w", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

func (s *procStage) look() error {
	found, err := s.marks.Scan()
	if err == nil {
		err = s.marks.Collect(found)
	}
	if err != nil {
		return err
	}
	procs, err := aliveTogether(found)
	if err != nil {
		return err
	}
	var runs []running
	for _, p := range procs {
		runs = append(runs, running{Host: p.Host, Epoch: p.Epoch})
	}
	s.observer.Saw(runs)
	s.observer.Held(len(runs)) // two on one host are as wrong as one on two
	s.mu.Lock()
	last := s.procs
	s.procs = procs
	s.mu.Unlock()
	s.noteChanges(last, procs)
	return nil
}

// aliveTogether returns the VM's processes that were alive at one instant: the
// end of the scan that found them. A scan takes time, and what ended in it may
// have made way for what was found later in it; so all are looked at again.
func aliveTogether(found []markedProc) ([]markedProc, error) {
	var alive []markedProc
	for _, p := range found {
		if !p.Guest || p.Dead() {
			continue
		}
		now, err := proc.Here.Read(p.PID)
		if errors.Is(err, proc.ErrGone) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if now.ID == p.ID && !now.Dead() {
			alive = append(alive, p)
		}
	}
	return alive, nil
}

// noteChanges records starts and ends of the VM's processes.
func (s *procStage) noteChanges(last, procs []markedProc) {
	for _, p := range procs {
		if !contains(last, p) {
			s.timeline.Add(Event{Source: fromObserver, Kind: "process-started", Host: p.Host, Epoch: &p.Epoch,
				Text: fmt.Sprintf("the VM's process %d runs, epoch %s", p.PID, p.Epoch)})
			if p.Socket != "" {
				s.guests[p.Host].Use(p.Socket)
			}
		}
	}
	for _, p := range last {
		if !contains(procs, p) {
			s.timeline.Add(Event{Source: fromObserver, Kind: "process-gone", Host: p.Host, Epoch: &p.Epoch,
				Text: fmt.Sprintf("the VM's process %d is gone", p.PID)})
		}
	}
}

func contains(procs []markedProc, p markedProc) bool {
	for _, q := range procs {
		if q.ID == p.ID {
			return true
		}
	}
	return false
}
