package loop

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/config"
)

// Intervals of looking at this host.
const (
	lookEvery  = 500 * time.Millisecond
	lookWithin = time.Second
	dogEvery   = time.Second
	dogWithin  = time.Second
	fitEvery   = 5 * time.Second
	fitSoon    = time.Second // while it is not able to start the guest
	fitWithin  = 3 * time.Second
)

// firstLook observes the guest and the watchdog before anything is decided, so
// that a restarted agent knows what the one before left: the deadline that the
// watchdog was told is the one that it had.
func (a *Agent) firstLook(ctx context.Context) {
	a.lookOnce(ctx)()
	a.dogOnce(ctx)()
	if g := a.s.core.Guest.Seen; g.State != cluster.GuestAbsent {
		a.Log.Info("found a guest", "state", g.State, "epoch", g.Epoch, "pid", g.PID)
	}
}

// observe looks at the guest at each wake of the driver, after each action, and
// at an interval.
func (a *Agent) observe(ctx context.Context) {
	t := time.NewTicker(lookEvery)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-a.Driver.Wake():
			a.checkSoon() // what has changed may be what a start here needs
		case <-a.looked:
		case <-t.C:
		}
		a.post(ctx, a.lookOnce(ctx))
	}
}

// lookOnce observes, and returns what the loop must do with it.
func (a *Agent) lookOnce(ctx context.Context) func() {
	at := a.Clock()
	ctx, cancel := context.WithTimeout(ctx, lookWithin)
	defer cancel()
	g, err := a.Driver.Observe(ctx)
	return func() {
		was := a.s.core.Guest.Seen
		a.s.core.Observed(g, at)
		g := a.s.core.Guest.Seen
		if err != nil && was.State != g.State {
			a.Log.Warn("guest not observed fully", "state", g.State, "err", err)
		}
		if was != g {
			a.notify()
		}
		if was.State != g.State {
			a.Log.Info("guest", "state", g.State, "was", was.State, "pid", g.PID, "epoch", g.Epoch)
		}
		a.judge()
	}
}

// watchDog keeps the state of the watchdog's holder up to date.
func (a *Agent) watchDog(ctx context.Context) {
	every(ctx, dogEvery, func() { a.post(ctx, a.dogOnce(ctx)) })
}

// every calls f at an interval until ctx ends.
func every(ctx context.Context, interval time.Duration, f func()) {
	t := time.NewTicker(interval)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
			f()
		}
	}
}

func (a *Agent) dogOnce(ctx context.Context) func() {
	ctx, cancel := context.WithTimeout(ctx, dogWithin)
	defer cancel()
	at := a.Clock()
	st, err := a.Watchdog.Status(ctx)
	return func() {
		w := dogOf(st)
		a.s.dogWhy = st.Error
		if err != nil {
			// The holder is away: the device, if armed, runs on and will reset the host.
			w, a.s.dogWhy = a.s.core.Watchdog, err.Error()
			w.Working = false
		}
		was := a.s.core.Watchdog.Working
		a.s.core.Watched(w, at)
		a.tellDog(was)
		a.describe()
	}
}

// tellDog logs that the watchdog has begun to work, or works no more.
func (a *Agent) tellDog(was bool) {
	if d := a.s.core.Watchdog; was != d.Working {
		a.Log.Info("watchdog", "working", d.Working, "device", d.Name, "timeout", d.Timeout, "why", a.s.dogWhy)
	}
}

// checkFit finds out, again and again, whether this host could start the guest,
// and prepares what a start or an incoming migration needs.
func (a *Agent) checkFit(ctx context.Context) {
	for {
		var cfg config.Cluster
		var mod int64
		if !a.ask(ctx, func() { cfg, mod = a.s.cfg, a.s.cfgMod }) {
			return
		}
		err := a.fitOnce(ctx, cfg, mod)
		trouble := ""
		if a.Trouble != nil {
			trouble = a.Trouble()
		}
		secure := a.Secure != nil && a.Secure()
		again := fitEvery
		if !a.ask(ctx, func() {
			a.s.secure = secure
			a.s.core.ThisHost.Judged = mod
			a.fitIs(err, trouble)
			if err != nil || a.s.failed.times > 0 {
				again = fitSoon
			}
		}) {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-a.refit:
		case <-time.After(again):
		}
	}
}

func (a *Agent) fitOnce(ctx context.Context, cfg config.Cluster, mod int64) error {
	ctx, cancel := context.WithTimeout(ctx, fitWithin)
	defer cancel()
	spec := a.spec(cfg, cluster.Epoch{})
	if mod != 0 { // else it is the file's, which may be an old one
		if err := a.seed(cfg, mod, spec); err != nil {
			return err
		}
	}
	return a.Driver.Check(ctx, spec)
}

// seedState says from which configuration the guest's seed on this host was written.
type seedState struct {
	mu  sync.Mutex
	mod int64
}

// seed writes what a start needs on this host, never from an older configuration
// than the one before.
func (a *Agent) seed(cfg config.Cluster, mod int64, spec cluster.GuestSpec) error {
	if a.Seed == nil {
		return nil
	}
	a.seeded.mu.Lock()
	defer a.seeded.mu.Unlock()
	if mod < a.seeded.mod {
		return nil
	}
	if err := a.Seed(cfg, spec); err != nil {
		return fmt.Errorf("prepare the guest's seed: %w", err)
	}
	a.seeded.mod = mod
	return nil
}

// fitIs takes over whether the guest could be started here. Its reason tells
// also what else is wrong on this host: every host's status shows it.
func (a *Agent) fitIs(err error, trouble string) {
	a.s.unable, a.s.trouble = err, trouble
	a.describe()
}

// describe takes over what this host says of itself. Whoever learns that a part of it has changed calls it.
func (a *Agent) describe() {
	m, err, retry := a.s.core, a.s.unable, false
	if err == nil && a.s.storage != "" {
		err = errors.New(a.s.storage) // found while the other checks went on
	}
	var all []string
	f := &a.s.failed
	if f.changed(&a.s, err); f.times > 0 {
		if f.rests(&a.s, a.Clock()) {
			err = f.last()
		} else {
			retry, all = true, append(all, f.last().Error())
		}
	}
	if err != nil {
		all = append(all, err.Error())
	}
	if !m.Watchdog.Working && a.s.dogWhy != "" {
		all = append(all, "watchdog: "+a.s.dogWhy)
	}
	if m.Guest.Seen.Panicked {
		all = append(all, "the guest's kernel has panicked")
	}
	if l := a.s.looked; l.Error != "" {
		all = append(all, fmt.Sprintf("the fence device of host %s: %v", l.Host, l.Error))
	}
	if a.s.trouble != "" {
		all = append(all, a.s.trouble)
	}
	why := strings.ReplaceAll(strings.Join(all, "; "), "\n", "; ") // an error of several
	if m.ThisHost.Fit != (err == nil) || m.ThisHost.Why != why {
		a.Log.Info("able to start the guest", "fit", err == nil, "why", why)
		a.notify()
	}
	m.Able(err == nil, retry && err == nil, why, a.s.secure)
}
