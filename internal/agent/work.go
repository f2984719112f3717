package agent

import (
	"context"
	"errors"
	"fmt"
	"maps"
	mathrand "math/rand/v2"
	"net/netip"
	"path/filepath"
	"sync"
	"time"

	"holdfast/internal/api"
	"holdfast/internal/cluster"
	"holdfast/internal/fleet/drain"
	"holdfast/internal/fleet/evacuate"
	"holdfast/internal/fleet/gather"
	"holdfast/internal/fleet/screen"
	"holdfast/internal/ha/loop"
	"holdfast/internal/host/libvirt/guests"
	"holdfast/internal/inventory/report"
	"holdfast/internal/job"
	"holdfast/internal/job/engine"
	"holdfast/internal/transition/steps"
	"holdfast/internal/upgrade/probe"
	"holdfast/internal/upgrade/service"
)

// handover is how long a new coordinator leaves alone what the one before has
// begun as the coordinator: longer than the longest lease.
const handover = time.Minute

// work is this host's part in jobs: the tools that have jobs, and the engine with which
// they register. A tool adds its executors, its planner and the rights of its keys (rights.go).
type work struct {
	*service.Service // upgrades, and what is known of hosts
	engine.Jobs      // of all tools
	guests           *guests.Fleet
	view             *report.View
	look             *gather.Looker
	*steps.Orders    // of transitions
	screens          *screen.Service
	reporter         *report.Reporter
	managed          func(context.Context) // follows the management VM
	drain            *drain.Drain
	sender           *drain.Sender
	receiver         *drain.Receiver
	counts           *probe.Service
	worker           *engine.Worker
	lead             *engine.Scheduler
	// waits until nobody else has this host's name, false when ctx has ended; nil: the reports find that out
	registered func(context.Context) bool
}

// work makes this host's part in jobs.
func (nd *node) work(a *loop.Agent, view *others) (*work, error) {
	opt := guests.Options{
		Socket: nd.n.Libvirt.Socket, MigrateURI: nd.n.Libvirt.MigrateURI, MigrateTLS: nd.n.Libvirt.MigrateTLS, Shared: nd.n.Libvirt.Shared,
		Protected: []string{loop.GuestUUID(nd.n.Cluster)}, Log: nd.Log,
	}
	own := a.GuestAddresses
	if nd.pairing != nil {
		opt.Group, own = nd.pairing.Guests, nd.pairing.Addresses
	}
	fleet, err := guests.New(opt)
	if err != nil {
		return nil, err
	}
	w := &work{guests: fleet, view: view.View}
	seen := w.view.Seen
	w.sender = drain.NewSender(&drain.Sender{Store: a.Store, Host: a.Host, Guests: fleet, Seen: seen, Log: nd.Log})
	w.receiver = &drain.Receiver{Store: a.Store, Host: a.Host, Guests: fleet, Seen: seen, Log: nd.Log}
	w.drain = &drain.Drain{
		Host: a.Host, Store: a.Store, Guests: fleet, Sender: w.sender, Seen: seen, InMaintenance: a.InMaintenance,
		Waits: func(uuid string) string {
			if uuid == loop.GuestUUID(nd.n.Cluster) {
				return a.Status().Waiting
			}
			return w.receiver.Waits(uuid)
		},
		SetMaintenance: func(ctx context.Context, host cluster.HostID, on bool) error {
			return a.SetMaintenance(ctx, loop.JobUser, host, on)
		},
	}
	w.screens = &screen.Service{
		Host: a.Host, Store: a.Store, Status: a.Status, Managed: loop.GuestUUID(nd.n.Cluster), Seen: seen, Open: fleet.OpenScreen,
		Reach: func(host cluster.HostID) (screen.Peer, error) { return as[screen.Peer](view.reach(host)) }, Log: nd.Log,
	}
	addresses := addresses(loop.GuestUUID(nd.n.Cluster), own, fleet)
	pins := steps.Pins(a.Host)
	w.Service, err = service.New(service.Parts{
		Store: a.Store, Cluster: a, Name: nd.n.Cluster, Host: a.Host, Dir: nd.n.DataDir, Fleet: fleet,
		Addresses: addresses, Bridges: pins.Look, Seen: seen, Forgotten: w.view.Forgotten, Log: nd.Log,
		Dial: func(host cluster.HostID, target string) (service.Peer, error) {
			return as[service.Peer](view.dial(host, target))
		},
		Exe: "/proc/self/exe", Helper: []string{StepHelper},
		RebootCommand: nd.n.Upgrade.RebootCommand, BootIDFile: nd.n.BootIDFile, Credentials: nd.n.Upgrade.CredentialsFile,
	})
	if err != nil {
		return nil, errors.Join(err, fleet.Close())
	}
	look := &gather.Looker{
		Fleet: fleet, Host: a.Host, Install: a.Identity, Boot: nd.boot, Addr: nd.n.Addr, Agent: nd.Version, Member: nd.n.Store.Member != nil,
		InMaintenance: a.InMaintenance, Bundles: w.Bundles, Waits: w.receiver.Waits, Log: nd.Log,
	}
	if nd.pairing != nil {
		look.Group = nd.pairing.HostGroup()
	}
	if nd.keeper != nil {
		look.Certificates = nd.keeper.State
	}
	if nd.n.API.Listen != "" {
		look.API = "https://" + nd.apiAddr()
	}
	w.look = look
	w.reporter = &report.Reporter{Store: a.Store, Look: look.Look, Log: nd.Log}
	w.receiver.Came, w.drain.Told = w.reporter.Soon, w.reporter.Renew
	w.managed = func(ctx context.Context) { followManaged(ctx, a, w.reporter.Soon) }
	if nd.n.GuestsOnly {
		w.reporter.Claims = &report.Claim{Host: a.Host, Install: a.Identity, Boot: nd.boot}
	} else { // the agent itself cares that a name is used once
		w.registered = a.Registered
	}
	w.counts = probe.New(probe.Parts{
		Store: a.Store, Host: a.Host, Coordinator: a.Coordinator, Seen: func() (probe.Seen, bool) { return probe.Reported(seen()) },
		Addresses: addresses, Said: w.SaidAddresses, Active: w.Probed, Log: nd.Log,
	})
	w.Jobs = engine.Jobs{Store: a.Store, Planners: steps.Planners()}
	w.Jobs.Planners[evacuate.HostJob], w.Jobs.Planners[job.Upgrade] = evacuate.HostPlanner, service.Planner
	w.Orders = &steps.Orders{
		Self: a.Host, Submit: &w.Jobs, Report: seen, Own: &steps.Files{Dir: filepath.Join(nd.n.DataDir, "config-files")},
		Fits: nd.Fits, Dir: nd.n.DataDir,
		Others: &steps.Sites{File: filepath.Join(filepath.Dir(nd.NodeFile), "sites.yaml"), Ask: api.AskSite, Now: time.Now},
		Reach:  func(host cluster.HostID) (steps.Peer, error) { return as[steps.Peer](view.reach(host)) },
	}
	executors := w.Service.Executors(pins, probe.Turn{Service: w.counts})
	maps.Copy(executors, w.Orders.Executors(&steps.Command{
		Self: w.Exe, Helper: w.Helper, Dir: steps.CommandsDir(nd.n.DataDir), Env: []string{"HOLDFAST_SOCKET=" + nd.socket()},
	}))
	executors[evacuate.KindDrain] = w.drain
	executors[evacuate.KindUndrain] = &drain.Undrain{Host: a.Host, Revive: w.drain.Revive,
		SetMaintenance: w.drain.SetMaintenance, Where: w.view.Where, Send: w.BringGuest}
	w.worker = engine.NewWorker(engine.WorkerOptions{
		Store: a.Store, Host: a.Host, Instance: a.Instance(), Boot: nd.boot, Dir: nd.n.DataDir, Executors: executors,
		Coordinator: a.Coordinator, Handover: handover, Now: time.Now, Rand: mathrand.Float64, Log: nd.Log,
	})
	w.lead = engine.NewScheduler(engine.SchedulerOptions{
		Store: a.Store, Host: a.Host, Coordinator: a.Coordinator, Planners: w.Planners, Hosts: w.Agents, Retain: w.Kept,
		Now: time.Now, Rand: mathrand.Float64, Log: nd.Log,
	})
	return w, nil
}

// addresses finds those of a guest of this host: of what the cluster runs itself by the configuration
// that it was started with, of others by libvirt.
func addresses(managed string, own func() []string, guests *guests.Fleet) func(ctx context.Context, uuid string) ([]netip.Addr, error) {
	return func(ctx context.Context, uuid string) ([]netip.Addr, error) {
		if uuid != managed {
			return guests.Addresses(ctx, uuid)
		}
		var out []netip.Addr
		for _, ip := range own() {
			a, err := netip.ParseAddr(ip)
			if err != nil {
				return nil, fmt.Errorf("the address of what the cluster runs: %w", err)
			}
			out = append(out, a)
		}
		return out, nil
	}
}

// Run works until ctx ends. It returns report.ErrConflict when another agent reports under
// this host's name.
func (w *work) Run(ctx context.Context) error {
	if w.registered != nil && !w.registered(ctx) { // it would report, and take steps on, in another one's name
		return nil
	}
	if err := w.reporter.Claim(ctx); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var loops sync.WaitGroup
	for _, f := range []func(context.Context){w.view.Run, w.lead.Run, w.receiver.Run, w.sender.Run, w.counts.Run,
		w.look.Measure, w.Service.Run, w.managed} {
		loops.Go(func() { f(ctx) })
	}
	var conflict error
	loops.Go(func() {
		defer cancel()
		conflict = w.reporter.Run(ctx)
	})
	err := w.worker.Run(ctx)
	loops.Wait()
	return errors.Join(conflict, err)
}

// followManaged calls a function whenever the management VM has come to this host, or left it.
func followManaged(ctx context.Context, a *loop.Agent, changed func()) {
	var last cluster.GuestState
	for range a.Changed(ctx) {
		for _, h := range a.Status().Hosts {
			if h.Name == a.Host && h.Guest != last {
				last = h.Guest
				changed()
			}
		}
	}
}

// DrainHost begins to empty a host, and returns the job.
func (w *work) DrainHost(ctx context.Context, user string, host cluster.HostID) (job.View, error) {
	id, err := drain.Begin(ctx, w.Jobs.Store, w.view.Seen, user, host, job.Upgrade)
	if err != nil {
		return job.View{}, err
	}
	return w.Get(ctx, id)
}

// SendGuest moves a guest of this host to another one, over the network (a CIDR, ""
// for any) when that host has an address in it.
func (w *work) SendGuest(ctx context.Context, uuid, name string, to cluster.HostID, network string) error {
	return w.drain.SendGuest(ctx, uuid, name, to, network)
}

// Awaits refuses a guest that no job has host to bring back to itself.
func (w *work) Awaits(ctx context.Context, to cluster.HostID, uuid string) error {
	return w.drain.Awaits(ctx, to, uuid)
}
