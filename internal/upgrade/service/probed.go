package service

import (
	"context"
	"sync"
	"time"

	"holdfast/internal/job"
	"holdfast/internal/job/engine"
	"holdfast/internal/lib/clock"
	"holdfast/internal/store"
)

// probeEvery is the time between two looks whether an upgrade that counts lost
// packets has ended.
const probeEvery = 5 * time.Second

// probeState is the upgrade whose guests are pinged.
type probeState struct {
	mu sync.Mutex
	id string
}

// run returns its id; false: there is none.
func (p *probeState) run() (string, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.id, p.id != ""
}

func (p *probeState) set(id string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.id = id
}

// SaidAddresses are those of guests that people have said for the upgrade that runs, by UUID.
func (s *Service) SaidAddresses(ctx context.Context) (map[string][]string, error) {
	inv, err := s.reported(ctx)
	if err != nil {
		return nil, err
	}
	out := map[string][]string{}
	for i := range inv.VMs {
		if v := &inv.VMs[i]; v.UUID != "" && len(v.Addresses) > 0 {
			out[v.UUID] = v.Addresses
		}
	}
	return out, nil
}

// followRun finds out which upgrade counts lost packets, until ctx ends.
func (s *Service) followRun(ctx context.Context) {
	store.Again(ctx, s.Log, "the records of upgrades are not read just now", s.probe)
}

// probe waits for an upgrade that counts lost packets, and for its end.
func (s *Service) probe(ctx context.Context) error {
	wctx, cancel := context.WithCancel(ctx)
	defer cancel()
	lctx, cancelLook := context.WithTimeout(ctx, stateRead)
	defer cancelLook()
	_, rev, err := s.Store.List(lctx, keyState)
	if err != nil {
		return err
	}
	st, err := loadState(lctx, s.Store)
	if err != nil {
		return err
	}
	w := s.Store.Watch(wctx, keyState, rev+1)
	for st.Probe && ctx.Err() == nil {
		fctx, cancelFind := context.WithTimeout(ctx, stateRead)
		j, _, err := engine.Current(fctx, s.Store, job.Upgrade)
		cancelFind()
		if err != nil {
			return err
		}
		if j.ID != st.Run || j.State == job.Ended {
			break
		}
		s.probed.set(st.Run)
		clock.Sleep(ctx, probeEvery)
	}
	s.probed.set("")
	if _, ok := <-w.C(); !ok {
		return w.Err()
	}
	return nil
}
