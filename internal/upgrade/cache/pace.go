package cache

import (
	"fmt"
	"sync"
	"time"
)

// A source is slow when it gives less than slowRate for slowFor. A bundle of 5 GiB
// takes an hour and a half then. A source on a network of 1 Gbit/s that a hundred
// hosts ask at once still gives each of them more, so one that is only busy is kept.
const (
	slowRate = 1 << 20 // bytes a second
	slowFor  = 10 * time.Second
)

// slowError says that a source was given up for another one.
type slowError struct {
	rate int64 // bytes a second
	over time.Duration
}

func (e *slowError) Error() string {
	return fmt.Sprintf("it sends %d KiB/s for %s, and another host has the bundle, too", e.rate>>10, e.over)
}

// pace watches how fast a source is, and gives it up when it is slow and another one
// may be better. Only the time counts in which this host waits for the source, and not
// that in which it writes.
type pace struct {
	d      *Cache
	better func(rate int64) bool // whether another source may be; it is called with mu held
	giveUp func(error)

	mu    sync.Mutex // guards what follows
	timer *time.Timer
	ended bool
	since time.Time     // of a window
	n     int64         // bytes that came in it
	own   time.Duration // of it, this host wrote
	busy  time.Time     // since when it writes; zero: it waits
}

// watch begins to watch; without better it does not.
func (d *Cache) watch(better func(rate int64) bool, giveUp func(error)) *pace {
	w := &pace{d: d, better: better, giveUp: giveUp, since: time.Now()}
	if better == nil {
		return w
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.timer = time.AfterFunc(d.slowFor, w.look)
	return w
}

// end ends watching: neither better nor giveUp are called any more.
func (w *pace) end() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ended = true
	if w.timer != nil {
		w.timer.Stop()
	}
}

// write writes what came.
func (w *pace) write(n int, do func()) {
	w.mu.Lock()
	w.n += int64(n)
	w.busy = time.Now()
	w.mu.Unlock()
	do()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.own += time.Since(w.busy)
	w.busy = time.Time{}
}

// look judges the source when this host has waited for it for long enough.
func (w *pace) look() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.ended {
		return
	}
	now := time.Now()
	waited := now.Sub(w.since) - w.own
	if !w.busy.IsZero() {
		waited -= now.Sub(w.busy)
	}
	if left := w.d.slowFor - waited; left > 0 {
		w.timer.Reset(left)
		return
	}
	if rate := int64(float64(w.n) / waited.Seconds()); rate < w.d.slowRate && w.better(rate) {
		w.giveUp(&slowError{rate, waited.Round(time.Second)})
		return
	}
	w.since, w.n, w.own = now, 0, 0
	if !w.busy.IsZero() {
		w.busy = now
	}
	w.timer.Reset(w.d.slowFor)
}
