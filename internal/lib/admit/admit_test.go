package admit

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"holdfast/internal/lib/pki"
	"holdfast/testbed/try"
)

// whose lets a name that begins with m have any number, and others two, of five together.
func whose(chain []*x509.Certificate) Who {
	name := chain[0].Subject.CommonName
	if strings.HasPrefix(name, "m") {
		return Who{Name: name, Kind: "member"}
	}
	return Who{Name: name, Each: 2, All: 5}
}

// rig is a listener that greets whom it lets in, until that one ends, and who dials it.
type rig struct {
	*Listener
	ca   pki.CA
	conf *tls.Config // of who dials, without a certificate
}

func newRig(t *testing.T, edit func(*Options)) *rig {
	t.Helper()
	ca, err := pki.NewCA("test", time.Hour)
	try.Must(t, err)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	try.Must(t, err)
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(ca.CertPEM())
	r := &rig{ca: ca, conf: &tls.Config{RootCAs: pool, ServerName: "127.0.0.1"}}
	o := Options{Bounds: Bounds{All: 64, Address: 8, Net: 16}, Within: time.Hour, Whose: whose, Log: func(slog.Level, string, error) {}}
	if edit != nil {
		edit(&o)
	}
	r.Listener = New(ln, &tls.Config{Certificates: []tls.Certificate{r.cert(t, "server")}, ClientCAs: pool}, o)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := r.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				if _, err := io.WriteString(c, "!"); err == nil {
					io.Copy(io.Discard, c) // it ends
				}
			}()
		}
	}()
	t.Cleanup(func() {
		try.Must(t, errors.Join(r.Close(), r.Close()))
		<-done
	})
	return r
}

func (r *rig) cert(t *testing.T, name string) tls.Certificate {
	t.Helper()
	p, err := r.ca.Issue(name, []netip.Addr{netip.MustParseAddr("127.0.0.1")}, nil, time.Hour)
	try.Must(t, err)
	c, err := tls.X509KeyPair(p.CertPEM, p.KeyPEM)
	try.Must(t, err)
	return c
}

// bare dials, and sends nothing.
func (r *rig) bare(t *testing.T, from string) net.Conn {
	t.Helper()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
	c, err := d.DialContext(try.Context(t), "tcp", r.Addr().String())
	try.Must(t, err)
	t.Cleanup(func() { c.Close() })
	deadline, _ := try.Context(t).Deadline()
	try.Must(t, c.SetDeadline(deadline))
	return c
}

// in dials as a name, and returns the connection when it was greeted.
func (r *rig) in(t *testing.T, name, from string) (net.Conn, error) {
	t.Helper()
	conf := r.conf.Clone()
	conf.Certificates = []tls.Certificate{r.cert(t, name)}
	c := tls.Client(r.bare(t, from), conf)
	_, err := io.ReadFull(c, make([]byte, 1))
	return c, err
}

// let is in, of which is known that it gets in.
func (r *rig) let(t *testing.T, name, from string) net.Conn {
	t.Helper()
	c, err := r.in(t, name, from)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return c
}

// counts are how many are in their handshakes, and verified of a name.
func (l *Listener) counts(name string) (shaking, open int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for w, of := range l.open {
		if w.Name == name {
			open += len(of)
		}
	}
	return len(l.shaking), open
}

// ended waits until the other end has ended a connection.
func ended(t *testing.T, c net.Conn) {
	t.Helper()
	var late net.Error
	if _, err := io.Copy(io.Discard, c); errors.As(err, &late) && late.Timeout() {
		t.Error("a connection is kept")
	}
}

// TestSources: who has shaken no hands makes room for one of the same source and for no other, and what ends, is not
// counted any more.
func TestSources(t *testing.T) {
	r := newRig(t, nil)
	var bare []net.Conn
	for i := range r.o.Address {
		bare = append(bare, r.bare(t, "127.0.0.2"))
		try.Until(t, "the handshake to begin", func() bool { n, _ := r.counts(""); return n == i+1 })
	}
	r.let(t, "g1", "127.0.0.3")
	if n, _ := r.counts(""); n != len(bare) {
		t.Errorf("%d are in their handshakes after one of another source, want %d", n, len(bare))
	}
	r.let(t, "g1", "127.0.0.2")
	ended(t, bare[0])
	for _, c := range bare[1:] {
		c.Close()
	}
	try.Until(t, "all to end", func() bool { n, _ := r.counts(""); return n == 0 })
}

// addressed is a connection from an address.
type addressed struct {
	net.Conn
	from   string
	closed bool
}

func (a *addressed) RemoteAddr() net.Addr {
	at, err := netip.ParseAddr(a.from)
	if err != nil {
		return &net.UnixAddr{Name: a.from}
	}
	return net.TCPAddrFromAddrPort(netip.AddrPortFrom(at, 1000))
}

func (a *addressed) Close() error { a.closed = true; return nil }

// TestTheOldestMakesRoom of its address, of its network, or of all. An address of IPv4 counts as such also where it is
// written as one of IPv6, and those that are not known are one.
func TestTheOldestMakesRoom(t *testing.T) {
	same := func(from string) func(int) string { return func(int) string { return from } }
	bounds := Bounds{All: 40, Address: 8, Net: 16}
	for name, c := range map[string]struct {
		from func(i int) string
		most int
	}{
		"an address":            {same("192.0.2.1"), bounds.Address},
		"an address, two forms": {func(i int) string { return []string{"192.0.2.1", "::ffff:192.0.2.1"}[i%2] }, bounds.Address},
		"an address of IPv6":    {same("2001:db8::1"), bounds.Address},
		"one with two zones":    {func(i int) string { return fmt.Sprintf("fe80::1%%eth%d", i%2) }, bounds.Address},
		"a network":             {func(i int) string { return fmt.Sprintf("2001:db8::%x", i+1) }, bounds.Net},
		"not known":             {same("@"), bounds.Address},
		"all":                   {func(i int) string { return fmt.Sprintf("2001:db8:0:%x::1", i+1) }, bounds.All},
		"all of IPv4":           {func(i int) string { return fmt.Sprintf("192.0.2.%d", i+1) }, bounds.All},
	} {
		l := New(nil, &tls.Config{}, Options{Bounds: bounds, Whose: whose})
		others := []*addressed{{from: "198.51.100.1"}, {from: "2001:db8:1::1"}}
		if c.most == bounds.All {
			others = nil
		}
		for _, o := range others { // they are the oldest
			l.enter(o)
		}
		var all []*addressed
		var entered []*conn
		for i := range c.most + 3 {
			all = append(all, &addressed{from: c.from(i)})
			entered = append(entered, l.enter(all[i]))
		}
		for i, x := range entered[:4] { // their handshakes may end at that moment
			if err := l.claim(x, [][]*x509.Certificate{{{}}}); (err != nil) != (i < 3) {
				t.Errorf("%s: connection %d is claimed: %v", name, i, err)
			}
		}
		for i, x := range all {
			if want := i < 3; x.closed != want {
				t.Errorf("%s: connection %d of %d is closed: %t, want %t", name, i, len(all), x.closed, want)
			}
		}
		for _, o := range others {
			if o.closed {
				t.Errorf("%s: that of %s is closed", name, o.from)
			}
		}
	}
}

// TestNames: one name does not take the places of others, and gives back what it does not use.
func TestNames(t *testing.T) {
	r := newRig(t, nil)
	mine := r.let(t, "g1", "127.0.0.1")
	r.let(t, "g1", "127.0.0.1")
	for range 2 {
		if _, err := r.in(t, "g1", "127.0.0.1"); err == nil {
			t.Error("one more of the same name got in")
		}
	}
	for _, name := range []string{"g2", "g3", "g4", "m1", "m1", "m1"} {
		r.let(t, name, "127.0.0.1")
	}
	mine.Close()
	try.Until(t, "the place to be free", func() bool { _, n := r.counts("g1"); return n < 2 })
	r.let(t, "g1", "127.0.0.1")
}

// TestWhoHasTheMostMakesRoom where a kind has all of its places, for who has fewer then; other kinds do not.
func TestWhoHasTheMostMakesRoom(t *testing.T) {
	r := newRig(t, nil)
	for range 3 {
		r.let(t, "m1", "127.0.0.1")
	}
	first, last := r.let(t, "thief", "127.0.0.1"), r.let(t, "thief", "127.0.0.1")
	for _, name := range []string{"g1", "g2", "g3"} {
		r.let(t, name, "127.0.0.1")
	}
	if _, err := r.in(t, "g1", "127.0.0.1"); err == nil {
		t.Error("one got in that has as many then as who would make room")
	}
	r.let(t, "g4", "127.0.0.1")
	ended(t, last)
	for name, want := range map[string]int{"thief": 1, "m1": 3, "g1": 1, "g2": 1, "g3": 1, "g4": 1} {
		if _, n := r.counts(name); n != want {
			t.Errorf("%s has %d connections, want %d", name, n, want)
		}
	}
	if _, err := first.Write([]byte("x")); err != nil {
		t.Error(err)
	}
	if _, err := r.in(t, "g5", "127.0.0.1"); err == nil {
		t.Error("one got in though nobody has more than one")
	}
}

// TestFewKeepNobodyOut: as many hosts as there are places for two of each, and some that take all that they may, before
// and after them.
func TestFewKeepNobodyOut(t *testing.T) {
	const hosts, each, thieves = 600, 16, 20
	l := New(nil, &tls.Config{}, Options{
		Bounds: Bounds{All: 10_000, Address: 10_000},
		Whose: func(chain []*x509.Certificate) Who {
			return Who{Name: chain[0].Subject.CommonName, Each: each, All: 2 * (hosts + thieves)}
		},
	})
	raws := map[string][]*addressed{}
	enter := func(name string) {
		raw, cert := &addressed{from: "192.0.2.1"}, &x509.Certificate{}
		cert.Subject.CommonName = name
		c := l.enter(raw)
		if err := l.claim(c, [][]*x509.Certificate{{cert}}); err != nil {
			c.Close()
		}
		raws[name] = append(raws[name], raw)
	}
	steal := func() {
		for i := range thieves * 2 * each {
			enter(fmt.Sprint("thief", i%thieves))
		}
	}
	steal()
	for i := range 2 * hosts {
		enter(fmt.Sprint("g", i/2))
		if i%50 == 0 {
			steal()
		}
	}
	steal()
	for i := range hosts {
		for j, c := range raws[fmt.Sprint("g", i)] {
			if c.closed {
				t.Errorf("connection %d of host %d was ended, or refused", j, i)
			}
		}
	}
	if n := len(l.shaking); n != 0 {
		t.Errorf("%d are in their handshakes still", n)
	}
	for _, all := range l.open {
		for _, c := range slices.Clone(all) {
			c.Close()
			c.Close()
		}
	}
	if len(l.open) != 0 {
		t.Errorf("left behind: %v", l.open)
	}
}

// TestHellosAreBounded: who is not verified sends no more than a handshake has.
func TestHellosAreBounded(t *testing.T) {
	r := newRig(t, nil)
	c := r.bare(t, "127.0.0.1")
	// A record of 16 KiB, and others: the first parts of a message of 64 KiB.
	record := append([]byte{22, 3, 1, 0x40, 0, 1, 0, 0xff, 0xff}, make([]byte, 0x4000-4)...)
	if _, err := c.Write(bytes.Repeat(record, 2)); err == nil {
		ended(t, c)
	}
	try.Until(t, "the handshake to end", func() bool { n, _ := r.counts(""); return n == 0 })
}

// TestHandshakesHaveTheirTime, and end with the listener.
func TestHandshakesHaveTheirTime(t *testing.T) {
	r := newRig(t, func(o *Options) { o.Within = time.Millisecond })
	ended(t, r.bare(t, "127.0.0.1"))
	r = newRig(t, nil)
	c := r.bare(t, "127.0.0.1")
	try.Until(t, "the handshake to begin", func() bool { n, _ := r.counts(""); return n == 1 })
	open := r.let(t, "g1", "127.0.0.1")
	try.Must(t, r.Close())
	if shaking, n := r.counts("g1"); shaking != 0 || n != 1 {
		t.Errorf("%d are in their handshakes and %d open, want the open one", shaking, n)
	}
	ended(t, c)
	open.Close()
	try.Until(t, "the last one to end", func() bool { _, n := r.counts("g1"); return n == 0 })
}

// TestConnectionsEndWithTheirCertificates: of one that does not count any more, and no other, at a time or when its
// user says so; a new one is not let in.
func TestConnectionsEndWithTheirCertificates(t *testing.T) {
	for name, every := range map[string]time.Duration{"by time": time.Millisecond, "by its user": 0} {
		t.Run(name, func(t *testing.T) {
			var revoked atomic.Bool
			r := newRig(t, func(o *Options) {
				o.Every = every
				o.Counts = func(chain []*x509.Certificate) error {
					if revoked.Load() && chain[0].Subject.CommonName == "g1" {
						return pki.ErrRevoked
					}
					return nil
				}
			})
			all := []net.Conn{r.let(t, "g1", "127.0.0.1"), r.let(t, "g1", "127.0.0.1"), r.let(t, "g2", "127.0.0.1")}
			revoked.Store(true)
			if every == 0 {
				r.Recheck()
			}
			ended(t, all[0])
			ended(t, all[1])
			if _, n := r.counts("g1"); n != 0 {
				t.Errorf("%d of the revoked one are there", n)
			}
			if _, err := r.in(t, "g1", "127.0.0.1"); err == nil {
				t.Error("it gets in again")
			}
			if _, n := r.counts("g2"); n != 1 {
				t.Error("the other one was ended, too")
			}
			if _, err := all[2].Write([]byte("x")); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestFrom: the addresses of a kind.
func TestFrom(t *testing.T) {
	r := newRig(t, nil)
	r.let(t, "m1", "127.0.0.2")
	r.let(t, "g1", "127.0.0.3")
	if got := r.From("member"); len(got) != 1 || !got[netip.MustParseAddr("127.0.0.2")] {
		t.Errorf("%v", got)
	}
}
