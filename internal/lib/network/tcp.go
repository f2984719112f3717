package network

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"
)

// Connection is a TCP connection of this network namespace, by its end here. Addresses of IPv4
// are in their own form, also those of a socket of IPv6.
type Connection struct {
	From, To netip.AddrPort // the end here, the other end
	Inode    uint64         // of the socket; 0: no program has it
	Repeats  int            // times that what is not acknowledged was sent again, in vain until now
	id       []byte         // struct inet_diag_sockid
	family   byte
}

// Of linux/sock_diag.h, linux/inet_diag.h and net/tcp_states.h.
const (
	sockList    = 20 // SOCK_DIAG_BY_FAMILY
	sockDestroy = 21
	requestSize = 56 // struct inet_diag_req_v2
	answerSize  = 72 // struct inet_diag_msg
	idSize      = 48

	finWait2 = 5
	// connected are the states but TIME_WAIT, CLOSE and LISTEN.
	connected = ^uint32(1<<6 | 1<<7 | 1<<10)
)

// TCP lists the connections, also those that begin or end just now, but not what only waits for
// the other end's last word.
func TCP() (all []Connection, err error) {
	for _, family := range []byte{unix.AF_INET, unix.AF_INET6} {
		messages, err := List(unix.NETLINK_SOCK_DIAG, sockList, request(family, connected, nil))
		switch {
		case family == unix.AF_INET6 && errors.Is(err, unix.ENOENT): // a kernel without IPv6
			continue
		case errors.Is(err, unix.ENOENT):
			return nil, fmt.Errorf("list the TCP connections: the kernel has no module tcp_diag: %w", err)
		case err != nil:
			return nil, fmt.Errorf("list the TCP connections: %w", err)
		}
		for _, m := range messages {
			c, ok, err := readConnection(m.Data)
			if err != nil {
				return nil, fmt.Errorf("list the TCP connections: %w", err)
			}
			if ok {
				all = append(all, c)
			}
		}
	}
	return all, nil
}

// Now asks the kernel for the same connection once more; there is false when it has ended. A list
// of all takes the kernel milliseconds, as it goes through all places of its table.
func (c Connection) Now() (now Connection, there bool, err error) {
	m, err := ask(unix.NETLINK_SOCK_DIAG, sockList, request(c.family, connected, c.id))
	switch {
	case errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ESTALE):
		return Connection{}, false, nil
	case err == nil:
		now, there, err = readConnection(m.Data)
	}
	if err != nil {
		return Connection{}, false, fmt.Errorf("look at the connection from %s to %s: %w", c.From, c.To, err)
	}
	return now, there, nil
}

// readConnection reads struct inet_diag_msg.
func readConnection(b []byte) (c Connection, ok bool, err error) {
	if len(b) < answerSize || b[0] != unix.AF_INET && b[0] != unix.AF_INET6 {
		return Connection{}, false, fmt.Errorf("the kernel's list has %x", b)
	}
	c = Connection{family: b[0], id: b[4 : 4+idSize], Inode: uint64(binary.NativeEndian.Uint32(b[68:])), Repeats: int(b[3])}
	at := func(b []byte, port []byte) netip.AddrPort {
		addr := netip.AddrFrom4([4]byte(b[:4]))
		if c.family == unix.AF_INET6 {
			addr = netip.AddrFrom16([16]byte(b[:16])).Unmap()
		}
		return netip.AddrPortFrom(addr, binary.BigEndian.Uint16(port))
	}
	c.From, c.To = at(c.id[4:], c.id[0:]), at(c.id[20:], c.id[2:])
	return c, connected>>b[1]&1 != 0 && (b[1] != finWait2 || c.Inode != 0), nil
}

func request(family byte, states uint32, id []byte) []byte {
	b := make([]byte, requestSize)
	b[0], b[1] = family, unix.IPPROTO_TCP
	binary.NativeEndian.PutUint32(b[4:], states)
	copy(b[8:], id)
	return b
}

// End ends the connection at once (SOCK_DESTROY of sock_diag(7), as `ss --kill` does): the
// program that has it gets ECONNABORTED, the other end a reset if there is still a way to it.
// One that has ended meanwhile is none: nil. The kernel compares the cookie of the listed
// socket, so nothing else is ended in its place: by addresses and ports alone it finds the
// socket that listens, when the connection is gone. The error wraps unix.EOPNOTSUPP of a kernel
// without CONFIG_INET_DIAG_DESTROY.
func (c Connection) End() error {
	err := Request(unix.NETLINK_SOCK_DIAG, sockDestroy, 0, request(c.family, connected, c.id))
	if err == nil || errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ESTALE) {
		return nil
	}
	return fmt.Errorf("end the connection from %s to %s: %w", c.From, c.To, err)
}
