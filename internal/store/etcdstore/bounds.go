package etcdstore

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/server/v3/embed"
	"golang.org/x/time/rate"

	"holdfast/internal/store"
)

// What one host without a member may take of a member. An honest one reports every 10 s,
// some 10 to 100 KiB, and writes some records for each guest that leaves it.
const (
	maxStreams  = 256  // of one connection, also of members
	maxCalls    = 32   // calls under way, watches among them
	maxRequests = 64   // these, and those that are refused
	connsBurst  = 64   // connections begun at once, and then
	connsPerSec = 2    // who has one closed for what it does makes another; each takes a member some MB while it ends
	callsBurst  = 1000 // requests begun at once, and then
	callsPerSec = 100  // also of those that are taken back: an agent makes some in a second
	maxReads    = 2    // of these, reads: an answer may have all hosts' reports, 15 MB of 3,000
	maxWrites   = 4    // of these, transactions, of up to 1 MiB
	maxWatches  = 16   // in all its streams; an agent has six
	asksBurst   = 256  // messages in streams of watches at once, and then
	asksPerSec  = 128  // a client asks once a second for each watch how far it is
	writesBurst = 1000 // writes of keys at once, and then
	writesEvery = 50 * time.Millisecond
	bytesBurst  = 1 << 20  // bytes at once, and then
	bytesPerSec = 16 << 10 // so that what a member keeps of it in memory stays small (logKept)
	// afterRefusal is how long a write that is refused is under way still: with maxWrites, 200 in a second. An
	// honest host has hardly any; one that makes thousands would take the processors of a member.
	afterRefusal = 20 * time.Millisecond
	waitForReads = 5 * time.Second // for a read of the same host to end
	// maxAllReads are the reads of all such hosts together.
	maxAllReads = 64
	// GuestsShare is the part of the quota up to which they may write. The rest is the
	// members': renewals, elections and takeovers go on in a store that hosts have filled.
	GuestsShare = 0.5
)

// refusedForNow begins what is said of a call that may be repeated later: nothing was done.
const refusedForNow = "refused for now: "

func forNow(name, format string, args ...any) error {
	return fmt.Errorf("%shost %s runs no member of the store and %s", refusedForNow, name, fmt.Sprintf(format, args...))
}

// bounds keeps what hosts without a member take of this one.
type bounds struct {
	rates []store.Rate
	reads chan struct{}                        // of all of them
	room  func() (inUse, quota int64, ok bool) // of the database

	mu sync.Mutex
	of map[string]*share // by the name in the certificate: the authority bounds their number
}

// share is what one host takes.
type share struct {
	requests, calls, watches int // under way; guarded by bounds.mu
	reads, txns              chan struct{}
	large                    chan struct{} // a message in a stream of watches
	asks, begun, conns       *rate.Limiter
	told                     rate.Sometimes // of connections that were closed
	writes, bytes            *rate.Limiter
	kinds                    []*rate.Limiter // as bounds.rates
}

func newBounds(rates []store.Rate) *bounds {
	return &bounds{rates: rates, reads: make(chan struct{}, maxAllReads), of: map[string]*share{},
		room: func() (int64, int64, bool) { return 0, 0, false }}
}

// serves tells the room in the database of a member that has started.
func (b *bounds) serves(e *embed.Etcd) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.room = func() (int64, int64, bool) {
		return e.Server.Backend().SizeInUse(), e.Server.Cfg.QuotaBackendBytes, true
	}
}

// share returns that of a host. b.mu is held.
func (b *bounds) share(name string) *share {
	s := b.of[name]
	if s == nil {
		s = &share{
			reads: make(chan struct{}, maxReads), txns: make(chan struct{}, maxWrites), large: make(chan struct{}, 1),
			asks: rate.NewLimiter(asksPerSec, asksBurst), begun: rate.NewLimiter(callsPerSec, callsBurst),
			conns: rate.NewLimiter(connsPerSec, connsBurst), told: rate.Sometimes{Interval: time.Minute},
			writes: rate.NewLimiter(rate.Every(writesEvery), writesBurst), bytes: rate.NewLimiter(bytesPerSec, bytesBurst),
		}
		for _, r := range b.rates {
			s.kinds = append(s.kinds, rate.NewLimiter(rate.Every(r.Every), r.Burst))
		}
		b.of[name] = s
	}
	return s
}

// connect begins a connection of a host.
func (b *bounds) connect(name string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.share(name).conns.Allow() {
		return forNow(name, "begins more than %d connections each second", connsPerSec)
	}
	return nil
}

// request begins a request of a host, which done ends.
func (b *bounds) request(name string) (done func(), err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	s := b.share(name)
	switch {
	case s.requests >= maxRequests:
		return nil, forNow(name, "has %d requests under way, and does not take the answers", maxRequests)
	case !s.begun.Allow():
		return nil, forNow(name, "begins more than %d requests each second", callsPerSec)
	}
	s.requests++
	return func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		s.requests--
	}, nil
}

// tell calls say, at most once a minute for a host.
func (b *bounds) tell(name string, say func()) {
	b.mu.Lock()
	s := b.share(name)
	b.mu.Unlock()
	s.told.Do(say)
}

// enter begins a call of a host, which leave ends. A read that would be one too many waits.
func (b *bounds) enter(ctx context.Context, name, method string) (leave func(), err error) {
	b.mu.Lock()
	s := b.share(name)
	if s.calls >= maxCalls {
		b.mu.Unlock()
		return nil, forNow(name, "has %d calls under way; at most %d are allowed", maxCalls, maxCalls)
	}
	s.calls++
	b.mu.Unlock()
	var held []chan struct{}
	leave = func() {
		for _, c := range held {
			<-c
		}
		b.mu.Lock()
		defer b.mu.Unlock()
		s.calls--
	}
	var queue []chan struct{}
	switch method {
	case pb.KV_Range_FullMethodName:
		queue = []chan struct{}{s.reads, b.reads}
	case pb.KV_Txn_FullMethodName:
		queue = []chan struct{}{s.txns}
	}
	wait := time.NewTimer(waitForReads)
	defer wait.Stop()
	for _, c := range queue {
		select {
		case c <- struct{}{}:
			held = append(held, c)
		case <-wait.C:
			leave()
			return nil, forNow(name, "has reads or writes under way that do not end; what it may have at once is %d "+
				"reads and %d writes", maxReads, maxWrites)
		case <-ctx.Done():
			leave()
			return nil, context.Cause(ctx)
		}
	}
	return leave, nil
}

// watch counts a watch more of a host, or, with -1, one less.
func (b *bounds) watch(name string, n int) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	s := b.share(name)
	if n > 0 && s.watches >= maxWatches {
		return forNow(name, "has %d watches; at most %d are allowed", maxWatches, maxWatches)
	}
	s.watches += n
	return nil
}

// ask waits until a host may send one more message in its streams of watches.
func (b *bounds) ask(ctx context.Context, name string) error {
	b.mu.Lock()
	asks := b.share(name).asks
	b.mu.Unlock()
	if asks.Allow() {
		return nil
	}
	if err := asks.Wait(ctx); err != nil { // ctx ends before
		return forNow(name, "asks more than %d times a second of its watches", asksPerSec)
	}
	return nil
}

// large is the place of a host for a large message in its streams of watches.
func (b *bounds) large(name string) chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.share(name).large
}

// write takes a transaction from what the host may write, all or nothing: also of one that is refused then, as it has
// to be read and judged.
func (b *bounds) write(name string, now time.Time, keys, bytes int) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if inUse, quota, ok := b.room(); ok && float64(inUse) > GuestsShare*float64(quota) {
		return forNow(name, "writes nothing while more than half of the store's room is taken (%d of %d MiB): the "+
			"rest is kept for the members; see: holdfast store usage", inUse>>20, quota>>20)
	}
	s, t := b.share(name), taking{now: now}
	switch {
	case !t.take(s.writes, keys):
		t.giveBack()
		return forNow(name, "has written too many keys: %d at once are allowed, and one more every %s", writesBurst, writesEvery)
	case !t.take(s.bytes, bytes):
		t.giveBack()
		return forNow(name, "has written too much: %d MiB at once are allowed, and %d KiB each second", bytesBurst>>20, bytesPerSec>>10)
	}
	return nil
}

// kinds takes the writes of a transaction, which are permitted, from what the host may write of each kind, all or none of
// them. Keys are without the cluster's prefix.
func (b *bounds) kinds(name string, now time.Time, keys []string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	s, t := b.share(name), taking{now: now}
	for i, r := range b.rates {
		n := 0
		for _, k := range keys {
			if strings.HasPrefix(k, r.Prefix) {
				n++
			}
		}
		if n > 0 && !t.take(s.kinds[i], n) {
			t.giveBack()
			return forNow(name, "has written too many of %s: %d at once are allowed, and one more every %s", r.Prefix, r.Burst, r.Every)
		}
	}
	return nil
}

// taking is what was taken at a moment from bounds, and can be given back.
type taking struct {
	now time.Time
	all []*rate.Reservation
}

// take reports whether there was as much.
func (t *taking) take(l *rate.Limiter, n int) bool {
	r := l.ReserveN(t.now, n)
	if r.OK() {
		t.all = append(t.all, r)
	}
	return r.OK() && r.DelayFrom(t.now) == 0
}

func (t *taking) giveBack() {
	for _, r := range t.all {
		r.CancelAt(t.now)
	}
}

var errNoName = errors.New("the client's certificate has no common name")
