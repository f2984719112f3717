package probe

import (
	"testing"
	"time"

	"holdfast/internal/cluster"
)

// TestWrongClocks: wall clocks that are off by hours, or jump by hours while an agent
// runs or is away, change no figure.
func TestWrongClocks(t *testing.T) {
	const far = 6 * time.Hour
	for name, c := range map[string]struct {
		before, away map[cluster.HostID]time.Duration
	}{
		"right":                 {},
		"one is fast":           {before: map[cluster.HostID]time.Duration{"h2": far}},
		"one is slow":           {before: map[cluster.HostID]time.Duration{"h2": -far}},
		"fast and slow":         {before: map[cluster.HostID]time.Duration{"h2": far, "h3": -far}},
		"that of who leads":     {before: map[cluster.HostID]time.Duration{"h1": -far, "h4": far}},
		"one jumps on":          {away: map[cluster.HostID]time.Duration{"h2": far}},
		"one jumps back":        {away: map[cluster.HostID]time.Duration{"h2": -far}},
		"others jump":           {away: map[cluster.HostID]time.Duration{"h1": far, "h3": -far}},
		"one jumps by a little": {away: map[cluster.HostID]time.Duration{"h2": 15 * time.Second}},
		"a fast one is set":     {before: map[cluster.HostID]time.Duration{"h2": far}, away: map[cluster.HostID]time.Duration{"h2": 0}},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, 4, []cluster.HostID{"h1", "h2", "h3", "h4"}, func(t *testing.T, w *world) {
				set := func(wrong map[cluster.HostID]time.Duration) {
					w.set(func() {
						for h, by := range wrong {
							w.wrong[h] = by
						}
					})
				}
				set(c.before)
				w.set(func() { w.run = "up1" })
				time.Sleep(60 * time.Second)
				w.crash("h2") // it pings g3
				set(c.away)
				time.Sleep(40 * time.Second)
				w.start("h2")
				time.Sleep(60 * time.Second)
				s, g := w.sum("up1")
				within(t, "the run", s.Ended.Sub(s.Began), 148*time.Second, 161*time.Second)
				for name, x := range g {
					least, most := time.Duration(0), 8*time.Second
					if name == "g3" { // the last save is up to 10 s older than the crash
						least, most = 38*time.Second, 55*time.Second
					}
					within(t, name+" unwatched", x.Unwatched, least, most)
					within(t, name+" in all", time.Duration(x.Sent)*time.Second+x.Unwatched, 145*time.Second, 163*time.Second)
					if x.Lost != 0 || x.First.Before(s.Began) || x.First.After(s.Began.Add(8*time.Second)) ||
						x.Last.After(s.Ended) || x.Last.Before(s.Ended.Add(-12*time.Second)) {
						t.Errorf("%s: %+v, of the run from %v to %v", name, x, s.Began, s.Ended)
					}
				}
				w.crash("h2") // for good
				time.Sleep(5 * time.Minute)
				_, g = w.sum("up1")
				within(t, "unwatched in the end", g["g3"].Unwatched, 325*time.Second, 375*time.Second)
				within(t, "unwatched by who stays", g["g2"].Unwatched, 0, 8*time.Second)
			})
		})
	}
}

// TestClockWithoutTheHostThatBegan: it does not matter who coordinates, nor who was
// there when the run began.
func TestClockWithoutTheHostThatBegan(t *testing.T) {
	inWorld(t, 3, []cluster.HostID{"h1", "h2", "h3"}, func(t *testing.T, w *world) {
		w.set(func() { w.run = "up1" })
		time.Sleep(60 * time.Second)
		for _, h := range []cluster.HostID{"h1", "h2", "h3"} { // one after the other, as in an upgrade of Holdfast itself
			w.crash(h)
			w.set(func() { w.wrong[h] += 6 * time.Hour })
			time.Sleep(30 * time.Second)
			w.start(h)
			time.Sleep(30 * time.Second)
		}
		s, g := w.sum("up1")
		within(t, "the run", s.Ended.Sub(s.Began), 215*time.Second, 241*time.Second)
		for name, x := range g {
			within(t, name+" unwatched", x.Unwatched, 25*time.Second, 60*time.Second)
		}
	})
}
