package service

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	mathrand "math/rand/v2"
	"strings"
	"sync"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/evacuate"
	"holdfast/internal/evacuate/drain"
	"holdfast/internal/fail"
	"holdfast/internal/host/facts"
	"holdfast/internal/host/libvirt"
	"holdfast/internal/host/reboot"
	"holdfast/internal/inventory/report"
	"holdfast/internal/job"
	"holdfast/internal/job/engine"
	"holdfast/internal/probe"
	"holdfast/internal/store"
	"holdfast/internal/upgrade/cache"
	"holdfast/internal/upgrade/survey"
)

// handover is how long a new coordinator leaves alone what the one before has
// begun as the coordinator: longer than the longest lease.
const handover = time.Minute

// drainParallel is how many guests leave a host at once.
const drainParallel = 2

// Cluster is what jobs need of the agent that keeps the management VM up.
type Cluster interface {
	// Coordinator tells whether this host coordinates: the key of the coordinator's
	// record, and the revision that says so.
	Coordinator() (term int64, key string, ok bool)
	// Rest says that a host takes no guests any more, or takes them again.
	Rest(ctx context.Context, user string, host cluster.HostID, on bool) error
	// Rests reports whether this host takes no guests.
	Rests() bool
	// Power asks that the management VM runs, or that it is shut down.
	Power(ctx context.Context, user string, run bool) error
	// Status returns what the agent knows.
	Status() cluster.Status
	// StoreStatus asks every member of the store.
	StoreStatus(ctx context.Context) (cluster.StoreStatus, error)
}

// Parts is what a Service is made of.
type Parts struct {
	Store   store.Store
	Cluster Cluster
	Name    string // of the cluster
	Host    cluster.HostID
	Member  bool // this host runs a member of the store
	// GuestsOnly: this host never has the management VM, and there may be thousands
	// like it.
	GuestsOnly bool
	Install    string // random id of the installation
	Boot       string // boot id
	Addr       string // of this host's libvirtd
	API        string // of the agent, "" when it is not served over TLS
	Version    string // of the agent
	Dir        string // the agent's data directory
	Fleet      *libvirt.Fleet
	// Seen gives what all hosts report; false: that is not read yet.
	Seen     func() (map[cluster.HostID]report.Seen, bool)
	Instance string // of this agent process, random
	Log      *slog.Logger

	TLS           *tls.Config // of a client; nil: other agents can not be asked
	Exe           string      // this program, absolute, and the arguments with which it is
	Helper        []string    // the helper of package action/program
	RebootCommand []string    // of this host; none: systemctl reboot
	BootIDFile    string
	Credentials   string // path of the file with answers to prompts; "": none
}

// Service is this host's part in jobs, and what the API tells of them.
type Service struct {
	Parts
	report   *report.Reporter
	worker   *engine.Worker
	lead     *engine.Conductor
	cache    *cache.Cache
	stage    *cache.Stage
	survey   *survey.Survey
	reboot   *reboot.Host
	drain    *drain.Drain
	gatherer facts.Gatherer
	receiver *drain.Receiver
	sender   *drain.Sender
	counts   *probe.Service
	probed   probed
	members  members
}

// New makes a Service; Run runs it.
func New(p Parts) (*Service, error) {
	s := &Service{Parts: p}
	s.sender = drain.NewSender(&drain.Sender{Store: p.Store, Host: p.Host, Guests: p.Fleet, Seen: s.Seen, Log: p.Log})
	s.receiver = &drain.Receiver{Store: p.Store, Host: p.Host, Guests: p.Fleet, Seen: s.Seen, Log: p.Log}
	if err := s.parts(); err != nil {
		return nil, err
	}
	look := &report.Looker{
		Fleet: p.Fleet, Host: p.Host, Install: p.Install, Boot: p.Boot, Addr: p.Addr, API: p.API, Agent: p.Version, Member: p.Member,
		Rests: p.Cluster.Rests, Bundles: s.cache.Have, Waits: s.receiver.Waits,
	}
	s.report = &report.Reporter{Store: p.Store, Look: look.Look, Log: p.Log}
	if p.GuestsOnly { // on the others the agent itself cares that a name is used once
		s.report.Claims = &report.Claim{Host: p.Host, Install: p.Install, Boot: p.Boot}
	}
	s.counts = probe.New(probe.Parts{
		Store: p.Store, Host: p.Host, Coordinator: p.Cluster.Coordinator, Seen: s.guests, Addresses: p.Fleet.Addresses, Active: s.probed.run, Log: p.Log,
	})
	s.worker = engine.NewWorker(engine.WorkerOptions{
		Store: p.Store, Host: p.Host, Instance: p.Instance, Boot: p.Boot, Dir: p.Dir, Doers: s.doers(),
		Coordinator: p.Cluster.Coordinator, Handover: handover, Now: time.Now, Rand: mathrand.Float64, Log: p.Log,
	})
	s.lead = engine.NewConductor(engine.ConductorOptions{
		Store: p.Store, Host: p.Host, Coordinator: p.Cluster.Coordinator,
		Planners: planners(),
		Hosts: func() map[cluster.HostID]job.HostState {
			seen, _ := s.Seen()
			return s.members.mark(report.Hosts(seen, time.Now()))
		},
		Keep: s.kept, Now: time.Now, Rand: mathrand.Float64, Log: p.Log,
	})
	return s, nil
}

// planners read the plans of all kinds of jobs.
func planners() map[job.Kind]func([]byte) (job.Planner, error) {
	return map[job.Kind]func([]byte) (job.Planner, error){evacuate.HostJob: evacuate.HostPlanner, job.Upgrade: upgradePlanner}
}

// Run works until ctx ends. It returns ErrConflict when another agent reports under
// this host's name.
func (s *Service) Run(ctx context.Context) error {
	if err := s.report.Claim(ctx); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var loops sync.WaitGroup
	for _, f := range []func(context.Context){s.lead.Run, s.receiver.Run, s.sender.Run, s.counts.Run, s.followRun, s.followMembers} {
		loops.Go(func() { f(ctx) })
	}
	var conflict error
	loops.Go(func() {
		defer cancel()
		conflict = s.report.Run(ctx)
	})
	err := s.worker.Run(ctx)
	loops.Wait()
	return errors.Join(conflict, err)
}

// Drain begins to empty a host, and returns the job.
func (s *Service) Drain(ctx context.Context, user string, host cluster.HostID) (job.View, error) {
	seen, ok := s.Seen()
	if !ok {
		return job.View{}, fmt.Errorf("the hosts' reports are not read yet: %w", store.ErrRetry)
	}
	if _, known := seen[host]; !known {
		return job.View{}, fail.Errorf(fail.Invalid, "host %q: no host of that name reports its guests", host)
	}
	plan, steps, err := evacuate.HostPlan(host, drainParallel)
	if err != nil {
		return job.View{}, err
	}
	now := time.Now().UTC()
	j := job.Job{
		ID: "drain-" + now.Format("20060102-150405") + "-" + strings.ToLower(rand.Text()[:4]), Kind: evacuate.HostJob,
		Title: "empty host " + string(host), User: user, Began: now,
	}
	if err := engine.Submit(ctx, s.Store, j, plan, steps, engine.Also{Alone: []job.Kind{job.Upgrade}}); err != nil {
		return job.View{}, explain(err)
	}
	return s.Get(ctx, j.ID)
}

// List returns the jobs that run and the last that ran, newest first.
func (s *Service) List(ctx context.Context) ([]job.View, error) {
	jobs, err := engine.List(ctx, s.Store)
	if err != nil {
		return nil, err
	}
	out := make([]job.View, 0, len(jobs))
	for _, j := range jobs {
		out = append(out, shown(j))
	}
	return out, nil
}

// Get returns one job with its steps, in the order of the plan.
func (s *Service) Get(ctx context.Context, id string) (job.View, error) {
	j, err := engine.Load(ctx, s.Store, id)
	if err != nil {
		return job.View{}, explain(err)
	}
	planner := planners()[j.Job.Kind]
	if planner == nil {
		return job.View{}, fmt.Errorf("job %s: its kind %q is not known here", id, j.Job.Kind)
	}
	p, err := planner(j.Plan)
	if err != nil {
		return job.View{}, fmt.Errorf("read the plan of %s: %w", id, err)
	}
	out := shown(j.Job)
	out.Waits = j.Waits
	for _, st := range p.Steps() {
		out.Steps = append(out.Steps, shownStep(st, j.Records[st.ID]))
	}
	return out, nil
}

// Order gives a job or one of its steps an order.
func (s *Service) Order(ctx context.Context, user, id, command, step, reason string) (job.View, error) {
	j, err := engine.Command(ctx, s.Store, engine.Order{Job: id, Command: job.Command(command), Step: step, User: user, Reason: reason, Now: time.Now().UTC()})
	if err != nil {
		return job.View{}, explain(err)
	}
	return shown(j), nil // its steps may be more than an answer holds
}

// shown is a job without its steps.
func shown(j job.Job) job.View {
	return job.View{
		ID: j.ID, Kind: string(j.Kind), Title: j.Title, User: j.User, State: string(j.State), Result: j.Result, Why: j.Why,
		Began: j.Began, Changed: j.Changed,
	}
}

// shownStep is a step with its record.
func shownStep(st job.Step, r job.Record) job.StepView {
	step := job.StepView{
		ID: st.ID, Host: st.Host, Kind: st.Kind, State: string(r.State), Attempt: r.Attempt, Percent: r.Percent, Note: r.Note,
		Why: r.Why, Tail: r.Tail, Exit: r.Exit, By: r.By, Began: r.Began, Ended: r.Ended,
	}
	if r.State == job.Pending {
		step.State = "pending"
	}
	return step
}

// explain gives errors of the engine the kind that callers act on.
func explain(err error) error {
	switch {
	case errors.Is(err, engine.ErrNoJob):
		return fail.Errorf(fail.Invalid, "%w", err).With("the jobs are listed by: holdfast jobs list")
	case errors.Is(err, engine.ErrBusy), errors.Is(err, engine.ErrRefused):
		return fail.Errorf(fail.Refused, "%w", err)
	}
	return err
}
