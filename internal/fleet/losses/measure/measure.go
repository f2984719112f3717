// Package measure counts the packets that targets lose, by package ping.
package measure

import (
	"context"
	"net/netip"
	"slices"
	"sync"
	"time"

	"holdfast/internal/fleet/losses"
	"holdfast/internal/host/ping"
	"holdfast/internal/lib/clock"
	"holdfast/internal/lib/fail"
)

// Times of a measurement.
const (
	askFor   = 4 * time.Second // before the start; a neighbour that is not known yet takes a second or two
	askEvery = 500 * time.Millisecond

	askEveryARP = time.Second
	askLook     = 100 * time.Millisecond
	tellEach    = time.Second
)

// Run measures until the time is over or ctx ends, and then waits for the last
// answers: for a second, also after the end of ctx. tell is called about once a second.
// An error is that nothing could be measured; then there may be a result that says
// which targets are silent.
func Run(ctx context.Context, o losses.Order, tell func(losses.Progress)) (*losses.Result, error) {
	return run(ctx, o, tell, sockets{ping.Open, ping.OpenARP}, askFor)
}

// sockets open them.
type sockets struct {
	icmp func() (*ping.Pinger, error)
	arp  func([]netip.Addr) (*ping.Pinger, map[netip.Addr]error, error)
}

// asked is a target that is measured.
type asked struct {
	losses.Address
	by losses.Means
	*ping.Target
}

func run(ctx context.Context, o losses.Order, tell func(losses.Progress), open sockets, asks time.Duration) (*losses.Result, error) {
	p, err := open.icmp()
	if err != nil {
		return nil, noSocket(err)
	}
	beyond, stop := context.WithCancel(context.WithoutCancel(ctx))
	var runs sync.WaitGroup
	runs.Go(func() { p.Run(beyond) })
	defer runs.Wait()
	defer stop()

	answers, err := ask(ctx, p, o.Targets, losses.ICMP, tell, asks)
	if err != nil {
		return nil, err
	}
	by := map[netip.Addr]losses.Means{}
	var none map[netip.Addr]error // why they were not asked by ARP
	pingers := map[losses.Means]*ping.Pinger{losses.ICMP: p}
	silent := rest(o.Targets, answers, by, losses.ICMP)
	if o.ARPRate > 0 && len(silent) > 0 {
		var q *ping.Pinger
		if q, none, err = open.arp(addresses(silent)); err != nil {
			return nil, noSocket(err)
		}
		runs.Go(func() { q.Run(beyond) })
		pingers[losses.ARP] = q
		near := slices.DeleteFunc(slices.Clone(silent), func(a losses.Address) bool { return none[a.IP] != nil })
		if answers, err = ask(ctx, q, near, losses.ARP, tell, asks); err != nil {
			return nil, err
		}
		silent = rest(silent, answers, by, losses.ARP)
	}
	r := &losses.Result{Name: o.Name, Rate: o.Rate, ARPRate: o.ARPRate, Targets: []losses.Target{}}
	for _, a := range silent {
		means := []losses.Means{losses.ICMP}
		if o.ARPRate > 0 && none[a.IP] == nil {
			means = append(means, losses.ARP)
		}
		r.Silent = append(r.Silent, losses.Silent{Address: a, AskedBy: means})
	}
	if len(by) == 0 {
		r.Began = losses.Moment{Time: time.Now()}
		r.Ended = r.Began
		r.Sum()
		return r, fail.Errorf(fail.Refused, "nothing was measured: none of the targets answered within %s", asks)
	}
	return measured(ctx, beyond, o, r, tell, pingers, by)
}

// measured measures the targets that answered, by their means.
func measured(ctx, beyond context.Context, o losses.Order, r *losses.Result, tell func(losses.Progress),
	pingers map[losses.Means]*ping.Pinger, by map[netip.Addr]losses.Means) (*losses.Result, error) {
	every := map[losses.Means]time.Duration{losses.ICMP: interval(o.Rate), losses.ARP: interval(o.ARPRate)}
	var all []asked
	r.Began = losses.Moment{Time: time.Now()}
	for _, a := range o.Targets {
		m, answered := by[a.IP]
		if !answered {
			continue
		}
		t, err := pingers[m].Add(a.IP, every[m])
		if err != nil {
			return nil, fail.Errorf(fail.Refused, "nothing can be measured: %w", err)
		}
		all = append(all, asked{a, m, t})
	}
	watch(ctx, o.For, func(passed time.Duration) { tell(soFar(all, passed)) })
	r.Ended = losses.Moment{Time: time.Now()}
	r.Interrupted = r.Ended.Sub(r.Began.Time) < o.For
	var ends sync.WaitGroup
	for _, p := range pingers {
		ends.Go(func() { p.Finish(beyond) })
	}
	ends.Wait()
	for _, t := range all {
		r.Targets = append(r.Targets, t.result())
	}
	r.Sum()
	if r.Total.Sent == 0 {
		return r, fail.Errorf(fail.Refused, "nothing was measured: no packet was sent in %s", r.Ended.Sub(r.Began.Time).Round(time.Millisecond))
	}
	return r, nil
}

func noSocket(err error) error {
	return fail.Errorf(fail.Refused, "nothing can be measured: %w", err).With("run it as root, or with the capability CAP_NET_RAW")
}

// interval between two packets; 0: none is sent.
func interval(rate float64) time.Duration {
	if rate <= 0 {
		return 0
	}
	return time.Duration(float64(time.Second) / rate)
}

func addresses(list []losses.Address) (out []netip.Addr) {
	for _, a := range list {
		out = append(out, a.IP)
	}
	return out
}

// rest are those of a list that did not answer; the others are noted.
func rest(list []losses.Address, answers map[netip.Addr]bool, by map[netip.Addr]losses.Means,
	means losses.Means) (silent []losses.Address) {
	for _, a := range list {
		if answers[a.IP] {
			by[a.IP] = means
		} else {
			silent = append(silent, a)
		}
	}
	return silent
}

// ask asks targets whether they answer at all, and returns those that do.
func ask(ctx context.Context, p *ping.Pinger, targets []losses.Address, by losses.Means, tell func(losses.Progress),
	asks time.Duration) (answers map[netip.Addr]bool, err error) {
	every := askEvery
	if by == losses.ARP { // everybody hears these questions
		every = askEveryARP
	}
	var all []*ping.Target
	for _, a := range targets {
		t, err := p.Add(a.IP, every)
		if err != nil {
			return nil, fail.Errorf(fail.Refused, "nothing can be measured: %w", err)
		}
		all = append(all, t)
	}
	began := time.Now()
	answered := func(t *ping.Target) bool { return !t.Counts().Answered.IsZero() }
	for done := len(all) == 0; !done && time.Since(began) < asks; {
		tell(losses.Progress{Asking: by, Targets: len(targets), Passed: time.Since(began)})
		if !clock.Sleep(ctx, askLook) {
			return nil, fail.Errorf(fail.Refused, "nothing was measured: interrupted before the start")
		}
		done = !slices.ContainsFunc(all, func(t *ping.Target) bool { return !answered(t) })
	}
	answers = map[netip.Addr]bool{}
	for i, t := range all {
		answers[targets[i].IP] = answered(t)
		p.Remove(t)
	}
	return answers, nil
}

// watch waits for a time, or until ctx ends, and tells how much has passed.
func watch(ctx context.Context, long time.Duration, tell func(passed time.Duration)) {
	began := time.Now()
	for left := long; left > 0; left = long - time.Since(began) {
		if !clock.Sleep(ctx, min(tellEach, left)) {
			return
		}
		tell(time.Since(began))
	}
}

// soFar sums up what is known now.
func soFar(all []asked, passed time.Duration) losses.Progress {
	p := losses.Progress{Targets: len(all), Passed: passed, Each: make([]losses.Counted, len(all))}
	longest := time.Duration(0)
	for i, t := range all {
		c := t.Counts()
		p.Each[i] = losses.Counted{Address: t.Address, Sent: c.Sent, Lost: c.Lost}
		p.Sent, p.Lost = p.Sent+c.Sent, p.Lost+c.Lost
		if c.Longest > longest {
			longest, p.Longest = c.Longest, t.Address
		}
	}
	p.LongestMS = losses.MS(longest)
	return p
}

// result is what was counted of a target.
func (t asked) result() losses.Target {
	c := t.Counts()
	gaps, more := t.Gaps()
	unwatched, moreUnwatched := t.Unwatched()
	out := losses.Target{
		Address: t.Address, By: t.by, Sent: c.Sent, Lost: c.Lost, Gaps: times(gaps), GapsLeftOut: more,
		UnwatchedMS: losses.MS(c.Unwatched), Unwatched: times(unwatched), UnwatchedLeftOut: moreUnwatched,
	}
	if t.by == losses.ICMP {
		out.Reordered = &c.Reordered
	}
	for _, g := range out.Gaps {
		out.LongestMS = max(out.LongestMS, g.MS)
	}
	return out
}

func times(all []ping.Gap) []losses.Gap {
	out := []losses.Gap{} // a list in JSON
	for _, g := range all {
		out = append(out, losses.Gap{At: losses.Moment{Time: g.At}, MS: losses.MS(g.Length), Open: g.Open})
	}
	return out
}
