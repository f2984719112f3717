package network

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"os"

	"golang.org/x/sys/unix"
)

// Sizes in bytes.
const (
	MACSize    = 6
	HeaderSize = 14                   // of a frame
	ARPSize    = HeaderSize + arpSize // of a frame of ARP, before the padding to Ethernet's shortest frame
	arpSize    = 28
)

// Kinds of frames (EtherType).
const (
	TypeARP  = 0x0806
	TypeIPv6 = 0x86dd
)

// Operations of ARP.
const (
	ARPRequest = 1
	ARPReply   = 2
)

// Broadcast is the MAC of all machines.
func Broadcast() net.HardwareAddr { return net.HardwareAddr{0xff, 0xff, 0xff, 0xff, 0xff, 0xff} }

// IsMachine reports whether a MAC may be that of one machine: it has six bytes, and is neither of
// a group nor zero.
func IsMachine(mac net.HardwareAddr) bool {
	return len(mac) == MACSize && mac[0]&1 == 0 && string(mac) != string(make([]byte, MACSize))
}

// AppendHeader appends the header of a frame.
func AppendHeader(b []byte, to, from net.HardwareAddr, kind uint16) []byte {
	return binary.BigEndian.AppendUint16(append(append(b, to...), from...), kind)
}

// Kind is the EtherType of a frame; 0: it has no whole header.
func Kind(frame []byte) uint16 {
	if len(frame) < HeaderSize {
		return 0
	}
	return binary.BigEndian.Uint16(frame[2*MACSize:])
}

// ARP is a packet of ARP for Ethernet and IPv4.
type ARP struct {
	Op        uint16 // ARPRequest or ARPReply
	SenderMAC net.HardwareAddr
	Sender    netip.Addr // 0.0.0.0 in a probe of RFC 5227
	TargetMAC net.HardwareAddr
	Target    netip.Addr
}

// Append appends the frame that carries the packet to a MAC. Both addresses are of IPv4.
func (a ARP) Append(b []byte, to net.HardwareAddr) []byte {
	b = AppendHeader(b, to, a.SenderMAC, TypeARP)
	b = append(b, 0, 1, 0x08, 0, MACSize, 4)
	b = binary.BigEndian.AppendUint16(b, a.Op)
	b = append(append(b, a.SenderMAC...), a.Sender.AsSlice()...)
	return append(append(b, a.TargetMAC...), a.Target.AsSlice()...)
}

// ReadARP reads a frame. ok is false for what is no request and no reply of ARP for Ethernet and
// IPv4, and where the sender's MAC is that of no machine. The MACs lie in the frame.
func ReadARP(frame []byte) (a ARP, ok bool) {
	if len(frame) < ARPSize || Kind(frame) != TypeARP {
		return ARP{}, false
	}
	b := frame[HeaderSize:]
	if binary.BigEndian.Uint16(b[0:]) != 1 || binary.BigEndian.Uint16(b[2:]) != 0x0800 || b[4] != MACSize || b[5] != 4 {
		return ARP{}, false
	}
	a = ARP{
		Op:        binary.BigEndian.Uint16(b[6:]),
		SenderMAC: net.HardwareAddr(b[8:14:14]), Sender: netip.AddrFrom4([4]byte(b[14:18])),
		TargetMAC: net.HardwareAddr(b[18:24:24]), Target: netip.AddrFrom4([4]byte(b[24:28])),
	}
	if a.Op != ARPRequest && a.Op != ARPReply || !IsMachine(a.SenderMAC) {
		return ARP{}, false
	}
	return a, true
}

// OpenFrames opens a packet socket (packet(7)) for frames of one kind on an interface, in the network
// namespace of the thread that calls. It takes CAP_NET_RAW. tune, if any, is called before the
// first frame can come in.
func OpenFrames(dev net.Interface, kind uint16, tune func(fd int) error) (*os.File, error) {
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("open a packet socket: %w", err)
	}
	f := os.NewFile(uintptr(fd), "frames of "+dev.Name)
	if tune != nil {
		err = tune(fd)
	}
	if err == nil {
		order := binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, kind)) // that of the network
		err = unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: order, Ifindex: dev.Index})
	}
	if err != nil {
		_ = f.Close() // there is nothing to flush
		return nil, fmt.Errorf("listen on %s: %w", dev.Name, err)
	}
	return f, nil
}
