package loop

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/config"
	"holdfast/internal/host/watchdog"
	"holdfast/internal/lib/clock"
	"holdfast/internal/store/storetest"
)

// world is three hosts whose agents, stores and guests live in one synctest
// bubble. It fails the test at the moment when the guest runs twice.
type world struct {
	t      *testing.T
	mem    *storetest.Mem
	began  time.Time
	refuse error        // what fence devices answer; guarded by mu
	orders []string     // that they were given, guarded by mu
	looks  atomic.Int64 // at the clock
	hosts  map[cluster.HostID]*host

	configure func(*config.Cluster) // changes the configuration before the agents read it; nil: as it is

	mu      sync.Mutex // guards the guests' fields of all hosts
	running int
	starts  int
	called  int    // how often a start was called for
	cards   string // what the guest was told of its cards
}

// host is one host of the world: its truth, and its agent.
type host struct {
	w     *world
	id    cluster.HostID
	boot  int
	store *storetest.Client
	agent *Agent
	stop  context.CancelFunc
	ended chan error

	guest     cluster.Guest     // guarded by w.mu
	spec      cluster.GuestSpec // of its last start; guarded by w.mu
	version   string
	passwords []string // that its guest was given; guarded by w.mu
	mute      error    // what the agent in its guest answers; guarded by w.mu
	calls     int      // how often that was called; guarded by w.mu
	failing   error    // what a start answers
	identity  string   // "" for the host's own
	trouble   string   // that it has beside the guest; guarded by w.mu
	stuck     bool     // nothing can be killed here
	blind     bool     // it can not be observed; guarded by w.mu
	liar      bool     // a kill says that it is done, and does nothing; guarded by w.mu
	wake      chan struct{}
	armed     bool
	off       bool // it has no power
	limit     cluster.Instant
	resets    int
	said      spoken          // its agent's log
	heard     cluster.Instant // when its heart last beat
	noDog     bool            // its watchdog does not work
	seen      uint64          // the store's generation that it has seen
	deaf      bool            // its heartbeats are lost
	hung      bool            // the shared storage does not answer here; guarded by w.mu
	watching  context.CancelFunc
}

// spoken counts the lines of a log, and keeps the last one.
type spoken struct {
	mu    sync.Mutex
	lines int
	last  string
}

func (s *spoken) Write(line []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lines++
	s.last = string(line)
	return len(line), nil
}

func (s *spoken) count() (lines int, last string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.lines, s.last
}

func newWorld(t *testing.T, configure func(*config.Cluster)) *world {
	w := &world{configure: configure, t: t, mem: storetest.NewMem(), began: time.Now(), hosts: map[cluster.HostID]*host{}}
	for _, id := range []cluster.HostID{"h1", "h2", "h3"} {
		w.hosts[id] = &host{w: w, id: id, store: w.mem.NewClient(string(id)),
			guest: cluster.Guest{State: cluster.GuestAbsent}, wake: make(chan struct{}, 1)}
	}
	for _, h := range w.hosts {
		ctx, cancel := context.WithCancel(context.Background())
		h.watching = cancel
		go h.device(ctx)
		h.power()
	}
	return w
}

// end stops everything, so that the bubble can end.
func (w *world) end() {
	for _, h := range w.hosts {
		if h.stop != nil {
			h.kill()
		}
		h.watching()
		if err := h.store.Close(); err != nil {
			w.t.Error(err)
		}
	}
}

// now never gives the same instant twice, as no real clock does in practice.
func (w *world) now() cluster.Instant {
	return cluster.Instant(time.Since(w.began)) + cluster.Instant(w.looks.Add(1))
}

// power boots the host and starts its agent.
func (h *host) power() {
	h.w.mu.Lock()
	h.off = false
	h.w.mu.Unlock()
	h.boot++
	h.begin()
}

// begin starts the agent.
func (h *host) begin() {
	ctx, cancel := context.WithCancel(context.Background())
	cfg := config.Cluster{
		Node: []string{"10.0.0.1 h1", "10.0.0.2 h2", "10.0.0.3 h3"}, MemorySizeInGB: 8, CPU: 4, Type: config.FileConf, ImageFolder: "/images",
	}
	if h.w.configure != nil {
		h.w.configure(&cfg)
	}
	h.agent = New(Parts{
		Fencer: (*bench)(h), Heartbeats: (*beats)(h), Rhythm: &Rhythm{}, Machine: "machine-" + string(h.id),
		Host: h.id, Addr: string(h.id), Cluster: "test", Identity: cmp.Or(h.identity, "id-"+string(h.id)),
		Boot: fmt.Sprint(h.boot), Store: capped{h.store},
		Driver: h, Watchdog: (*dog)(h), Seen: h.seen, Clock: h.w.now, Config: cfg,
		Log: slog.New(slog.NewTextHandler(&h.said, nil)), Trouble: h.told,
		Probe: h.prober, Version: h.version,
	})
	h.stop, h.ended = cancel, make(chan error, 1)
	go func() {
		_ = Plant(ctx, h.store, cfg, true)
	}()
	go func() { h.ended <- h.agent.Run(ctx) }()
}

func (h *host) told() string {
	h.w.mu.Lock()
	defer h.w.mu.Unlock()
	return h.trouble
}

func (h *host) tell(trouble string) {
	h.w.mu.Lock()
	defer h.w.mu.Unlock()
	h.trouble = trouble
}

// kill ends the agent alone.
func (h *host) kill() {
	h.stop()
	if err := <-h.ended; err != nil {
		h.w.t.Errorf("%s: %v", h.id, err)
	}
	h.stop = nil
}

// crash is a power loss: guest, agent and watchdog are gone.
func (h *host) crash() {
	h.w.mu.Lock()
	h.set(cluster.Guest{State: cluster.GuestAbsent})
	h.armed, h.off = false, true
	h.w.mu.Unlock()
	if h.stop != nil {
		h.kill()
	}
}

// set changes the truth. The caller holds w.mu.
func (h *host) set(g cluster.Guest) {
	if h.guest.State == cluster.GuestRunning {
		h.w.running--
	}
	if g.State == cluster.GuestRunning {
		h.w.running++
	}
	h.guest = g
	if h.w.running > 1 {
		h.w.t.Errorf("%s: the guest runs %d times", time.Since(h.w.began), h.w.running)
	}
	select {
	case h.wake <- struct{}{}:
	default:
	}
}

// device is the watchdog: armed, it resets the host 4 s after its last pet,
// which was at the limit.
func (h *host) device(ctx context.Context) {
	for {
		if !clock.Sleep(ctx, 10*time.Millisecond) {
			return
		}
		h.w.mu.Lock()
		fire := h.armed && h.w.now() > h.limit.Add(4*time.Second)
		if fire {
			h.set(cluster.Guest{State: cluster.GuestAbsent})
			h.armed = false
			h.resets++
		}
		h.w.mu.Unlock()
		if fire && h.stop != nil {
			h.kill()
		}
	}
}

// dog is the watchdog's holder on a host.
type dog host

func (d *dog) Arm(_ context.Context, until cluster.Instant) (watchdog.Status, error) {
	d.w.mu.Lock()
	defer d.w.mu.Unlock()
	d.armed, d.limit = !d.off, max(d.limit, until) // an agent that is about to end arms nothing any more
	return d.status(), nil
}

func (d *dog) Disarm(context.Context) error {
	d.w.mu.Lock()
	defer d.w.mu.Unlock()
	d.armed, d.limit = false, 0
	return nil
}

func (d *dog) Status(context.Context) (watchdog.Status, error) {
	d.w.mu.Lock()
	defer d.w.mu.Unlock()
	return d.status(), nil
}

func (d *dog) status() watchdog.Status {
	if d.noDog {
		return watchdog.Status{Error: "no device"}
	}
	return watchdog.Status{Armed: d.armed, Limit: d.limit, Timeout: 4 * time.Second, Identity: "test"}
}

// The host is its own driver.

func (h *host) Observe(context.Context) (cluster.Guest, error) {
	h.w.mu.Lock()
	defer h.w.mu.Unlock()
	if h.blind {
		return cluster.Guest{}, errors.New("the process table can not be read")
	}
	return h.guest, nil
}
func (h *host) Wake() <-chan struct{}                { return h.wake }
func (h *host) Shutdown(ctx context.Context) error   { time.Sleep(time.Second); return h.Kill(ctx) }
func (h *host) AbortMigration(context.Context) error { return nil }
func (h *host) Close() error                         { return nil }

// Check looks at the image, which lies on the shared storage.
func (h *host) Check(ctx context.Context, s cluster.GuestSpec) error {
	if s.MemoryMiB > 512<<10 {
		return fmt.Errorf("%s has less memory", h.id)
	}
	return h.touch(ctx)
}

func (h *host) Start(_ context.Context, s cluster.GuestSpec) error {
	time.Sleep(300 * time.Millisecond)
	h.w.mu.Lock()
	defer h.w.mu.Unlock()
	h.spec = s
	h.w.called++
	if h.failing != nil {
		return h.failing
	}
	if !h.armed {
		h.w.t.Errorf("%s: started on %s with its watchdog not armed", time.Since(h.w.began), h.id)
	}
	h.w.starts++
	h.set(cluster.Guest{State: cluster.GuestRunning, Epoch: s.Epoch, PID: 1000 + h.w.starts})
	return nil
}

func (h *host) Kill(ctx context.Context) error {
	time.Sleep(10 * time.Millisecond)
	h.w.mu.Lock()
	defer h.w.mu.Unlock()
	if h.stuck || h.blind {
		return cluster.ErrNotProved
	}
	if h.liar {
		return nil
	}
	h.set(cluster.Guest{State: cluster.GuestAbsent})
	return nil
}

func (h *host) Migrate(ctx context.Context, addr string, _ bool) error {
	to := h.w.hosts[cluster.HostID(addr)]
	h.w.mu.Lock()
	g := h.guest
	to.set(cluster.Guest{State: cluster.GuestIncoming, Epoch: g.Epoch})
	h.w.mu.Unlock()
	time.Sleep(700 * time.Millisecond)
	h.w.mu.Lock()
	defer h.w.mu.Unlock()
	if h.failing != nil {
		to.set(cluster.Guest{State: cluster.GuestAbsent})
		return h.failing
	}
	h.set(cluster.Guest{State: cluster.GuestAbsent, Moved: true})
	g.State = cluster.GuestArrived
	to.set(g)
	return nil
}

func (h *host) Resume(context.Context) error {
	time.Sleep(5 * time.Millisecond)
	h.w.mu.Lock()
	defer h.w.mu.Unlock()
	if h.guest.State == cluster.GuestArrived {
		g := h.guest
		g.State = cluster.GuestRunning
		h.set(g)
	}
	return nil
}

// on names the host on which the guest runs.
func (w *world) on() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	for id, h := range w.hosts {
		if h.guest.State == cluster.GuestRunning {
			return string(id)
		}
	}
	return "nowhere"
}

// await waits until the guest runs where it is wanted, and returns how long that
// took.
func (w *world) await(want string, within time.Duration) time.Duration {
	w.t.Helper()
	at := time.Now()
	for time.Since(at) < within {
		if on := w.on(); on == want || want == "another" && on != "nowhere" {
			return time.Since(at)
		}
		time.Sleep(10 * time.Millisecond)
	}
	w.t.Fatalf("the guest is on %s, not on %s, %s after it was asked for; %+v", w.on(), want, within, w.status())
	return 0
}

// status is what any living agent knows.
func (w *world) status() cluster.Status {
	for _, h := range w.hosts {
		if h.stop != nil {
			return h.agent.Status()
		}
	}
	return cluster.Status{}
}

// settle lets the records follow the truth.
func (w *world) settle() { time.Sleep(3 * time.Second) }

func (w *world) request(from cluster.HostID, change func(*cluster.Want)) {
	w.t.Helper()
	err := w.hosts[from].agent.Request(w.t.Context(), "tester", "",
		func(want *cluster.Want, _ cluster.Status) error { change(want); return nil })
	if err != nil {
		w.t.Fatal(err)
	}
}

// scene runs f in a bubble, with the guest already up on h1.
func scene(t *testing.T, f func(w *world)) { sceneWith(t, nil, f) }

// sceneWith is scene with another configuration.
func sceneWith(t *testing.T, configure func(*config.Cluster), f func(w *world)) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, configure)
		defer w.end()
		w.await("another", 10*time.Second)
		w.settle()
		f(w)
	})
}

// home is the host that runs the guest at the beginning.
func (w *world) home() *host { return w.hosts[cluster.HostID(w.on())] }
