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

	"golang.org/x/sys/unix"

	"holdfast/internal/pki"
)

// maxSilent is how many connections of one address a port of the member keeps that have not
// called yet, or have no certificate: each costs memory until its handshake ends in vain,
// after 10 s. Where a whole cluster is on one address, its members have some tens.
const maxSilent = 256

// socket is a TCP connection of this process.
type socket struct {
	fd          int
	local, from netip.AddrPort
}

// sockets are those of some descriptors that are TCP connections.
func sockets(fds []int) (out []socket) {
	for _, fd := range fds {
		if from, ok := remote(fd); ok {
			local, err := unix.Getsockname(fd)
			if at, ok := addrPort(local); ok && err == nil {
				out = append(out, socket{fd, at, from})
			}
		}
	}
	return out
}

// sweep ends the connections that this member must not keep: of certificates that were
// revoked since, and those of an address that has too many without a call.
type sweep struct {
	f            *front
	client, peer uint16 // ports of the member
	turn         int    // of the revocation list, when it was looked at last
}

func newSweep(c MemberConfig, f *front) (s *sweep, err error) {
	s = &sweep{f: f}
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
	silent := map[netip.Addr]int{}
	slices.SortFunc(all, func(a, b socket) int { return cmp.Compare(a.fd, b.fd) })
	for _, x := range all {
		switch port := x.local.Port(); {
		case port == s.peer && changed:
			// Whose certificate it was nobody knows any more; members connect anew at once.
			ending = append(ending, x)
		case port == s.peer, port == s.client && !s.f.knows(x.from):
			if silent[x.from.Addr()]++; silent[x.from.Addr()] > maxSilent {
				ending = append(ending, x)
			}
		}
	}
	for _, x := range ending {
		err = errors.Join(err, endConn(x.fd, x.from))
	}
	return err
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
