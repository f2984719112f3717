// Package ping counts the packets that many addresses lose over hours: ICMP echo
// from one raw socket per IP version (Open), or ARP from one packet socket per interface
// (OpenARP); one sender, one receiver for each socket.
//
// A packet is lost when no answer to it has come within a second of its sending. An ARP
// reply has no number: it answers the last question that was sent before it came. So a
// question is lost, too, when the next one went out before its answer came. A
// gap is one or more lost packets in a row. It begins when the first of them was
// sent. It lasts from the last answer before it to the first answer after it, less
// the interval between two packets; answers count from when the kernel took them
// in. So it is as long as the target was not there, give or take one interval;
// what is shorter than an interval may not be seen at all.
//
// Nothing is counted that this process could not see. While it does not run (it
// was stopped, or the machine was frozen), or the kernel takes no packet, or has no
// room for answers, that time is told as unwatched, and not as loss. The sockets stay
// in the network namespace in which Open was called.
package ping

import (
	"cmp"
	"container/heap"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"time"

	"holdfast/internal/lib/clock"
)

// Within is how long an answer may take. A later one is none.
const Within = time.Second

// Shortest is the shortest interval between two packets to a target; with it
// 1,000 of them are under way at most.
const Shortest = time.Millisecond

const (
	tick  = 100 * time.Millisecond // the sender looks at least so often
	stall = 500 * time.Millisecond // a longer pause of the sender means that this process did not run
	// lag is how far behind the receiver may be when a packet counts as lost.
	lag = 2 * Look
	// again is when a receiver asks again after an error.
	again = 10 * time.Millisecond
	// batch is how many packets are handed to the kernel, or taken from it, at once.
	batch = 64
	// Between two looks at many targets the sender sleeps at least leastNap, so that
	// it has several packets to send, and mostNap where no target is asked so often
	// that this would count.
	leastNap, mostNap = 250 * time.Microsecond, time.Millisecond
)

// Pinger sends to its targets and counts. Its methods may be called concurrently.
// Instants inside it are durations since began, and never zero.
type Pinger struct {
	v4, v6 line
	cards  map[netip.Addr]*line // of OpenARP; nil: ICMP
	id     uint16
	began  time.Time
	// nap sleeps for a time below 2 ms exactly; nil: a timer does.
	nap func(time.Duration)

	mu      sync.Mutex // guards what follows, the lines but for their wires, and all targets
	wheel   wheel
	byToken map[uint64]*Target
	looked  time.Time // when the sender was last seen to run
	rests   time.Duration
	ended   bool // no more is sent
}

// line is one version of IP, or one interface on which is asked by ARP.
type line struct {
	wire Wire  // nil: see none
	none error // why there is none
	card *card // nil: ICMP

	out []Packet // of the sender
	to  []*Target

	seen time.Duration // what came until then was taken in
	// in which answers were dropped last, as this host had no room for them
	dropFrom, dropTo time.Duration
}

// New makes a Pinger over two networks, either of which may be nil. Open is what
// programs want.
func New(v4, v6 Wire) *Pinger {
	now := time.Now()
	p := &Pinger{id: uint16(rand.Uint32()), began: now.Add(-Within), byToken: map[uint64]*Target{}, looked: now, rests: mostNap}
	for _, l := range []struct {
		*line
		wire Wire
	}{{&p.v4, v4}, {&p.v6, v6}} {
		l.make(l.wire, size)
		l.none = errors.New("no socket for this version of IP")
	}
	return p
}

// make makes the room for a batch of messages of a size.
func (l *line) make(wire Wire, size int) {
	l.wire = wire
	l.out, l.to = make([]Packet, 0, batch), make([]*Target, batch)
	bytes := make([]byte, batch*size)
	for i := range l.out[:batch] {
		l.out[:batch][i].Message = bytes[i*size : (i+1)*size]
	}
}

// since is an instant inside the Pinger.
func (p *Pinger) since(t time.Time) time.Duration { return t.Sub(p.began) }

// lines are those that there are.
func (p *Pinger) lines() (out []*line) {
	for _, l := range []*line{&p.v4, &p.v6} {
		if l.wire != nil {
			out = append(out, l)
		}
	}
	for _, l := range p.cards {
		if !slices.Contains(out, l) {
			out = append(out, l)
		}
	}
	return out
}

// line finds the one over which an address is asked.
func (p *Pinger) line(addr netip.Addr) (*line, error) {
	l := &p.v6
	switch {
	case p.cards != nil:
		if l = p.cards[addr]; l == nil {
			return nil, errors.New("it can not be asked by ARP")
		}
	case addr.Is4():
		l = &p.v4
	}
	if l.wire == nil {
		return nil, l.none
	}
	return l, nil
}

// Add begins to ping an address. every is at least Shortest; 0: 1 s. It fails when
// the host has no socket for this version of IP; of a Pinger of OpenARP when the address
// can not be asked by ARP, or is asked already.
func (p *Pinger) Add(addr netip.Addr, every time.Duration) (*Target, error) {
	addr = addr.Unmap()
	if !addr.IsValid() || addr.IsMulticast() || addr.IsUnspecified() || addr.Zone() != "" {
		return nil, fmt.Errorf("ping %s: not the address of one machine everywhere", addr)
	}
	l, err := p.line(addr)
	if err != nil {
		return nil, fmt.Errorf("ping %s: %w", addr, err)
	}
	t := &Target{p: p, line: l, addr: addr, every: max(Shortest, cmp.Or(every, time.Second)), token: rand.Uint64()}
	p.mu.Lock()
	defer p.mu.Unlock()
	t.next = time.Now().Add(tick + rand.N(t.every)) // the sender has looked by then; and not all at once
	p.rests = min(p.rests, max(leastNap, t.every/16))
	if l.card != nil {
		n := l.card.neighbours[addr]
		if n.target != nil {
			return nil, fmt.Errorf("ping %s: it is asked by ARP already", addr)
		}
		n.target = t
	}
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
	if c := t.line.card; c != nil {
		c.neighbours[t.addr].target = nil
	}
}

// Run pings until ctx ends, and closes the sockets. It may be called once.
func (p *Pinger) Run(ctx context.Context) {
	var receivers sync.WaitGroup
	lines := p.lines()
	for _, l := range lines {
		receivers.Go(func() { p.receive(ctx, l) })
	}
	p.send(ctx, lines)
	p.Close()
	receivers.Wait()
}

// Close closes the sockets of a Pinger that is not run.
func (p *Pinger) Close() {
	for _, l := range p.lines() {
		_ = l.wire.Close() // a socket that has nothing to flush
	}
}

// Finish ends sending, and returns when it is known of every packet what became of
// it: after little more than Within, or when ctx ends. Run must be running.
func (p *Pinger) Finish(ctx context.Context) {
	p.mu.Lock()
	now := time.Now()
	for _, t := range p.wheel {
		if !p.ended {
			t.overslept(now)
		}
	}
	p.ended = true
	p.mu.Unlock()
	for end := now.Add(Within + stall + lag); p.underWay() && time.Now().Before(end) && clock.Sleep(ctx, Look); {
	}
}

// underWay tells whether there are packets of which it is not known what became of them.
func (p *Pinger) underWay() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.since(time.Now())
	left := false
	for _, t := range p.wheel {
		t.settle(now)
		left = left || t.pending.n > 0
	}
	return left
}

// send is the one sender.
func (p *Pinger) send(ctx context.Context, lines []*line) {
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
			if p.fill() {
				for _, l := range lines {
					p.flush(l)
				}
				continue
			}
			rest := p.rest()
			if p.nap == nil || rest >= 2*time.Millisecond {
				timer.Reset(rest)
				break
			}
			p.nap(rest)
		}
	}
}

// rest is how long the sender may sleep.
func (p *Pinger) rest() time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.wheel) == 0 || p.ended {
		return tick
	}
	least := time.Duration(0)
	if p.nap != nil {
		least = p.rests
	}
	return min(tick, max(least, time.Until(p.wheel[0].next)))
}

// fill collects packets to the targets whose turn has come, some of them if there are
// many. It reports whether there are any.
func (p *Pinger) fill() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	p.awake(now)
	at, any := p.since(now), false
	for len(p.wheel) > 0 && !p.ended {
		t := p.wheel[0].Target
		l := t.line
		n := len(l.out)
		if now.Before(t.next) || n == batch {
			break
		}
		t.settle(at)
		t.overslept(now)
		t.next = t.next.Add(t.every)
		p.wheel[0].due = p.since(t.next)
		heap.Fix(&p.wheel, 0)
		t.seq++
		*t.pending.push() = echo{sent: at, due: at + Within, missed: t.missed}
		t.missed = 0
		l.out = l.out[:n+1]
		l.out[n].Addr, l.to[n] = t.addr, t
		if l.card != nil {
			l.out[n].Message = l.card.question(l.out[n].Message, t)
		} else {
			request(l.out[n].Message, t.addr, p.id, t.seq, t.token)
		}
		any = true
	}
	return any
}

// flush sends what fill has collected for a line.
func (p *Pinger) flush(l *line) {
	for done := 0; done < len(l.out); {
		n, err := l.wire.Send(l.out[done:])
		done += n
		if done < len(l.out) {
			p.failed(l.to[done], err)
			done++
		}
	}
	l.out = l.out[:0]
}

// awake notes that the sender runs. After a stall, the answers that came
// meanwhile are still in the sockets' queues, so nothing that was under way is
// late for as long as the stall took. The caller holds mu.
func (p *Pinger) awake(now time.Time) {
	if gap := now.Sub(p.looked); gap > stall {
		for _, t := range p.wheel {
			for i := range t.pending.n {
				t.pending.at(i).due += gap
			}
		}
	}
	p.looked = now
}

// failed takes in that the last packet to a target was not sent.
func (p *Pinger) failed(t *Target, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if t.pending.n == 0 {
		return // it went out all the same
	}
	e := t.pending.at(t.pending.n - 1)
	switch {
	case e.fate != underWay: // the same
	case errors.Is(err, ErrBusy):
		t.missed = e.missed + 1
		t.pending.n, t.seq = t.pending.n-1, t.seq-1
		t.unwatched(p.began.Add(e.sent), t.every)
	default:
		e.fate = refused
		t.settle(0)
	}
}

// receive is the one receiver of a line.
func (p *Pinger) receive(ctx context.Context, l *line) {
	heard := make([]Packet, batch)
	for {
		n, seen, err := l.wire.Receive(heard)
		if err == nil {
			p.take(l, heard[:n], seen)
			if ctx.Err() != nil {
				return
			}
			continue
		}
		p.take(l, nil, time.Now())    // what this host does not give out will not come
		if !clock.Sleep(ctx, again) { // an error of the network, perhaps, so not in a tight loop
			return
		}
	}
}

// take takes messages in.
func (p *Pinger) take(l *line, heard []Packet, seen time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	hung := time.Since(p.looked) > stall
	for i := range heard {
		m := &heard[i]
		at := p.since(m.At)
		if m.Dropped {
			l.dropped(at)
		}
		p.answered(l, m, at, hung)
		l.seen = max(l.seen, at)
	}
	l.seen = max(l.seen, p.since(seen))
}

// dropped takes in that this host had no room for messages, the last time before at.
func (l *line) dropped(at time.Duration) {
	if l.dropTo < l.seen-Within { // nothing of that time is under way any more
		l.dropFrom = l.seen
	}
	l.dropTo = at
}

// answered takes a message in. What does not belong to a packet that is under way is
// of no interest: others' answers, doubles, and what comes too late. The caller holds
// mu.
func (p *Pinger) answered(l *line, m *Packet, at time.Duration, hung bool) {
	var t *Target
	var i int
	if l.card != nil {
		t, i = l.card.reply(m.Message, func(e *echo) bool { return e.sent <= at })
	} else {
		t, i = p.echoed(m)
	}
	if t == nil {
		return
	}
	e := t.pending.at(i)
	if late := at >= e.due && !hung; late || e.fate != underWay {
		return
	}
	e.fate, e.got = here, max(at, e.sent)
	seq := t.first() + uint32(i)
	if t.latest != 0 && int32(seq-t.latest) < 0 {
		t.counts.Reordered++
	} else {
		t.latest = seq
	}
	t.settle(0)
}

// echoed finds the target and the packet under way that an echo reply belongs to; nil:
// none. The caller holds mu.
func (p *Pinger) echoed(m *Packet) (*Target, int) {
	from := m.Addr.Unmap()
	id, seq, token, ok := answer(from, m.Message)
	if !ok || id != p.id {
		return nil, 0
	}
	t := p.byToken[token]
	if t == nil || t.addr != from {
		return nil, 0
	}
	i := seq - t.first() // goes round below the first
	if i >= uint32(t.pending.n) {
		return nil, 0
	}
	return t, int(i)
}
