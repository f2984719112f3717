package probe

import (
	"fmt"
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
					if x.Lost != 0 || x.First.Before(s.Began) || x.First.After(s.Began.Add(8*time.Second)) || x.Last.After(s.Ended) || x.Last.Before(s.Ended.Add(-12*time.Second)) {
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

// TestRecordsOfBefore: agents that know no time of the run have counted, and one of
// them was replaced in the middle. Their counts hold, and no time is made up.
func TestRecordsOfBefore(t *testing.T) {
	inWorld(t, 2, []cluster.HostID{"h1", "h2"}, func(t *testing.T, w *world) {
		w.set(func() { w.run = "up1" })
		time.Sleep(40 * time.Second)
		w.crash("h1")
		at := time.Now()
		w.put(recordKey("up1", "h1"), fmt.Sprintf(`{"run":"up1","host":"h1","by":"z","at":%q,"guests":[{"uuid":"u2","addr":%q,"sent":30,"lost":2,"longest":1500,"unwatched":4000,"first":%d,"last":%d}]}`,
			at.Format(time.RFC3339), addr(2), at.Add(-30*time.Second).UnixMilli(), at.UnixMilli()))
		time.Sleep(60 * time.Second) // an old agent writes seldom, or not at all
		_, g := w.sum("up1")
		if x := g["g2"]; x.Sent != 30 || x.Lost != 2 || x.Unwatched != 4*time.Second || !x.First.IsZero() || !x.Last.IsZero() {
			t.Errorf("of the agent of before: %+v", x)
		}
		w.start("h1")
		time.Sleep(30 * time.Second)
		s, g := w.sum("up1")
		x := g["g2"]
		if x.Lost != 2 || x.LongestMS != 1500 || !x.First.IsZero() || x.Last.Before(s.Ended.Add(-12*time.Second)) || x.Last.After(s.Ended) {
			t.Errorf("in the end, of %+v: %+v", s, x)
		}
		within(t, "sent", x.Sent, 30+15, 30+31)
		within(t, "unwatched", x.Unwatched, 4*time.Second, 18*time.Second)
	})
	inWorld(t, 1, nil, func(t *testing.T, w *world) { // no other ones
		w.put(planKey("r"), `{"run":"r","id":"x","began":"2000-01-01T00:00:00Z","guests":1}`)
		w.put(partKeys("r", "x")+"h1", `{"of":"h2","guests":[{"uuid":"u1","name":"a"}]}`)
		w.put(recordKey("r", "h1"), `{"run":"r","host":"h1","by":"z","at":"2000-01-01T00:01:00Z","guests":[{"uuid":"u1","addr":"10.0.0.1","sent":9,"first":946684801000,"last":946684859000}]}`)
		if s, g := w.sum("r"); !s.Ended.IsZero() || g["a"].Sent != 9 || !g["a"].First.IsZero() {
			t.Errorf("%+v", s)
		}
	})
}
