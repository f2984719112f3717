package lab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// WatchLimit is how long a probe of WatchGuests waits for its answer; a later
// one is lost. It is longer than PingLimit: a guest that stands still for a
// moment answers late, which Gap shows, and has lost nothing.
const WatchLimit = time.Second

// Bounds of the interval of WatchGuests.
const (
	minEvery = 5 * time.Millisecond
	maxEvery = time.Second
)

// watchBuffer is the socket's memory in each direction, in bytes. Probes to a
// guest that is off wait in the kernel for its neighbour, on the account of the
// one socket: they must not hold up the probes to all others.
const watchBuffer = 32 << 20

// GuestPings is what a watcher saw of one guest.
type GuestPings struct {
	Name      string        `json:"name"`
	Addr      netip.Addr    `json:"addr"`
	Sent      int           `json:"sent"`
	Lost      int           `json:"lost"`                // not answered within WatchLimit
	Gap       time.Duration `json:"gap_ns"`              // longest time between two answers in a row, or since the last one
	FirstLost time.Time     `json:"first_lost,omitzero"` // when the first lost probe was sent
	LastLost  time.Time     `json:"last_lost,omitzero"`  // when the last one was
}

// WatchGuests probes all business guests from the switch, each by one ICMP echo
// per interval (5 ms to 1 s), until ctx ends, whose end is no error. It returns
// one record per guest, in their order. Probes that were still within
// WatchLimit at the end are not counted.
func (l *Lab) WatchGuests(ctx context.Context, every time.Duration) ([]GuestPings, error) {
	all, err := l.Guests(ctx)
	if err != nil {
		return nil, fmt.Errorf("watch guests: %w", err)
	}
	to := make([]GuestPings, len(all))
	for i, g := range all {
		to[i] = GuestPings{Name: g.Name, Addr: g.Addr}
	}
	return l.Watch(ctx, every, to)
}

// Watch is WatchGuests for any guests or hosts of the laboratory: of each,
// Name and Addr.
func (l *Lab) Watch(ctx context.Context, every time.Duration, to []GuestPings) ([]GuestPings, error) {
	if every < minEvery || every > maxEvery {
		return nil, fmt.Errorf("watch guests: interval %v: want %v to %v", every, minEvery, maxEvery)
	}
	conn, err := l.icmpSocket()
	if err != nil {
		return nil, fmt.Errorf("watch guests: %w", err)
	}
	w := newWatcher(conn, to)
	err = errors.Join(w.enlarge(), w.run(ctx, every), conn.Close())
	if err != nil {
		return nil, fmt.Errorf("watch guests: %w", err)
	}
	return w.records(time.Now()), nil
}

// watcher probes many addresses by one socket, in one goroutine.
type watcher struct {
	conn    *net.IPConn
	id      uint16
	tallies []*tally
	byAddr  map[netip.Addr]*tally
}

func newWatcher(conn *net.IPConn, to []GuestPings) *watcher {
	w := &watcher{conn: conn, id: uint16(os.Getpid()) ^ uint16(time.Now().UnixNano()>>10), byAddr: map[netip.Addr]*tally{}}
	for _, g := range to {
		t := &tally{rec: GuestPings{Name: g.Name, Addr: g.Addr}}
		w.tallies = append(w.tallies, t)
		w.byAddr[g.Addr] = t
	}
	return w
}

// enlarge gives the socket watchBuffer, beyond what the machine allows others.
func (w *watcher) enlarge() error {
	raw, err := w.conn.SyscallConn()
	if err != nil {
		return err
	}
	var serr error
	err = raw.Control(func(fd uintptr) {
		serr = errors.Join(unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, watchBuffer),
			unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, watchBuffer))
	})
	return errors.Join(err, serr)
}

// run sends at every interval and reads answers in between. When it comes late
// it leaves intervals out, instead of sending a burst.
func (w *watcher) run(ctx context.Context, every time.Duration) error {
	buf := make([]byte, 256)
	for next := time.Now(); ctx.Err() == nil; {
		if now := time.Now(); !now.Before(next) {
			if err := w.send(now); err != nil {
				return err
			}
			if next = next.Add(every); next.Before(now) {
				next = now.Add(every)
			}
		}
		if err := w.receive(buf, next); err != nil {
			return err
		}
	}
	return nil
}

// send sends one probe to each. One that can not be sent (no route, no
// neighbour) is a lost one.
func (w *watcher) send(now time.Time) error {
	if err := w.conn.SetWriteDeadline(now.Add(WatchLimit)); err != nil {
		return err
	}
	for _, t := range w.tallies {
		n := t.send(time.Now())
		if _, err := w.conn.WriteToIP(echoRequest(w.id, n), &net.IPAddr{IP: t.rec.Addr.AsSlice()}); errors.Is(err, net.ErrClosed) {
			return err
		}
	}
	return nil
}

// receive notes answers until the given moment.
func (w *watcher) receive(buf []byte, until time.Time) error {
	if err := w.conn.SetReadDeadline(until); err != nil {
		return err
	}
	for {
		n, from, err := w.conn.ReadFromIP(buf)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return nil
		}
		if errors.Is(err, net.ErrClosed) {
			return err
		}
		if err != nil {
			continue // an ICMP error that another host sent
		}
		addr, _ := netip.AddrFromSlice(from.IP)
		seq, ok := parseEcho(buf[:n], w.id)
		if t := w.byAddr[addr.Unmap()]; ok && t != nil {
			t.answer(seq, time.Now())
		}
	}
}

func (w *watcher) records(now time.Time) []GuestPings {
	var all []GuestPings
	for _, t := range w.tallies {
		all = append(all, t.end(now))
	}
	return all
}

// tally counts the probes to one guest. It keeps those only that are not
// settled yet, so its size is bounded however long it counts.
type tally struct {
	rec     GuestPings
	open    []probe // in the order of sending, the first has the number of rec.Sent
	last    time.Time
	missing bool // the newest settled probe is lost
}

// send notes a probe that is sent now and returns its number.
func (t *tally) send(now time.Time) uint64 {
	if t.last.IsZero() {
		t.last = now
	}
	t.settle(now)
	t.open = append(t.open, probe{sent: now})
	return uint64(t.rec.Sent + len(t.open) - 1)
}

// answer notes the first answer to a probe, unless it comes after WatchLimit.
func (t *tally) answer(n uint64, now time.Time) {
	i := int(n) - t.rec.Sent
	if i < 0 || i >= len(t.open) || !t.open[i].answered.IsZero() || now.Sub(t.open[i].sent) > WatchLimit {
		return
	}
	t.open[i].answered = now
	t.rec.Gap = max(t.rec.Gap, now.Sub(t.last))
	t.last = now
}

// settle counts the probes whose time is over.
func (t *tally) settle(now time.Time) {
	done := 0
	for _, q := range t.open {
		if now.Sub(q.sent) <= WatchLimit {
			break
		}
		done++
		t.rec.Sent++
		if t.missing = q.answered.IsZero(); !t.missing {
			continue
		}
		t.rec.Lost++
		t.rec.LastLost = q.sent
		if t.rec.FirstLost.IsZero() {
			t.rec.FirstLost = q.sent
		}
	}
	t.open = append(t.open[:0], t.open[done:]...)
}

func (t *tally) end(now time.Time) GuestPings {
	t.settle(now)
	if t.missing {
		t.rec.Gap = max(t.rec.Gap, now.Sub(t.last))
	}
	return t.rec
}
