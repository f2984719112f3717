package loop

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/config"
	"holdfast/internal/host/storage"
	"holdfast/internal/lib/clock"
)

// prober probes the shared storage of a host of the world.
func (h *host) prober(config.Cluster) *storage.Prober {
	return storage.New(storage.Options{What: "the storage", Check: h.touch, Interval: ProbeEvery, Timeout: ProbeWithin})
}

// touch answers when the storage does.
func (h *host) touch(ctx context.Context) error {
	for {
		h.w.mu.Lock()
		hung := h.hung
		h.w.mu.Unlock()
		if !hung {
			return nil
		}
		if !clock.Sleep(ctx, 10*time.Millisecond) {
			return ctx.Err()
		}
	}
}

func (h *host) hang(hung bool) { h.w.locked(func() { h.hung = hung }) }

// stays fails when the guest leaves the host, or a host is reset.
func (h *host) stays(how string, during time.Duration) {
	h.w.t.Helper()
	for at := time.Now(); time.Since(at) < during; time.Sleep(100 * time.Millisecond) {
		if on := h.w.on(); on != string(h.id) {
			h.w.t.Fatalf("%s: the guest is on %s after %s: %+v", how, on, time.Since(at), h.w.status())
		}
	}
	h.w.locked(func() {
		for _, x := range h.w.hosts {
			if x.resets != 0 {
				h.w.t.Errorf("%s: %s was reset %d times", how, x.id, x.resets)
			}
		}
	})
}

func TestAStorageThatHangsOnOneHostMovesTheGuest(t *testing.T) {
	scene(t, func(w *world) {
		h := w.home()
		h.stays("before", 20*time.Second)
		h.hang(true)
		gone := w.await("nowhere", 20*time.Second)
		if gone < ProbeWithin || gone > ProbeWithin+ProbeEvery+2*time.Second {
			t.Errorf("killed after %s, want after the probe's %s and at most %s more", gone, ProbeWithin, ProbeEvery)
		}
		w.await("another", 5*time.Second)
		if w.on() == string(h.id) {
			t.Error("it runs where the storage hangs")
		}
		w.settle()
		for _, x := range w.status().Hosts {
			if x.Fit == (x.Name == h.id) {
				t.Errorf("%s: fit %v, %s", x.Name, x.Fit, x.Why)
			}
		}
		w.locked(func() {
			if h.resets != 0 {
				t.Errorf("%d resets, want none: the kill is proved", h.resets)
			}
		})
	})
}

// TestAGuestThatCanNotBeKilledWhereTheStorageHangs: the host surrenders.
func TestAGuestThatCanNotBeKilledWhereTheStorageHangs(t *testing.T) {
	scene(t, func(w *world) {
		h := w.home()
		h.stays("before", 20*time.Second)
		w.locked(func() { h.stuck, h.hung = true, true })
		w.await("nowhere", time.Minute)
		w.await("another", 20*time.Second)
		w.locked(func() {
			if h.resets != 1 {
				t.Errorf("%d resets, want one", h.resets)
			}
		})
	})
}

// TestAStorageThatHangsOnAllHostsCostsNothing: there is no better host, also
// when some of them notice the end of the outage before the guest's.
func TestAStorageThatHangsOnAllHostsCostsNothing(t *testing.T) {
	scene(t, func(w *world) {
		h := w.home()
		h.stays("before", 20*time.Second)
		for _, x := range w.hosts {
			x.hang(true)
		}
		h.stays("all hang", time.Minute)
		for _, x := range w.hosts {
			if x != h {
				x.hang(false)
			}
		}
		h.stays("others are well", 9*time.Second)
		h.hang(false)
		h.stays("all are well", time.Minute)
		if o := w.status().Owner; o.Epoch.Seq != 1 || o.State != cluster.Running {
			t.Errorf("owner %+v", o)
		}
	})
}

// TestAnOutageOfAllThatEndsElsewhereOnly: the guest moves in the end.
func TestAnOutageOfAllThatEndsElsewhereOnly(t *testing.T) {
	scene(t, func(w *world) {
		h := w.home()
		for _, x := range w.hosts {
			x.hang(true)
		}
		h.stays("all hang", time.Minute)
		for _, x := range w.hosts {
			x.hang(x == h)
		}
		if gone := w.await("nowhere", time.Minute); gone < ProbeWithin+ProbeEvery {
			t.Errorf("killed %s after the others were well again, want at least %s", gone, ProbeWithin+ProbeEvery)
		}
		w.await("another", 5*time.Second)
	})
}

// TestAVerdictCountsForItsRunOnly: the guest is killed for its health and starts
// again before the check has been asked about the new run.
func TestAVerdictCountsForItsRunOnly(t *testing.T) {
	h := &host{id: "h1", w: &world{t: t, began: time.Now()}}
	a := New(Parts{Host: h.id, Driver: h, Clock: h.w.now, Log: slog.New(slog.DiscardHandler)})
	l := &a.s.core.Guest
	a.s.core.Self, a.s.core.Owner.State, a.s.core.Owner.Host = h.id, cluster.Running, h.id
	look := func(g cluster.Guest) string {
		h.w.locked(func() { h.guest = g })
		a.lookOnce(t.Context())()
		return l.Unhealthy
	}
	first := cluster.Guest{State: cluster.GuestRunning, PID: 10, Started: 100}
	if why := look(first); why != "" {
		t.Errorf("before a verdict: %q", why)
	}
	a.s.ill = verdict{a.runningHere(), "it hangs"}
	if why := look(first); why != "it hangs" {
		t.Errorf("with the verdict: %q", why)
	}
	l.UnhealthyAt = h.w.now()
	next := first
	next.PID, next.Started = 11, 101
	if why := look(next); why != "" || l.UnhealthyAt != 0 {
		t.Errorf("the next run: %q, doomed %v", why, l.UnhealthyAt)
	}
}

// TestAGuestThatWasLockedOutIsEnded: other I/O errors are waited out.
func TestAGuestThatWasLockedOutIsEnded(t *testing.T) {
	h := &host{id: "h1", w: &world{t: t, began: time.Now()}}
	a := New(Parts{Host: h.id, Driver: h, Clock: h.w.now, Log: slog.New(slog.DiscardHandler)})
	for _, out := range []bool{false, true, false} {
		h.w.locked(func() {
			h.guest = cluster.Guest{State: cluster.GuestPaused, IOError: true, LockedOut: out, PID: 10, Started: 100}
		})
		a.lookOnce(t.Context())()
		if sick := a.s.core.Guest.Unhealthy; (sick != "") != out {
			t.Errorf("locked out %v: %q", out, sick)
		}
	}
}
