package vip

import (
	"encoding/binary"
	"fmt"
	"math"
	"net"
	"net/netip"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"holdfast/internal/lib/network"
)

// mark is the protocol of our addresses (IFA_PROTO, since Linux 5.18; `ip -d addr` shows it).
// The kernel uses 1 to 3.
const mark = 72

// tail ends the label of our addresses of IPv4, which older kernels have, too.
const tail = ":hf"

// ifaProto is IFA_PROTO of linux/if_addr.h.
const ifaProto = 11

// entry is an address on an interface.
type entry struct {
	index  int // of the interface
	addr   netip.Addr
	bits   int
	label  string // of IPv4
	proto  byte
	flags  uint32
	prefer uint32 // seconds; forever: math.MaxUint32
	valid  uint32
	ours   bool
}

// isOurs tells an address that Add has put there from others. The shape alone (for this host
// only, never a preferred source, without duplicate detection) tells it where the kernel can
// not keep a mark: addresses of IPv6 before Linux 5.18.
func (e entry) isOurs(marks bool) bool {
	switch {
	case e.bits != e.addr.BitLen():
		return false
	case e.proto == mark || strings.HasSuffix(e.label, tail):
		return true
	}
	return !marks && e.addr.Is6() && e.proto == 0 && e.flags&unix.IFA_F_NODAD != 0 && e.prefer == 0 && e.valid == math.MaxUint32
}

// entries lists where this host has an address; a zero one: all addresses that it has.
func entries(addr netip.Addr) ([]entry, error) {
	family := byte(unix.AF_UNSPEC)
	if addr.Is4() {
		family = unix.AF_INET
	} else if addr.Is6() {
		family = unix.AF_INET6
	}
	var release unix.Utsname
	if err := unix.Uname(&release); err != nil {
		return nil, fmt.Errorf("ask for the kernel's version: %w", err)
	}
	marks := keepsMarks(unix.ByteSliceToString(release.Release[:]))
	request := make([]byte, unix.SizeofIfAddrmsg)
	request[0] = family
	answer, err := network.List(unix.NETLINK_ROUTE, unix.RTM_GETADDR, request)
	if err != nil {
		return nil, fmt.Errorf("list the addresses of this host: %w", err)
	}
	var out []entry
	for _, m := range answer {
		e, err := readEntry(m)
		if err != nil {
			return nil, fmt.Errorf("list the addresses of this host: %w", err)
		}
		if !addr.IsValid() || e.addr == addr {
			e.ours = e.isOurs(marks)
			out = append(out, e)
		}
	}
	return out, nil
}

// keepsMarks reports whether a kernel of that version keeps IFA_PROTO. Of a version that it
// can not read it says so, too: then the shape of an address proves nothing.
func keepsMarks(version string) bool {
	var major, minor int
	if n, err := fmt.Sscanf(version, "%d.%d", &major, &minor); err != nil || n != 2 {
		return true
	}
	return major > 5 || major == 5 && minor >= 18
}

// readEntry reads a message of the answer to RTM_GETADDR.
func readEntry(m syscall.NetlinkMessage) (entry, error) {
	if m.Header.Type != unix.RTM_NEWADDR || len(m.Data) < unix.SizeofIfAddrmsg {
		return entry{}, fmt.Errorf("a message of type %d with %d bytes", m.Header.Type, len(m.Data))
	}
	m.Data = append(slices.Clone(m.Data), make([]byte, -len(m.Data)&3)...) // it panics at an end that is not padded
	attributes, err := syscall.ParseNetlinkRouteAttr(&m)
	if err != nil {
		return entry{}, err
	}
	e := entry{bits: int(m.Data[1]), flags: uint32(m.Data[2]), index: int(binary.NativeEndian.Uint32(m.Data[4:]))}
	var local, address netip.Addr
	for _, a := range attributes {
		v := a.Value
		switch {
		case a.Attr.Type == unix.IFA_LOCAL:
			local, _ = netip.AddrFromSlice(v)
		case a.Attr.Type == unix.IFA_ADDRESS:
			address, _ = netip.AddrFromSlice(v)
		case a.Attr.Type == unix.IFA_LABEL:
			e.label = unix.ByteSliceToString(v)
		case a.Attr.Type == ifaProto && len(v) == 1:
			e.proto = v[0]
		case a.Attr.Type == unix.IFA_FLAGS && len(v) == 4:
			e.flags = binary.NativeEndian.Uint32(v)
		case a.Attr.Type == unix.IFA_CACHEINFO && len(v) >= 8:
			e.prefer, e.valid = binary.NativeEndian.Uint32(v), binary.NativeEndian.Uint32(v[4:])
		}
	}
	e.addr = address // on a point-to-point link it is the other end's, and local is there
	if local.IsValid() {
		e.addr = local
	}
	if !e.addr.IsValid() || e.bits > e.addr.BitLen() {
		return entry{}, fmt.Errorf("an address of interface %d without its bytes", e.index)
	}
	return e, nil
}

// ports lists the interfaces of this host.
func ports() ([]port, error) {
	all, err := entries(netip.Addr{})
	if err != nil {
		return nil, err
	}
	interfaces, err := net.Interfaces()
	if err != nil {
		return nil, fmt.Errorf("list the interfaces of this host: %w", err)
	}
	var out []port
	for _, i := range interfaces {
		p := port{Interface: i}
		for _, e := range all {
			if e.index == i.Index {
				p.addrs = append(p.addrs, e)
			}
		}
		out = append(out, p)
	}
	return out, nil
}

// change adds (RTM_NEWADDR) or removes (RTM_DELADDR) an address with the whole length of its
// kind: it brings no route with it, is secondary to none, and no choice of a source falls on
// it. One of IPv6 has no preferred lifetime, which keeps it from being chosen by RFC 6724,
// and was asked about by Probe already.
func change(kind, flags uint16, dev net.Interface, addr netip.Addr) error {
	body := make([]byte, unix.SizeofIfAddrmsg)
	body[0] = unix.AF_INET6
	if addr.Is4() {
		body[0] = unix.AF_INET
	}
	body[1] = byte(addr.BitLen())
	binary.NativeEndian.PutUint32(body[4:], uint32(dev.Index))
	body = network.Attribute(body, unix.IFA_LOCAL, addr.AsSlice())
	body = network.Attribute(body, unix.IFA_ADDRESS, addr.AsSlice())
	if kind == unix.RTM_NEWADDR {
		body = network.Attribute(body, ifaProto, []byte{mark})
		if addr.Is4() {
			body = network.Attribute(body, unix.IFA_LABEL, append([]byte(label(dev.Name)), 0))
		} else {
			body = network.Attribute(body, unix.IFA_FLAGS, binary.NativeEndian.AppendUint32(nil, unix.IFA_F_NODAD|unix.IFA_F_NOPREFIXROUTE))
			life := make([]byte, unix.SizeofIfaCacheinfo) // struct ifa_cacheinfo: preferred, valid
			binary.NativeEndian.PutUint32(life[4:], math.MaxUint32)
			body = network.Attribute(body, unix.IFA_CACHEINFO, life)
		}
	}
	return network.Request(unix.NETLINK_ROUTE, kind, flags, body)
}

// label is that of our addresses on an interface.
func label(dev string) string {
	return dev[:min(len(dev), unix.IFNAMSIZ-1-len(tail))] + tail
}
