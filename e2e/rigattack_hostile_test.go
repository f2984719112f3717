package e2e

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/status"

	"holdfast/internal/cluster"
	"holdfast/internal/ha/records"
	"holdfast/internal/lib/clock"
	"holdfast/internal/lib/pki"
	"holdfast/testbed/lab"
)

// hostileCommand, before an order, makes this program an attacker: it is run again in the switch's namespace. A
// process of its own has the namespace on all its threads, and can be told to take less of the processors than the
// hosts, as a machine of its own would.
const hostileCommand = "hostile"

// order is what an attacker is told.
type order struct {
	Attack  string
	From    netip.Addr   // its own
	Also    []netip.Addr `json:",omitempty"` // that it has taken beside
	Members []netip.Addr
	Host    string   // whose certificate it has
	TLS     tlsFiles // of that host
	// More are certificates of other such hosts, by name, that it has beside.
	More map[string]tlsFiles `json:",omitempty"`
}

type tlsFiles struct{ CA, Cert, Key string }

// Ports of a member.
const (
	storePort = 2379
	peersPort = 2380
)

// storePrefix is before all keys of a laboratory's cluster.
const storePrefix = "/holdfast/lab/"

// hostile carries an order out until its input ends, and tells each second what it has done so far.
func hostile(text string) error {
	var o order
	if err := json.Unmarshal([]byte(text), &o); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin) // however it ends
		cancel()
	}()
	h := &attacker{order: o, counters: &counters{did: map[string]int{}, open: map[string]int{}}}
	start, known := attacks[o.Attack]
	if !known {
		return fmt.Errorf("no attack is named %q", o.Attack)
	}
	if start.withCertificate {
		_, conf, err := pki.Load(o.TLS.CA, o.TLS.Cert, o.TLS.Key)
		if err != nil {
			return err
		}
		h.tls = conf
	}
	if err := start.run(ctx, h); err != nil {
		return err
	}
	for clock.Sleep(ctx, time.Second) {
		if err := h.tell(os.Stdout); err != nil {
			return err
		}
	}
	h.wg.Wait()
	return nil
}

// attackKind is one attack.
type attackKind struct {
	withCertificate bool
	run             func(context.Context, *attacker) error // starts it
}

var attacks = map[string]attackKind{
	"large values":         {true, largeValues},
	"many keys":            {true, manyKeys},
	"streams of the store": {true, unreadStore},
	"bombs and streams":    {true, bombs},
	"bare connections":     {false, bareConnections},
	manyAddresses:          {false, bareConnections},
	"foreign handshakes":   {false, foreignHandshakes},
	severalHosts:           {true, several},
	"pieces and resets":    {true, pieces},
}

// manyAddresses is an attack from so many addresses that no bound of a single one counts.
const manyAddresses = "many addresses"

type attacker struct {
	order
	tls *tls.Config // nil: it has no certificate
	*counters
}

// counters are what all attackers of a process have together.
type counters struct {
	wg sync.WaitGroup

	mu   sync.Mutex
	turn int            // of From and Also
	did  map[string]int // how often what came of it
	open map[string]int // what is under way
}

func (h *attacker) count(what string) { h.add(h.did, what, 1) }

func (h *attacker) add(in map[string]int, what string, n int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	in[what] += n
}

// tally is a line that an attacker writes.
type tally struct {
	Did  map[string]int
	Open map[string]int
}

func (h *attacker) tell(w io.Writer) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return json.NewEncoder(w).Encode(tally{h.did, h.open})
}

// workers runs do again and again, in n goroutines for each member, until ctx ends.
func (h *attacker) workers(ctx context.Context, n int, do func(ctx context.Context, member netip.Addr)) {
	for _, m := range h.Members {
		for range n {
			h.wg.Go(func() {
				for ctx.Err() == nil {
					do(ctx, m)
				}
			})
		}
	}
}

func (h *attacker) dial(ctx context.Context, to netip.Addr, port uint16) (net.Conn, error) {
	d := net.Dialer{Timeout: 5 * time.Second, LocalAddr: &net.TCPAddr{IP: h.source().AsSlice()}}
	return d.DialContext(ctx, "tcp", netip.AddrPortFrom(to, port).String())
}

// source is each address that the attacker has, in turn.
func (h *attacker) source() netip.Addr {
	if len(h.Also) == 0 {
		return h.From
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.turn++
	return h.Also[h.turn%len(h.Also)]
}

// secured is a connection by a certificate.
func (h *attacker) secured(ctx context.Context, to netip.Addr, port uint16, conf *tls.Config, protocols ...string) (*tls.Conn, error) {
	c, err := h.dial(ctx, to, port)
	if err != nil {
		return nil, err
	}
	conf = conf.Clone()
	conf.ServerName, conf.NextProtos = to.String(), protocols
	t := tls.Client(c, conf)
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	if err := t.HandshakeContext(ctx); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return t, nil
}

// store connects to one member's store.
func (h *attacker) store(to netip.Addr) (*clientv3.Client, error) {
	return clientv3.New(clientv3.Config{
		Endpoints: []string{fmt.Sprintf("https://%s:%d", to, storePort)}, TLS: h.tls, Logger: zap.NewNop(), DialKeepAliveTime: 10 * time.Second,
		DialOptions: []grpc.DialOption{grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
			return h.dial(ctx, to, storePort)
		})},
	})
}

// stores connects to all members.
func (h *attacker) stores() (map[netip.Addr]*clientv3.Client, error) {
	all := map[netip.Addr]*clientv3.Client{}
	for _, m := range h.Members {
		c, err := h.store(m)
		if err != nil {
			return nil, err
		}
		all[m] = c
	}
	return all, nil
}

// put writes one value.
func (h *attacker) put(ctx context.Context, c *clientv3.Client, kind, key string, value []byte) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	_, err := c.Txn(ctx).Then(clientv3.OpPut(storePrefix+key, string(value))).Commit()
	h.count(kind + " " + status.Code(err).String())
	if err != nil {
		clock.Sleep(ctx, time.Millisecond) // what fails at once would take the machine
	}
}

// random is n random bytes in hex.
func random(n int) string {
	b := make([]byte, n)
	_, _ = rand.Read(b) // it never fails
	return fmt.Sprintf("%x", b)
}

// report is the host's own, of some bytes.
func (h *attacker) report(size int) []byte {
	return fmt.Appendf(nil, `{"host":{"name":%q},"agent":"%s"}`, h.Host, bytes.Repeat([]byte("x"), size))
}

// largeValues writes 1.4 MB under ever new keys, and large reports of the host itself.
func largeValues(ctx context.Context, h *attacker) error {
	stores, err := h.stores()
	if err != nil {
		return err
	}
	large, own := bytes.Repeat([]byte("x"), 1_400_000), h.report(400<<10)
	h.workers(ctx, 12, func(ctx context.Context, m netip.Addr) {
		h.put(ctx, stores[m], "probe", "upgrade-probe/"+random(16)+"/"+h.Host, large)
	})
	h.workers(ctx, 8, func(ctx context.Context, m netip.Addr) { h.put(ctx, stores[m], "report", "fleet/"+h.Host, own) })
	return nil
}

// uuid is a random one.
func uuid() string {
	x := random(16)
	return x[:8] + "-" + x[8:12] + "-" + x[12:16] + "-" + x[16:20] + "-" + x[20:]
}

// manyKeys writes small values of the right form under ever new keys.
func manyKeys(ctx context.Context, h *attacker) error {
	stores, err := h.stores()
	if err != nil {
		return err
	}
	self := cluster.HostID(h.Host)
	event := records.Encode(cluster.Event{Kind: cluster.EvWant, By: self, Resource: cluster.MgmtVM, Detail: h.Host + " in maintenance"})
	h.workers(ctx, 8, func(ctx context.Context, m netip.Addr) {
		h.put(ctx, stores[m], "request", records.KeyRequests+random(16), []byte("2026-01-02T03:04:05Z"))
	})
	h.workers(ctx, 8, func(ctx context.Context, m netip.Addr) {
		b := make([]byte, 16)
		_, _ = rand.Read(b) // it never fails
		key := fmt.Sprintf("%s%020d-%s-%d", records.KeyLog, binary.BigEndian.Uint64(b)>>1, h.Host, binary.BigEndian.Uint16(b[8:]))
		h.put(ctx, stores[m], "event", key, event)
	})
	h.workers(ctx, 8, func(ctx context.Context, m netip.Addr) {
		guest := uuid() // refused, and not before the member has read what there is to do
		h.put(ctx, stores[m], "carry", "fleet-carry/h1/"+guest, fmt.Appendf(nil, `{"uuid":%q,"from":%q,"live":true}`, guest, h.Host))
	})
	return nil
}

// bareConnections keeps 3,000 connections to each port of each member open, without a byte on them.
func bareConnections(ctx context.Context, h *attacker) error {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return err
	}
	each := min(3000, int(limit.Cur-500)/(3*len(h.Members)))
	for name, port := range map[string]uint16{"api": lab.APIPort, "store": storePort, "peers": peersPort} {
		h.workers(ctx, each, func(ctx context.Context, m netip.Addr) {
			c, err := h.dial(ctx, m, port)
			if err != nil {
				h.count(name + " refused")
				clock.Sleep(ctx, time.Second)
				return
			}
			h.add(h.open, name, 1)
			end := context.AfterFunc(ctx, func() { _ = c.Close() }) // no more is wanted of it
			_, _ = c.Read(make([]byte, 1))                          // it ends when the other end does
			end()
			h.add(h.open, name, -1)
			h.count(name + " closed")
			_ = c.Close() // the same
			clock.Sleep(ctx, time.Second)
		})
	}
	return nil
}

// wasLetIn ends what is counted when a server has let somebody in who has no certificate of the cluster.
const wasLetIn = " let in"

// foreignHandshakes begins TLS with another authority's certificate, and sends heartbeats that nobody has signed.
func foreignHandshakes(ctx context.Context, h *attacker) error {
	ca, err := pki.NewCA("foreign", time.Hour)
	if err != nil {
		return err
	}
	pair, err := ca.Issue("h1", []netip.Addr{h.From}, nil, time.Hour)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "foreign")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if err := errors.Join(ca.WriteCert(dir+"/ca.pem"), pair.Write(dir+"/h1.pem", dir+"/h1.key")); err != nil {
		return err
	}
	cert, err := tls.LoadX509KeyPair(dir+"/h1.pem", dir+"/h1.key")
	if err != nil {
		return err
	}
	conf := &tls.Config{InsecureSkipVerify: true, GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
		return &cert, nil // also one that the server has not asked for
	}}
	for name, port := range map[string]uint16{"api": lab.APIPort, "store": storePort, "peers": peersPort} {
		h.workers(ctx, 8, func(ctx context.Context, m netip.Addr) {
			c, err := h.secured(ctx, m, port, conf, "h2")
			if err != nil {
				h.count(name + " no handshake")
				clock.Sleep(ctx, 10*time.Millisecond)
				return
			}
			_ = c.SetReadDeadline(time.Now().Add(5 * time.Second)) // it fails at the read
			n, err := c.Read(make([]byte, 1))
			var alert *net.OpError
			switch {
			case n > 0: // the first frame of HTTP/2, which a server sends when it has verified its client
				h.count(name + wasLetIn)
			case errors.As(err, &alert) && alert.Op == "remote error":
				h.count(name + " refused by an alert")
			case errors.Is(err, os.ErrDeadlineExceeded): // its power was lost, or it is late
				h.count(name + " silent")
			default:
				h.count(name + " closed")
			}
			_ = c.Close() // no more is wanted of it
		})
	}
	beat := forgedBeat("h1", "h2")
	h.workers(ctx, 1, func(ctx context.Context, m netip.Addr) {
		d := net.Dialer{LocalAddr: &net.UDPAddr{IP: h.From.AsSlice()}}
		c, err := d.DialContext(ctx, "udp", netip.AddrPortFrom(m, lab.APIPort).String())
		if err != nil {
			clock.Sleep(ctx, 10*time.Millisecond)
			return
		}
		defer c.Close()
		for ctx.Err() == nil {
			if _, err := c.Write(beat); err != nil {
				clock.Sleep(ctx, 10*time.Millisecond) // nobody listens, or the queue is full
				continue
			}
			h.count("heartbeats")
		}
	})
	return nil
}

// forgedBeat is a heartbeat as it is made (internal/host/heartbeat/wire.go), but for what proves it.
func forgedBeat(from, to string) []byte {
	key := func(kind, name string) []byte {
		sum := sha256.Sum256([]byte(kind + "\x00" + name))
		return sum[:]
	}
	b := append([]byte("HFHB"), 1, 0)
	b = append(b, key("cluster", "lab")[:16]...)
	b = append(b, key("host", from)[:8]...)
	b = append(b, key("host", to)[:8]...)
	b = binary.BigEndian.AppendUint64(b, 1)
	b = binary.BigEndian.AppendUint64(b, 1<<40)
	b = append(b, make([]byte, 16)...)
	return append(b, make([]byte, sha256.Size)...)
}
