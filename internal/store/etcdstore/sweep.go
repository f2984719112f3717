package etcdstore

import (
	"cmp"
	"crypto/x509"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"time"

	"go.etcd.io/etcd/server/v3/etcdserver/api/membership"
	"golang.org/x/sys/unix"

	"holdfast/internal/pki"
)

// What a port of the member keeps of connections that have not called yet, or have no certificate:
// each costs memory until its handshake ends in vain.
const (
	maxSilent    = 256  // of one address; where a whole cluster is on one, its members have some tens
	maxSilentNet = 1024 // of a network of IPv6: one machine may have all of its addresses
	maxSilentAll = 2048 // of all: who is near may have any address. Thousands of hosts may come at once
	// shakenAfter is the age from which on a connection has a certificate: etcd ends a handshake after 10 s.
	// It is counted from the first look at it.
	shakenAfter = 11 * time.Second
)

// socket is a TCP connection of this process.
type socket struct {
	fd          int
	inode       uint64 // no other connection has it, though the rest may come again
	local, from netip.AddrPort
}

// sockets are those of some descriptors that are TCP connections.
func sockets(fds []int) (out []socket) {
	for _, fd := range fds {
		if from, ok := remote(fd); ok {
			local, err := unix.Getsockname(fd)
			var st unix.Stat_t
			if at, ok := addrPort(local); ok && err == nil && unix.Fstat(fd, &st) == nil {
				out = append(out, socket{fd, st.Ino, at, from})
			}
		}
	}
	return out
}

// sweep ends the connections that this member must not keep: of certificates that were
// revoked since, and those of an address that has too many without a call.
type sweep struct {
	f            *front
	client, peer uint16               // ports of the member
	turn         int                  // of the revocation list, when it was looked at last
	members      func() []netip.Addr  // where they are
	since        map[socket]time.Time // when a connection was seen first
}

func newSweep(c MemberConfig, f *front) (s *sweep, err error) {
	s = &sweep{f: f, members: func() []netip.Addr { return nil }, since: map[socket]time.Time{}}
	if f.list != nil {
		s.turn, _ = f.list.Turn() // look tells of one that can not be used
	}
	if _, s.client, err = hostPort(c.ListenClient); err != nil {
		return nil, err
	}
	_, s.peer, err = hostPort(c.ListenPeer)
	return s, err
}

// hostPort reads HOST:PORT of a URL, and the port apart.
func hostPort(address string) (at string, port uint16, err error) {
	u, err := url.Parse(address)
	if err != nil {
		return "", 0, fmt.Errorf("parse URL %q: %w", address, err)
	}
	n, err := strconv.ParseUint(u.Port(), 10, 16)
	if err != nil {
		return "", 0, fmt.Errorf("read the port of %s: %w", address, err)
	}
	return u.Host, uint16(n), nil
}

// look ends what must not stay of the connections that there are. A list that can not be used ends
// none: the members would not find one another again.
func (s *sweep) look(all []socket) error {
	turn, err := s.turn, error(nil)
	if s.f.list != nil {
		turn, err = s.f.list.Turn()
	}
	changed := turn != s.turn
	s.turn = turn
	ending := s.f.over(all, changed)
	if changed { // whose certificate a peer has nobody knows any more; members connect anew at once
		for _, x := range all {
			if x.local.Port() == s.peer {
				ending = append(ending, x)
			}
		}
	}
	now := time.Now()
	s.age(all, now)
	ending = append(ending, s.crowd(all, now)...)
	for _, x := range ending {
		err = errors.Join(err, endConn(x.fd, x.from))
	}
	return err
}

// age notes since when each connection is there, and puts the oldest first.
func (s *sweep) age(all []socket, now time.Time) {
	before := s.since
	s.since = make(map[socket]time.Time, len(all))
	for _, x := range all {
		at, ok := before[x]
		if !ok {
			at = now
		}
		s.since[x] = at
	}
	slices.SortFunc(all, func(a, b socket) int { return cmp.Or(s.since[a].Compare(s.since[b]), cmp.Compare(a.fd, b.fd)) })
}

// crowd are those of both ports that are too many.
func (s *sweep) crowd(all []socket, now time.Time) []socket {
	var clients, peers []socket
	for _, x := range all {
		switch port := x.local.Port(); {
		case port == s.peer:
			peers = append(peers, x)
		case port == s.client && !s.f.knows(x.from):
			clients = append(clients, x)
		}
	}
	return append(s.tooMany(clients, now), s.tooMany(peers, now)...)
}

// tooMany are those that must go of a port's connections without a call, the oldest of which is first. Those
// that an address has too many of are its newest. Of a network, and of all, the oldest go: who is honest needs a
// moment for its handshake. Those that have a member's certificate stay, and those of members' addresses.
func (s *sweep) tooMany(silent []socket, now time.Time) (ending []socket) {
	var strange []socket
	each := map[netip.Addr]int{}
	members := s.members()
	for _, x := range silent {
		from := x.from.Addr()
		each[from]++
		switch {
		case each[from] > maxSilent:
			ending = append(ending, x)
		case slices.Contains(members, from), x.local.Port() == s.peer && now.Sub(s.since[x]) >= shakenAfter:
		default:
			strange = append(strange, x)
		}
	}
	all, nets := 0, map[netip.Prefix]int{}
	for _, x := range slices.Backward(strange) {
		if from := x.from.Addr(); from.Is6() {
			n, _ := from.Prefix(64) // it fails for other numbers of bits
			if nets[n]++; nets[n] > maxSilentNet {
				ending = append(ending, x)
				continue
			}
		}
		if all++; all > maxSilentAll {
			ending = append(ending, x)
		}
	}
	return ending
}

// peerAddresses are those of members' peer URLs.
func peerAddresses(members []*membership.Member) (out []netip.Addr) {
	for _, m := range members {
		for _, u := range m.PeerURLs {
			host, _, err := hostPort(u)
			if err != nil {
				continue // etcd has checked it
			}
			if at, err := netip.ParseAddrPort(host); err == nil { // a name has its bounds as others do
				out = append(out, at.Addr().Unmap())
			}
		}
	}
	return out
}

// knows reports whether somebody has called over a connection.
func (f *front) knows(at netip.AddrPort) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.conns[at] != nil
}

// over forgets the connections that are gone, and returns those of revoked certificates, whose
// calls it ends.
func (f *front) over(all []socket, changed bool) (ending []socket) {
	f.mu.Lock()
	defer f.mu.Unlock()
	there := make(map[netip.AddrPort]socket, len(all))
	for _, x := range all {
		there[x.from] = x
	}
	for at, c := range f.conns {
		x, ok := there[at]
		if !ok && len(c.calls) == 0 {
			delete(f.conns, at)
			continue
		}
		if changed && f.isRevoked(c.cert) {
			c.revoked = true
		}
		if !c.revoked {
			continue
		}
		for cancel := range c.calls {
			(*cancel)()
		}
		if ok {
			ending = append(ending, x)
		}
	}
	return ending
}

// isRevoked tells whether a certificate is in the revocation list. A list that can not be used is
// no reason to end what is there: it refuses new connections.
func (f *front) isRevoked(cert *x509.Certificate) bool {
	return f.list != nil && errors.Is(f.list.Check(cert), pki.ErrRevoked)
}
