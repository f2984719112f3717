package probe

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/host/ping"
	"holdfast/internal/store"
	"holdfast/internal/store/storetest"
)

// world is a cluster in virtual time: hosts with a Service each, a store, and a
// network whose guests answer or do not.
type world struct {
	t     *testing.T
	mem   *storetest.Mem
	mu    sync.Mutex // guards what follows
	seen  Seen
	run   string
	lead  cluster.HostID
	led   map[cluster.HostID]bool // has coordinated: what it began then may still be on its way
	term  int64
	addrs map[string][]netip.Addr // by UUID
	said  map[string][]string     // by UUID, by people
	hung  map[string]bool         // guests about which libvirtd gives no answer
	dead  map[netip.Addr]bool
	sent  int
	nic   error                            // opening sockets fails with it
	wrong map[cluster.HostID]time.Duration // wall clocks, by how much
	hosts map[cluster.HostID]*member
}

// member is a host with its agent.
type member struct {
	client  *storetest.Client
	service *Service
	stop    context.CancelFunc
	done    chan struct{}
}

const coordKey = "coordinator"

var errNoSocket = errors.New("no socket")

// inWorld runs a test with hosts h1..hn, of which h1 coordinates, and guests: the
// nth has UUID un and answers at 10.0.0.n.
func inWorld(t *testing.T, hosts int, guests []cluster.HostID, test func(t *testing.T, w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := &world{
			t: t, mem: storetest.NewMem(), lead: "h1", led: map[cluster.HostID]bool{}, addrs: map[string][]netip.Addr{}, hung: map[string]bool{},
			dead: map[netip.Addr]bool{}, wrong: map[cluster.HostID]time.Duration{}, hosts: map[cluster.HostID]*member{},
		}
		w.put(coordKey, "h1")
		for i, h := range guests {
			n := i + 1
			w.seen.VMs = append(w.seen.VMs, VM{Name: fmt.Sprint("g", n), UUID: fmt.Sprint("u", n), Host: h, Running: true})
			w.addrs[fmt.Sprint("u", n)] = []netip.Addr{addr(n)}
		}
		for i := range hosts {
			h := cluster.HostID(fmt.Sprint("h", i+1))
			w.seen.Hosts = append(w.seen.Hosts, Host{h, true})
			w.start(h)
		}
		test(t, w)
		for h := range w.hosts {
			w.stop(h)
		}
	})
}

func addr(n int) netip.Addr { return netip.AddrFrom4([4]byte{10, 0, byte(n >> 8), byte(n)}) }

// start starts the agent of a host.
func (w *world) start(h cluster.HostID) {
	ctx, cancel := context.WithCancel(w.t.Context())
	m := &member{client: w.mem.NewClient(string(h)), stop: cancel, done: make(chan struct{})}
	s := New(Parts{
		Store: storetest.Limited{
			Store: m.client, Host: string(h),
			Permits: func(a store.Attempt) error { _, err := Permits(a); return err },
			Exempt:  func() bool { w.mu.Lock(); defer w.mu.Unlock(); return w.led[h] },
			Refused: func(a store.Attempt, err error) { w.t.Errorf("%s may not write %s: %v", h, a.Key, err) },
		}, Host: h, Every: time.Second, Log: slog.New(slog.DiscardHandler),
		Coordinator: func() (int64, string, bool) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.led[h] = w.led[h] || w.lead == h
			return w.term, coordKey, w.lead == h
		},
		Seen: func() (Seen, bool) {
			w.mu.Lock()
			defer w.mu.Unlock()
			return Seen{slices.Clone(w.seen.Hosts), slices.Clone(w.seen.VMs)}, true
		},
		Addresses: w.addresses,
		Said: func(context.Context) (map[string][]string, error) {
			w.mu.Lock()
			defer w.mu.Unlock()
			return w.said, nil
		},
		Active: func() (string, bool) {
			w.mu.Lock()
			defer w.mu.Unlock()
			return w.run, w.run != ""
		},
		Open: func() (*ping.Pinger, error) {
			w.mu.Lock()
			defer w.mu.Unlock()
			if w.nic != nil {
				return nil, w.nic
			}
			return ping.New(&wire{world: w, in: make(chan echoed, 10000), done: make(chan struct{})}, nil), nil
		},
	})
	right := s.wall
	s.wall = func() time.Time {
		w.mu.Lock()
		defer w.mu.Unlock()
		return right().Add(w.wrong[h])
	}
	m.service = s
	w.hosts[h] = m
	go func() { defer close(m.done); s.Run(ctx) }()
}

// stop ends the agent of a host.
func (w *world) stop(h cluster.HostID) {
	w.hosts[h].stop()
	<-w.hosts[h].done
	delete(w.hosts, h)
}

// crash ends it without a last word.
func (w *world) crash(h cluster.HostID) {
	w.hosts[h].client.Refuse(true)
	w.stop(h)
}

func (w *world) addresses(ctx context.Context, uuid string) ([]netip.Addr, error) {
	w.mu.Lock()
	addrs, hung := w.addrs[uuid], w.hung[uuid]
	w.mu.Unlock()
	if hung {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	if addrs == nil {
		return nil, errors.New("no such guest")
	}
	return addrs, nil
}

// set changes the world.
func (w *world) set(f func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	f()
}

// put writes a key as nobody in particular.
func (w *world) put(key, value string) {
	w.t.Helper()
	rev, _, err := w.mem.NewClient("test").Txn(w.t.Context(), nil, []store.Op{{Key: key, Value: []byte(value)}})
	if err != nil {
		w.t.Fatal(err)
	}
	if key == coordKey {
		w.set(func() { w.term = rev })
	}
}

// keys lists what is kept, with sizes.
func (w *world) keys() map[string]int {
	w.t.Helper()
	kvs, _, err := w.mem.NewClient("test").List(w.t.Context(), keyAll)
	if err != nil {
		w.t.Fatal(err)
	}
	out := map[string]int{}
	for _, kv := range kvs {
		out[kv.Key] = len(kv.Value)
		if len(kv.Value) > 100<<10 {
			w.t.Errorf("%s has %d bytes", kv.Key, len(kv.Value))
		}
	}
	return out
}

// sum gives the guests by name.
func (w *world) sum(run string) (Summary, map[string]Guest) {
	w.t.Helper()
	s, err := Sum(w.t.Context(), w.mem.NewClient("test"), run)
	if err != nil {
		w.t.Fatal(err)
	}
	out := map[string]Guest{}
	for _, g := range s.Guests {
		out[g.Guest] = g
	}
	return s, out
}

// wire is a host's way to the guests.
type wire struct {
	*world
	in   chan echoed
	done chan struct{}
	once sync.Once
}

type echoed struct {
	from netip.Addr
	b    []byte
	at   time.Time
}

func (x *wire) Send(batch []ping.Packet) (int, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, p := range batch {
		x.sent++
		if !x.dead[p.Addr] {
			b := slices.Clone(p.Message)
			b[0] = 0 // an echo reply
			x.in <- echoed{p.Addr, b, time.Now()}
		}
	}
	return len(batch), nil
}

func (x *wire) Receive(batch []ping.Packet) (int, time.Time, error) {
	select {
	case e := <-x.in:
		batch[0] = ping.Packet{Addr: e.from, Message: e.b, At: e.at}
		return 1, e.at, nil
	case <-time.After(ping.Look):
		return 0, time.Now(), nil
	case <-x.done:
		return 0, time.Time{}, net.ErrClosed
	}
}

func (x *wire) Close() error {
	x.once.Do(func() { close(x.done) })
	return nil
}
