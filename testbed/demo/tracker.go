package demo

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/lib/clock"
)

const (
	statusEvery = 100 * time.Millisecond // between two questions to one agent
	statusLimit = 500 * time.Millisecond // for one answer
	eventsEvery = 200 * time.Millisecond
	eventsPage  = 100
	fresh       = time.Second // how long a status counts as what the agent knows now
)

// Agent is what the demo asks of an agent. *api.Client is one.
type Agent interface {
	Status(ctx context.Context) (cluster.Status, error)
	// Events returns events after a position, and the position after the last.
	Events(ctx context.Context, after int64, limit int) ([]cluster.Event, int64, error)
	// SetUser makes a user of the console, and CreateToken a token.
	SetUser(ctx context.Context, x cluster.UserChange) (cluster.User, string, error)
	CreateToken(ctx context.Context, name string, role cluster.Role, days int) (cluster.Token, string, error)
	Close()
}

// tracker keeps what the agents say.
type tracker struct {
	timeline *timeline

	mu     sync.Mutex
	agents map[cluster.HostID]*agentView
}

// agentView is the last that one agent said.
type agentView struct {
	agent  Agent
	status cluster.Status
	asked  time.Time // when it was asked for; zero for never
	at     time.Time // when it was received
	err    error     // of the last question
}

func newTracker(t *timeline, agents map[cluster.HostID]Agent) *tracker {
	k := &tracker{timeline: t, agents: map[cluster.HostID]*agentView{}}
	for host, a := range agents {
		k.agents[host] = &agentView{agent: a}
	}
	return k
}

// Run asks until ctx ends.
func (k *tracker) Run(ctx context.Context) {
	var wg sync.WaitGroup
	for host := range k.agents {
		wg.Go(func() { k.poll(ctx, host) })
	}
	wg.Go(func() { k.follow(ctx) })
	wg.Wait()
}

func (k *tracker) poll(ctx context.Context, host cluster.HostID) {
	for {
		k.ask(ctx, host)
		if !clock.Sleep(ctx, statusEvery) {
			return
		}
	}
}

func (k *tracker) ask(ctx context.Context, host cluster.HostID) {
	ctx, cancel := context.WithTimeout(ctx, statusLimit)
	defer cancel()
	asked := time.Now()
	status, err := k.view(host).agent.Status(ctx)
	k.mu.Lock()
	defer k.mu.Unlock()
	v := k.agents[host]
	if v.err = err; err == nil {
		v.status, v.asked, v.at = status, asked, time.Now()
	}
}

func (k *tracker) view(host cluster.HostID) agentView {
	k.mu.Lock()
	defer k.mu.Unlock()
	return *k.agents[host]
}

// follow reads the cluster's events from any agent that reaches the store.
func (k *tracker) follow(ctx context.Context) {
	var after int64
	for clock.Sleep(ctx, eventsEvery) {
		host, ok := k.connected()
		if !ok {
			continue
		}
		next, err := k.page(ctx, host, after)
		if err != nil {
			// Another agent may answer next time; the agents' state is on the screen.
			continue
		}
		after = next
	}
}

func (k *tracker) page(ctx context.Context, host cluster.HostID, after int64) (int64, error) {
	ctx, cancel := context.WithTimeout(ctx, statusLimit)
	defer cancel()
	events, next, err := k.view(host).agent.Events(ctx, after, eventsPage)
	if err != nil {
		return after, fmt.Errorf("read events from %s: %w", host, err)
	}
	if err := k.timeline.AddCluster(events); err != nil {
		return after, err
	}
	return max(after, next), nil
}

// connected returns an agent that has just said that it reaches a quorum.
func (k *tracker) connected() (cluster.HostID, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	var best cluster.HostID
	for host, v := range k.agents {
		if v.current() && v.status.Connected && (best == "" || v.at.After(k.agents[best].at)) {
			best = host
		}
	}
	return best, best != ""
}

func (v *agentView) current() bool { return v.err == nil && time.Since(v.at) < fresh }

// Best returns the newest status of an agent that reaches a quorum. ok is false
// when there is none.
func (k *tracker) Best() (s cluster.Status, ok bool) {
	host, ok := k.connected()
	if !ok {
		return s, false
	}
	return k.view(host).status, true
}

// Of returns what the host's own agent said, and whether that was just now.
func (k *tracker) Of(host cluster.HostID) (cluster.Status, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	v := k.agents[host]
	return v.status, v.current()
}

// Since returns what the host's own agent said after a moment, if it did.
func (k *tracker) Since(host cluster.HostID, after time.Time) (cluster.Status, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	v := k.agents[host]
	return v.status, v.err == nil && v.asked.After(after)
}

// Trouble says why agents do not answer, for a report of a demo that failed.
func (k *tracker) Trouble() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	var errs []error
	for host, v := range k.agents {
		if v.err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", host, v.err))
		}
	}
	return errors.Join(errs...)
}

// Close ends the connections.
func (k *tracker) Close() {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, v := range k.agents {
		v.agent.Close()
	}
}
