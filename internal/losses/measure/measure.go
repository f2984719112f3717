// Package measure counts the packets that targets lose, by package ping.
package measure

import (
	"context"
	"sync"
	"time"

	"holdfast/internal/fail"
	"holdfast/internal/host/ping"
	"holdfast/internal/losses"
	"holdfast/internal/sleep"
)

// Times of a measurement.
const (
	askFor   = 4 * time.Second // before the start; a neighbour that is not known yet takes a second or two
	askEvery = 500 * time.Millisecond
	askLook  = 100 * time.Millisecond
	tellEach = time.Second
)

// Run measures until the time is over or ctx ends, and then waits for the last
// answers: for a second, also after the end of ctx. tell is called about once a second.
// An error is that nothing could be measured; then there may be a result that says
// which targets are silent.
func Run(ctx context.Context, o losses.Order, tell func(losses.Progress)) (*losses.Result, error) {
	return run(ctx, o, tell, ping.Open, askFor)
}

func run(ctx context.Context, o losses.Order, tell func(losses.Progress), open func() (*ping.Pinger, error), asks time.Duration) (*losses.Result, error) {
	p, err := open()
	if err != nil {
		return nil, fail.Errorf(fail.Refused, "nothing can be measured: %w", err).With("run it as root, or with the capability CAP_NET_RAW")
	}
	beyond, stop := context.WithCancel(context.WithoutCancel(ctx))
	var runs sync.WaitGroup
	runs.Go(func() { p.Run(beyond) })
	defer runs.Wait()
	defer stop()

	live, silent, err := ask(ctx, p, o.Targets, tell, asks)
	if err != nil {
		return nil, err
	}
	r := &losses.Result{Rate: o.Rate, Silent: silent, Targets: []losses.Target{}}
	if len(live) == 0 {
		r.Began = losses.Moment{Time: time.Now()}
		r.Ended = r.Began
		r.Sum()
		return r, fail.Errorf(fail.Refused, "nothing was measured: none of the targets answered within %s", asks)
	}
	every := time.Duration(float64(time.Second) / o.Rate)
	var all []*ping.Target
	r.Began = losses.Moment{Time: time.Now()}
	for _, a := range live {
		t, err := p.Add(a.IP, every)
		if err != nil {
			return nil, fail.Errorf(fail.Refused, "nothing can be measured: %w", err)
		}
		all = append(all, t)
	}
	watch(ctx, o.For, func(passed time.Duration) { tell(soFar(live, all, passed)) })
	r.Ended = losses.Moment{Time: time.Now()}
	r.Interrupted = r.Ended.Sub(r.Began.Time) < o.For
	p.Finish(beyond)
	for i, t := range all {
		r.Targets = append(r.Targets, measured(live[i], t))
	}
	r.Sum()
	if r.Total.Sent == 0 {
		return r, fail.Errorf(fail.Refused, "nothing was measured: no packet was sent in %s", r.Ended.Sub(r.Began.Time).Round(time.Millisecond))
	}
	return r, nil
}

// ask asks all targets whether they answer at all.
func ask(ctx context.Context, p *ping.Pinger, targets []losses.Address, tell func(losses.Progress), asks time.Duration) (live, silent []losses.Address, err error) {
	var asked []*ping.Target
	for _, a := range targets {
		t, err := p.Add(a.IP, askEvery)
		if err != nil {
			return nil, nil, fail.Errorf(fail.Refused, "nothing can be measured: %w", err)
		}
		asked = append(asked, t)
	}
	began := time.Now()
	answers := func(t *ping.Target) bool { return !t.Counts().Answered.IsZero() }
	for all := false; !all && time.Since(began) < asks; {
		tell(losses.Progress{Asking: true, Targets: len(targets), Passed: time.Since(began)})
		if !sleep.For(ctx, askLook) {
			return nil, nil, fail.Errorf(fail.Refused, "nothing was measured: interrupted before the start")
		}
		all = true
		for _, t := range asked {
			all = all && answers(t)
		}
	}
	for i, t := range asked {
		if answers(t) {
			live = append(live, targets[i])
		} else {
			silent = append(silent, targets[i])
		}
		p.Remove(t)
	}
	return live, silent, nil
}

// watch waits for a time, or until ctx ends, and tells how much has passed.
func watch(ctx context.Context, long time.Duration, tell func(passed time.Duration)) {
	began := time.Now()
	for left := long; left > 0; left = long - time.Since(began) {
		if !sleep.For(ctx, min(tellEach, left)) {
			return
		}
		tell(time.Since(began))
	}
}

// soFar sums up what is known now.
func soFar(live []losses.Address, all []*ping.Target, passed time.Duration) losses.Progress {
	p := losses.Progress{Targets: len(all), Passed: passed}
	longest := time.Duration(0)
	for i, t := range all {
		c := t.Counts()
		p.Sent, p.Lost = p.Sent+c.Sent, p.Lost+c.Lost
		if c.Longest > longest {
			longest, p.Longest = c.Longest, live[i]
		}
	}
	p.LongestMS = losses.MS(longest)
	return p
}

// measured is what was counted of a target.
func measured(a losses.Address, t *ping.Target) losses.Target {
	c := t.Counts()
	gaps, more := t.Gaps()
	out := losses.Target{
		Address: a, Sent: c.Sent, Lost: c.Lost, Gaps: []losses.Gap{}, GapsLeftOut: more, Reordered: c.Reordered, UnwatchedMS: losses.MS(c.Unwatched),
	}
	for _, g := range gaps {
		ms := losses.MS(g.Length)
		out.Gaps = append(out.Gaps, losses.Gap{At: losses.Moment{Time: g.At}, MS: ms, Open: g.Open})
		out.LongestMS = max(out.LongestMS, ms)
	}
	return out
}
