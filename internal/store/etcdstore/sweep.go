package etcdstore

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"holdfast/internal/lib/admit"
	"holdfast/internal/lib/pki"
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

// strangers are the bounds of connections at the peers' port in their first seconds, which are not from a member's address. Each
// may have 256 KiB there: the port is etcd's own, and nobody but a member that is new has to do with it.
var strangers = admit.Bounds{All: 64, Address: 16, Net: 32}

// sweep ends the connections that this member must not keep: of certificates that were
// revoked since, and those at the peers' port that are too many before they are verified.
type sweep struct {
	list    *pki.List            // nil: there is none
	clients *admit.Listener      // the member's
	peer    uint16               // port of the member
	members map[netip.Addr]bool  // addresses of members that are known
	turn    int                  // of the revocation list, when it was looked at last
	seen    map[socket]time.Time // those at the port of the peers, since when
}

func newSweep(c MemberConfig, list *pki.List, clients *admit.Listener) (s *sweep, err error) {
	s = &sweep{list: list, clients: clients, members: map[netip.Addr]bool{}}
	if list != nil {
		s.turn, _ = list.Turn() // look tells of one that can not be used
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
	if s.list != nil {
		turn, err = s.list.Turn()
	}
	peers := slices.DeleteFunc(slices.Clone(all), func(x socket) bool { return x.local.Port() != s.peer })
	ending := s.crowd(peers, now)
	if turn != s.turn {
		s.clients.Recheck()
		ending = peers // whose certificate it was nobody knows any more; members connect anew at once
	}
	s.turn = turn
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
	calling, of, total := s.clients.From(ofMembers), map[netip.Prefix]int{}, 0
	for _, x := range peers {
		from := x.from.Addr()
		if now.Sub(seen[x]) >= newTime || s.members[from] || calling[from] {
			continue
		}
		over := total >= strangers.All
		for _, source := range admit.Sources(from) {
			of[source]++
			over = over || of[source] > strangers.Most(source)
		}
		if over {
			ending = append(ending, x)
		} else {
			total++
		}
	}
	return ending
}
