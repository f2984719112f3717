package ping

import (
	"net/netip"
	"slices"
	"time"
)

// Counts are the figures of a target.
type Counts struct {
	Sent      int64         // packets whose answer came, or can not come in time any more
	Lost      int64         // of these, those without an answer
	Longest   time.Duration // the longest time without an answer: from the first of lost packets in a row to an interval after the last
	Unwatched time.Duration // in which this process sent nothing although it should have, or could not take in the answers
	Reordered int64         // answers that came after the answer to a later packet; by ARP it is not known, and 0
	First     time.Time     // when the first of Sent was sent; zero without one
	Last      time.Time     // when the last of Sent was sent
	Answered  time.Time     // when the last that was answered was sent
}

// Gap is a time in which a target did not answer. The package comment defines it.
type Gap struct {
	At     time.Time     // when the first packet was sent that was lost
	Length time.Duration // without what was not watched in it
	Open   bool          // no answer has come since
}

// MaxGaps is how many gaps of a target are kept, and how many times in which it was not watched: the longest.
const MaxGaps = 100

// Target is an address that is pinged. Two targets may have the same address.
type Target struct {
	p     *Pinger
	line  *line
	addr  netip.Addr
	every time.Duration
	token uint64

	next    time.Time
	at      int // in the wheel; -1: removed
	seq     uint32
	latest  uint32 // the highest that was answered
	missed  int32  // intervals in which nothing was sent, before the next packet
	pending queue
	counts  Counts

	up      time.Duration // when the last answer came that was counted
	dark    time.Duration // when the first of the lost packets in a row was sent; 0: the last was answered
	out     time.Duration // when the last of them was sent
	unknown int64         // intervals since up of which nothing is known
	gaps    pending       // but the one that is open

	unseen  Gap     // the last time in which it was not watched, which may go on; of length 0: there was none
	unseens pending // those before it
}

// pending are the longest of many times, and how many others there were.
type pending struct {
	gaps []Gap
	more int64
}

func (k *pending) add(g Gap) {
	if len(k.gaps) < MaxGaps {
		k.gaps = append(k.gaps, g)
		return
	}
	k.more++
	least := 0
	for i := range k.gaps {
		if k.gaps[i].Length < k.gaps[least].Length {
			least = i
		}
	}
	if k.gaps[least].Length < g.Length {
		k.gaps[least] = g
	}
}

// and gives what is kept and the last one, by time.
func (k *pending) and(last Gap, there bool) ([]Gap, int64) {
	all := slices.Clone(k.gaps)
	if there {
		all = append(all, last)
	}
	slices.SortFunc(all, func(a, b Gap) int { return a.At.Compare(b.At) })
	return all, k.more
}

// echo is a packet that is under way.
type echo struct {
	sent, due time.Duration
	got       time.Duration // when its answer came
	missed    int32         // intervals before it in which nothing was sent
	fate      fate
}

// fate is what became of a packet.
type fate uint8

const (
	underWay fate = iota
	here          // its answer has come
	refused       // there is no way to the target: it is lost already
)

// first is the number of the first packet that is under way.
func (t *Target) first() uint32 { return t.seq - uint32(t.pending.n) + 1 }

// Addr is the target's address.
func (t *Target) Addr() netip.Addr { return t.addr }

// Counts returns the figures as they are now. What is under way is not in them.
func (t *Target) Counts() Counts {
	t.p.mu.Lock()
	defer t.p.mu.Unlock()
	return t.counts
}

// Gaps returns the longest gaps, by time, and how many others there were.
func (t *Target) Gaps() (gaps []Gap, more int64) {
	t.p.mu.Lock()
	defer t.p.mu.Unlock()
	return t.gaps.and(Gap{At: t.p.began.Add(t.dark), Length: t.length(t.out + t.every), Open: true}, t.dark != 0)
}

// Unwatched returns the longest times in which the target was not watched, by time, and how many others there were.
func (t *Target) Unwatched() (times []Gap, more int64) {
	t.p.mu.Lock()
	defer t.p.mu.Unlock()
	return t.unseens.and(t.unseen, t.unseen.Length > 0)
}

// unwatched counts a time in which the target was not watched. The caller holds mu.
func (t *Target) unwatched(at time.Time, length time.Duration) {
	t.counts.Unwatched += length
	last := &t.unseen
	if end := last.At.Add(last.Length); last.Length > 0 && !at.Before(last.At) && at.Sub(end) < t.every/2 {
		last.Length = max(last.Length, at.Add(length).Sub(last.At))
		return
	}
	if last.Length > 0 {
		t.unseens.add(*last)
	}
	*last = Gap{At: at, Length: length}
}

// overslept counts the intervals before now in which nothing was sent. The caller
// holds mu.
func (t *Target) overslept(now time.Time) {
	if missed := now.Sub(t.next) / t.every; missed > 0 {
		t.missed += int32(missed)
		t.unwatched(t.next, missed*t.every)
		t.next = t.next.Add(missed * t.every)
	}
}

// settle counts, in their order, the packets whose fate is known at now. The
// caller holds mu.
func (t *Target) settle(now time.Duration) {
	for t.pending.n > 0 {
		e := *t.pending.at(0)
		if e.fate == underWay && (now < e.due || t.line.seen+lag < e.due) {
			return
		}
		t.pending.pop()
		t.unknown += int64(e.missed)
		if l := t.line; e.fate == underWay && e.sent <= l.dropTo && e.due >= l.dropFrom {
			t.unwatched(t.p.began.Add(e.sent), t.every) // its answer may have been dropped
			t.unknown++
			continue
		}
		t.count(e)
	}
}

// count counts a packet. The caller holds mu.
func (t *Target) count(e echo) {
	c, sent := &t.counts, t.p.began.Add(e.sent)
	c.Sent++
	c.Last = sent
	if c.First.IsZero() {
		c.First = sent
	}
	if e.fate == here {
		if t.dark != 0 {
			t.close(e)
		}
		c.Answered, t.up, t.unknown = sent, max(t.up, e.got), 0
		return
	}
	if t.dark == 0 {
		t.dark = e.sent
		if t.up == 0 { // as if the packet before had been answered
			t.up, t.unknown = e.sent-t.every, 0
		}
	}
	t.out = e.sent
	c.Lost++
	c.Longest = max(c.Longest, e.sent-t.dark+t.every)
}

// length of the gap that is open, if the first answer after it came at then.
func (t *Target) length(then time.Duration) time.Duration {
	return max(0, then-t.up-t.every*time.Duration(1+t.unknown))
}

// close ends the gap that is open by the answer to e, or an earlier one to a later
// packet.
func (t *Target) close(e echo) {
	first := e.got
	for i := range t.pending.n {
		if x := t.pending.at(i); x.fate == here {
			first = min(first, x.got)
		}
	}
	t.gaps.add(Gap{At: t.p.began.Add(t.dark), Length: t.length(first)})
	t.dark = 0
}

// queue holds the packets that are under way, without a gap in their numbers. It
// grows as needed.
type queue struct {
	ring    []echo // its length is a power of two, or 0
	head, n int
}

// at is the i-th.
func (q *queue) at(i int) *echo { return &q.ring[(q.head+i)&(len(q.ring)-1)] }

// push makes room for one more at the end.
func (q *queue) push() *echo {
	if q.n == len(q.ring) {
		more := make([]echo, max(4, 2*q.n))
		for i := range q.n {
			more[i] = *q.at(i)
		}
		q.ring, q.head = more, 0
	}
	q.n++
	return q.at(q.n - 1)
}

// pop removes the first.
func (q *queue) pop() { q.head, q.n = (q.head+1)&(len(q.ring)-1), q.n-1 }

// wheel is a heap of the targets by when their turn comes.
type wheel []turn

// turn of a target. When it comes stands beside the target, so that the heap looks at
// no other memory: with thousands of targets that is most of its time.
type turn struct {
	*Target
	due time.Duration
}

func (w wheel) Len() int           { return len(w) }
func (w wheel) Less(i, j int) bool { return w[i].due < w[j].due }
func (w wheel) Swap(i, j int) {
	w[i], w[j] = w[j], w[i]
	w[i].at, w[j].at = i, j
}

// Push implements heap.Interface.
func (w *wheel) Push(x any) {
	t := x.(*Target)
	t.at = len(*w)
	*w = append(*w, turn{t, t.p.since(t.next)})
}

// Pop implements heap.Interface.
func (w *wheel) Pop() any {
	last := len(*w) - 1
	t := (*w)[last].Target
	(*w)[last] = turn{}
	*w = (*w)[:last]
	t.at = -1
	return t
}
