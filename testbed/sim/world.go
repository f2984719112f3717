package sim

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/config"
)

// Durations of the simulated agent and its surroundings. The shell of the real
// agent uses the same ones where it has them.
const (
	tickEvery    = 100 * time.Millisecond // between two decisions, at most
	lookEvery    = 500 * time.Millisecond // between two observations of the guest, at most
	callTimeout  = 3 * time.Second        // of a listing of the store; a renewal has a keepalive interval
	renewTimeout = time.Second
	writeTimeout = 1500 * time.Millisecond
	startTakes   = 300 * time.Millisecond
	startTimeout = 30 * time.Second // of the call to the hypervisor
	killTakes    = 10 * time.Millisecond
	resumeTakes  = 5 * time.Millisecond
	killTimeout  = time.Second // after which a kill says that it is not proved
	haltTakes    = 3 * time.Second
	armTakes     = 2 * time.Millisecond
	listAgain    = 300 * time.Millisecond
	agentRestart = time.Second // from an agent's crash to its next start
	holdAtMost   = 15 * time.Second
)

// DefaultTimings are the product's defaults.
func DefaultTimings() cluster.Timings { return config.Timings{}.Values() }

// defaultRestart is what becomes of a guest that ends by itself, unless a
// scenario says otherwise.
func defaultRestart() cluster.Restart {
	return cluster.Restart{InPlace: 2, Window: 10 * time.Minute}
}

// Line is one entry of a run's record: an event that the cluster wrote, or
// something that happened to the true world (Kind begins with "~").
type Line struct {
	At   time.Duration // true time since the beginning
	Host cluster.HostID
	Text string
}

// String gives the form of the goldens: T+SECONDS HOST TEXT.
func (l Line) String() string {
	host := l.Host
	if host == "" {
		host = "-"
	}
	return fmt.Sprintf("T+%.3f %s %s", l.At.Seconds(), host, l.Text)
}

// World is one simulated cluster.
type World struct {
	now     int64 // true time, ns
	queue   queue
	rng     *rand.Rand // nil: all delays are the fixed ones
	timings cluster.Timings
	restart cluster.Restart
	store   store
	hosts   []*host
	order   []cluster.HostID
	names   map[string]*host        // bound by `let`
	refuse  int                     // per cent of transactions that the store refuses
	quorum  bool                    // not switched off by a fault
	lost    int64                   // true time since when there is no quorum; -1: there is one
	devices map[cluster.HostID]bool // hosts that have a fence device
	fences  fenceCount
	ended   bool

	lines   []Line
	tracing bool
	steps   int64
	check   checks
}

func newWorld(names []string) *World {
	w := &World{
		timings: DefaultTimings(), restart: defaultRestart(), quorum: true, lost: 0,
		names: map[string]*host{}, devices: map[cluster.HostID]bool{},
	}
	w.check.down.since, w.check.excess.since = -1, -1
	w.check.started, w.check.shown = map[string]bool{}, map[string]bool{}
	w.store.world, w.store.gen = w, 1
	w.store.hosts = map[cluster.HostID]hostRow{}
	for i, n := range names {
		h := &host{world: w, name: cluster.HostID(n), index: i}
		h.reset()
		h.identity = "id-" + n
		w.hosts = append(w.hosts, h)
		w.order = append(w.order, h.name)
	}
	return w
}

// after runs fn d later in true time.
func (w *World) after(d time.Duration, fn func()) { w.queue.push(w.now+int64(max(d, 0)), fn) }

// run lets the world go on until the true time end, or the first violation.
func (w *World) run(end time.Duration) {
	for len(w.queue.heap) > 0 && w.queue.heap[0].at <= int64(end) && !w.ended {
		e := w.queue.pop()
		w.now = e.at
		e.fn()
		w.steps++
		w.inspect()
	}
	if !w.ended {
		w.now = int64(end)
	}
	w.check.down.close(w.now)
}

// between returns a random duration, or the least one when delays are fixed.
func (w *World) between(least, most time.Duration) time.Duration {
	if w.rng == nil || most <= least {
		return least
	}
	return least + time.Duration(w.rng.Int64N(int64(most-least)))
}

// chance is true with probability p; false when delays are fixed.
func (w *World) chance(p float64) bool { return w.rng != nil && w.rng.Float64() < p }

// say records what happened to the true world.
func (w *World) say(h *host, format string, args ...any) {
	w.lines = append(w.lines, Line{time.Duration(w.now), h.name, "~" + fmt.Sprintf(format, args...)})
}

// trace records a detail, only when a violation is being repeated for a person.
func (w *World) trace(h *host, format string, args ...any) {
	if w.tracing {
		w.lines = append(w.lines, Line{time.Duration(w.now), h.name, "  " + fmt.Sprintf(format, args...)})
	}
}

// record keeps a typed event of the cluster.
func (w *World) record(e cluster.Event) {
	if e.Kind == "" {
		return
	}
	var b strings.Builder
	b.WriteString(string(e.Kind))
	add := func(key, value string) {
		if value != "" {
			fmt.Fprintf(&b, " %s=%s", key, value)
		}
	}
	add("host", string(e.Host))
	add("to", string(e.To))
	if !e.Epoch.IsZero() {
		add("epoch", e.Epoch.String())
	}
	add("proof", string(e.Proof))
	if e.Wait != 0 {
		add("wait", e.Wait.Round(time.Millisecond).String())
	}
	if e.Detail != "" {
		add("detail", fmt.Sprintf("%q", e.Detail))
	}
	w.lines = append(w.lines, Line{time.Duration(w.now), e.By, b.String()})
}

func (w *World) host(id cluster.HostID) *host {
	for _, h := range w.hosts {
		if h.name == id {
			return h
		}
	}
	return nil
}

// hasQuorum reports whether the store can commit: more than half of the hosts,
// each a voter, have power, run and reach the others.
func (w *World) hasQuorum() bool {
	n := 0
	for _, h := range w.hosts {
		if h.power && !h.frozen && !h.isolated {
			n++
		}
	}
	return w.quorum && 2*n > len(w.hosts)
}
