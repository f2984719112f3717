// Package ping counts the packets that many addresses lose over hours: ICMP echo
// from one raw socket per IP version, one sender, one receiver for each socket.
//
// Nothing is counted that this process could not see. While it does not run (it
// was stopped, or the machine was frozen), or the kernel takes no packet, that
// time is told as unwatched, and not as loss. The sockets stay in the network
// namespace in which Open was called.
package ping

import (
	"cmp"
	"container/heap"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"sync"
	"time"

	"holdfast/internal/sleep"
)

// Within is how long an answer may take. A later one is none.
const Within = time.Second

const (
	tick  = 100 * time.Millisecond // the sender looks at least so often
	stall = 500 * time.Millisecond // a longer pause of the sender means that this process did not run
	// shortest interval; with it 100 packets to a target are under way at most.
	shortest = 10 * time.Millisecond
)

// Counts are the figures of a target.
type Counts struct {
	Sent      int64         // packets whose answer came, or can not come in time any more
	Lost      int64         // of these, those without an answer
	Longest   time.Duration // the longest time without an answer: from the first of lost packets in a row to an interval after the last
	Unwatched time.Duration // in which this process sent nothing although it should have
	First     time.Time     // when the first of Sent was sent; zero without one
	Last      time.Time     // when the last of Sent was sent
	Answered  time.Time     // when the last that was answered was sent
}

// Pinger sends to its targets and counts. Its methods may be called concurrently.
type Pinger struct {
	v4, v6 Wire // nil: see no4, no6
	no4    error
	no6    error
	id     uint16

	mu      sync.Mutex // guards what follows and all targets
	wheel   wheel
	byToken map[uint64]*Target
	looked  time.Time // when the sender was last seen to run
}

// Target is an address that is pinged. Two targets may have the same address.
type Target struct {
	p     *Pinger
	addr  netip.Addr
	every time.Duration
	token uint64

	next    time.Time
	at      int // in the wheel; -1: removed
	seq     uint32
	pending []echo    // without a gap in their numbers
	dark    time.Time // when the first of the lost packets in a row was sent; zero: the last was answered
	counts  Counts
}

// echo is a packet that is under way.
type echo struct {
	seq       uint32
	sent, due time.Time
	answered  bool
	refused   bool // there is no way to the target: it is lost already
}

// New makes a Pinger over two networks, either of which may be nil. Open is what
// programs want.
func New(v4, v6 Wire) *Pinger {
	none := errors.New("no socket for this version of IP")
	return &Pinger{
		v4: v4, v6: v6, no4: none, no6: none, id: uint16(rand.Uint32()), byToken: map[uint64]*Target{}, looked: time.Now(),
	}
}

// Add begins to ping an address. every is at least 10 ms; 0: 1 s. It fails when
// the host has no socket for this version of IP.
func (p *Pinger) Add(addr netip.Addr, every time.Duration) (*Target, error) {
	addr = addr.Unmap()
	if !addr.IsValid() || addr.IsMulticast() || addr.IsUnspecified() || addr.Zone() != "" {
		return nil, fmt.Errorf("ping %s: not the address of one machine everywhere", addr)
	}
	if w, why := p.wire(addr); w == nil {
		return nil, fmt.Errorf("ping %s: %w", addr, why)
	}
	t := &Target{p: p, addr: addr, every: max(shortest, cmp.Or(every, time.Second)), token: rand.Uint64()}
	p.mu.Lock()
	defer p.mu.Unlock()
	t.next = time.Now().Add(tick + rand.N(t.every)) // the sender has looked by then; and not all at once
	p.byToken[t.token] = t
	heap.Push(&p.wheel, t)
	return t, nil
}

// Remove ends pinging a target. What is under way is not counted; the counts
// stay as they are.
func (p *Pinger) Remove(t *Target) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if t.at < 0 {
		return
	}
	heap.Remove(&p.wheel, t.at)
	delete(p.byToken, t.token)
}

// Addr is the target's address.
func (t *Target) Addr() netip.Addr { return t.addr }

// Counts returns the figures as they are now. What is under way is not in them.
func (t *Target) Counts() Counts {
	t.p.mu.Lock()
	defer t.p.mu.Unlock()
	return t.counts
}

func (p *Pinger) wire(a netip.Addr) (Wire, error) {
	if a.Is4() {
		return p.v4, p.no4
	}
	return p.v6, p.no6
}

// Run pings until ctx ends, and closes the sockets. It may be called once.
func (p *Pinger) Run(ctx context.Context) {
	var receivers sync.WaitGroup
	for _, w := range []Wire{p.v4, p.v6} {
		if w != nil {
			receivers.Go(func() { p.receive(ctx, w) })
		}
	}
	p.send(ctx)
	p.Close()
	receivers.Wait()
}

// Close closes the sockets of a Pinger that is not run.
func (p *Pinger) Close() {
	for _, w := range []Wire{p.v4, p.v6} {
		if w != nil {
			_ = w.Close() // a socket that has nothing to flush
		}
	}
}

// send is the one sender.
func (p *Pinger) send(ctx context.Context) {
	p.mu.Lock()
	p.looked = time.Now()
	p.mu.Unlock()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		for ctx.Err() == nil {
			t, message := p.due()
			if t == nil {
				break
			}
			w, _ := p.wire(t.addr) // Add has seen it
			if err := w.Send(t.addr, message); err != nil {
				p.failed(t, err)
			}
		}
		timer.Reset(p.rest())
	}
}

// rest is how long the sender may sleep.
func (p *Pinger) rest() time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.wheel) == 0 {
		return tick
	}
	return min(tick, max(0, time.Until(p.wheel[0].next)))
}

// due returns the next target whose turn has come, nil when there is none, and
// what to send.
func (p *Pinger) due() (*Target, []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	p.awake(now)
	if len(p.wheel) == 0 || now.Before(p.wheel[0].next) {
		return nil, nil
	}
	t := p.wheel[0]
	t.settle(now)
	if missed := now.Sub(t.next) / t.every; missed > 0 {
		t.counts.Unwatched += missed * t.every
		t.next = t.next.Add(missed * t.every)
	}
	t.next = t.next.Add(t.every)
	heap.Fix(&p.wheel, t.at)
	t.seq++
	t.pending = append(t.pending, echo{seq: t.seq, sent: now, due: now.Add(Within)})
	return t, request(t.addr, p.id, t.seq, t.token)
}

// awake notes that the sender runs. After a stall, the answers that came
// meanwhile are still in the sockets' queues, so nothing that was under way is
// late for as long as the stall took. The caller holds mu.
func (p *Pinger) awake(now time.Time) {
	if gap := now.Sub(p.looked); gap > stall {
		for _, t := range p.wheel {
			for i := range t.pending {
				t.pending[i].due = t.pending[i].due.Add(gap)
			}
		}
	}
	p.looked = now
}

// failed takes in that the last packet to a target was not sent.
func (p *Pinger) failed(t *Target, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	last := len(t.pending) - 1
	if last < 0 || t.pending[last].answered {
		return // it went out all the same
	}
	if errors.Is(err, ErrBusy) {
		t.pending, t.seq = t.pending[:last], t.seq-1
		t.counts.Unwatched += t.every
		return
	}
	t.pending[last].refused = true
	t.settle(time.Time{})
}

// receive is the one receiver of a socket.
func (p *Pinger) receive(ctx context.Context, w Wire) {
	b := make([]byte, 1500)
	for {
		n, from, err := w.Receive(b)
		if err == nil {
			p.take(from.Unmap(), b[:n])
			continue
		}
		if !sleep.For(ctx, shortest) { // an error of the network, perhaps, so not in a tight loop
			return
		}
	}
}

// take takes a message in. What does not belong to a packet that is under way is
// of no interest: others' answers, doubles, and what comes too late.
func (p *Pinger) take(from netip.Addr, message []byte) {
	id, seq, token, ok := answer(from, message)
	if !ok || id != p.id {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	t := p.byToken[token]
	if t == nil || t.addr != from || len(t.pending) == 0 {
		return
	}
	i := seq - t.pending[0].seq // goes round below the first
	if i >= uint32(len(t.pending)) {
		return
	}
	now := time.Now()
	e := &t.pending[i]
	late := !now.Before(e.due) && now.Sub(p.looked) <= stall
	if late || e.refused {
		return
	}
	e.answered = true
	t.settle(time.Time{})
}

// settle counts, in their order, the packets whose fate is known at now. The
// caller holds mu.
func (t *Target) settle(now time.Time) {
	for len(t.pending) > 0 {
		e := t.pending[0]
		if !e.answered && !e.refused && now.Before(e.due) {
			return
		}
		t.pending = t.pending[1:]
		c := &t.counts
		c.Sent++
		c.Last = e.sent
		if c.First.IsZero() {
			c.First = e.sent
		}
		if e.answered {
			c.Answered, t.dark = e.sent, time.Time{}
			continue
		}
		if t.dark.IsZero() {
			t.dark = e.sent
		}
		c.Lost++
		c.Longest = max(c.Longest, e.sent.Sub(t.dark)+t.every)
	}
}

// wheel is a heap of the targets by when their turn comes.
type wheel []*Target

func (w wheel) Len() int           { return len(w) }
func (w wheel) Less(i, j int) bool { return w[i].next.Before(w[j].next) }
func (w wheel) Swap(i, j int) {
	w[i], w[j] = w[j], w[i]
	w[i].at, w[j].at = i, j
}

// Push implements heap.Interface.
func (w *wheel) Push(x any) {
	t := x.(*Target)
	t.at = len(*w)
	*w = append(*w, t)
}

// Pop implements heap.Interface.
func (w *wheel) Pop() any {
	last := len(*w) - 1
	t := (*w)[last]
	(*w)[last] = nil
	*w = (*w)[:last]
	t.at = -1
	return t
}
