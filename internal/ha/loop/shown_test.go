package loop

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/config"
)

// TestTroubleIsShownByEveryHost: what is wrong on one host, though it is fit, is
// in its record, and in its own status when the store is lost.
func TestTroubleIsShownByEveryHost(t *testing.T) {
	scene(t, func(w *world) {
		h := w.home()
		const trouble = "its store is down"
		h.tell(trouble)
		time.Sleep(fitEvery + 3*time.Second)
		shown := ""
		for _, hs := range w.hosts["h2"].agent.Status().Hosts {
			if hs.Name == h.id && hs.Fit {
				shown = hs.Why
			}
		}
		if shown != trouble {
			t.Errorf("another host shows %q, want %q of a fit host", shown, trouble)
		}
		h.store.Partition(true)
		time.Sleep(5 * time.Second)
		if st := h.agent.Status(); !strings.Contains(st.StoreError, trouble) || st.Type != config.FileConf {
			t.Errorf("store error %q does not tell of it, or the type of the configuration %q", st.StoreError, st.Type)
		}
		h.store.Partition(false)
		h.tell("")
		time.Sleep(fitEvery + 3*time.Second)
		for _, hs := range w.hosts["h2"].agent.Status().Hosts {
			if hs.Why != "" {
				t.Errorf("%s still shows %q", hs.Name, hs.Why)
			}
		}
	})
}

// TestAWatchThatStandsStill: a host whose member of the store hangs, while others answer its calls, sees no renewals.
// It does not call the others silent for that, nor does it become the coordinator, and it says that it knows nothing new.
func TestAWatchThatStandsStill(t *testing.T) {
	scene(t, func(w *world) {
		coord := w.status().Coordinator
		var eye *host
		for _, h := range w.hosts {
			if h.id != coord {
				eye = h
			}
		}
		before, _, err := eye.agent.Events(t.Context(), -1, 100)
		if err != nil {
			t.Fatal(err)
		}
		eye.store.HoldWatches(true)
		for range 300 {
			time.Sleep(100 * time.Millisecond)
			st := eye.agent.Status()
			for _, hs := range st.Hosts {
				if st.Connected && !hs.Alive {
					t.Fatalf("%s is shown silent for %s by a host that is connected: %+v", hs.Name, hs.Silent, st)
				}
			}
		}
		if st := eye.agent.Status(); st.Connected || !strings.Contains(st.StoreError, "it has told nothing new for 3") {
			t.Errorf("connected %t, store error %q", st.Connected, st.StoreError)
		}
		eye.store.HoldWatches(false)
		time.Sleep(5 * time.Second)
		if st := eye.agent.Status(); !st.Connected || st.Coordinator != coord {
			t.Errorf("connected %t (%s), coordinator %s, want %s", st.Connected, st.StoreError, st.Coordinator, coord)
		}
		events, _, err := eye.agent.Events(t.Context(), -1, 100)
		if err != nil || len(events) != len(before) {
			t.Errorf("%v, %+v", err, events[len(before):])
		}
	})
}

// TestTwoAgentsOfOneName: the one that comes second ends with a clear error, and
// the guest does not notice.
func TestTwoAgentsOfOneName(t *testing.T) {
	for _, identity := range []string{"", "another"} {
		t.Run(fmt.Sprintf("identity %q", identity), func(t *testing.T) {
			scene(t, func(w *world) {
				h := w.home()
				copied := &host{w: w, id: h.id, boot: 99, identity: identity, store: w.mem.NewClient("copy"),
					guest: cluster.Guest{State: cluster.GuestAbsent}, wake: make(chan struct{}, 1)}
				defer copied.store.Close()
				copied.begin()
				defer func() { copied.stop() }()
				began := time.Now()
				if !h.agent.Registered(context.Background()) {
					t.Error("the one that has the name is not registered")
				}
				registered := make(chan bool, 1)
				go func() { registered <- copied.agent.Registered(context.Background()) }()
				defer func() {
					if <-registered {
						t.Error("the second one may report and do steps in the name of the first")
					}
				}()
				select {
				case err := <-copied.ended:
					if err == nil || !strings.Contains(err.Error(), ErrConflict.Error()) || !strings.Contains(err.Error(), "lives at h") {
						t.Errorf("it ended with %v", err)
					}
				case <-time.After(time.Minute):
					t.Fatal("it waits in silence")
				}
				if took := time.Since(began); took < 6*time.Second {
					t.Errorf("it gave up after %s, want more than a lease: what was sent by a dead agent may still come in", took)
				}
				if o := h.agent.Status().Owner; w.on() != string(h.id) || o.Epoch.Seq != 1 || o.State != cluster.Running {
					t.Errorf("on %s, owner %+v", w.on(), o)
				}
			})
		})
	}
}

// TestWhatWasReadIsOfAnyAge: an agent that begins, or reads all records anew, does not take a host for alive before it
// renews: it may have died long ago.
func TestWhatWasReadIsOfAnyAge(t *testing.T) {
	for name, looks := range map[string]func(eye *host, lost func()){
		"it begins after the loss": func(eye *host, lost func()) {
			eye.kill()
			lost()
			eye.begin()
		},
		"it had lost the store": func(eye *host, lost func()) {
			eye.store.Partition(true)
			time.Sleep(10 * time.Second)
			lost()
			eye.store.Partition(false)
		},
	} {
		t.Run(name, func(t *testing.T) {
			scene(t, func(w *world) {
				h := w.home()
				var eye *host
				for _, other := range w.hosts {
					if other != h {
						eye = other
					}
				}
				looks(eye, h.crash)
				for range 40 {
					time.Sleep(100 * time.Millisecond)
					st := eye.agent.Status()
					for _, hs := range st.Hosts {
						if hs.Name == h.id && hs.Alive {
							t.Fatalf("%s is shown alive, silent for %s, %s after the start", h.id, hs.Silent, time.Since(w.began))
						}
					}
				}
				time.Sleep(time.Minute)
				st := eye.agent.Status()
				for _, hs := range st.Hosts {
					if hs.Alive != (hs.Name != h.id) {
						t.Errorf("a minute later %s: alive %t", hs.Name, hs.Alive)
					}
				}
				if st.Takeover.Possible || !strings.Contains(st.Takeover.Why, "1 of its 3 members") || st.Owner.Host == h.id {
					t.Errorf("a minute later, with one host lost: %+v, owner %+v", st.Takeover, st.Owner)
				}
				for _, hs := range st.Hosts {
					if hs.Name == h.id && (hs.Guest != cluster.GuestAbsent || hs.Fit || hs.Silent < time.Minute) {
						t.Errorf("of the lost host, proved stopped, it shows guest %s, fit %t, silent for %s", hs.Guest, hs.Fit, hs.Silent)
					}
				}
			})
		})
	}
}

// TestAPlainDiskIsToldWhereTheGuestIs: and by no other host, whose network it does not use.
func TestAPlainDiskIsToldWhereTheGuestIs(t *testing.T) {
	sceneWith(t, func(c *config.Cluster) { c.ImageURL = "nbd://192.0.2.9:10809/m" }, func(w *world) {
		home := w.home()
		for _, h := range w.hosts {
			got := strings.Join(h.agent.PlainDisks(), "; ")
			if strings.Contains(got, "whoever reaches 192.0.2.9:10809") != (h == home) || h != home && got != "" {
				t.Errorf("%s, with the guest: %t: %q", h.id, h == home, got)
			}
		}
	})
}
