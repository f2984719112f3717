package loop

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"holdfast/internal/cluster"
)

// fail lets all starts on a host fail from now on, or none.
func (h *host) fail(why string) {
	h.w.locked(func() {
		if h.failing = nil; why != "" {
			h.failing = fmt.Errorf("%w: %s", cluster.ErrNotStarted, why)
		}
	})
}

// lose ends the guest here, as if by itself.
func (h *host) lose() { h.w.locked(func() { h.set(cluster.Guest{State: cluster.GuestAbsent}) }) }

// shows awaits that another host shows whether this one is fit, with a reason.
func (h *host) shows(fit bool, why string, within time.Duration) {
	h.w.t.Helper()
	var last cluster.HostStatus
	for at := time.Now(); time.Since(at) < within; time.Sleep(100 * time.Millisecond) {
		for id, x := range h.w.hosts {
			for _, hs := range x.agent.Status().Hosts {
				if id != h.id && hs.Name == h.id {
					last = hs
				}
			}
		}
		if last.Fit == fit && strings.Contains(last.Why, why) && (why != "" || last.Why == "") {
			return
		}
	}
	h.w.t.Fatalf("%s is shown as fit %v, %q; want %v, %q", h.id, last.Fit, last.Why, fit, why)
}

// tries is how often starts were called for.
func (w *world) tries() (n int) {
	w.locked(func() { n = w.called })
	return n
}

// TestAHostWhereAStartFailedIsNotFit: another one has the guest after one failure, and the host is not fit
// until something changes, however long that takes.
func TestAHostWhereAStartFailedIsNotFit(t *testing.T) {
	for name, change := range map[string]func(w *world, h *host){
		"somebody asks for the guest": func(w *world, h *host) { w.request("h2", func(want *cluster.Want) { want.Run = true }) },
		"the checks find it": func(w *world, h *host) {
			h.hang(true)
			h.shows(false, "exceeded", time.Minute)
			h.hang(false)
		},
	} {
		t.Run(name, func(t *testing.T) {
			scene(t, func(w *world) {
				h := w.home()
				h.fail("no image")
				before := w.tries()
				h.lose()
				w.await("another", 5*time.Second)
				if n := w.tries() - before; w.on() == string(h.id) || n != 2 {
					t.Errorf("on %s after %d calls, want elsewhere after 2", w.on(), n)
				}
				h.shows(false, "the last start here failed (1 in a row), and nothing has changed since: ", 5*time.Second)
				time.Sleep(2 * time.Minute)
				h.shows(false, "no image", 5*time.Second)
				h.fail("")
				change(w, h)
				h.shows(true, "", time.Minute)
			})
		})
	}
}

// TestStartsThatFailOnAllHosts: they are tried ever more rarely, status says why, and all are fit when the guest
// runs where a start had failed before.
func TestStartsThatFailOnAllHosts(t *testing.T) {
	scene(t, func(w *world) {
		h := w.home()
		for _, x := range w.hosts {
			x.fail("no image")
		}
		h.lose()
		time.Sleep(11 * time.Minute)
		began := w.tries()
		for range 11 * 60 * 4 {
			time.Sleep(250 * time.Millisecond)
			s := w.status()
			if s.Takeover.Possible || slices.ContainsFunc(s.Hosts, func(h cluster.HostStatus) bool { return h.Fit }) {
				t.Fatalf("between tries a start is promised: %+v", s)
			}
		}
		if n := w.tries() - began; n < 3 || n > 3*3 {
			t.Errorf("%d tries in 11 minutes on three hosts, want one each in 5 to 6", n)
		}
		for _, x := range w.hosts {
			x.shows(false, "in a row), and nothing has changed since", 6*time.Minute)
		}
		if why := w.status().Waiting; !strings.Contains(why, "no image") {
			t.Errorf("it waits for %q", why)
		}
		for _, x := range w.hosts {
			x.fail("")
		}
		w.await("another", 6*time.Minute)
		w.settle()
		for _, x := range w.hosts {
			x.shows(true, "", 5*time.Second) // what was wrong was not one host's
		}
	})
}

// TestAStartThatALockRefuses: it says nothing of the host, which is fit afterwards.
func TestAStartThatALockRefuses(t *testing.T) {
	scene(t, func(w *world) {
		h := w.home()
		w.locked(func() {
			h.failing = fmt.Errorf("%w: %w: Failed to get \"write\" lock", cluster.ErrNotStarted, cluster.ErrInUse)
		})
		before := w.tries()
		h.lose()
		w.await("another", 5*time.Second)
		if n := w.tries() - before; w.on() == string(h.id) || n != 2 {
			t.Errorf("on %s after %d calls, want elsewhere after 2", w.on(), n)
		}
		w.settle()
		h.shows(true, "", 5*time.Second)
	})
}

// TestATakeoverWhereStartsHaveFailed: with no other host left, one that rests is tried.
func TestATakeoverWhereStartsHaveFailed(t *testing.T) {
	scene(t, func(w *world) {
		h := w.home()
		h.fail("no image")
		h.lose()
		w.await("another", 5*time.Second)
		h.shows(false, "no image", 5*time.Second)
		home := w.home()
		for _, x := range w.hosts {
			if x != home && x != h {
				w.locked(func() { x.hung = true }) // the third one is not fit either
			}
		}
		time.Sleep(time.Minute)
		h.fail("")
		home.crash()
		w.await(string(h.id), 30*time.Second)
	})
}
