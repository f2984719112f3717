package notify

import (
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/config"
	"holdfast/internal/ha/loop"
	"holdfast/internal/ha/records"
	"holdfast/internal/lib/clock"
	"holdfast/internal/lib/durable"
	"holdfast/internal/lib/fail"
	"holdfast/internal/lib/lang"
	"holdfast/internal/store"
	"holdfast/internal/web/notify/plan"
	"holdfast/internal/web/notify/send"
)

// Agent is what a Service needs of the agent of its host.
type Agent interface {
	// Coordinator tells whether this host coordinates now: ok, and then the key of the coordinator's record with the
	// revision that says so (the term).
	Coordinator() (term int64, key string, ok bool)
	// InForce is the configuration as it was last read from the store; ok is false before it was.
	InForce(ctx context.Context) (cfg config.Cluster, ok bool)
}

// Options are what a Service needs. All are required.
type Options struct {
	Agent   Agent
	Store   store.Store
	Host    cluster.HostID
	Cluster string
	// Send hands a message to a service, and returns what that said. It may be called concurrently.
	Send func(ctx context.Context, r send.Request) (said string, err error)
	Log  *slog.Logger
}

// Service tells receivers of events. Make it with New, then Run.
type Service struct {
	Options
	process string // of this one, in claims
	now     func() time.Time
	tick    time.Duration
	grace   time.Duration // after which the process of a claim that was found has ended its attempt
	slots   chan struct{} // of attempts
	tests   chan struct{} // of tests

	mu      sync.Mutex
	shown   []cluster.Receiver // as they were last read
	read    time.Time
	sending map[string]bool // receivers with an attempt of this process under way, also of a term that is over
}

// Bounds of what is done at once, and of the store's answers.
const (
	atOnce    = 8
	testsOf   = 2
	tick      = 500 * time.Millisecond
	within    = 10 * time.Second
	recordFor = 2 * time.Minute // an outcome is tried to be written
	fresh     = 2 * time.Second
	maxSecret = 4 << 10
)

// New makes a Service. Program is this one, which sends.
func New(a Agent, st store.Store, host cluster.HostID, name, program string, log *slog.Logger) *Service {
	return newService(Options{Agent: a, Store: st, Host: host, Cluster: name, Log: log,
		Send: func(ctx context.Context, r send.Request) (string, error) {
			return send.Run(ctx, r, program, send.Command)
		}})
}

func newService(o Options) *Service {
	return &Service{Options: o, process: string(o.Host) + "/" + rand.Text(), now: time.Now, tick: tick,
		grace: send.Longest + 2*within, slots: make(chan struct{}, atOnce), tests: make(chan struct{}, testsOf),
		sending: map[string]bool{}}
}

// Run tells receivers of events while this host coordinates, until ctx ends.
func (s *Service) Run(ctx context.Context) error {
	last := ""
	for ctx.Err() == nil {
		if term, key, ok := s.Agent.Coordinator(); ok {
			err := s.lead(ctx, store.Cmp{Key: key, Rev: term})
			if err != nil && ctx.Err() == nil && err.Error() != last {
				last = err.Error()
				s.Log.Warn("nobody is told of events until the store answers", "err", err)
			}
			if err == nil {
				last = ""
			}
		}
		clock.Sleep(ctx, 2*s.tick)
	}
	return nil
}

// begins notes that an attempt begins; false: one is under way.
func (s *Service) begins(name string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.sending[name] {
		return false
	}
	s.sending[name] = true
	return true
}

func (s *Service) ends(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.sending, name)
}

// underWay reports whether an attempt of this process is.
func (s *Service) underWay(name string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sending[name]
}

// rule is what a receiver is told.
func rule(r config.Receiver) plan.Rule {
	out := plan.Rule{Receiver: r.Name, Kinds: r.Events, Least: least(r), Group: group(r)}
	if r.Quiet == "" {
		return out
	}
	out.Quiet.Zone = time.Local
	if r.Zone != "" {
		zone, err := time.LoadLocation(r.Zone)
		if err != nil { // this host does not know it: rather a message in the night than none
			return out
		}
		out.Quiet.Zone = zone
	}
	out.Quiet.From, out.Quiet.To, _ = config.QuietTime(r.Quiet)
	return out
}

func least(r config.Receiver) cluster.Severity {
	if r.Severity == "" {
		return cluster.Warning
	}
	return r.Severity
}

func group(r config.Receiver) time.Duration {
	if r.Group == 0 {
		return config.DefaultGroup
	}
	return time.Duration(r.Group)
}

// request makes of a receiver, and of the file with its secret on this host, what is sent to where.
func (s *Service) request(r config.Receiver, t plan.Text, id string) (send.Request, error) {
	out := send.Request{Service: r.Service, URL: r.Server, User: r.User, From: r.From, To: r.To, CA: r.CA, Subject: t.Subject, Body: t.Body,
		Cluster: s.Cluster, Severity: string(t.Severity), ID: id, Events: t.Events, Time: s.now()}
	if r.Credential == "" {
		return out, nil
	}
	secret, err := durable.ReadSecretUpTo(r.File(), maxSecret)
	if err != nil {
		return out, fmt.Errorf("host %s: the file with the secret: %w", s.Host, err)
	}
	if r.Service == config.Mail || r.Service == config.Telegram {
		out.Secret = strings.TrimSpace(secret)
		return out, nil
	}
	first, second, _ := strings.Cut(secret, "\n")
	out.URL, out.Secret = strings.TrimSpace(first), strings.TrimSpace(second)
	return out, nil
}

// most is how many bytes a message to a service may have.
func most(service string) int {
	if service == config.WeCom {
		return 2000 // of 2048
	}
	return 3800 // of 4096
}

// translator is that of the language of messages.
func translator(n *config.Notifications) func(string) string {
	c, err := lang.For(n.Language)
	if err != nil {
		c = nil // the configuration's check has seen it
	}
	return c.Text
}

// Receivers are all, with how it goes, as it was at the most fresh ago: pages that are open ask each second.
func (s *Service) Receivers(ctx context.Context) ([]cluster.Receiver, error) {
	s.mu.Lock()
	shown, read := s.shown, s.read
	s.mu.Unlock()
	if age := s.now().Sub(read); age >= 0 && age < fresh {
		return shown, nil
	}
	all, err := s.receivers(ctx)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.shown, s.read = all, s.now()
	return all, nil
}

func (s *Service) receivers(ctx context.Context) ([]cluster.Receiver, error) {
	n, err := s.configured(ctx)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	kvs, _, err := s.Store.List(ctx, records.KeyLog)
	if err != nil {
		return nil, fmt.Errorf("list the events: %w", err)
	}
	log := entries(kvs, s.now())
	states, _, err := s.Store.List(ctx, records.KeyNotify)
	if err != nil {
		return nil, fmt.Errorf("list how far receivers were told: %w", err)
	}
	by := map[string]store.KV{}
	for _, kv := range states {
		by[kv.Key] = kv
	}
	out := []cluster.Receiver{}
	for _, r := range n.Receivers {
		x := cluster.Receiver{Name: r.Name, Service: r.Service, To: r.To, Kinds: r.Events, Least: least(r),
			Quiet: r.Quiet, Zone: r.Zone, Group: group(r)}
		if kv, found := by[records.KeyNotify+r.Name]; found {
			st, err := records.Decode[plan.State](kv, false)
			if err != nil {
				return nil, err
			}
			shown(&x, st, rule(r).Pending(st, log))
		}
		out = append(out, x)
	}
	return out, nil
}

// shown fills in how it goes.
func shown(x *cluster.Receiver, st plan.State, waiting []plan.Entry) {
	x.Sent, x.SentID, x.Failed, x.Why, x.Failing = st.Sent, st.SentID, st.Failed, st.Why, st.Failing
	x.Lost, x.LostAt, x.Waiting = st.Lost, st.LostAt, len(waiting)
	if len(waiting) > 0 {
		x.Oldest = waiting[0].Event.Time
	}
	if m := st.Message; m != nil {
		x.Attempts, x.Next = m.Attempts, m.Next
	}
}

// configured says who is told, as the configuration has it now.
func (s *Service) configured(ctx context.Context) (*config.Notifications, error) {
	cfg, ok := s.Agent.InForce(ctx)
	if !ok {
		return nil, fail.Errorf(fail.Unavailable, "the configuration has not been read from the store yet").With("ask again in some seconds")
	}
	if cfg.Notifications == nil {
		return &config.Notifications{}, nil
	}
	return cfg.Notifications, nil
}

// Test sends a message to a receiver from this host, at once, which says that it is a test, and returns what the service said.
func (s *Service) Test(ctx context.Context, user, name string) (said string, err error) {
	n, err := s.configured(ctx)
	if err != nil {
		return "", err
	}
	for _, r := range n.Receivers {
		if r.Name == name {
			return s.test(ctx, user, n, r)
		}
	}
	return "", fail.Errorf(fail.Invalid, "receiver %.70q: there is none", name).With("see: holdfast notify list")
}

func (s *Service) test(ctx context.Context, user string, n *config.Notifications, r config.Receiver) (string, error) {
	select {
	case s.tests <- struct{}{}:
		defer func() { <-s.tests }()
	default:
		return "", fail.Errorf(fail.Unavailable, "%d tests are under way on %s", testsOf, s.Host).With("try again in some seconds")
	}
	id := "test-" + newID()
	head := plan.Head{Cluster: s.Cluster, Console: n.Console, ID: id, T: translator(n)}
	x, err := s.request(r, plan.Test(head, r.Name, user, string(s.Host)), id)
	if err != nil {
		return "", fail.Errorf(fail.Failed, "%w", err)
	}
	x.Test = true
	said, err := s.Send(ctx, x)
	if err != nil {
		return "", fail.Errorf(fail.Failed, "the test of %s was not sent from %s: %w", r.Name, s.Host, err)
	}
	s.Log.Info("a test was sent", "receiver", r.Name, "user", user, "said", said)
	return said, nil
}

// newID is the ID of a message, which people can read to each other.
func newID() string { return strings.ToLower(rand.Text()[:10]) }

// entries are records of the log, in the order of their revisions.
func entries(kvs []store.KV, now time.Time) []plan.Entry {
	out := make([]plan.Entry, 0, len(kvs))
	for _, kv := range kvs {
		out = append(out, entry(kv, now))
	}
	plan.Sort(out)
	return out
}

// entry is a record of the log that is seen now, or has been since it was written.
func entry(kv store.KV, now time.Time) plan.Entry {
	e := loop.EventOf(kv)
	seen := now
	if !e.Time.IsZero() && e.Time.Before(now) {
		seen = e.Time
	}
	return plan.Entry{Rev: kv.ModRev, Seen: seen, Event: e}
}
