package ping

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strconv"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// socket is a Wire over a raw socket, or over a packet socket. One goroutine sends, one
// receives; neither makes garbage: the batches of golang.org/x/net make an address for
// each message.
type socket struct {
	conn conn
	raw  syscall.RawConn
	of   kind

	send struct {
		slots [batch]slot
		heads [batch]mmsghdr
		n     int   // wanted, then sent
		err   error // of the first that was not
		do    func(fd uintptr) bool
	}
	receive struct {
		slots  [batch]slot
		heads  [batch]mmsghdr
		n      int // wanted, then received
		err    error
		looked time.Time // when the kernel was asked last
		empty  time.Time // what had come by then was received
		drops  uint32    // as the kernel has told last
		do     func(fd uintptr) bool
	}
}

// conn is what a socket needs beside its descriptor.
type conn interface {
	SetReadDeadline(time.Time) error
	Close() error
}

// kind is what a socket carries.
type kind int

const (
	ofIPv4 kind = iota // ICMP messages of IPv4
	ofIPv6             // of IPv6
	ofARP              // whole frames of ARP, on one interface
)

// Of what SO_MEMINFO tells: how many figures these are, and which of them are the
// drops (linux/sock_diag.h).
const memInfo, memInfoDrops = 9, 8

// mmsghdr is what sendmmsg(2) and recvmmsg(2) have an array of.
type mmsghdr struct {
	head unix.Msghdr
	n    uint32
}

// slot is the memory of a message: room for an IP header of 60 bytes, and for the
// time and the number of drops.
type slot struct {
	iov     unix.Iovec
	control [64]byte
	name4   unix.RawSockaddrInet4
	name6   unix.RawSockaddrInet6
	link    unix.RawSockaddrLinklayer
	message [128]byte
}

func newSocket(conn conn, raw syscall.RawConn, of kind) *socket {
	s := &socket{conn: conn, raw: raw, of: of}
	s.send.do, s.receive.do = s.sends, s.receives
	for i := range batch {
		for _, m := range []struct {
			*slot
			head *unix.Msghdr
		}{{&s.send.slots[i], &s.send.heads[i].head}, {&s.receive.slots[i], &s.receive.heads[i].head}} {
			m.head.Iov = &m.iov
			m.head.SetIovlen(1)
			switch of {
			case ofIPv4:
				m.head.Name, m.head.Namelen = (*byte)(unsafe.Pointer(&m.name4)), unix.SizeofSockaddrInet4
				m.name4.Family = unix.AF_INET
			case ofIPv6:
				m.head.Name, m.head.Namelen = (*byte)(unsafe.Pointer(&m.name6)), unix.SizeofSockaddrInet6
				m.name6.Family = unix.AF_INET6
			case ofARP:
				m.head.Name, m.head.Namelen = (*byte)(unsafe.Pointer(&m.link)), unix.SizeofSockaddrLinklayer
			}
		}
		if of == ofARP { // the socket is bound to an interface, and the frame says to whom it goes
			s.send.heads[i].head.Name, s.send.heads[i].head.Namelen = nil, 0
		}
		r := &s.receive.slots[i]
		r.iov.Base = &r.message[0]
		r.iov.SetLen(len(r.message))
		s.receive.heads[i].head.Control = &r.control[0]
	}
	s.receive.empty = time.Now()
	return s
}

// Send implements Wire.
func (s *socket) Send(packets []Packet) (int, error) {
	o := &s.send
	o.n = min(len(packets), batch)
	for i := range packets[:o.n] {
		p, m := &packets[i], &o.slots[i]
		switch s.of {
		case ofIPv4:
			m.name4.Addr = p.Addr.As4()
			binary.BigEndian.PutUint16(p.Message[2:], 0)
			binary.BigEndian.PutUint16(p.Message[2:], checksum(p.Message))
		case ofIPv6:
			m.name6.Addr = p.Addr.As16() // the kernel does the checksum
		}
		m.iov.Base = &p.Message[0]
		m.iov.SetLen(len(p.Message))
	}
	if err := s.raw.Write(o.do); err != nil {
		o.n, o.err = 0, err
	}
	switch err := o.err; {
	case err == nil:
		return o.n, nil
	case errors.Is(err, ErrBusy):
		return o.n, err
	case errors.Is(err, unix.EAGAIN), errors.Is(err, unix.ENOMEM), errors.Is(err, net.ErrClosed), errors.Is(err, os.ErrClosed):
		return o.n, fmt.Errorf("ping %s: %w: %w", packets[o.n].Addr, ErrBusy, err)
	default:
		return o.n, fmt.Errorf("ping %s: %w", packets[o.n].Addr, err)
	}
}

// sends sends what Send has prepared.
func (s *socket) sends(fd uintptr) bool {
	o := &s.send
	want := o.n
	o.err = nil
	for o.n = 0; o.n < want; {
		n, _, errno := unix.Syscall6(unix.SYS_SENDMMSG, fd, uintptr(unsafe.Pointer(&o.heads[o.n])), uintptr(want-o.n), unix.MSG_DONTWAIT, 0, 0)
		switch {
		case errno == 0:
			o.n += int(n) // of an error after it, the next call tells
			continue
		case errno == unix.EINTR:
			continue
		case errno == unix.ENOBUFS && full(int(fd)):
			o.err = errors.Join(ErrBusy, errno)
		default:
			o.err = errno
		}
		break
	}
	return true
}

// Receive implements Wire.
func (s *socket) Receive(packets []Packet) (n int, seen time.Time, err error) {
	in := &s.receive
	in.n, in.err = min(len(packets), batch), nil
	if err = s.conn.SetReadDeadline(time.Now().Add(Look)); err == nil {
		err = s.raw.Read(in.do)
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		n, err = s.late(packets)
		return n, in.empty, err
	}
	if err = errors.Join(err, in.err); err != nil {
		return 0, time.Time{}, fmt.Errorf("receive answers to pings: %w", err)
	}
	now := time.Now()
	for i := range in.n {
		if s.read(&packets[n], i, now) {
			n++
		}
	}
	if in.n < min(len(packets), batch) {
		in.empty = in.looked
	}
	seen = in.empty
	if n > 0 && packets[n-1].At.After(seen) {
		seen = packets[n-1].At
	}
	return n, seen, nil
}

// receives asks the kernel for messages; false: there are none.
func (s *socket) receives(fd uintptr) bool {
	in := &s.receive
	want := in.n
	for i := range in.heads[:want] {
		in.heads[i].head.SetControllen(len(in.slots[i].control))
	}
	for {
		in.looked = time.Now()
		n, _, errno := unix.Syscall6(unix.SYS_RECVMMSG, fd, uintptr(unsafe.Pointer(&in.heads[0])), uintptr(want), unix.MSG_DONTWAIT, 0, 0)
		switch errno {
		case 0:
			in.n = int(n)
			return true
		case unix.EINTR:
			continue
		case unix.EAGAIN:
			in.empty = in.looked
			return false
		}
		in.n, in.err = 0, errno
		return true
	}
}

// late tells of messages for which there was no room and after which none came, which
// would have told.
func (s *socket) late(packets []Packet) (n int, err error) {
	cerr := s.raw.Control(func(fd uintptr) {
		var info [memInfo]uint32
		size := uint32(unsafe.Sizeof(info))
		_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, fd, unix.SOL_SOCKET, unix.SO_MEMINFO,
			uintptr(unsafe.Pointer(&info)), uintptr(unsafe.Pointer(&size)), 0)
		if errno != 0 {
			err = fmt.Errorf("ask what was dropped: %w", errno)
			return
		}
		if drops := info[memInfoDrops]; drops != s.receive.drops {
			s.receive.drops, n = drops, 1
			packets[0] = Packet{At: time.Now(), Dropped: true}
		}
	})
	return n, errors.Join(err, cerr)
}

// read takes the i-th message that was received apart. What is not as it should be is
// left out, unless it tells that others were dropped.
func (s *socket) read(p *Packet, i int, now time.Time) bool {
	h, m := &s.receive.heads[i], &s.receive.slots[i]
	b := m.message[:min(int(h.n), len(m.message))]
	*p = Packet{At: now}
	if control := m.control[:min(int(h.head.Controllen), len(m.control))]; len(control) > 0 {
		s.told(p, control, now)
	}
	switch s.of {
	case ofARP:
		if own(&m.link) {
			p.Message = b
		}
		return own(&m.link) || p.Dropped
	case ofIPv6:
		p.Addr, p.Message = netip.AddrFrom16(m.name6.Addr), b
		if zone := m.name6.Scope_id; zone != 0 {
			p.Addr = p.Addr.WithZone(strconv.FormatUint(uint64(zone), 10))
		}
		return true
	}
	if len(b) == 0 {
		return p.Dropped
	}
	head := int(b[0]&0xf) * 4
	if head < 20 || head > len(b) || checksum(b[head:]) != 0 { // the kernel looks at sums of IPv6 only
		return p.Dropped
	}
	p.Addr, p.Message = netip.AddrFrom4(m.name4.Addr), b[head:]
	return true
}

// told reads what the kernel tells beside a message. Its time is by the wall clock,
// which may be set meanwhile; that a message came after those before is known.
func (s *socket) told(p *Packet, control []byte, now time.Time) {
	for len(control) >= unix.SizeofCmsghdr {
		h, data, rest, err := unix.ParseOneSocketControlMessage(control)
		if err != nil {
			return
		}
		switch {
		case h.Level != unix.SOL_SOCKET:
		case h.Type == unix.SO_TIMESTAMPNS && len(data) >= 16: // a timespec of a machine of 64 bits
			at := int64(binary.NativeEndian.Uint64(data))*1e9 + int64(binary.NativeEndian.Uint64(data[8:]))
			age := time.Duration(now.UnixNano() - at)
			p.At = now.Add(-min(max(age, 0), now.Sub(s.receive.empty)))
		case h.Type == unix.SO_RXQ_OVFL && len(data) >= 4:
			drops := binary.NativeEndian.Uint32(data)
			p.Dropped = drops != s.receive.drops
			s.receive.drops = drops
		}
		control = rest
	}
}

// Close implements Wire.
func (s *socket) Close() error { return s.conn.Close() }
