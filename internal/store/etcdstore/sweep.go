package etcdstore

import (
	"cmp"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"holdfast/internal/pki"
)

// newTime is how long a connection at the peers' port counts as one that may have no certificate: etcd ends it when its
// handshake has not ended within 10 s.
const newTime = 15 * time.Second

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
// revoked since, and those at the peers' port that are too many before they are verified.
type sweep struct {
	f       *front
	peer    uint16               // port of the member
	members map[netip.Addr]bool  // addresses of members that are known
	turn    int                  // of the revocation list, when it was looked at last
	seen    map[socket]time.Time // those at the port of the peers, since when
}

func newSweep(c MemberConfig, f *front) (s *sweep, err error) {
	s = &sweep{f: f, members: map[netip.Addr]bool{}}
	if f.list != nil {
		s.turn, _ = f.list.Turn() // look tells of one that can not be used
	}
	for _, u := range c.Initial {
		at, _, err := hostPort(u)
		if err != nil {
			return nil, err
		}
		if host, _, err := net.SplitHostPort(at); err == nil {
			if addr, err := netip.ParseAddr(host); err == nil { // else it is a name
				s.members[addr.Unmap()] = true
			}
		}
	}
	if c.Second != nil {
		for _, a := range []netip.Addr{c.Second.Own, c.Second.Peer, c.Second.There} {
			s.members[a.Unmap()] = true
		}
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
func (s *sweep) look(all []socket, now time.Time) error {
	turn, err := s.turn, error(nil)
	if s.f.list != nil {
		turn, err = s.f.list.Turn()
	}
	changed := turn != s.turn
	s.turn = turn
	ending := s.f.over(all, changed)
	peers := slices.DeleteFunc(slices.Clone(all), func(x socket) bool { return x.local.Port() != s.peer })
	if crowd := s.crowd(peers, now); !changed {
		ending = append(ending, crowd...)
	} else {
		// Whose certificate it was nobody knows any more; members connect anew at once.
		ending = append(ending, peers...)
	}
	for _, x := range ending {
		err = errors.Join(err, endConn(x.fd, x.from))
	}
	return err
}

// crowd are the connections to the peers' port that are too many, as at the clients' (gate): the oldest of a source
// or of all, of those that may not be verified yet. Those from members' addresses do not count.
func (s *sweep) crowd(peers []socket, now time.Time) (ending []socket) {
	seen := make(map[socket]time.Time, len(peers))
	for _, x := range peers {
		since, ok := s.seen[x]
		if !ok {
			since = now
		}
		seen[x] = since
	}
	s.seen = seen
	slices.SortFunc(peers, func(a, b socket) int { // the newest first
		return cmp.Or(seen[b].Compare(seen[a]), cmp.Compare(b.fd, a.fd))
	})
	calling, of, total := s.f.calling(), map[netip.Prefix]int{}, 0
	for _, x := range peers {
		if from := x.from.Addr(); now.Sub(seen[x]) >= newTime || s.members[from] || calling[from] {
			continue
		}
		source := sourceOf(x.from.Addr())
		if of[source]++; of[source] > mostOf(source) || total >= maxShaking {
			ending = append(ending, x)
			continue
		}
		total++
	}
	return ending
}

// calling are the addresses from which members have called.
func (f *front) calling() map[netip.Addr]bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	out := map[netip.Addr]bool{}
	for from, c := range f.conns {
		if slices.Contains(f.g.members, c.name) {
			out[from.Addr().Unmap()] = true
		}
	}
	return out
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
