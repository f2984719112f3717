package steps

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/inventory/report"
	"holdfast/internal/job"
	"holdfast/internal/job/engine"
	"holdfast/internal/lib/fail"
	"holdfast/internal/lib/strictyaml"
	"holdfast/internal/store"
	"holdfast/internal/transition"
	"holdfast/internal/transition/hostconf"
	"holdfast/internal/transition/net"
	"holdfast/internal/transition/net/hostports"
)

// Orders are what an agent does of a transition for people.
type Orders struct {
	Self   cluster.HostID
	Submit *engine.Jobs
	Report func() (map[cluster.HostID]report.Seen, bool)
	Own    *Files // of this host
	Dir    string // of this host's data, with the logs of steps
	Fits   Fits
	Others *Sites // clusters
	Reach  func(host cluster.HostID) (Peer, error)
}

// Fits tells what the commands of a transition would refuse of its file.
type Fits = func(*transition.File) []strictyaml.Fault

// Peer is the agent of another host.
type Peer interface {
	CompareFiles(ctx context.Context, host cluster.HostID, files []hostconf.File, keep bool) (hostconf.Answer, error)
	HostPorts(ctx context.Context, host cluster.HostID, name string) (*net.Host, error)
	StepOutput(ctx context.Context, id, step string) (job.Output, error)
	Close()
}

// RunTransition begins a transition by the text of its file, and returns the job.
func (o *Orders) RunTransition(ctx context.Context, user string, file []byte) (job.View, error) {
	also, err := o.checks()
	if err != nil {
		return job.View{}, err
	}
	f, faults := transition.Parse(file, also)
	if len(faults) > 0 {
		return job.View{}, fail.Errorf(fail.Invalid, "%s", strictyaml.Lines("", faults))
	}
	p := transition.Build(f)
	return o.submit(ctx, job.Job{Kind: transition.Job, Title: "transition of " + p.Name, User: user}, "transition", p)
}

// PlanTransition says what RunTransition would do with the text of a file, or all that is wrong in it.
func (o *Orders) PlanTransition(_ context.Context, file []byte) (transition.Preview, error) {
	also, err := o.checks()
	if err != nil {
		return transition.Preview{}, err
	}
	return transition.Look(file, also), nil
}

// checks are those of what a file says beside its form: of its commands, and of the hosts.
func (o *Orders) checks() (func(*transition.File) []strictyaml.Fault, error) {
	hosts, ok := o.Report()
	if !ok {
		return nil, errNotRead
	}
	known := transition.Known(slices.Collect(maps.Keys(hosts)))
	return func(f *transition.File) []strictyaml.Fault { return append(o.Fits(f), known(f)...) }, nil
}

var errNotRead = fmt.Errorf("the hosts' reports are not read yet: %w", store.ErrRetry)

// Sites asks the clusters of this host's list how their transitions stand.
func (o *Orders) Sites(ctx context.Context) (transition.Sites, error) { return o.Others.List(ctx) }

// WriteFiles begins to write files that hosts have kept, or to take that back on all hosts
// that a job has begun with, and returns the job.
func (o *Orders) WriteFiles(ctx context.Context, user string, order hostconf.Order) (job.View, error) {
	if order.Back != "" {
		old, err := o.Submit.Get(ctx, order.Back)
		if err != nil {
			return job.View{}, err
		}
		order.Hosts = nil
		for _, s := range old.Steps {
			if s.Kind == hostconf.KindFiles && s.Attempt > 0 {
				order.Hosts = append(order.Hosts, hostconf.HostOrder{Name: s.Host})
			}
		}
		if len(order.Hosts) == 0 || old.State != string(job.Ended) {
			return job.View{}, fail.Errorf(fail.Refused,
				"%s is %s, and has written to %d hosts: only what has ended and has written can be taken back", old.ID, old.State, len(order.Hosts))
		}
	}
	if len(order.Hosts) == 0 {
		return job.View{}, fail.Errorf(fail.Invalid, "no hosts: want those whose files are to be written")
	}
	p, err := order.Plan()
	if err != nil {
		return job.View{}, err
	}
	return o.submit(ctx, job.Job{Kind: hostconf.Job, Title: order.Title, User: user}, "config", p)
}

// CompareFiles compares files of a host with those that it is to have, by its own agent; with
// keep it keeps these for WriteFiles.
func (o *Orders) CompareFiles(ctx context.Context, host cluster.HostID, files []hostconf.File, keep bool) (hostconf.Answer, error) {
	if host == o.Self {
		return o.Own.Compare(files, keep)
	}
	return asked(o, host, func(c Peer) (hostconf.Answer, error) { return c.CompareFiles(ctx, host, files, keep) })
}

// HostPorts tells what a host has of Neutron's ports, by its own agent.
func (o *Orders) HostPorts(ctx context.Context, host cluster.HostID, name string) (*net.Host, error) {
	if host == o.Self {
		return hostports.Look(ctx, name)
	}
	return asked(o, host, func(c Peer) (*net.Host, error) { return c.HostPorts(ctx, host, name) })
}

// submit gives a plan to the engine, and returns the job.
func (o *Orders) submit(ctx context.Context, j job.Job, name string, p *transition.Plan) (job.View, error) {
	hosts, ok := o.Report()
	if !ok {
		return job.View{}, errNotRead
	}
	for _, s := range p.Steps {
		if _, known := hosts[s.Host]; !known {
			return job.View{}, fail.Errorf(fail.Invalid,
				"step %s: host %q: no host of that name reports; want one of %s", s.ID, s.Host, transition.Names(slices.Collect(maps.Keys(hosts))))
		}
	}
	plan, err := p.Encode()
	if err != nil {
		return job.View{}, err
	}
	steps, err := p.JobSteps()
	if err != nil {
		return job.View{}, err
	}
	now := time.Now().UTC()
	j.ID, j.Began = engine.NewID(name, now), now
	if err := engine.Submit(ctx, o.Submit.Store, j, plan, steps, engine.Also{}); err != nil {
		return job.View{}, engine.Explain(err)
	}
	return o.Submit.Get(ctx, j.ID)
}

// asked is what the agent of another host answers.
func asked[A any](o *Orders, host cluster.HostID, ask func(Peer) (A, error)) (answer A, err error) {
	c, err := o.Reach(host)
	if err != nil {
		return answer, fail.Errorf(fail.Unavailable, "%w", err)
	}
	defer c.Close()
	return ask(c)
}

// Planners are those of the jobs that Orders begins.
func Planners() map[job.Kind]func([]byte) (job.Planner, error) {
	return map[job.Kind]func([]byte) (job.Planner, error){transition.Job: transition.NewPlanner, hostconf.Job: transition.NewPlanner}
}

// Executors are those of their steps; commands are run by command.
func (o *Orders) Executors(command *Command) map[string]engine.Executor {
	return map[string]engine.Executor{transition.KindCommand: command, hostconf.KindFiles: o.Own}
}
