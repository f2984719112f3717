package bmc

import (
	"context"
	"encoding/binary"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"holdfast/testbed/need"
)

// relay stands between a client and an IPMI device and does to the answers what
// a network, or somebody in it, may do.
type relay struct {
	t     *testing.T
	front *net.UDPConn
	back  string
	all   sync.WaitGroup

	mu    sync.Mutex
	conns map[string]*link // by the client's address
	// answer says what the client gets instead of an answer.
	answer func(l *link, p []byte) [][]byte
}

// link is one client: one try to set up a session, and that session.
type link struct {
	conn     net.Conn
	number   int    // 1 for the first client
	requests int    // within its session so far
	request  []byte // the last one
}

func newRelay(t *testing.T, back string, answer func(l *link, p []byte) [][]byte) *relay {
	front, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	r := &relay{t: t, front: front, back: back, conns: map[string]*link{}, answer: answer}
	r.all.Go(r.forward)
	t.Cleanup(func() {
		_ = front.Close()
		r.mu.Lock()
		for _, l := range r.conns {
			_ = l.conn.Close()
		}
		r.mu.Unlock()
		r.all.Wait()
	})
	return r
}

func (r *relay) forward() {
	buf := make([]byte, 4096)
	for {
		n, client, err := r.front.ReadFromUDP(buf)
		if err != nil {
			return
		}
		r.mu.Lock()
		l := r.conns[client.String()]
		if l == nil {
			conn, err := net.Dial("udp", r.back)
			if err != nil {
				r.mu.Unlock()
				r.t.Error(err)
				return
			}
			l = &link{conn: conn, number: len(r.conns) + 1}
			r.conns[client.String()] = l
			r.all.Go(func() { r.backward(l, client) })
		}
		if l.request = slices.Clone(buf[:n]); buf[5] == secured {
			l.requests++
		}
		r.mu.Unlock()
		_, _ = l.conn.Write(buf[:n]) // as lost as any datagram
	}
}

func (r *relay) backward(l *link, client *net.UDPAddr) {
	buf := make([]byte, 4096)
	for {
		n, err := l.conn.Read(buf)
		if err != nil {
			return
		}
		r.mu.Lock()
		out := r.answer(l, slices.Clone(buf[:n]))
		r.mu.Unlock()
		for _, p := range out {
			_, _ = r.front.WriteToUDP(p, client)
		}
	}
}

// Requests of Off within its session, by their order. The first is for the privilege.
const guidRequest, orderRequest, firstStatus = 2, 3, 4

func inSession(p []byte) bool { return len(p) > 5 && p[5] == secured }

// forgedOff are answers of IPMI 1.5, without any key, that say that the power is
// off, one for each request number.
func forgedOff() (all [][]byte) {
	for seq := range 64 {
		msg := []byte{0x81, 0x01 << 2, 0, 0x20, byte(seq << 2), 0x01, 0, 0x00, 0x00, 0x00, 0}
		p := []byte{6, 0, 0xff, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, byte(len(msg))}
		all = append(all, append(p, msg...))
	}
	return all
}

// TestAnswersThatAreNone: what is no authentic answer to the request that is due
// is neither believed nor does it harm.
func TestAnswersThatAreNone(t *testing.T) {
	for _, suite := range []int{17, 3} {
		r := goIPMI(t, machineID, suite)
		off := func(t *testing.T, ctx context.Context, answer func(l *link, p []byte) [][]byte) (*Device, error) {
			t.Helper()
			d := device(t, r.o, func(o *Options) {
				o.Address, o.Suite = newRelay(t, r.o.Address, answer).front.LocalAddr().String(), suite
			})
			var err error
			noneLeft(t, func() { err = d.Off(ctx) })
			return d, err
		}
		t.Run("forged without a key", func(t *testing.T) {
			r.reset(t)
			r.set(func(m *machine) { m.stuck = true })
			_, err := off(t, r.untilAsked(t, 3), func(l *link, p []byte) [][]byte {
				if inSession(p) && l.requests >= firstStatus {
					return append(forgedOff(), p)
				}
				return [][]byte{p}
			})
			fails(t, err, ErrStillOn, "read-back")
		})
		t.Run("from an earlier session", func(t *testing.T) {
			r.reset(t)
			var old [][]byte
			d, err := off(t, within(t, generous), func(l *link, p []byte) [][]byte {
				switch {
				case inSession(p) && l.number == 1:
					old = append(old, p)
				case inSession(p):
					return append(slices.Clone(old), p)
				}
				return [][]byte{p}
			})
			if err != nil || r.lives() {
				t.Fatalf("%v, alive %v; want an honest off", err, r.lives())
			}
			r.reset(t)
			r.set(func(m *machine) { m.stuck = true })
			fails(t, d.Off(r.untilAsked(t, 3)), ErrStillOn, "read-back")
		})
		t.Run("altered", func(t *testing.T) {
			r.reset(t)
			r.set(func(m *machine) { m.stuck = true })
			_, err := off(t, r.untilAsked(t, 2), func(l *link, p []byte) [][]byte {
				if inSession(p) && l.requests >= firstStatus {
					p[headerLen+7] ^= 1 // of the initial vector: turns "on" into "off" without any key
				}
				return [][]byte{p}
			})
			fails(t, err, ErrUnreachable, "read-back")
		})
		t.Run("from the same session", func(t *testing.T) {
			r.reset(t)
			sameSession(t, r, suite)
		})
		t.Run("malformed and doubled", func(t *testing.T) {
			r.reset(t)
			_, err := off(t, within(t, generous), func(l *link, p []byte) [][]byte {
				out := [][]byte{{6}, {6, 0, 0xff, 7, 6, secured}}
				for size := 1; size < len(p) && inSession(p); size += 3 { // whole header, payload cut
					q := slices.Clone(p[:max(size, headerLen)])
					binary.LittleEndian.PutUint16(q[14:], uint16(len(q)-headerLen))
					out = append(out, q)
				}
				return append(out, p, p)
			})
			if err != nil || r.lives() {
				t.Errorf("%v, alive %v", err, r.lives())
			}
		})
	}
}

// sameSession: request numbers come round after 63. An answer "off" of the round
// before is no answer in this one.
func sameSession(t *testing.T, r rig, suite int) {
	t.Helper()
	const round = 63
	all := map[int][]byte{}
	d := device(t, r.o, func(o *Options) {
		o.Suite = suite
		o.Address = newRelay(t, r.o.Address, func(l *link, p []byte) [][]byte {
			if !inSession(p) {
				return [][]byte{p}
			}
			all[l.requests] = p
			if old := all[l.requests-round]; old != nil {
				return [][]byte{old, p}
			}
			return [][]byte{p}
		}).front.LocalAddr().String()
	})
	ctx := within(t, generous)
	s, err := d.connect(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer s.close(ctx)
	r.set(func(m *machine) { m.kill() })
	for i := range 2 * round {
		if i == round {
			r.reset(t)
		}
		if on, err := s.power(ctx); err != nil || on != (i >= round) {
			t.Fatalf("question %d: on %v, %v", i+1, on, err)
		}
	}
}

// TestLosses: answers that are lost or late are asked for again, within the time.
func TestLosses(t *testing.T) {
	need.Seconds(t)
	r := goIPMI(t, machineID, 17)
	for _, c := range []struct {
		name   string
		answer func(l *link, p []byte) [][]byte
		limit  time.Duration
		err    error
		step   string
		orders int // at least
	}{
		{"of the order", func(l *link, p []byte) [][]byte {
			if inSession(p) && l.requests == orderRequest {
				return nil
			}
			return [][]byte{p}
		}, generous, nil, "", 2},
		{"all after the order", func(l *link, p []byte) [][]byte {
			if inSession(p) && l.requests > orderRequest {
				return nil
			}
			return [][]byte{p}
		}, 2 * time.Second, ErrUnreachable, "read-back", 1},
		{"one behind, after the GUID", late(guidRequest), 2500 * time.Millisecond, ErrUnreachable, "order", 2},
		{"one behind, after the order", late(orderRequest), 2500 * time.Millisecond, ErrUnreachable, "read-back", 1},
		{"of the first try of a session", func(l *link, p []byte) [][]byte {
			if l.number == 1 {
				return nil
			}
			return [][]byte{p}
		}, generous, nil, "", 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			r.reset(t)
			d := device(t, r.o, func(o *Options) {
				o.Address, o.Suite = newRelay(t, r.o.Address, c.answer).front.LocalAddr().String(), 17
			})
			noneLeft(t, func() {
				if err := d.Off(within(t, c.limit)); c.err != nil {
					fails(t, err, c.err, c.step)
				} else if err != nil || r.lives() {
					t.Errorf("%v, alive %v", err, r.lives())
				}
			})
			if r.ordered() < c.orders {
				t.Errorf("%d orders, want at least %d", r.ordered(), c.orders)
			}
		})
	}
}

// late gives each answer that comes after the first few to the request after its own.
func late(few int) func(l *link, p []byte) [][]byte {
	var held []byte
	return func(l *link, p []byte) [][]byte {
		if !inSession(p) || l.requests <= few {
			return [][]byte{p}
		}
		out := [][]byte{held}
		if held == nil {
			out = nil
		}
		held = p
		return out
	}
}

// TestFreesItsSession: a device gives few sessions, and each use ends its own.
func TestFreesItsSession(t *testing.T) {
	r := goIPMI(t, machineID, 17) // it gives 4
	d := device(t, r.o)
	for i := range 20 {
		if _, err := d.Check(within(t, generous)); err != nil {
			t.Fatalf("use %d: %v", i+1, err)
		}
	}
}

// TestOtherSuite: a device that was replaced by one that knows another cipher suite.
func TestOtherSuite(t *testing.T) {
	r := goIPMI(t, machineID, 3)
	d := device(t, r.o)
	d.suite.Store(17)
	if err := d.Off(within(t, generous)); err != nil || r.lives() || d.suite.Load() != 3 {
		t.Errorf("%v, alive %v, suite %d", err, r.lives(), d.suite.Load())
	}
	fails(t, device(t, r.o, func(o *Options) { o.Suite = 17 }).Off(within(t, generous)), ErrRefused, "connect")
}
