package loop

import (
	"context"
	"reflect"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/config"
	"holdfast/internal/host/health"
	"holdfast/internal/host/storage"
)

// healthEvery is how often the verdicts of the checks are taken over. The others
// are the defaults of the storage's probe.
const (
	healthEvery = time.Second
	ProbeEvery  = 5 * time.Second // of the storage
	ProbeWithin = 10 * time.Second
	dumpWithin  = 10 * time.Minute // of a panicked guest's memory
)

// checkHealth asks the management service while the guest runs here, as the
// configuration says, at the address that the guest was started with. Each guest is
// judged anew: a probe of one before it, or of the same on another host, says nothing.
func (a *Agent) checkHealth(ctx context.Context) {
	var probe *health.Prober
	var of guestRun
	stop := func() {}
	defer func() { stop() }()
	every(ctx, healthEvery, func() {
		var now guestRun
		if !a.ask(ctx, func() { now = a.runningHere() }) {
			return
		}
		if now != of {
			stop()
			probe, stop, of = nil, func() {}, now
			if now.pid != 0 && now.check.Type != "" {
				probe, stop = a.probe(ctx, now)
			}
		}
		why := ""
		if probe != nil {
			if s := probe.State(); s.Checked && !s.Healthy {
				why = "the health check failed: " + s.Why
			}
		}
		a.post(ctx, func() { a.s.ill = verdict{now, why}; a.judge() })
	})
}

// verdict is what the health check says of one run of the guest.
type verdict struct {
	of  guestRun
	why string // why it fails, "" when it does not
}

// checkStorage probes the storage that all hosts share, where there is one. That
// it hangs counts against the guest only when another host has been able to run
// it for so long that this one would know if the storage worked again: else the
// first host to notice the end of an outage of all would cost the guest its life.
func (a *Agent) checkStorage(ctx context.Context) {
	if a.Probe == nil {
		return
	}
	var p *storage.Prober
	var of *config.SharedStorageProbe // with which p was made; what it probes never changes
	stop := func() {}
	defer func() { stop() }()
	made := false
	var since cluster.Instant // another host is able; 0: none is; of the loop
	every(ctx, healthEvery, func() {
		var cfg config.Cluster
		if !a.ask(ctx, func() { cfg = a.s.cfg }) {
			return
		}
		if !made || !reflect.DeepEqual(of, cfg.SharedStorageProbe) {
			stop()
			stop, made, of = func() {}, true, cfg.SharedStorageProbe
			if p = a.Probe(cfg); p != nil {
				pctx, cancel := context.WithCancel(ctx)
				stop = cancel
				a.work.Go(func() {
					if err := p.Run(pctx); err != nil {
						a.Log.Warn("end the probe of the shared storage", "err", err)
					}
				})
			}
		}
		var s storage.State
		recovers := time.Duration(0)
		if p != nil {
			s, recovers = p.State(), p.Recovers()
		}
		a.post(ctx, func() {
			now := a.Clock()
			if !a.anotherFit() {
				since = 0
			} else if since == 0 {
				since = now
			}
			a.s.storage, a.s.hangs = s.Why, s.Hangs && since != 0 && now.Sub(since) >= recovers
			a.describe()
			a.judge()
		})
	})
}

// anotherFit reports that another host is alive and able to run the guest.
func (a *Agent) anotherFit() bool {
	v := a.s.core
	for h, r := range v.Hosts {
		if h != v.Self && r.Fit && r.Expelled.IsZero() && a.Clock().Sub(r.SeenAt) < v.Timings.Lease {
			return true
		}
	}
	return false
}

// guestRun is one run of the guest on this host, of which this host is the
// undisputed holder.
type guestRun struct {
	pid     int
	started uint64
	check   config.HealthCheck // zero: none
	addr    string             // at which it is asked
}

func (a *Agent) runningHere() guestRun {
	v := a.s.core
	g := v.Guest.Seen
	if g.State != cluster.GuestRunning || v.Owner.State != cluster.Running || v.Owner.Host != v.Self {
		return guestRun{}
	}
	run := guestRun{pid: g.PID, started: g.Started}
	if h := a.s.cfg.HealthCheck; h != nil {
		run.check = *h
	}
	nics, _ := a.s.guest().For(a.Host)
	for _, n := range nics {
		if n.Mgmt {
			run.addr = n.IP
		}
	}
	return run
}

// probe begins a health check. The returned function ends it.
func (a *Agent) probe(ctx context.Context, run guestRun) (*health.Prober, func()) {
	h := run.check
	p, err := health.New(health.Options{
		Kind: health.Kind(h.Type), Addr: func() string { return run.addr }, Port: h.Port, Path: h.Path,
		Interval: time.Duration(h.Interval), Timeout: time.Duration(h.Timeout), Failures: h.Failures, Grace: time.Duration(h.Grace),
		Clock: a.Clock, Log: a.Log,
	})
	if err != nil {
		a.Log.Error("health check", "err", err)
		return nil, func() {}
	}
	ctx, cancel := context.WithCancel(ctx)
	a.work.Go(func() { p.Run(ctx) })
	return p, cancel
}

// judge decides whether the guest must be restarted: it fails its health check,
// or the storage hangs here while another host could run it. It is called with
// every look at the guest: a verdict on a run that has ended must not cost the
// next one, which may begin within the second, its life.
func (a *Agent) judge() {
	g := &a.s.core.Guest
	why := ""
	if a.s.ill.of == a.runningHere() {
		why = a.s.ill.why
	}
	if !g.Seen.Panicked {
		a.s.panicked = 0
	} else if a.s.panicked == 0 {
		a.s.panicked = a.Clock()
	} else if a.s.cfg.OnPanic != "preserve" && a.Clock().Sub(a.s.panicked) > dumpWithin {
		why = "its kernel has panicked, and the hypervisor does not end it"
	}
	if a.s.hangs && g.Seen.State != cluster.GuestAbsent && a.anotherFit() {
		why = a.s.storage
	}
	if g.Seen.LockedOut {
		why = "it was locked out of its image by a start elsewhere, and can never write again"
	}
	if g.Unhealthy != why {
		a.Log.Info("guest's health", "sick", why)
		a.notify()
	}
	a.s.core.Judged(why)
}
