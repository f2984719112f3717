package metrics

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	dto "github.com/prometheus/client_model/go"

	"holdfast/internal/api"
	"holdfast/internal/cluster"
	"holdfast/internal/inventory"
	"holdfast/internal/job"
	"holdfast/internal/upgrade/probe"
)

// Options are what metrics are made of.
type Options struct {
	API    *api.Client // of the same process, by the role of a viewer
	Tokens func(context.Context) ([]cluster.Token, error)
	Member *Member // of the store on this host; nil: there is none
	Works  bool    // this host takes part in jobs and upgrades
	// Losses sums the packets that guests have lost in an upgrade.
	Losses  func(ctx context.Context, run string) (probe.Summary, error)
	Version string
	Log     *slog.Logger
}

// Metrics answers scrapes. Make it with New.
type Metrics struct {
	Options
	http.Handler
	now func() time.Time

	status source[cluster.Status]
	jobs   source[[]job.View]
	hosts  source[[]inventory.Summary]
	tokens source[[]cluster.Token]
	events source[struct{}]
	loss   source[loss]
	member source[[]*dto.MetricFamily]
	counts counts

	one sync.Mutex // one scrape at a time
}

// How long what a scrape has read is good for the next one, and how long it may take to read. Prometheus gives a scrape
// 10 s by default.
const (
	statusFor  = time.Second
	othersFor  = 15 * time.Second
	eventsFor  = time.Minute // the whole log is read each time
	readWithin = 3 * time.Second
)

// atOnce is how many scrapes are answered at once; others get 503.
const atOnce = 8

// New makes metrics that have read nothing yet.
func New(o Options) *Metrics {
	m := &Metrics{Options: o, now: time.Now, counts: newCounts()}
	m.status = source[cluster.Status]{name: "status", good: statusFor, read: o.API.Status}
	m.jobs = source[[]job.View]{name: "jobs", good: othersFor, read: m.readJobs}
	m.hosts = source[[]inventory.Summary]{name: "hosts", good: othersFor, read: o.API.GuestHosts}
	m.tokens = source[[]cluster.Token]{name: "tokens", good: othersFor, read: o.Tokens}
	m.events = source[struct{}]{name: "events", good: eventsFor, read: m.readEvents}
	m.loss = source[loss]{name: "probe", good: othersFor, read: m.readLoss}
	own := prometheus.NewRegistry()
	own.MustRegister(m, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	if o.Member != nil {
		m.member = source[[]*dto.MetricFamily]{name: "member", good: statusFor, read: o.Member.read}
	}
	// One after the other: what the member has told was read with all else.
	m.Handler = promhttp.HandlerFor(prometheus.Gatherers{own, prometheus.GathererFunc(m.ofMember)}, promhttp.HandlerOpts{
		ErrorLog: slog.NewLogLogger(o.Log.Handler(), slog.LevelWarn), ErrorHandling: promhttp.ContinueOnError, MaxRequestsInFlight: atOnce,
	})
	return m
}

// Describe sends all metrics.
func (m *Metrics) Describe(out chan<- *prometheus.Desc) {
	for _, g := range all {
		out <- g.desc
	}
	for _, c := range m.counts.collectors() {
		c.Describe(out)
	}
}

// reader is a source, whatever it is of.
type reader interface {
	look(time.Time)
	tell(*collected, *slog.Logger)
}

// sources are all that there are.
func (m *Metrics) sources() []reader {
	out := []reader{&m.status, &m.tokens, &m.events}
	if m.Works {
		out = append(out, &m.jobs, &m.hosts, &m.loss)
	}
	if m.Member != nil {
		out = append(out, &m.member)
	}
	return out
}

// Collect reads all sources at once, each within its time, and sends what is known.
func (m *Metrics) Collect(out chan<- prometheus.Metric) {
	m.one.Lock()
	defer m.one.Unlock()
	now := m.now()
	var wg sync.WaitGroup
	for _, s := range m.sources() {
		wg.Go(func() { s.look(now) })
	}
	wg.Wait()
	c := &collected{out: out, now: m.now()}
	c.one(buildInfo, 1, m.Version)
	for _, s := range m.sources() {
		s.tell(c, m.Log)
	}
	if m.status.err == nil {
		c.ofStatus(m.status.value)
	}
	if m.Works && m.jobs.err == nil {
		c.ofJobs(m.jobs.value)
	}
	if m.Works && m.hosts.err == nil && m.status.err == nil {
		c.ofHosts(m.hosts.value, m.status.value)
	}
	if m.tokens.err == nil {
		c.ofTokens(m.tokens.value)
	}
	if l := m.loss.value; m.loss.err == nil && l.counted {
		c.one(packets, float64(l.sent), "sent")
		c.one(packets, float64(l.lost), "lost")
	}
	for _, x := range m.counts.collectors() {
		x.Collect(out)
	}
}

// ofMember is what the member has told when everything was read.
func (m *Metrics) ofMember() ([]*dto.MetricFamily, error) {
	m.one.Lock()
	defer m.one.Unlock()
	if m.member.err != nil {
		return nil, nil // source_success tells it
	}
	return m.member.value, nil
}

// source is something that is read for scrapes, and kept for a while.
type source[T any] struct {
	name string
	good time.Duration
	read func(context.Context) (T, error)

	at    time.Time // when it was read last; zero: never
	value T
	err   error
}

// look reads it, unless what was read is still good.
func (s *source[T]) look(now time.Time) {
	if !s.at.IsZero() && now.Sub(s.at) < s.good {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), readWithin)
	defer cancel()
	s.value, s.err = s.read(ctx)
	s.at = now
}

// tell tells how the last look at it has ended.
func (s *source[T]) tell(c *collected, log *slog.Logger) {
	if s.err != nil {
		log.Debug("a source of metrics can not be read", "source", s.name, "err", s.err)
	}
	c.yes(sourceOK, s.err == nil, s.name)
	c.one(sourceAge, max(0, c.now.Sub(s.at).Seconds()), s.name)
}

// readJobs lists all jobs, those that have not ended with their steps.
func (m *Metrics) readJobs(ctx context.Context) ([]job.View, error) {
	all, err := m.API.Jobs(ctx)
	for i := range all {
		if err == nil && all[i].State != string(job.Ended) {
			all[i], err = m.API.Job(ctx, all[i].ID)
		}
	}
	return all, err
}

// loss is what was counted of packets to guests, in the upgrade that runs.
type loss struct {
	counted    bool
	sent, lost int64
}

// readLoss sums what all hosts have counted. Without an upgrade that runs nobody counts.
func (m *Metrics) readLoss(ctx context.Context) (l loss, err error) {
	up, err := m.API.Upgrade(ctx)
	if err != nil || up.Run == "" || up.Job == nil || up.Job.State == string(job.Ended) {
		return l, err
	}
	sum, err := m.Losses(ctx, up.Run)
	if errors.Is(err, probe.ErrNone) {
		return l, nil
	}
	for _, g := range sum.Guests {
		l.sent, l.lost = l.sent+g.Sent, l.lost+g.Lost
	}
	l.counted = err == nil
	return l, err
}
