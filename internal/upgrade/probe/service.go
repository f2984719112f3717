package probe

import (
	"context"
	"log/slog"
	"net/netip"
	"sync"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/host/ping"
	"holdfast/internal/store"
)

// Times.
const (
	step       = time.Second      // between two looks at what is to do
	saveEvery  = 10 * time.Second // the counters are written
	callWithin = 3 * time.Second  // of a call of the store
	listWithin = 10 * time.Second // of a listing
)

// Parts is what a Service is made of.
type Parts struct {
	Store       store.Store
	Host        cluster.HostID
	Coordinator func() (term int64, key string, ok bool)                     // whether this host coordinates: the key and revision that say so
	Seen        func() (seen Seen, ok bool)                                  // what the hosts have told; ok is false before that is known
	Addresses   func(ctx context.Context, uuid string) ([]netip.Addr, error) // of a guest that runs here
	// addresses that people have said, by UUID of the guest; nil: none
	Said   func(ctx context.Context) (map[string][]string, error)
	Active func() (run string, on bool) // the run to measure
	Open   func() (*ping.Pinger, error) // nil: ping.Open
	Every  time.Duration                // between two packets to a guest; 0: 1 s
	Log    *slog.Logger
}

// Service is this host's part in measuring.
type Service struct {
	Parts
	saves time.Duration    // between two writes of the counters
	wall  func() time.Time // the wall clock, for people

	unread store.Unread
}

// New makes a Service; Run runs it.
func New(p Parts) *Service {
	if p.Open == nil {
		p.Open = ping.Open
	}
	return &Service{Parts: p, saves: saveEvery, wall: func() time.Time { return time.Now().UTC() }}
}

// Run measures while a run is active, until ctx ends.
func (s *Service) Run(ctx context.Context) {
	t := time.NewTicker(step)
	defer t.Stop()
	for {
		if run, on := s.Active(); on && usable(run) {
			s.measure(ctx, run)
		}
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
	}
}

// measure does this host's part in a run until that ends.
func (s *Service) measure(ctx context.Context, run string) {
	ctx, cancel := context.WithCancel(ctx)
	var loops sync.WaitGroup
	defer loops.Wait()
	defer cancel()
	loops.Go(func() { (&teller{Service: s, run: run}).loop(ctx) })
	w := newWatcher(s, run)
	defer w.end(ctx)
	t := time.NewTicker(step)
	defer t.Stop()
	for {
		if now, on := s.Active(); !on || now != run {
			return
		}
		if err := w.step(ctx); err != nil && ctx.Err() == nil {
			s.Log.Debug("lost packets of guests", "run", run, "err", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
	}
}
