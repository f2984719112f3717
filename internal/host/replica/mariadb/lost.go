package mariadb

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"

	"holdfast/internal/lib/network"
)

// session is one that serves a replica.
type session struct {
	id   string
	host string // address and port of the replica
}

// lostAfter is how often a packet to a replica was sent again in vain when the replica counts as
// lost. The kernel waits for 0.2 s, and twice the time after each (RFC 6298, TCP_RTO_MIN of Linux):
// 1.4 s for three. A replica connects anew when it has heard nothing for 4 s (slave_net_timeout),
// and hears something each second (master_heartbeat_period): the session has ended before.
const lostAfter = 3

// endLost ends the sessions whose replicas are lost. A replica that connects anew while the session
// of its former connection is there stops the server: no connection begins or ends (doc.go).
func (d *Driver) endLost(ctx context.Context, serving []session) error {
	for _, s := range serving {
		at, err := s.addr()
		if err != nil {
			return err
		}
		repeats, err := d.links.repeats(at)
		if err != nil {
			return fmt.Errorf("look whether the replica is lost: %w", err)
		}
		if repeats < lostAfter {
			continue
		}
		if err := d.exec(ctx, d.db, "KILL "+s.id); err != nil && !unknownThread(err) {
			return fmt.Errorf("end the session of a replica that is lost: %w", err)
		}
	}
	return nil
}

// links remembers the connection of the last session, so that the kernel need not list all of them at each look.
type links struct {
	sync.Mutex
	last network.Connection // the zero value: none
}

// repeats says how often a packet to a replica was sent again in vain; 0 when there is no connection.
func (l *links) repeats(to netip.AddrPort) (int, error) {
	l.Lock()
	defer l.Unlock()
	if l.last.To == to {
		c, there, err := l.last.Now()
		if err != nil || there {
			return c.Repeats, err
		}
	}
	l.last = network.Connection{}
	all, err := network.TCP()
	if i := slices.IndexFunc(all, func(c network.Connection) bool { return c.To == to }); i >= 0 {
		l.last = all[i]
	}
	return l.last.Repeats, err
}

// addr reads ADDRESS:PORT, as the server writes it also of IPv6.
func (s session) addr() (netip.AddrPort, error) {
	i := strings.LastIndexByte(s.host, ':')
	addr, err := netip.ParseAddr(s.host[:max(0, i)])
	port, perr := strconv.ParseUint(s.host[i+1:], 10, 16)
	if err != nil || perr != nil {
		return netip.AddrPort{}, fmt.Errorf("the database says that a replica is at %.80q: want an address and a port", s.host)
	}
	return netip.AddrPortFrom(addr.Unmap(), uint16(port)), nil
}
