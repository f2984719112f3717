package agent

import (
	"context"
	"log/slog"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/config"
	"holdfast/internal/host/storage"
)

// prober probes the shared storage of a host of the world.
func (h *host) prober(config.Cluster) *storage.Prober {
	return storage.New(storage.Options{What: "the storage", Check: h.touch, Interval: probeEvery, Timeout: probeWithin})
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
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(10 * time.Millisecond):
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
		if gone < probeWithin || gone > probeWithin+probeEvery+2*time.Second {
			t.Errorf("killed after %s, want after the probe's %s and at most %s more", gone, probeWithin, probeEvery)
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
		if gone := w.await("nowhere", time.Minute); gone < probeWithin+probeEvery {
			t.Errorf("killed %s after the others were well again, want at least %s", gone, probeWithin+probeEvery)
		}
		w.await("another", 5*time.Second)
	})
}

func TestWhichStorageIsProbed(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	url := "nbd://" + l.Addr().String() + "/mnvm"
	if err := l.Close(); err != nil { // nobody listens there now
		t.Fatal(err)
	}
	dir := t.TempDir()
	nd := node{Options: Options{Exe: filepath.Join(dir, "none")}}
	for _, c := range []struct {
		name string
		cfg  config.Cluster
		want string // in the reason; "" for no probe
	}{
		{"directory", config.Cluster{Type: config.FileConf, ImageFolder: dir}, "does not start"},
		{"NBD", config.Cluster{Type: config.FileConf, ImageFolder: dir, ImageURL: url}, "can not be reached"},
		{"NBD with other times", config.Cluster{Type: config.FileConf, ImageURL: url, SharedStorageProbe: &config.SharedStorageProbe{Timeout: config.Duration(time.Minute)}}, "can not be reached"},
		{"directory, off", config.Cluster{Type: config.FileConf, ImageFolder: dir, SharedStorageProbe: &config.SharedStorageProbe{Off: true}}, ""},
		{"NBD, off", config.Cluster{Type: config.FileConf, ImageURL: url, SharedStorageProbe: &config.SharedStorageProbe{Off: true}}, ""},
		{"pool", config.Cluster{Type: config.CephConf, PoolName: "p"}, ""},
	} {
		p := nd.storageProber(c.cfg)
		if p == nil || c.want == "" {
			if p != nil || c.want != "" {
				t.Errorf("%s: probe %v, want one: %v", c.name, p, c.want != "")
			}
			continue
		}
		want := 15 * time.Second
		if c.cfg.SharedStorageProbe != nil {
			want = 65 * time.Second
		}
		if got := p.Recovers(); got != want {
			t.Errorf("%s: recovers within %s, want %s", c.name, got, want)
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() { defer close(ended); p.Run(ctx) }()
		for end := time.Now().Add(20 * time.Second); p.State().Why == "" && time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		}
		cancel()
		<-ended
		if s := p.State(); s.Hangs || !strings.Contains(s.Why, c.want) {
			t.Errorf("%s: %+v, want %q", c.name, s, c.want)
		}
	}
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
		return l.Sick
	}
	first := cluster.Guest{State: cluster.GuestRunning, PID: 10, Started: 100}
	if why := look(first); why != "" {
		t.Errorf("before a verdict: %q", why)
	}
	a.s.ill = verdict{a.runningHere(), "it hangs"}
	if why := look(first); why != "it hangs" {
		t.Errorf("with the verdict: %q", why)
	}
	l.Doomed = h.w.now()
	next := first
	next.PID, next.Started = 11, 101
	if why := look(next); why != "" || l.Doomed != 0 {
		t.Errorf("the next run: %q, doomed %v", why, l.Doomed)
	}
}
