package demo

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/lib/clock"
	"holdfast/testbed/lab"
)

// labOpLimit bounds one change to a host; a power-on waits for its libvirtd.
const labOpLimit = 40 * time.Second

// labMachine is a host of the laboratory.
type labMachine struct {
	stage *labStage
	host  string
}

// Name is the host's name.
func (m *labMachine) Name() cluster.HostID { return cluster.HostID(m.host) }

// PowerOn boots the host and waits for its libvirtd.
func (m *labMachine) PowerOn(ctx context.Context) error { return m.do(ctx, (*lab.Lab).On) }

// PowerOff is a loss of power.
func (m *labMachine) PowerOff(ctx context.Context) error { return m.do(ctx, (*lab.Lab).Crash) }

// Cut switches the host's port off or on.
func (m *labMachine) Cut(ctx context.Context, cut bool) error {
	if cut {
		return m.do(ctx, (*lab.Lab).Isolate)
	}
	return m.do(ctx, (*lab.Lab).Heal)
}

// KillAgent ends the agent; the host's first process starts it again.
func (m *labMachine) KillAgent(ctx context.Context) error {
	return m.do(ctx, func(l *lab.Lab, ctx context.Context, host string) error { return l.Kill(ctx, host, lab.AgentDaemon) })
}

func (m *labMachine) do(ctx context.Context, change func(*lab.Lab, context.Context, string) error) error {
	ctx, cancel := context.WithTimeout(ctx, labOpLimit)
	defer cancel()
	return change(m.stage.lab, ctx, m.host)
}

// Condition is the host's state at the last look.
func (m *labMachine) Condition() condition {
	m.stage.mu.Lock()
	defer m.stage.mu.Unlock()
	h := m.stage.status[m.host]
	return condition{on: h.On, cut: h.On && !h.Cable, agent: h.Daemons[lab.AgentDaemon] != 0, fired: m.stage.fired[m.host]}
}

// labAgent asks the agent of a host, whose socket is elsewhere after each boot.
type labAgent struct {
	dial   func(socket string) (Agent, error)
	socket func() (string, error) // an error when the host is off

	mu   sync.Mutex
	at   string
	conn Agent // of the socket at; nil before the first question
}

func (a *labAgent) current() (Agent, error) {
	socket, err := a.socket()
	if err != nil {
		return nil, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.conn != nil && a.at == socket {
		return a.conn, nil
	}
	conn, err := a.dial(socket)
	if err != nil {
		return nil, err
	}
	if a.conn != nil {
		a.conn.Close()
	}
	a.at, a.conn = socket, conn
	return conn, nil
}

// Status asks the agent that runs now.
func (a *labAgent) Status(ctx context.Context) (cluster.Status, error) {
	conn, err := a.current()
	if err != nil {
		return cluster.Status{}, err
	}
	return conn.Status(ctx)
}

// Events asks the agent that runs now.
func (a *labAgent) Events(ctx context.Context, after int64, limit int) ([]cluster.Event, int64, error) {
	conn, err := a.current()
	if err != nil {
		return nil, after, err
	}
	return conn.Events(ctx, after, limit)
}

// SetUser asks the agent that runs now.
func (a *labAgent) SetUser(ctx context.Context, x cluster.UserChange) (cluster.User, string, error) {
	conn, err := a.current()
	if err != nil {
		return cluster.User{}, "", err
	}
	return conn.SetUser(ctx, x)
}

// CreateToken asks the agent that runs now.
func (a *labAgent) CreateToken(ctx context.Context, name string, role cluster.Role, days int) (cluster.Token, string, error) {
	conn, err := a.current()
	if err != nil {
		return cluster.Token{}, "", err
	}
	return conn.CreateToken(ctx, name, role, days)
}

// Close ends the connection.
func (a *labAgent) Close() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.conn != nil {
		a.conn.Close()
	}
}

// Watches ask the VM, look at the hosts, and observe who runs the VM.
func (s *labStage) Watches() []func(context.Context) error {
	return []func(context.Context) error{s.askGuest, s.watchHosts, s.observe}
}

// askGuest asks the VM from the switch every 20 ms. A question does not wait for
// the answer to the one before.
func (s *labStage) askGuest(ctx context.Context) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	waiting := make(chan struct{}, askedLost)
	tick := time.NewTicker(askEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		most := askedAtOnce
		if _, last := s.observer.Client(); time.Since(last) >= labLimits().noise {
			most = askedLost
		}
		if len(waiting) >= most {
			continue
		}
		waiting <- struct{}{}
		wg.Go(func() {
			defer func() { <-waiting }()
			s.askOnce(ctx)
		})
	}
}

func (s *labStage) askOnce(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, askLimit)
	defer cancel()
	sent := time.Now()
	// No answer is no error here: its lack is what is measured.
	if a, err := s.lab.Ask(ctx); err == nil {
		s.answered(Answer{Boot: a.Boot, N: a.N, UpMS: a.Up.Milliseconds()}, sent, true)
	}
}

// watchHosts keeps what is known of power, cables and processes. A host that
// just goes or comes may be seen half; only a look that fails for long is wrong.
func (s *labStage) watchHosts(ctx context.Context) error {
	good := time.Now()
	for clock.Sleep(ctx, labLook) {
		err := s.lookAtHosts(ctx)
		switch {
		case err == nil:
			good = time.Now()
		case ctx.Err() == nil && time.Since(good) > labBlind:
			return fmt.Errorf("look at the hosts: %w", err)
		}
	}
	return nil
}

func (s *labStage) lookAtHosts(ctx context.Context) error {
	st, err := s.lab.Status(ctx)
	if err != nil {
		return err
	}
	// Read after the processes: a reset that has ended one is in it.
	events, err := s.lab.Events()
	if err != nil {
		return err
	}
	fired := map[string]int{}
	for _, e := range events {
		if e.What == "watchdog" {
			fired[e.Host]++
		}
	}
	s.mu.Lock()
	last, lastFired := s.status, s.fired
	s.status, s.fired = map[string]lab.HostStatus{}, fired
	for _, h := range st.Hosts {
		s.status[h.Name] = h
	}
	s.mu.Unlock()
	var runs []running
	for _, h := range st.Hosts {
		for range h.Guests {
			runs = append(runs, running{Host: cluster.HostID(h.Name)})
		}
		s.noteHost(last[h.Name], h, lastFired[h.Name], fired[h.Name])
	}
	s.observer.Saw(runs)
	return nil
}

// noteHost records what has changed on a host between two looks.
func (s *labStage) noteHost(last, h lab.HostStatus, lastFired, fired int) {
	host := cluster.HostID(h.Name)
	if fired > lastFired {
		s.note(fromDemo, "watchdog-fired", host, "watchdog has fired: the host is reset")
	}
	if h.Boots > last.Boots {
		s.note(fromDemo, "power-on", host, "power on")
	}
	if h.Guests > last.Guests {
		s.note(fromObserver, "process-started", host, "the VM's QEMU runs")
	}
	if h.Guests < last.Guests {
		s.note(fromObserver, "process-gone", host, "the VM's QEMU is gone")
	}
}

// observe counts who runs the VM at one instant, outside of the agents. The
// count is known at the end.
func (s *labStage) observe(ctx context.Context) error {
	seen, err := s.lab.Observe(ctx, s.uuid)
	if err != nil {
		return err
	}
	if seen.Looks == 0 {
		return errors.New("observe the VM: no look at all")
	}
	s.observer.Held(seen.Max)
	for _, o := range seen.Overlap {
		s.timeline.Add(Event{Source: fromObserver, Kind: "overlap", Host: cluster.HostID(o.A), To: cluster.HostID(o.B), Time: o.From,
			Text: fmt.Sprintf("the VM also runs on %s, for %.2f s", o.B, o.To.Sub(o.From).Seconds())})
	}
	return nil
}
