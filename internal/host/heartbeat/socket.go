package heartbeat

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"syscall"

	"golang.org/x/sys/unix"
)

const (
	tos      = 0xc0       // DSCP CS6: network control
	priority = 6          // the highest that needs no privilege
	rcvbuf   = 512 * 1024 // bytes; the kernel may give less
)

// listen opens the UDP socket. address is an IP address and a port, 0 for a free
// one. What the kernel refuses of the queueing wishes is logged: heartbeats work
// without them.
func listen(address string, log *slog.Logger) (*net.UDPConn, error) {
	a, err := netip.ParseAddrPort(address)
	if err != nil {
		return nil, fmt.Errorf("listen for heartbeats on %q: want IP:PORT: %w", address, err)
	}
	network := "udp6"
	if a.Addr().Unmap().Is4() {
		network = "udp4"
	}
	lc := net.ListenConfig{Control: func(network, _ string, raw syscall.RawConn) error {
		var refused error
		if err := raw.Control(func(fd uintptr) { refused = tune(int(fd), network) }); err != nil {
			return fmt.Errorf("reach the socket: %w", err)
		}
		if refused != nil {
			log.Warn("heartbeats may be queued behind other traffic", "err", refused)
		}
		return nil
	}}
	// No name is looked up and no peer is asked, so the call needs no deadline.
	conn, err := lc.ListenPacket(context.Background(), network, netip.AddrPortFrom(a.Addr().Unmap(), a.Port()).String())
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
