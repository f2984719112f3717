// Package servertest holds a cluster in memory that obeys at once, for tests of
// the server and of its clients.
package servertest

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/store"
)

// Fake is a server.Cluster without an agent. Tests set its status and say how
// it answers requests.
type Fake struct {
	store   cluster.StoreStatus // guarded by mu
	mu      sync.Mutex
	status  cluster.Status
	typ     *string         // of the configuration; nil: that of the status
	events  []cluster.Event // event i has revision i+1
	waiters map[chan struct{}]bool
	done    map[string]bool // keys carried out
	users   []string        // of the requests carried out
	fail    error           // of Request and Events
	hangs   chan struct{}   // see Hang
	obey    func(f *Fake, w cluster.Want)
	wg      sync.WaitGroup
	configs configs // guarded by mu
	fence   fence   // guarded by mu
}

// New returns a fake with a status.
func New(s cluster.Status) *Fake {
	return &Fake{status: s, waiters: map[chan struct{}]bool{}, done: map[string]bool{}}
}

// Obey sets what happens after each request: f runs in a goroutine that Wait
// waits for.
func (f *Fake) Obey(do func(f *Fake, w cluster.Want)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.obey = do
}

// Wait returns when everything that Obey started has ended.
func (f *Fake) Wait() { f.wg.Wait() }

// Fail makes Request and Events fail; nil ends that.
func (f *Fake) Fail(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fail = err
}

// Hang makes reads of the events wait for the store until their time is over, but those of what may be old. The channel
// tells of each that waits.
func (f *Fake) Hang() <-chan struct{} {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.hangs = make(chan struct{}, 16)
	return f.hangs
}

// Update changes the status and tells the watchers.
func (f *Fake) Update(change func(*cluster.Status)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	s := f.status
	s.Hosts = slices.Clone(s.Hosts) // answers hold the old one
	change(&s)
	f.status = s
	f.tell()
}

// Log appends events and tells the watchers.
func (f *Fake) Log(events ...cluster.Event) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.events = append(f.events, events...)
	f.tell()
}

// tell wakes the watchers. The caller holds mu.
func (f *Fake) tell() {
	for c := range f.waiters {
		select {
		case c <- struct{}{}:
		default:
		}
	}
}

// Users returns who made the requests that were carried out, in order.
func (f *Fake) Users() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.users)
}

// Watchers returns how many callers of Changed there are.
func (f *Fake) Watchers() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.waiters)
}

// Status returns the status that was set.
func (f *Fake) Status() cluster.Status {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.now()
}

// now is the status. The caller holds mu.
func (f *Fake) now() cluster.Status {
	s := f.status
	if f.typ != nil {
		s.Type = *f.typ
	}
	return s
}

// SetType sets the type of the configuration, whatever status is set; "": the agent does not tell it.
func (f *Fake) SetType(t string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.typ = &t
}

// Changed is as server.Cluster wants it.
func (f *Fake) Changed(ctx context.Context) <-chan struct{} {
	c := make(chan struct{}, 1)
	f.mu.Lock()
	f.waiters[c] = true
	f.mu.Unlock()
	context.AfterFunc(ctx, func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		delete(f.waiters, c)
		close(c)
	})
	return c
}

// Events is as server.Cluster wants it.
func (f *Fake) Events(ctx context.Context, after int64, limit int) ([]cluster.Event, int64, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.hangs != nil && !store.IsStale(ctx) {
		f.hangs <- struct{}{}
		f.mu.Unlock()
		<-ctx.Done()
		f.mu.Lock()
		return nil, 0, fmt.Errorf("list the events: %w: %w", store.ErrRetry, ctx.Err())
	}
	if f.fail != nil {
		return nil, 0, f.fail
	}
	n := int64(len(f.events))
	if after < 0 {
		after = max(0, n-int64(limit))
	}
	after = min(after, n)
	next := min(n, after+int64(limit))
	return slices.Clone(f.events[after:next]), next, nil
}

// HostMod is as server.Cluster wants it: a host that the status knows has a
// record of revision 7.
func (f *Fake) HostMod(host cluster.HostID) int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, h := range f.status.Hosts {
		if h.Name == host {
			return 7
		}
	}
	return 0
}

// StoreStatus is as server.Cluster wants it: what SetStore set.
func (f *Fake) StoreStatus(context.Context) (cluster.StoreStatus, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.store, f.fail
}

// BackUpStore is as server.Cluster wants it: the newest backup that SetStore set.
func (f *Fake) BackUpStore(context.Context) (cluster.Backup, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.fail != nil || len(f.store.Backups) == 0 {
		return cluster.Backup{}, f.fail
	}
	return f.store.Backups[0], nil
}

// SetStore sets what StoreStatus answers.
func (f *Fake) SetStore(s cluster.StoreStatus) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.store = s
}

// Request is as server.Cluster wants it.
func (f *Fake) Request(_ context.Context, user, key string, change func(*cluster.Want, cluster.Status) error) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.fail != nil {
		return f.fail
	}
	if f.done[key] {
		return nil
	}
	w := f.status.Want
	if err := change(&w, f.now()); err != nil {
		return fmt.Errorf("change the want record: %w", err)
	}
	f.done[key] = true
	f.users = append(f.users, user)
	f.status.Want = w
	f.tell()
	if f.obey != nil {
		f.wg.Go(func() { f.obey(f, w) })
	}
	return nil
}

// Three returns the status of three hosts, node1 to node3 at 10.0.0.11 to 13,
// all well, node2 the coordinator, the guest running on node1. at is the time
// that it shows.
func Three(at time.Time) cluster.Status {
	s := cluster.Status{
		Time: at, Cluster: "prod", Type: "FileConf", Self: "node1", Connected: true,
		Coordinator: "node2", Term: 7, Want: cluster.Want{Run: true},
		Owner: cluster.Owner{
			Resource: cluster.MgmtVM, Epoch: cluster.Epoch{Gen: 0, Seq: 3},
			State: cluster.Running, Host: "node1", Time: at.Add(-time.Hour),
			Proof: cluster.Proof{
				Kind: cluster.ProofDeadline, Host: "node3", Epoch: cluster.Epoch{Seq: 2},
				Wait: 8600 * time.Millisecond, By: "node2",
			},
		},
		Takeover: cluster.Takeover{Possible: true, Within: 8600 * time.Millisecond},
		Timings: cluster.Timings{
			Lease: 6 * time.Second, Keepalive: 2 * time.Second, Grace: 2 * time.Second,
			Watchdog: 4 * time.Second, Epsilon: 500 * time.Millisecond, Drift: 0.01, Election: 4 * time.Second,
		},
	}
	for i, name := range []cluster.HostID{"node1", "node2", "node3"} {
		s.Hosts = append(s.Hosts, cluster.HostStatus{
			Host: cluster.Host{
				Name: name, Identity: "id-" + string(name), Boot: "boot-" + string(name), Seq: uint64(40 + i),
				Guard: 2 * time.Second, Watchdog: "iTCO_wdt", WatchdogTimeout: 4 * time.Second,
				Fit: true, Addr: fmt.Sprintf("10.0.0.%d", 11+i), Version: "1.0.0", Guest: cluster.GuestAbsent,
			},
			Alive: true, Silent: 400 * time.Millisecond, Coordinator: name == "node2",
		})
	}
	s.Hosts[0].Guest = cluster.GuestRunning
	return s
}
