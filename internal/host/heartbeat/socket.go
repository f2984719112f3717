package heartbeat

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"syscall"

	"golang.org/x/sys/unix"

	"holdfast/internal/lib/network"
)

const (
	tos      = 0xc0       // DSCP CS6: network control
	priority = 6          // the highest that needs no privilege
	rcvbuf   = 512 * 1024 // bytes; the kernel may give less
)

// listenAll opens a socket for each path. The second one has the port of the first.
func listenAll(o Options) ([]*net.UDPConn, error) {
	first, err := listen(o.Listen, o.Log, false)
	if err != nil || o.Second.Peer == "" {
		return []*net.UDPConn{first}, err
	}
	at := netip.AddrPortFrom(o.Second.Own, first.LocalAddr().(*net.UDPAddr).AddrPort().Port())
	second, err := listen(at.String(), o.Log, true)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("second path: %w", err), first.Close())
	}
	return []*net.UDPConn{first, second}, nil
}

// listen opens a UDP socket, at an address that this host may not have yet when it is free. address is an IP address
// and a port, 0 for a free one. What the kernel refuses of the queueing wishes is logged: heartbeats work without them.
func listen(address string, log *slog.Logger, free bool) (*net.UDPConn, error) {
	a, err := netip.ParseAddrPort(address)
	if err != nil {
		return nil, fmt.Errorf("listen for heartbeats on %q: want IP:PORT: %w", address, err)
	}
	udp := "udp6"
	if a.Addr().Unmap().Is4() {
		udp = "udp4"
	}
	lc := net.ListenConfig{Control: func(udp, address string, raw syscall.RawConn) error {
		if free {
			if err := network.FreeBind(udp, address, raw); err != nil {
				return err
			}
		}
		var refused error
		if err := raw.Control(func(fd uintptr) { refused = tune(int(fd), udp) }); err != nil {
			return fmt.Errorf("reach the socket: %w", err)
		}
		if refused != nil {
			log.Warn("heartbeats may be queued behind other traffic", "err", refused)
		}
		return nil
	}}
	// No name is looked up and no peer is asked, so the call needs no deadline.
	conn, err := lc.ListenPacket(context.Background(), udp, netip.AddrPortFrom(a.Addr().Unmap(), a.Port()).String())
	if err != nil {
		return nil, fmt.Errorf("listen for heartbeats: %w", err)
	}
	return conn.(*net.UDPConn), nil
}

// tune asks for short queues. The type of service comes first, since it sets a
// priority of its own.
func tune(fd int, network string) error {
	level, option := unix.IPPROTO_IP, unix.IP_TOS
	if network == "udp6" {
		level, option = unix.IPPROTO_IPV6, unix.IPV6_TCLASS
	}
	for _, o := range []struct {
		name                 string
		level, option, value int
	}{
		{"the type of service", level, option, tos},
		{"SO_PRIORITY", unix.SOL_SOCKET, unix.SO_PRIORITY, priority},
		{"SO_RCVBUF", unix.SOL_SOCKET, unix.SO_RCVBUF, rcvbuf},
	} {
		if err := unix.SetsockoptInt(fd, o.level, o.option, o.value); err != nil {
			return fmt.Errorf("set %s to %d: %w", o.name, o.value, err)
		}
	}
	return nil
}
