package network

import (
	"encoding/binary"
	"fmt"
	"syscall"

	"golang.org/x/sys/unix"
)

// Link is an interface (rtnetlink(7), struct ifinfomsg).
type Link struct {
	Index  int
	Name   string
	Kind   string // IFLA_INFO_KIND: bridge, veth, tun, ...; "" for others
	Up     bool   // IFF_UP
	Master int    // the index of what it is a port of; 0: of nothing
	Peer   int    // the index of a veth's other end; 0: that is in another namespace, or there is none
}

// Links lists the interfaces of the thread's network namespace.
func Links() ([]Link, error) {
	answer, err := List(unix.NETLINK_ROUTE, unix.RTM_GETLINK, make([]byte, unix.SizeofIfInfomsg))
	if err != nil {
		return nil, fmt.Errorf("list the interfaces of this host: %w", err)
	}
	var out []Link
	for _, m := range answer {
		l, err := readLink(m)
		if err != nil {
			return nil, fmt.Errorf("list the interfaces of this host: %w", err)
		}
		out = append(out, l)
	}
	return out, nil
}

func readLink(m syscall.NetlinkMessage) (l Link, err error) {
	if m.Header.Type != unix.RTM_NEWLINK || len(m.Data) < unix.SizeofIfInfomsg {
		return l, fmt.Errorf("the kernel answered a message of type %d and %d bytes: want one of an interface", m.Header.Type, len(m.Data))
	}
	l.Index = int(int32(binary.NativeEndian.Uint32(m.Data[4:])))
	l.Up = binary.NativeEndian.Uint32(m.Data[8:])&unix.IFF_UP != 0
	link, elsewhere := 0, false
	err = attributes(m.Data[unix.SizeofIfInfomsg:], func(kind uint16, data []byte) error {
		switch kind {
		case unix.IFLA_IFNAME:
			l.Name = unix.ByteSliceToString(data)
		case unix.IFLA_MASTER:
			l.Master = index(data)
		case unix.IFLA_LINK:
			link = index(data)
		case unix.IFLA_LINK_NETNSID:
			elsewhere = true
		case unix.IFLA_LINKINFO:
			return attributes(data, func(kind uint16, data []byte) error {
				if kind == unix.IFLA_INFO_KIND {
					l.Kind = unix.ByteSliceToString(data)
				}
				return nil
			})
		}
		return nil
	})
	if l.Kind == "veth" && !elsewhere {
		l.Peer = link
	}
	return l, err
}

func index(data []byte) int {
	if len(data) < 4 {
		return 0
	}
	return int(binary.NativeEndian.Uint32(data))
}

// attributes reads a list of struct rtattr. NLA_F_NESTED and NLA_F_NET_BYTEORDER are no part of a kind.
func attributes(b []byte, with func(kind uint16, data []byte) error) error {
	for len(b) >= unix.SizeofRtAttr {
		size, kind := int(binary.NativeEndian.Uint16(b)), binary.NativeEndian.Uint16(b[2:])
		if size < unix.SizeofRtAttr || size > len(b) {
			return fmt.Errorf("an attribute of %d bytes in %d", size, len(b))
		}
		if err := with(kind&^(unix.NLA_F_NESTED|unix.NLA_F_NET_BYTEORDER), b[unix.SizeofRtAttr:size]); err != nil {
			return err
		}
		b = b[min(len(b), (size+unix.RTA_ALIGNTO-1)&^(unix.RTA_ALIGNTO-1)):]
	}
	return nil
}
