package health

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/lib/clock"
)

// Kind is how the service is asked.
type Kind string

// Kinds of probes.
const (
	// TCP: a connection to the port is accepted.
	TCP Kind = "tcp"
	// HTTP: a GET of the path is answered with a status of 200 to 399, and the
	// answer ends, or is longer than 64 KiB. No redirect is followed: it is an
	// answer of this service, what it points to may be another one.
	HTTP Kind = "http"
)

// Options of a Prober.
type Options struct {
	Kind     Kind
	Addr     func() string          // IP address or name of the service's host; "" while there is nothing to ask. It must not block
	Port     int                    // 1..65535
	Path     string                 // HTTP only; default /
	Interval time.Duration          // from the begin of a probe to that of the next; default 10 s
	Timeout  time.Duration          // for a whole probe; default 5 s
	Failures int                    // in a row that make it unhealthy; default 3
	Grace    time.Duration          // after a start, for the service to answer the first time; default 5 min
	Clock    func() cluster.Instant // default: the host's (clock.Clock)
	Log      *slog.Logger           // told of changes of the verdict; nil: nobody
}

// Defaults of Options.
const (
	defaultInterval = 10 * time.Second
	defaultTimeout  = 5 * time.Second
	defaultFailures = 3
	defaultGrace    = 5 * time.Minute // a management service takes minutes to start
)

func (o Options) withDefaults() Options {
	for _, d := range []struct {
		field *time.Duration
		value time.Duration
	}{{&o.Interval, defaultInterval}, {&o.Timeout, defaultTimeout}, {&o.Grace, defaultGrace}} {
		if *d.field == 0 {
			*d.field = d.value
		}
	}
	if o.Failures == 0 {
		o.Failures = defaultFailures
	}
	if o.Kind == HTTP && o.Path == "" {
		o.Path = "/"
	}
	if o.Clock == nil {
		o.Clock = clock.New().Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return o
}

func (o Options) check() error {
	switch {
	case o.Kind != TCP && o.Kind != HTTP:
		return fmt.Errorf("health check of kind %q: want %s or %s", o.Kind, TCP, HTTP)
	case o.Addr == nil:
		return errors.New("health check without an address")
	case o.Port < 1 || o.Port > 65535:
		return fmt.Errorf("health check of port %d: want 1 to 65535", o.Port)
	case o.Kind == TCP && o.Path != "":
		return fmt.Errorf("health check with path %q: want none with %s", o.Path, TCP)
	case o.Kind == HTTP && (!strings.HasPrefix(o.Path, "/") || strings.ContainsAny(o.Path, " \t\r\n")):
		return fmt.Errorf("health check with path %q: want one that begins with / and has no blanks", o.Path)
	case o.Interval < 0 || o.Timeout < 0 || o.Grace < 0 || o.Failures < 0:
		return fmt.Errorf("health check every %v, within %v, %d failures, grace %v: want no negative values",
			o.Interval, o.Timeout, o.Failures, o.Grace)
	}
	return nil
}

// State is what is known of the service. Only Checked without Healthy means that
// it has failed.
type State struct {
	Checked  bool            // there is a verdict; without one the service is starting, or there is nothing to ask
	Healthy  bool            // the verdict; false without one
	Failures int             // probes that failed in a row
	Why      string          // why there is no verdict, or what the last failure was; "" when all is well
	Since    cluster.Instant // Checked and Healthy have been as they are since then
}

// Prober asks one service. Its methods may be called concurrently, Run once at
// a time.
type Prober struct {
	opt    Options
	client *http.Client

	mu    sync.Mutex
	state State
	since cluster.Instant // begin of the grace
	round int             // counts resets: the result of a probe from before one is worth nothing
}

// Words of State.Why without a verdict.
const (
	whyNotAsked = "not asked yet"
	whyNothing  = "there is nothing to ask"
	whyStarting = "starting"
)

// New returns a Prober whose grace begins now. It does nothing until Run.
func New(opt Options) (*Prober, error) {
	opt = opt.withDefaults()
	if err := opt.check(); err != nil {
		return nil, err
	}
	p := &Prober{opt: opt, client: newClient()}
	p.restart(whyNotAsked)
	return p, nil
}

// Run asks the service until ctx ends. A probe that gets no answer ends after
// Timeout; when that is longer than Interval, the next one follows at once.
func (p *Prober) Run(ctx context.Context) {
	defer p.client.CloseIdleConnections()
	next := time.NewTimer(0)
	defer next.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-next.C:
		}
		next.Reset(p.opt.Interval)
		p.step(ctx)
	}
}

// step is one probe and what follows from it.
func (p *Prober) step(ctx context.Context) {
	addr := p.opt.Addr()
	p.mu.Lock()
	round := p.round
	idle := p.state.Why == whyNothing
	p.mu.Unlock()
	if addr == "" {
		if !idle {
			p.restart(whyNothing)
		}
		return
	}
	if idle { // it has come up just now, or arrived here
		p.restart(whyStarting)
		round++
	}
	err := p.probe(ctx, addr)
	if ctx.Err() != nil {
		return // it was we who ended it
	}
	p.note(round, err)
}

// State returns what is known now.
func (p *Prober) State() State {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.state
}

func (p *Prober) restart(why string) {
	now := p.opt.Clock()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.round++
	p.since = now
	p.state = State{Why: why, Since: now}
}

// note takes in the result of a probe.
func (p *Prober) note(round int, err error) {
	if s, changed := p.judge(round, err); changed {
		p.tell(s)
	}
}

// judge returns the new state, and whether there is another verdict now.
func (p *Prober) judge(round int, err error) (State, bool) {
	now := p.opt.Clock()
	p.mu.Lock()
	defer p.mu.Unlock()
	if round != p.round {
		return p.state, false
	}
	old := p.state
	s := &p.state
	if err == nil {
		*s = State{Checked: true, Healthy: true, Since: old.Since}
	} else {
		s.Failures++
		s.Why = err.Error()
		if s.Failures >= p.opt.Failures && (s.Checked || now.Sub(p.since) >= p.opt.Grace) {
			s.Checked, s.Healthy = true, false
		}
		if !s.Checked {
			s.Why = whyStarting + ": " + s.Why
		}
	}
	changed := s.Checked != old.Checked || s.Healthy != old.Healthy
	if changed {
		s.Since = now
	}
	return *s, changed
}

func (p *Prober) tell(s State) {
	if s.Healthy {
		p.opt.Log.Info("the guest's service answers")
		return
	}
	p.opt.Log.Warn("the guest's service fails its health check", "failures", s.Failures, "err", s.Why)
}
