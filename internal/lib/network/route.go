package network

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"syscall"

	"golang.org/x/sys/unix"
)

// Route is the way on which this host sends to an address of another machine.
type Route struct {
	Index  int        // of the interface
	Direct bool       // without a router: the address is on the interface's network
	Source netip.Addr // the own address that it sends from
}

// RouteTo asks the kernel for the way to an address of IPv4, as `ip route get` does. The error
// wraps a unix.Errno where there is none. An address of this host's own, or of many, has none.
func RouteTo(addr netip.Addr) (Route, error) {
	if !addr.Is4() {
		return Route{}, fmt.Errorf("the route to %s: want an address of IPv4", addr)
	}
	body := make([]byte, unix.SizeofRtMsg)
	body[0], body[1] = unix.AF_INET, 32
	m, err := ask(unix.NETLINK_ROUTE, unix.RTM_GETROUTE, Attribute(body, unix.RTA_DST, addr.AsSlice()))
	var r Route
	if err == nil {
		r, err = readRoute(m)
	}
	if err != nil {
		return Route{}, fmt.Errorf("the route to %s: %w", addr, err)
	}
	return r, nil
}

// ask sends a request that is answered by one message.
func ask(family int, kind uint16, body []byte) (syscall.NetlinkMessage, error) {
	fd, err := send(family, kind, 0, body)
	if err != nil {
		return syscall.NetlinkMessage{}, err
	}
	defer func() { _ = unix.Close(fd) }() // there is nothing to flush
	b := make([]byte, 4096)
	n, err := receive(fd, b)
	if err != nil {
		return syscall.NetlinkMessage{}, err
	}
	part, _, _, err := read(b[:n])
	if err == nil && len(part) != 1 {
		err = fmt.Errorf("the kernel answered %x", b[:n])
	}
	if err != nil {
		return syscall.NetlinkMessage{}, err
	}
	return part[0], nil
}

// readRoute reads struct rtmsg and its attributes.
func readRoute(m syscall.NetlinkMessage) (Route, error) {
	if m.Header.Type != unix.RTM_NEWROUTE || len(m.Data) < unix.SizeofRtMsg {
		return Route{}, fmt.Errorf("a message of type %d with %d bytes", m.Header.Type, len(m.Data))
	}
	if kind := m.Data[7]; kind != unix.RTN_UNICAST {
		return Route{}, fmt.Errorf("%w: the route is of kind %d, not to another machine", unix.ENETUNREACH, kind)
	}
	r := Route{Direct: true}
	err := attributes(m.Data[unix.SizeofRtMsg:], func(kind uint16, v []byte) error {
		switch {
		case kind == unix.RTA_OIF && len(v) == 4:
			r.Index = int(binary.NativeEndian.Uint32(v))
		case kind == unix.RTA_PREFSRC && len(v) == 4:
			r.Source = netip.AddrFrom4([4]byte(v))
		case kind == unix.RTA_GATEWAY || kind == unix.RTA_VIA:
			r.Direct = false
		}
		return nil
	})
	if err != nil {
		return Route{}, err
	}
	if r.Index == 0 || !r.Source.IsValid() {
		return Route{}, fmt.Errorf("the kernel names no interface, or no address of it: %x", m.Data)
	}
	return r, nil
}
