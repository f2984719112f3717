package drain

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/fleet/evacuate"
	"holdfast/internal/host/libvirt/guests"
	"holdfast/internal/inventory"
	"holdfast/internal/inventory/report"
	"holdfast/internal/job"
	"holdfast/internal/lib/clock"
	"holdfast/internal/store"
	"holdfast/internal/store/storetest"
)

// pair is h1, which sends guest a live, and h2, to which it goes. Each guest that runs
// on both at once, for whatever reason, fails the test.
type pair struct {
	t      *testing.T
	mem    *storetest.Mem
	client map[cluster.HostID]*storetest.Client
	sender *Sender

	mu     sync.Mutex
	states map[cluster.HostID]guests.VMState // of the guest; "" where it is not
	where  guests.Where                      // on h1, when it does not run there
	ends   func()                            // of the next migration; it holds mu
	at     guests.Place                      // that it answers
	err    error
	fails  map[string]error               // of calls of libvirt: "h2 resume"
	report map[cluster.HostID]report.Seen // as it was written last
	blind  map[cluster.HostID]bool
	calls  []string
	stops  map[cluster.HostID]func()
	auto   map[cluster.HostID]bool // it starts with the host
	old    bool                    // h2's agent does not know live moves
	opt    guests.MigrateOptions   // of the last migration
	silent map[cluster.HostID]bool
}

func newPair(t *testing.T) *pair {
	p := &pair{
		t: t, mem: storetest.NewMem(), client: map[cluster.HostID]*storetest.Client{},
		states: map[cluster.HostID]guests.VMState{"h1": guests.VMRunning},
		where:  guests.Where{Place: guests.Here, State: guests.VMRunning}, fails: map[string]error{},
		report: map[cluster.HostID]report.Seen{}, blind: map[cluster.HostID]bool{}, auto: map[cluster.HostID]bool{},
		silent: map[cluster.HostID]bool{}, stops: map[cluster.HostID]func(){},
	}
	for _, h := range []cluster.HostID{"h1", "h2"} {
		p.client[h] = p.mem.NewClient(string(h))
	}
	emptied(t, p.client["h1"], job.Running, evacuate.DrainArgs{})
	putRecord(t, p.client["h2"], "fleet/h2", `{"host":{"name":"h2"}}`)
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	var wg sync.WaitGroup
	wg.Go(func() { p.reports(ctx) })
	t.Cleanup(func() {
		cancel()
		wg.Wait()
		for _, stop := range p.stops {
			stop()
		}
	})
	p.start("h1")
	p.start("h2")
	return p
}

// reports looks every 5 s, and writes what it has seen a second later.
func (p *pair) reports(ctx context.Context) {
	for ctx.Err() == nil {
		p.mu.Lock()
		next := map[cluster.HostID]report.Seen{}
		for h := range p.client {
			next[h] = p.looked(h)
		}
		p.mu.Unlock()
		time.Sleep(time.Second)
		p.mu.Lock()
		for h, s := range next {
			if p.silent[h] {
				continue
			}
			s.Mod, s.SeenAt = p.revision(), time.Now()
			p.report[h] = s
		}
		p.mu.Unlock()
		clock.Sleep(ctx, 4*time.Second)
	}
}

// looked is what a host has. The caller holds mu.
func (p *pair) looked(h cluster.HostID) report.Seen {
	s := report.Seen{Record: report.Record{Host: inventory.Host{Name: h}, Addr: string(h), Unobservable: p.blind[h],
		CarriesLive: !p.old || h != "h2"}}
	if st := p.states[h]; st != "" {
		s.VMs = []inventory.VM{{Name: "a", UUID: "uuid-a", Running: st != guests.VMOff, Halted: st == guests.VMPaused}}
		if st == guests.VMPaused {
			s.VMs[0].Busy = "paused"
		}
	}
	return s
}

// revision is a new one.
func (p *pair) revision() int64 {
	rev, _, err := p.mem.NewClient("reports").Txn(context.Background(), nil, []store.Op{{Key: "report", Value: []byte("x")}})
	if err != nil {
		p.t.Error(err)
	}
	return rev
}

// start starts an agent anew: it knows nothing.
func (p *pair) start(h cluster.HostID) {
	if stop := p.stops[h]; stop != nil {
		stop()
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(p.t.Context()))
	side := pairSide{p, h}
	var wg sync.WaitGroup
	if h == "h1" {
		p.sender = NewSender(&Sender{Store: storetest.AsGuestHost(p.t, string(h), p.client[h], PermitsCarry), Host: h,
			Guests: side, Seen: p.seen, Log: slog.New(slog.DiscardHandler)})
		wg.Go(func() { p.sender.Run(ctx) })
	} else {
		r := &Receiver{Store: storetest.AsGuestHost(p.t, string(h), p.client[h], PermitsCarry), Host: h, Guests: side,
			Seen: p.seen, Log: slog.New(slog.DiscardHandler)}
		wg.Go(func() { r.Run(ctx) })
	}
	p.stops[h] = func() {
		cancel()
		wg.Wait()
	}
}

func (p *pair) stop(h cluster.HostID) {
	p.stops[h]()
	delete(p.stops, h)
}

func (p *pair) seen() (map[cluster.HostID]report.Seen, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return maps.Clone(p.report), true
}

// set changes what is, and looks whether the guest runs twice.
func (p *pair) set(f func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f()
	if p.states["h1"] == guests.VMRunning && p.states["h2"] == guests.VMRunning {
		p.t.Error("the guest runs on two hosts")
	}
}

// pairSide is the hypervisor of one of the two.
type pairSide struct {
	*pair
	host cluster.HostID
}

func (s pairSide) failing(what string) error { return s.fails[string(s.host)+" "+what] }

func (s pairSide) List(context.Context) ([]guests.VM, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.states[s.host]
	if st == "" {
		return nil, s.failing("list")
	}
	v := guests.VM{Name: "a", UUID: "uuid-a", State: st}
	if st == guests.VMPaused {
		v.Busy = "paused"
	}
	return []guests.VM{v}, s.failing("list")
}

func (s pairSide) Migrate(_ context.Context, _, _ string, opt guests.MigrateOptions) (guests.Place, error) {
	if err := ready(opt); err != nil {
		return guests.Here, err
	}
	time.Sleep(3 * time.Second)
	var at guests.Place
	var err error
	s.set(func() {
		s.opt = opt
		s.ends()
		at, err = s.at, s.err
	})
	return at, err
}

func (s pairSide) Whereabouts(context.Context, string, string) (guests.Where, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.where, s.failing("where")
}

func (s pairSide) Resume(context.Context, string) error {
	var err error
	s.set(func() {
		if err = s.failing("resume"); err != nil {
			return
		}
		s.calls = append(s.calls, string(s.host)+" resume")
		s.states[s.host] = guests.VMRunning
		if s.host == "h1" {
			s.where = guests.Where{Place: guests.Here, State: guests.VMRunning}
		}
	})
	return err
}

func (s pairSide) Discard(context.Context, string) error {
	var err error
	s.set(func() {
		if err = s.failing("discard"); err != nil {
			return
		}
		s.calls = append(s.calls, string(s.host)+" discard")
		if s.states[s.host] == guests.VMRunning {
			s.t.Error("a guest that runs was discarded")
		}
		delete(s.states, s.host)
		if s.host == "h1" {
			s.where = guests.Where{Place: guests.Absent}
		}
	})
	return err
}

func (s pairSide) Start(context.Context, string, guests.StartOptions) error {
	s.t.Error("started")
	return nil
}

func (s pairSide) SetAutostart(_ context.Context, _ string, on bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.failing("autostart"); err != nil {
		return err
	}
	s.auto[s.host] = on
	return nil
}

// What a migration leaves at its end.
func (p *pair) leaves() {
	p.states["h1"], p.states["h2"], p.where = "", guests.VMPaused, guests.Where{Place: guests.Left, Moved: true}
}

func (p *pair) both(h1 guests.VMState, w guests.Where) func() {
	return func() { p.states["h1"], p.states["h2"], p.where = h1, guests.VMPaused, w }
}

var (
	errSome = errors.New("no answer")
	here    = guests.Where{Place: guests.Here, State: guests.VMRunning}
	halted  = guests.Where{Place: guests.Unclear, State: guests.VMPaused, Halted: true}
)

func (p *pair) send() error {
	h2 := report.Seen{Record: report.Record{Host: inventory.Host{Name: "h2"}, Addr: "h2", CarriesLive: !p.old}}
	p.mu.Lock()
	auto := p.auto["h1"]
	p.mu.Unlock()
	return p.sender.Send(p.t.Context(), guests.VM{Name: "a", UUID: "uuid-a", State: guests.VMRunning, Autostart: auto},
		h2, guests.MigrateOptions{})
}

// cutOff leaves what an agent leaves that dies in a move: a word, and a guest that
// is where end puts it.
func (p *pair) cutOff(end func()) {
	p.t.Helper()
	p.stop("h1")
	c := carry{UUID: "uuid-a", Name: "a", From: "h1", Live: true, ID: "move"}
	if err := c.put(p.t.Context(), p.client["h1"], "h2"); err != nil {
		p.t.Fatal(err)
	}
	p.set(end)
	p.start("h1")
}

// word is what h1 says; "-" when there is no word.
func (p *pair) word() string {
	p.t.Helper()
	kv, ok, err := p.mem.NewClient("test").Get(context.Background(), "fleet-carry/h2/uuid-a")
	if err != nil {
		p.t.Fatal(err)
	}
	var c carry
	if !ok {
		return "-"
	}
	if err := json.Unmarshal(kv.Value, &c); err != nil {
		p.t.Fatal(err)
	}
	return string(c.Says)
}

// want compares how the guest stands on both hosts, the word and the calls.
func (p *pair) want(when, h1, h2, word, calls string) {
	p.t.Helper()
	p.mu.Lock()
	got := fmt.Sprintf("h1 %q, h2 %q, %s", p.states["h1"], p.states["h2"], strings.Join(p.calls, ", "))
	p.mu.Unlock()
	if want := fmt.Sprintf("h1 %q, h2 %q, %s", h1, h2, calls); got != want || p.word() != word {
		p.t.Errorf("%s: %s, word %q; want %s, %q", when, got, p.word(), want, word)
	}
}

// TestLiveMoves: each moment in which something may break, and who finishes the move.
func TestLiveMoves(t *testing.T) {
	for name, run := range map[string]func(*pair){
		"nothing breaks": func(p *pair) {
			p.ends, p.at = func() { p.leaves(); p.states["h2"] = guests.VMRunning }, guests.Left
			if err := p.send(); err != nil {
				p.t.Error(err)
			}
			time.Sleep(5 * time.Second)
			p.want("sent", "", "running", "-", "")
		},
		"the target is not reached to let it go on": func(p *pair) {
			p.ends, p.at, p.err = p.leaves, guests.Left, guests.ErrStill
			began := time.Now()
			if err := p.send(); err != nil {
				p.t.Error(err)
			}
			if took := time.Since(began); took > 6*time.Second {
				p.t.Errorf("it took %s", took)
			}
			p.want("sent", "", "running", "-", "h2 resume")
		},
		"nor its agent": func(p *pair) {
			p.stop("h2")
			p.ends, p.at, p.err = p.leaves, guests.Left, guests.ErrStill
			if err := p.send(); !errors.Is(err, errNotUp) {
				p.t.Error(err)
			}
			p.want("sent", "", "paused", "gone", "")
			p.start("h2")
			time.Sleep(5 * time.Second)
			p.want("the agent is back", "", "running", "-", "h2 resume")
		},
		"nor the store, from the source": func(p *pair) {
			p.ends, p.at, p.err = func() { p.leaves(); p.client["h1"].Partition(true) }, guests.Left, guests.ErrStill
			if err := p.send(); !errors.Is(err, errNotUp) {
				p.t.Error(err)
			}
			time.Sleep(time.Minute)
			p.want("without the store", "", "paused", "", "")
			p.client["h1"].Partition(false)
			time.Sleep(15 * time.Second)
			p.want("it is back", "", "running", "-", "h2 resume")
		},
		"the target's last answer is lost": func(p *pair) {
			p.ends, p.at, p.err = p.both(guests.VMRunning, here), guests.Here, errSome
			if err := p.send(); !errors.Is(err, errSome) {
				p.t.Error(err)
			}
			time.Sleep(5 * time.Second)
			p.want("sent", "running", "", "-", "h2 discard")
		},
		"it is refused": func(p *pair) {
			p.ends, p.at, p.err = func() {}, guests.Here, errSome
			if err := p.send(); !errors.Is(err, errSome) {
				p.t.Error(err)
			}
			time.Sleep(5 * time.Second)
			p.want("sent", "running", "", "-", "")
		},
		"the agent dies before the end": func(p *pair) {
			p.cutOff(func() { p.where = guests.Where{Place: guests.Leaving} })
			time.Sleep(10 * time.Minute)
			p.want("on its way", "running", "", "", "")
			p.set(p.leaves)
			time.Sleep(100 * time.Millisecond)
			p.want("at its end", "", "running", "-", "h2 resume")
		},
		"the agent dies between arrival and resume": func(p *pair) {
			p.cutOff(p.leaves)
			time.Sleep(100 * time.Millisecond)
			p.want("the next one", "", "running", "-", "h2 resume")
		},
		"the agent dies after the resume": func(p *pair) {
			p.cutOff(func() { p.leaves(); p.states["h2"] = guests.VMRunning })
			time.Sleep(5 * time.Second)
			p.want("the next one", "", "running", "-", "")
		},
		"the agent dies and it stays": func(p *pair) {
			p.cutOff(p.both(guests.VMRunning, here))
			time.Sleep(coldAgain - 5*time.Second)
			p.want("soon", "running", "paused", "", "")
			time.Sleep(10 * time.Second)
			p.want("later", "running", "", "-", "h2 discard")
		},
		"the source's libvirtd dies, the target has it": func(p *pair) {
			p.ends, p.at, p.err = p.both(guests.VMPaused, halted), guests.Unclear, errSome
			p.set(func() { p.blind["h2"] = true })
			if err := p.send(); !errors.Is(err, errSome) {
				p.t.Error(err)
			}
			time.Sleep(time.Minute)
			p.want("nobody knows what the target has", "paused", "paused", "halted", "")
			p.set(func() { p.blind["h2"] = false })
			time.Sleep(15 * time.Second)
			p.want("sent", "", "running", "-", "h1 discard, h2 resume")
		},
		"the same, and the target has looked before": func(p *pair) {
			time.Sleep(5*time.Second + 500*time.Millisecond)
			p.cutOff(p.both(guests.VMPaused, halted))
			time.Sleep(5 * time.Second)
			p.want("the first report", "paused", "paused", "halted", "")
			time.Sleep(10 * time.Second)
			p.want("the next one", "", "running", "-", "h1 discard, h2 resume")
		},
		"the source's libvirtd dies, the target has it not": func(p *pair) {
			p.ends, p.at, p.err = func() { p.states["h1"], p.where = guests.VMPaused, halted }, guests.Unclear, errSome
			if err := p.send(); !errors.Is(err, errSome) {
				p.t.Error(err)
			}
			time.Sleep(20 * time.Second)
			p.want("sent", "running", "", "-", "h1 resume")
		},
		"the agent dies after it has ended it": func(p *pair) {
			p.cutOff(p.both(guests.VMPaused, halted))
			time.Sleep(time.Second)
			p.stop("h1")
			p.set(func() { delete(p.states, "h1"); p.where = guests.Where{Place: guests.Absent} })
			time.Sleep(time.Minute)
			p.want("meanwhile", "", "paused", "halted", "")
			p.start("h1")
			time.Sleep(time.Second)
			p.want("the next one", "", "running", "-", "h2 resume")
		},
		"the source dies for good": func(p *pair) {
			p.cutOff(p.leaves)
			p.stop("h1")
			p.set(func() { p.states["h2"], p.calls = guests.VMPaused, nil })
			c := carry{UUID: "uuid-a", Name: "a", From: "h1", Live: true, ID: "move"}
			if err := c.put(p.t.Context(), p.client["h2"], "h2"); err != nil {
				p.t.Error(err)
			}
			time.Sleep(time.Hour)
			p.want("an hour later", "", "paused", "", "")
			p.set(func() { p.states["h2"] = guests.VMRunning }) // virsh resume
			time.Sleep(5 * time.Second)
			p.want("let go on by hand", "", "running", "", "")
			p.start("h1") // it was not for good: it may have its definition yet
			time.Sleep(5 * time.Second)
			p.want("the source is back", "", "running", "-", "")
		},
		"it has crashed on the source, and was transient": func(p *pair) {
			p.cutOff(p.both("", guests.Where{Place: guests.Absent}))
			time.Sleep(time.Hour)
			p.want("nobody knows how old it is", "", "paused", "", "")
		},
		"it has crashed on the source, which has its definition": func(p *pair) {
			p.cutOff(p.both(guests.VMOff, guests.Where{Place: guests.Off}))
			time.Sleep(2 * time.Minute)
			p.want("what arrived is older than its disks", "off", "", "-", "h2 discard")
		},
		"the source dies before it has forgotten it": func(p *pair) {
			p.cutOff(p.both(guests.VMOff, guests.Where{Place: guests.Off, Moved: true}))
			time.Sleep(time.Second)
			p.want("it does not start with the source", "", "running", "-", "h1 discard, h2 resume")
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { run(newPair(t)) })
		})
	}
}
