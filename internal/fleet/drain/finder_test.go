package drain

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"holdfast/internal/host/libvirt/guests"
	"holdfast/internal/store"
)

// TestOneMoveAtATime: a guest whose last move is not decided does not move: two words
// about one guest could let it go on twice.
func TestOneMoveAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t)
		p.cutOff(p.both(guests.VMRunning, here))
		p.stop("h2") // nothing that is left there is ended
		p.ends, p.at, p.err = func() { t.Error("it moves") }, guests.Here, errSome
		if err := p.send(); err == nil || !strings.Contains(err.Error(), "its earlier move from h1 to h2 is not over: stays") {
			t.Errorf("got %v", err)
		}
		p.start("h2")
		p.ends, p.at, p.err = func() { p.leaves(); p.states["h2"] = guests.VMRunning }, guests.Left, nil
		if err := p.send(); err != nil {
			t.Error(err)
		}
		time.Sleep(5 * time.Second)
		p.want("sent", "", "running", "-", "h2 discard")
	})
}

// TestReceiverHoldsWhatIsElsewhere: somebody has moved the guest by hand meanwhile.
func TestReceiverHoldsWhatIsElsewhere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t)
		p.set(func() { p.states["h3"] = guests.VMRunning; p.client["h3"] = p.mem.NewClient("h3") })
		time.Sleep(10 * time.Second)
		p.cutOff(p.leaves)
		time.Sleep(time.Minute)
		p.want("it runs on h3", "", "paused", "gone", "")
		p.set(func() { delete(p.states, "h3") })
		time.Sleep(15 * time.Second)
		p.want("it does not", "", "running", "-", "h2 resume")
	})
}

// TestWordStaysUntilTheSourceIsClean: the source's libvirtd died before it forgot a guest that runs on
// the other host. It would start it again with the host.
func TestWordStaysUntilTheSourceIsClean(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t)
		p.set(func() { p.fails["h1 where"] = errSome })
		p.cutOff(func() {
			p.states["h1"], p.states["h2"], p.where = guests.VMOff, guests.VMRunning, guests.Where{Place: guests.Off, Moved: true}
		})
		time.Sleep(time.Hour)
		p.want("libvirtd is down", "off", "running", "", "")
		p.set(func() { delete(p.fails, "h1 where") })
		time.Sleep(15 * time.Second)
		p.want("it is back", "", "running", "-", "h1 discard")
	})
}

// TestAutostartMovesWithTheGuest: while nobody knows where it is it starts with neither host.
func TestAutostartMovesWithTheGuest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t)
		starts := func(when string, h1, h2 bool) {
			t.Helper()
			p.mu.Lock()
			defer p.mu.Unlock()
			if p.auto["h1"] != h1 || p.auto["h2"] != h2 {
				t.Errorf("%s: %v", when, p.auto)
			}
		}
		p.set(func() { p.auto["h1"] = true })
		p.ends, p.at, p.err = func() {
			if p.auto["h1"] {
				t.Error("it starts with a host that it leaves")
			}
		}, guests.Here, errSome
		if err := p.send(); !errors.Is(err, errSome) {
			t.Error(err)
		}
		starts("refused", true, false)

		// An agent that dies leaves it to the next one; and who sends it anew meanwhile knows.
		p.ends, p.at, p.err = func() {}, guests.Unclear, errSome
		if err := p.send(); !errors.Is(err, errSome) {
			t.Error(err)
		}
		starts("not decided", false, false)
		p.ends, p.at, p.err = func() { p.leaves(); p.states["h2"] = guests.VMRunning }, guests.Left, nil
		if err := p.send(); err != nil { // listed without autostart
			t.Error(err)
		}
		time.Sleep(5 * time.Second)
		p.want("sent", "", "running", "-", "")
		starts("sent", false, true)

		p = newPair(t)
		p.set(func() { p.auto["h1"], p.fails["h1 autostart"] = true, errSome })
		p.ends = func() { t.Error("it moves, and starts with both hosts") }
		if err := p.send(); !errors.Is(err, errSome) {
			t.Error(err)
		}
	})
}

// TestEndedInAMove: nobody has let the guest go on, and nobody can.
func TestEndedInAMove(t *testing.T) {
	for name, run := range map[string]func(*pair){
		"and is on neither host": func(p *pair) {
			p.ends, p.at, p.err = func() { delete(p.states, "h1"); p.where = guests.Where{Place: guests.Absent} }, guests.Absent, errSome
			p.set(func() { p.silent["h2"] = true })
			if err := p.send(); !errors.Is(err, errEnded) {
				p.t.Error(err)
			}
			time.Sleep(time.Minute)
			p.want("h2 is silent", "", "", "", "")
			p.set(func() { delete(p.silent, "h2") })
			time.Sleep(20 * time.Second)
			p.want("h2 tells that it is not there", "", "", "-", "")
		},
		"and people let it go on there": func(p *pair) {
			p.ends, p.at, p.err = p.both("", guests.Where{Place: guests.Absent}), guests.Absent, errSome
			if err := p.send(); !errors.Is(err, errEnded) {
				p.t.Error(err)
			}
			time.Sleep(time.Hour)
			p.want("nobody does", "", "paused", "", "")
			p.set(func() { p.states["h2"] = guests.VMRunning })
			time.Sleep(20 * time.Second)
			p.want("let go on by hand", "", "running", "-", "")
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { run(newPair(t)) })
		})
	}
}

// TestSilentHostDecidesNothing: what a host that is silent reported last says nothing of now.
func TestSilentHostDecidesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t)
		p.cutOff(func() { p.states["h1"], p.where = guests.VMPaused, halted })
		time.Sleep(3 * time.Second) // one report is heard, the next is late
		p.set(func() { p.silent["h2"] = true })
		p.stop("h1")
		time.Sleep(time.Minute)
		p.set(func() { // one whose time was read anew, and an old one
			r := p.report["h2"]
			r.Mod += 1000
			p.report["h2"] = r
		})
		p.start("h1")
		time.Sleep(3 * time.Second)
		p.set(func() { r := p.report["h2"]; r.Mod += 1000; p.report["h2"] = r })
		time.Sleep(time.Minute)
		p.want("nobody knows", "paused", "", "halted", "")
	})
}

// TestWordsOfOthersAreNotWrittenOver: what another host has said of the guest stands until it is done.
func TestWordsOfOthersAreNotWrittenOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t)
		p.stop("h2")
		c := carry{UUID: "uuid-a", Name: "a", From: "h3", Live: true, ID: "theirs", Says: saysGone}
		if err := c.put(t.Context(), p.client["h1"], "h2"); err != nil {
			t.Fatal(err)
		}
		p.ends, p.at, p.err = func() { t.Error("it moves") }, guests.Here, errSome
		if err := p.send(); err == nil || !strings.Contains(err.Error(), "its earlier move from h3 to h2 is not over") {
			t.Errorf("got %v", err)
		}
		p.want("refused", "running", "", "gone", "")
		// One's own of another kind, that was left behind, goes.
		for _, own := range []carry{{UUID: "uuid-a", From: "h1", Autostart: true}} {
			if err := own.put(t.Context(), p.client["h1"], "h2"); err != nil {
				t.Fatal(err)
			}
		}
		p.ends, p.at, p.err = func() { p.leaves(); p.states["h2"] = guests.VMRunning }, guests.Left, nil
		if err := p.send(); err != nil {
			t.Error(err)
		}
	})
}

// TestTwoMovesOfOneGuest: the second waits for the end of the first, and does not go on.
func TestTwoMovesOfOneGuest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t)
		moves := 0
		p.ends, p.at = func() { moves++; p.leaves(); p.states["h2"] = guests.VMRunning }, guests.Left
		var wg sync.WaitGroup
		wg.Go(func() {
			time.Sleep(time.Second)
			if err := p.send(); err == nil || !strings.Contains(err.Error(), "moving it already") {
				t.Errorf("the second: %v", err)
			}
		})
		if err := p.send(); err != nil {
			t.Error(err)
		}
		wg.Wait()
		if moves != 1 {
			t.Errorf("%d moves", moves)
		}
	})
}

// TestTargetOfTheVersionBefore takes the word away and resumes nothing.
func TestTargetOfTheVersionBefore(t *testing.T) {
	for h2, want := range map[guests.VMState]string{guests.VMPaused: "on h2: virsh resume uuid-a", guests.VMRunning: ""} {
		synctest.Test(t, func(t *testing.T) {
			p := newPair(t)
			p.stop("h2")
			p.set(func() { p.old = true })
			p.ends, p.at, p.err = func() {
				p.leaves()
				p.states["h2"] = h2 // the answer may be lost, too
				_, _, err := p.client["h2"].Txn(context.Background(), nil, []store.Op{{Key: "fleet-carry/h2/uuid-a"}})
				if err != nil {
					t.Error(err)
				}
			}, guests.Left, guests.ErrStill
			err := p.send()
			if !p.opt.Direct {
				t.Error("it would move without a way to let it go on")
			}
			if want == "" && err != nil || want != "" && (!errors.Is(err, errNotUp) || !strings.Contains(fmt.Sprint(err), want)) {
				t.Errorf("%s: %v", h2, err)
			}
		})
	}
}

// TestGuestWhoseOldHostIsLost does not move on before its old host has decided, or is forgotten.
func TestGuestWhoseOldHostIsLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t)
		c := carry{UUID: "uuid-a", Name: "a", From: "h3", Live: true, ID: "theirs"}
		if err := c.put(t.Context(), p.client["h1"], "h1"); err != nil {
			t.Fatal(err)
		}
		p.ends, p.at = func() { p.leaves(); p.states["h2"] = guests.VMRunning }, guests.Left
		if err := p.send(); err == nil || !strings.Contains(err.Error(), "from h3 to h1 is not over: not decided") ||
			!strings.Contains(err.Error(), "holdfast host forget h3 --force") {
			t.Errorf("got %v", err)
		}
		if err := c.takeBack(t.Context(), p.client["h1"], "h1"); err != nil {
			t.Fatal(err)
		}
		if err := p.send(); err != nil {
			t.Error(err)
		}
	})
}
