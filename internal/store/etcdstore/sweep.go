package etcdstore

import (
	"cmp"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"net/url"
	"os"
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

// sockets lists the TCP connections of this process.
func sockets() ([]socket, error) {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil && !errors.Is(err, fs.ErrNotExist) { // one that was closed meanwhile
		return nil, fmt.Errorf("list own connections: %w", err)
	}
	var out []socket
	for _, e := range entries {
		fd, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		if from, ok := remote(fd); ok {
			local, err := unix.Getsockname(fd)
			if at, ok := addrPort(local); ok && err == nil {
				out = append(out, socket{fd, at, from})
			}
		}
	}
	return out, nil
}

// sweep ends the connections that this member must not keep: of certificates that were
// revoked since, and those of an address that has too many without a call.
type sweep struct {
	f            *front
	client, peer uint16      // ports of the member
	list         fs.FileInfo // the revocation list as it was looked at last
}

func newSweep(c MemberConfig, f *front) (*sweep, error) {
	s := &sweep{f: f}
	for _, p := range []struct {
		from string
		to   *uint16
	}{{c.ListenClient, &s.client}, {c.ListenPeer, &s.peer}} {
		u, err := url.Parse(p.from)
		if err != nil {
			return nil, fmt.Errorf("parse URL %q: %w", p.from, err)
		}
		n, err := strconv.ParseUint(u.Port(), 10, 16)
		if err != nil {
			return nil, fmt.Errorf("read the port of %s: %w", p.from, err)
		}
		*p.to = uint16(n)
	}
	var err error
	s.list, err = s.stat()
	return s, err
}

// stat looks at the file of the revocation list; nil: there is to be none.
func (s *sweep) stat() (fs.FileInfo, error) {
	if s.f.tls.CRL == "" {
		return nil, nil
	}
	info, err := os.Stat(s.f.tls.CRL)
	if err != nil {
		return nil, fmt.Errorf("look for the revocation list: %w", err)
	}
	return info, nil
}

// look ends what must not stay, once.
func (s *sweep) look() error {
	all, err := sockets()
	if err != nil {
		return err
	}
	info, err := s.stat()
	changed := err == nil && info != nil && !(os.SameFile(info, s.list) && info.ModTime().Equal(s.list.ModTime()) && info.Size() == s.list.Size())
	if changed {
		s.list = info
	}
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
		if changed && f.revoked(c.cert) != nil {
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

// revoked says that a certificate is in the revocation list. A list that can not be read is
// no reason to end what is there: it refuses new connections.
func (f *front) revoked(cert *x509.Certificate) error {
	if f.tls.CRL == "" {
		return nil
	}
	if err := pki.Check(f.tls.CA, f.tls.CRL, cert); errors.Is(err, pki.ErrRevoked) {
		return err
	}
	return nil
}
