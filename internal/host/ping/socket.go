package ping

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"

	"golang.org/x/sys/unix"
)

// buffers of a socket, bytes. Packets to targets that no host answers for wait
// seconds for it in the kernel, and count as the sender's all the while: with a
// small buffer, dead targets would keep the live ones from being asked.
const (
	sendBuffer    = 16 << 20
	receiveBuffer = 4 << 20
)

// Open makes a Pinger on raw sockets, which takes the right to open such. An IP
// version that the host does not have is missed by Add only.
func Open() (*Pinger, error) {
	p := New(nil, nil)
	v4, err4 := open("ip4:icmp", "0.0.0.0")
	v6, err6 := open("ip6:ipv6-icmp", "::")
	if err4 != nil && err6 != nil {
		return nil, errors.Join(err4, err6)
	}
	if err4 == nil {
		p.v4 = v4
	}
	if err6 == nil {
		p.v6 = v6
	}
	p.no4, p.no6 = err4, err6
	return p, nil
}

// socket is a Wire over a raw socket.
type socket struct {
	conn *net.IPConn
	raw  syscall.RawConn
	four bool
}

func open(network, address string) (*socket, error) {
	four := network == "ip4:icmp"
	lc := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) error {
		var tuned error
		if err := raw.Control(func(fd uintptr) { tuned = tune(int(fd), four) }); err != nil {
			return fmt.Errorf("reach the socket: %w", err)
		}
		return tuned
	}}
	// No name is looked up and no peer is asked, so the call needs no deadline.
	conn, err := lc.ListenPacket(context.Background(), network, address)
	if err != nil {
		return nil, fmt.Errorf("open a socket for pings: %w", err)
	}
	s := &socket{conn: conn.(*net.IPConn), four: four}
	if s.raw, err = s.conn.SyscallConn(); err != nil {
		return nil, errors.Join(fmt.Errorf("reach the socket for pings: %w", err), conn.Close())
	}
	return s, nil
}

// tune lets nothing but echo replies in, and asks for large buffers: as large as
// root may have, else as large as anybody may.
func tune(fd int, four bool) error {
	var err error
	if four {
		err = unix.SetsockoptInt(fd, unix.SOL_RAW, unix.ICMP_FILTER, ^(1 << answer4))
	} else {
		var f unix.ICMPv6Filter
		for i := range f.Data {
			f.Data[i] = ^uint32(0)
		}
		f.Data[answer6/32] &^= 1 << (answer6 % 32)
		err = unix.SetsockoptICMPv6Filter(fd, unix.SOL_ICMPV6, unix.ICMPV6_FILTER, &f)
	}
	if err != nil {
		return fmt.Errorf("let echo replies in only: %w", err)
	}
	for _, o := range []struct{ forced, plain, bytes int }{
		{unix.SO_SNDBUFFORCE, unix.SO_SNDBUF, sendBuffer}, {unix.SO_RCVBUFFORCE, unix.SO_RCVBUF, receiveBuffer},
	} {
		if unix.SetsockoptInt(fd, unix.SOL_SOCKET, o.forced, o.bytes) == nil {
			continue
		}
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, o.plain, o.bytes); err != nil {
			return fmt.Errorf("ask for a large buffer: %w", err)
		}
	}
	return nil
}

// Send implements Wire.
func (s *socket) Send(to netip.Addr, message []byte) error {
	var sa unix.Sockaddr = &unix.SockaddrInet6{Addr: to.As16()} // the kernel does the checksum
	if s.four {
		sa = &unix.SockaddrInet4{Addr: to.As4()}
		binary.BigEndian.PutUint16(message[2:], 0)
		binary.BigEndian.PutUint16(message[2:], checksum(message))
	}
	var sent error
	err := s.raw.Write(func(fd uintptr) bool {
		for {
			if sent = unix.Sendto(int(fd), message, unix.MSG_DONTWAIT, sa); !errors.Is(sent, unix.EINTR) {
				break
			}
		}
		if errors.Is(sent, unix.ENOBUFS) && full(int(fd)) {
			sent = errors.Join(ErrBusy, sent)
		}
		return true
	})
	switch err = errors.Join(err, sent); {
	case err == nil:
		return nil
	case errors.Is(err, unix.EAGAIN), errors.Is(err, unix.ENOMEM), errors.Is(err, net.ErrClosed):
		return fmt.Errorf("ping %s: %w: %w", to, ErrBusy, err)
	}
	return fmt.Errorf("ping %s: %w", to, err)
}

// full reports whether what waits to be sent fills the socket's buffer. Both that
// and a pulled cable make the kernel say ENOBUFS.
func full(fd int) bool {
	waits, err := unix.IoctlGetInt(fd, unix.SIOCOUTQ)
	size, serr := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUF)
	return err == nil && serr == nil && waits >= size
}

// Receive implements Wire.
func (s *socket) Receive(b []byte) (int, netip.Addr, error) {
	for {
		n, from, err := s.conn.ReadFromIP(b)
		if err != nil {
			return 0, netip.Addr{}, fmt.Errorf("receive answers to pings: %w", err)
		}
		addr, ok := netip.AddrFromSlice(from.IP)
		if ok && (!s.four || checksum(b[:n]) == 0) { // the kernel looks at those of IPv6 only
			return n, addr.Unmap().WithZone(from.Zone), nil
		}
	}
}

// Close implements Wire.
func (s *socket) Close() error { return s.conn.Close() }
