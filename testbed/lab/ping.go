package lab

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"
)

// PingInterval is the time between two probes of Ping.
const PingInterval = 20 * time.Millisecond

// PingLimit is how long a probe waits for its answer; a later one is lost.
const PingLimit = 200 * time.Millisecond

// Pings is the record of a prober: ICMP echoes sent every PingInterval.
type Pings struct {
	Sent    int
	Lost    int           // not answered within PingLimit
	Longest time.Duration // longest time between two answers in a row, or since the last one
	Outages []Outage      // in order
}

// Outage is a run of lost probes.
type Outage struct {
	Start time.Time // when the first lost probe was sent
	End   time.Time // when the next answered probe was sent; zero: it lasts
	Lost  int       // probes
}

// Ping probes an address from the switch until ctx ends and returns the record.
// The end of ctx is no error. Probes that were still within PingLimit at the
// end are not counted.
func (l *Lab) Ping(ctx context.Context, to netip.Addr) (Pings, error) {
	conn, err := l.icmpSocket()
	if err != nil {
		return Pings{}, fmt.Errorf("ping %s: %w", to, err)
	}
	return newPinger(conn, to).run(ctx)
}

// run probes until ctx ends and closes the socket.
func (p *pinger) run(ctx context.Context) (Pings, error) {
	var wg sync.WaitGroup
	wg.Go(p.receive)
	sendErr := p.send(ctx)
	// The close ends receive.
	err := errors.Join(sendErr, p.conn.Close())
	wg.Wait()
	if err != nil {
		return Pings{}, fmt.Errorf("ping %s: %w", p.to, err)
	}
	return p.record(time.Now()), nil
}

func (l *Lab) icmpSocket() (*net.IPConn, error) {
	var conn *net.IPConn
	err := l.InSwitch(func() error {
		var err error
		conn, err = net.ListenIP("ip4:icmp", &net.IPAddr{IP: net.IPv4zero})
		return err
	})
	return conn, err
}

// probe is one echo request. Times carry the monotonic clock.
type probe struct{ sent, answered time.Time }

type pinger struct {
	conn *net.IPConn
	to   netip.Addr
	id   uint16

	mu     sync.Mutex
	probes []probe
}

func newPinger(conn *net.IPConn, to netip.Addr) *pinger {
	return &pinger{conn: conn, to: to, id: uint16(os.Getpid()) ^ uint16(time.Now().UnixNano()>>10)}
}

// send sends a probe at every tick. A probe that can not be sent (no route, no
// neighbour) is a lost one.
func (p *pinger) send(ctx context.Context) error {
	dst := &net.IPAddr{IP: p.to.AsSlice()}
	t := time.NewTicker(PingInterval)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
		p.mu.Lock()
		n := len(p.probes)
		p.probes = append(p.probes, probe{sent: time.Now()})
		p.mu.Unlock()
		if err := p.conn.SetWriteDeadline(time.Now().Add(PingLimit)); err != nil {
			return err
		}
		if _, err := p.conn.WriteToIP(echoRequest(p.id, uint64(n)), dst); errors.Is(err, net.ErrClosed) {
			return err
		}
	}
}

// receive notes answers until the socket is closed.
func (p *pinger) receive() {
	buf := make([]byte, 256)
	for {
		n, from, err := p.conn.ReadFromIP(buf)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue // an ICMP error that another host sent
		}
		if addr, ok := netip.AddrFromSlice(from.IP); !ok || addr.Unmap() != p.to {
			continue
		}
		seq, ok := parseEcho(buf[:n], p.id)
		if !ok {
			continue
		}
		p.mu.Lock()
		if seq < uint64(len(p.probes)) && p.probes[seq].answered.IsZero() {
			p.probes[seq].answered = time.Now()
		}
		p.mu.Unlock()
	}
}

// record sums up the probes whose time was over at the moment now.
func (p *pinger) record(now time.Time) Pings {
	p.mu.Lock()
	defer p.mu.Unlock()
	var r Pings
	var last time.Time // of the latest answer
	for _, q := range p.probes {
		if now.Sub(q.sent) < PingLimit {
			break
		}
		if last.IsZero() {
			last = q.sent
		}
		r.Sent++
		open := len(r.Outages) > 0 && r.Outages[len(r.Outages)-1].End.IsZero()
		if !q.answered.IsZero() && q.answered.Sub(q.sent) <= PingLimit {
			r.Longest = max(r.Longest, q.answered.Sub(last))
			last = q.answered
			if open {
				r.Outages[len(r.Outages)-1].End = q.sent
			}
			continue
		}
		r.Lost++
		if !open {
			r.Outages = append(r.Outages, Outage{Start: q.sent})
		}
		r.Outages[len(r.Outages)-1].Lost++
	}
	if n := len(r.Outages); n > 0 && r.Outages[n-1].End.IsZero() {
		r.Longest = max(r.Longest, now.Sub(last))
	}
	return r
}

const (
	icmpEchoReply = 0 // RFC 792
	icmpEcho      = 8
	echoLen       = 16 // header and an eight-byte number: the header's own one is too short for long runs
)

func echoRequest(id uint16, n uint64) []byte {
	b := make([]byte, echoLen)
	b[0] = icmpEcho
	binary.BigEndian.PutUint16(b[4:], id)
	binary.BigEndian.PutUint16(b[6:], uint16(n))
	binary.BigEndian.PutUint64(b[8:], n)
	binary.BigEndian.PutUint16(b[2:], checksum(b))
	return b
}

// parseEcho reads an answer to a request of echoRequest.
func parseEcho(b []byte, id uint16) (n uint64, ok bool) {
	if len(b) < echoLen || b[0] != icmpEchoReply || binary.BigEndian.Uint16(b[4:]) != id {
		return 0, false
	}
	return binary.BigEndian.Uint64(b[8:]), true
}

// checksum is the Internet checksum (RFC 1071) of an even number of bytes.
func checksum(b []byte) uint16 {
	var sum uint32
	for i := 0; i < len(b); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}
