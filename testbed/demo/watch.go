package demo

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/lib/clock"
)

// beside starts what goes on beside the drill. The returned function waits for its end, after ctx has ended, and returns what
// went wrong.
func beside(ctx context.Context, all ...func(context.Context) error) (wait func() error) {
	var wg sync.WaitGroup
	errs := make([]error, len(all))
	for i, f := range all {
		wg.Go(func() { errs[i] = f(ctx) })
	}
	return func() error {
		wg.Wait()
		return errors.Join(errs...)
	}
}

// follow notes what the agents say, until ctx ends.
func (r *runner) follow(ctx context.Context) error {
	r.tracker.Run(ctx)
	r.tracker.Close()
	return nil
}

// draw shows the table on a terminal.
func (r *runner) draw(ctx context.Context) error {
	for {
		r.screen.Draw(r.picture().table())
		if !clock.Sleep(ctx, drawEvery) {
			return nil
		}
	}
}

func (r *runner) picture() picture {
	now := time.Now()
	p := picture{now: now, start: r.start, least: r.limits.noise, late: r.opt.Real}
	var fault time.Time
	p.fault, fault = r.doingNow()
	status, ok := r.tracker.Best()
	p.known, p.owner, p.waiting = ok, status.Owner, status.Waiting
	for _, m := range r.stage.Machines() {
		p.hosts = append(p.hosts, r.hostPicture(m, status))
	}
	p.answer, p.last = r.observer.Client()
	if !fault.IsZero() {
		p.outage = r.observer.Outage(fault, now)
	}
	runs, most := r.observer.Holders()
	p.holders, p.most = len(runs), most
	return p
}

func (r *runner) hostPicture(m machine, s cluster.Status) hostPicture {
	name := m.Name()
	h := hostPicture{name: name, cond: m.Condition(), guest: "-", watchdog: "-", coordinator: s.Coordinator == name}
	for _, host := range s.Hosts {
		if host.Name != name {
			continue
		}
		h.alive = host.Alive
		if host.Guard > 0 {
			h.watchdog = fmt.Sprintf("resets within %.1f s", host.Guard.Seconds())
		}
	}
	switch n := h.cond.fired; n {
	case 0:
	case 1:
		h.watchdog = "has fired once"
	default:
		h.watchdog = fmt.Sprintf("has fired %d times", n)
	}
	runs, _ := r.observer.Holders()
	for _, g := range runs {
		switch {
		case g.Host != name:
		case g.Epoch.IsZero():
			h.guest = "running"
		default:
			h.guest = fmt.Sprintf("running, epoch %s", g.Epoch)
		}
	}
	return h
}
