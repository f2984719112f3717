package lab

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// What the agents keep up, for Options.Work.
const (
	WorkGuest = "guest" // the laboratory's guest
	// WorkAddress is a process in the guest's place, which gives its host the
	// address FloatingAddr for as long as it lives.
	WorkAddress = "address"
)

// FloatingAddr is the address that WorkAddress keeps up. Nobody else has it.
func (l *Lab) FloatingAddr() netip.Addr { return l.p.floatingAddr() }

// FloatingAddr6 is that of IPv6, where there is one.
func (l *Lab) FloatingAddr6() netip.Addr { return l.p.addr6(l.p.floatingAddr()) }

func (p plan) floatingAddr() netip.Addr { return p.addr(9) }

// addressArgv is the program of WorkAddress, as hosts see it.
func (p plan) addressArgv() []string {
	return []string{p.self(), addressCommand, p.floatingAddr().String(), "br0"}
}

// Announcements of an address that has moved: so many, at this interval.
const (
	announcements = 5
	announceEvery = 200 * time.Millisecond
)

// holdAddress gives the host an address until ctx ends or the process dies,
// however it dies. The address belongs to a device of this process: the kernel
// removes both while it ends the process, before anybody can see that it is gone.
// On the network it is announced on the interface named link, whose neighbours
// are answered there, as Linux does for each address of a host.
func holdAddress(ctx context.Context, text, link string) error {
	addr, err := netip.ParseAddr(text)
	if err != nil || !addr.Is4() {
		return fmt.Errorf("hold address %q: want an IPv4 address", text)
	}
	if err := tunnelWith(addr); err != nil {
		return fmt.Errorf("hold address %s: %w", addr, err)
	}
	card, err := net.InterfaceByName(link)
	if err != nil {
		return fmt.Errorf("hold address %s: %w", addr, err)
	}
	fd, err := arpSocket()
	if err != nil {
		return fmt.Errorf("announce address %s: %w", addr, err)
	}
	defer unix.Close(fd)
	t := time.NewTicker(announceEvery)
	defer t.Stop()
	for range announcements {
		// Who has it? I have: neighbours take the sender's card from the question.
		if err := askARP(fd, card, addr, addr); err != nil {
			// A card that is down now may come up: the address is held.
			fmt.Fprintf(os.Stderr, "announce address %s: %v\n", addr, err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
	}
	<-ctx.Done()
	return nil
}

// tunnelWith makes a network device with an address of its own and no way to
// anywhere. It lives as long as its file, which is left open for the end of the
// process to close.
func tunnelWith(addr netip.Addr) (err error) {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open /dev/net/tun: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, unix.Close(fd))
		}
	}()
	ifr, err := unix.NewIfreq("floating0")
	if err != nil {
		return fmt.Errorf("name the device: %w", err)
	}
	ifr.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
	if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, ifr); err != nil {
		return fmt.Errorf("make device %s: %w", ifr.Name(), err)
	}
	return bring(ifr.Name(), addr)
}

// bring gives a point-to-point device an address (of length 32, then) and
// switches it on.
func bring(name string, addr netip.Addr) (err error) {
	s, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("set up device %s: %w", name, err)
	}
	defer func() { err = errors.Join(err, unix.Close(s)) }()
	ifr, err := unix.NewIfreq(name)
	if err == nil {
		err = ifr.SetInet4Addr(addr.AsSlice())
	}
	if err == nil {
		err = unix.IoctlIfreq(s, unix.SIOCSIFADDR, ifr)
	}
	if err != nil {
		return fmt.Errorf("give address %s to device %s: %w", addr, name, err)
	}
	ifr.SetUint16(unix.IFF_UP)
	if err := unix.IoctlIfreq(s, unix.SIOCSIFFLAGS, ifr); err != nil {
		return fmt.Errorf("switch device %s on: %w", name, err)
	}
	return nil
}

// whoHasLimit is how long WhoHas collects answers: those of all hosts come within
// a few milliseconds.
const whoHasLimit = 50 * time.Millisecond

// WhoHas asks the network, from the switch, which hosts have an address: those
// that answer for it within 50 ms, each once, in order. A host whose port is off
// is not heard, one that stands still does not answer. It asks by ARP, so
// it needs no word of the hosts' daemons or of the address's holder.
func (l *Lab) WhoHas(ctx context.Context, addr netip.Addr) ([]string, error) {
	var found []string
	err := l.InSwitch(func() error {
		card, err := net.InterfaceByName(l.p.bridge())
		if err != nil {
			return err
		}
		fd, err := arpSocket()
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		if err := askARP(fd, card, l.p.switchAddr(), addr); err != nil {
			return err
		}
		found, err = l.arpAnswers(ctx, fd, addr)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("ask who has %s: %w", addr, err)
	}
	return found, nil
}

// arpAnswers reads answers about an address until whoHasLimit or the end of ctx.
func (l *Lab) arpAnswers(ctx context.Context, fd int, addr netip.Addr) ([]string, error) {
	names := map[string]string{}
	for _, h := range l.p.hosts() {
		names[l.p.hostMAC(h)] = h
	}
	var found []string
	buf := make([]byte, 128)
	for end := time.Now().Add(whoHasLimit); ctx.Err() == nil; {
		left := time.Until(end)
		if left <= 0 {
			break
		}
		tv := unix.NsecToTimeval(max(left, time.Millisecond).Nanoseconds())
		if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &tv); err != nil {
			return nil, err
		}
		n, _, err := unix.Recvfrom(fd, buf, 0)
		if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return nil, err
		}
		mac, ok := parseARP(buf[:n], addr)
		if h, known := names[mac]; ok && known && !slices.Contains(found, h) {
			found = append(found, h)
		}
	}
	slices.Sort(found)
	return found, nil
}

// etherARP is the protocol's number in the network's order of bytes.
const etherARP = unix.ETH_P_ARP<<8&0xff00 | unix.ETH_P_ARP>>8

// ARP for IPv4 over Ethernet (RFC 826).
const (
	arpLen     = 28
	arpRequest = 1
	arpReply   = 2
)

func arpSocket() (int, error) {
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, etherARP)
	if err != nil {
		return -1, fmt.Errorf("open a socket for ARP: %w", err)
	}
	return fd, nil
}

// askARP asks all neighbours at a card for an address, in the name of another.
func askARP(fd int, card *net.Interface, from, about netip.Addr) error {
	to := &unix.SockaddrLinklayer{Protocol: etherARP, Ifindex: card.Index, Halen: 6}
	for i := range 6 {
		to.Addr[i] = 0xff
	}
	return unix.Sendto(fd, arpQuestion(card.HardwareAddr, from, about), unix.MSG_DONTWAIT, to)
}

func arpQuestion(mac net.HardwareAddr, from, about netip.Addr) []byte {
	b := make([]byte, arpLen)
	binary.BigEndian.PutUint16(b[0:], 1) // Ethernet
	binary.BigEndian.PutUint16(b[2:], unix.ETH_P_IP)
	b[4], b[5] = 6, 4 // lengths of the addresses
	binary.BigEndian.PutUint16(b[6:], arpRequest)
	copy(b[8:14], mac)
	copy(b[14:18], from.AsSlice())
	copy(b[24:28], about.AsSlice())
	return b
}

// parseARP gives the card that answers for an address.
func parseARP(b []byte, addr netip.Addr) (mac string, ok bool) {
	if len(b) < arpLen || binary.BigEndian.Uint16(b[6:]) != arpReply || b[4] != 6 || b[5] != 4 {
		return "", false
	}
	if from, ok := netip.AddrFromSlice(b[14:18]); !ok || from != addr {
		return "", false
	}
	return net.HardwareAddr(b[8:14]).String(), true
}
