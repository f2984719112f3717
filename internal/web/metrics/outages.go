package metrics

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"holdfast/internal/api/told"
	"holdfast/internal/cluster"
)

// Phases of an outage.
const (
	phaseProof   = "proof"   // of a takeover: from the last renewal to the decision
	phaseStart   = "start"   // of a takeover: from there until it runs
	phaseRestart = "restart" // without a takeover, or after one that has failed: from its end until it runs again
)

// proofs are those of takeovers.
var proofs = []cluster.ProofKind{cluster.ProofDeadline, cluster.ProofFenced, cluster.ProofOperator}

// counts is what the log of events has told since the agent began. The caller of its methods sees to it that one is called
// at a time.
type counts struct {
	takeovers *prometheus.CounterVec
	unfenced  prometheus.Counter
	phases    *prometheus.HistogramVec
	pair      prometheus.Histogram

	next  int64     // revision after which events are new
	begun bool      // the log was read once: what came before is not counted
	epoch takenOver // the takeover that is under way
	off   bool      // somebody has it stopped: its end is none that counts
	down  time.Time // since when it is without a takeover; zero: it is not
	shut  time.Time // since when clients can not use the database of a pair; zero: they can
}

// takenOver is a takeover that has not been seen to end.
type takenOver struct {
	at time.Time
	to cluster.HostID // "": none is under way
}

// buckets are those of outages, in seconds: with default timings the loss of a host is proved within 9 s, and a VM starts
// within a minute.
var buckets = []float64{1, 2, 5, 7.5, 10, 15, 20, 30, 45, 60, 90, 120, 300, 600}

func newCounts() counts {
	c := counts{
		takeovers: prometheus.NewCounterVec(prometheus.CounterOpts{Name: takeoversName, Help: takeoversHelp}, []string{"proof"}),
		unfenced:  prometheus.NewCounter(prometheus.CounterOpts{Name: unfencedName, Help: unfencedHelp}),
		phases: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: phaseName, Help: phaseHelp, Buckets: buckets},
			[]string{"phase"}),
		pair: prometheus.NewHistogram(prometheus.HistogramOpts{Name: pairName, Help: pairHelp, Buckets: buckets}),
	}
	for _, p := range proofs { // a counter that begins with 1 has no increase
		c.takeovers.WithLabelValues(string(p))
	}
	for _, p := range []string{phaseProof, phaseStart, phaseRestart} {
		c.phases.WithLabelValues(p)
	}
	return c
}

// collectors are all of them.
func (c *counts) collectors() []prometheus.Collector {
	return []prometheus.Collector{c.takeovers, c.unfenced, c.phases, c.pair}
}

// page is how many events are read at once.
const page = 500

// readEvents takes in the events that are new. The first time these are the newest, which are looked at for a takeover that
// is under way, and not counted.
func (m *Metrics) readEvents(ctx context.Context) (none struct{}, err error) {
	for {
		after := m.counts.next
		if !m.counts.begun {
			after = -1
		}
		events, next, err := m.API.Events(ctx, after, page)
		if err != nil {
			return none, err
		}
		for _, e := range events {
			m.counts.take(e)
		}
		m.counts.begun, m.counts.next = true, next
		if len(events) < page || after < 0 {
			return none, nil
		}
	}
}

// take takes an event in.
func (c *counts) take(e cluster.Event) {
	under := c.epoch
	if told.EndsFailover(e.Kind) {
		c.epoch = takenOver{}
	}
	switch e.Kind {
	case cluster.EvTakeover:
		c.epoch = takenOver{e.Time, e.To}
		if c.begun {
			c.takeovers.WithLabelValues(string(e.Proof)).Inc()
			c.phases.WithLabelValues(phaseProof).Observe(e.Wait.Seconds())
		}
		c.down = time.Time{}
	case cluster.EvStarted:
		switch {
		case !c.begun:
		case under.to == e.Host && e.Host != "":
			c.phases.WithLabelValues(phaseStart).Observe(passed(under.at, e.Time))
		case !c.down.IsZero():
			c.phases.WithLabelValues(phaseRestart).Observe(passed(c.down, e.Time))
		}
		c.off, c.down = false, time.Time{}
	case cluster.EvAdopted, cluster.EvMigrated, cluster.EvMigrateEnd: // it runs
		c.off, c.down = false, time.Time{}
	case cluster.EvStopping:
		c.off, c.down = true, time.Time{}
	case cluster.EvReleased:
		switch {
		case c.off || !c.down.IsZero(): // it was not to run, or a start has failed
		case under.to != "": // who took it over did not start it
			c.down = under.at
		default:
			c.down = e.Time.Add(-e.Wait)
		}
	case cluster.EvFenceFail:
		if c.begun {
			c.unfenced.Inc()
		}
	case cluster.EvOutage:
		c.shut = e.Time
	case cluster.EvOutageOver:
		if !c.shut.IsZero() && c.begun {
			c.pair.Observe(passed(c.shut, e.Time))
		}
		c.shut = time.Time{}
	}
}

// passed is the time between two events in seconds. Their hosts' clocks may differ: it is not less than 0.
func passed(from, to time.Time) float64 { return max(0, to.Sub(from).Seconds()) }
