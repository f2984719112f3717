package ping

import (
	"context"
	"errors"
	"fmt"
	"net"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// buffers of a socket, bytes. Packets to targets that no host answers for wait
// seconds for it in the kernel, and count as the sender's all the while: with a
// small buffer, dead targets would keep the live ones from being asked. Answers
// wait while this process does not run: an answer takes 768 bytes, so that there is
// room for 100,000 of them. What is not used takes no memory.
const (
	sendBuffer    = 16 << 20
	receiveBuffer = 64 << 20
)

// Open makes a Pinger on raw sockets, which takes the right to open such. An IP
// version that the host does not have is missed by Add only.
func Open() (*Pinger, error) {
	p := New(nil, nil)
	v4, err4 := open("ip4:icmp", "0.0.0.0", ofIPv4)
	v6, err6 := open("ip6:ipv6-icmp", "::", ofIPv6)
	if err4 != nil && err6 != nil {
		return nil, errors.Join(err4, err6)
	}
	if err4 == nil {
		p.v4.wire = v4
	}
	if err6 == nil {
		p.v6.wire = v6
	}
	p.v4.none, p.v6.none = err4, err6
	p.nap = nap
	return p, nil
}

// nap sleeps without the timers of the runtime, which are late by up to a
// millisecond.
func nap(d time.Duration) {
	t := unix.NsecToTimespec(int64(d))
	_ = unix.Nanosleep(&t, nil) // a signal ends it early, and then the sender looks early
}

func open(network, address string, of kind) (*socket, error) {
	lc := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) error {
		var tuned error
		if err := raw.Control(func(fd uintptr) { tuned = tune(int(fd), of) }); err != nil {
			return fmt.Errorf("reach the socket: %w", err)
		}
		return tuned
	}}
	// No name is looked up and no peer is asked, so the call needs no deadline.
	conn, err := lc.ListenPacket(context.Background(), network, address)
	if err != nil {
		return nil, fmt.Errorf("open a socket for pings: %w", err)
	}
	raw, err := conn.(*net.IPConn).SyscallConn()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("reach the socket for pings: %w", err), conn.Close())
	}
	return newSocket(conn.(*net.IPConn), raw, of), nil
}

// tune lets nothing but echo replies in, and does what tell does.
func tune(fd int, of kind) error {
	var err error
	if of == ofIPv4 {
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
	return tell(fd)
}

// tell asks for the time of each message and for how many there was no room, and for
// large buffers: as large as root may have, else as large as anybody may.
func tell(fd int) error {
	for _, o := range []int{unix.SO_TIMESTAMPNS, unix.SO_RXQ_OVFL} {
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, o, 1); err != nil {
			return fmt.Errorf("ask when messages came: %w", err)
		}
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

// full reports whether what waits to be sent fills the socket's buffer. Both that
// and a pulled cable make the kernel say ENOBUFS.
func full(fd int) bool {
	waits, err := unix.IoctlGetInt(fd, unix.SIOCOUTQ)
	size, serr := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUF)
	return err == nil && serr == nil && waits >= size
}
