package onhost

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"holdfast/internal/install"
	"holdfast/internal/lib/text"
	"holdfast/internal/pair/precheck"
)

const netDir = "/sys/class/net"

// link is the interface that has the host's address; nil: none has.
func link(addr string) (*install.Link, error) {
	all, err := net.Interfaces()
	if err != nil {
		return nil, fmt.Errorf("list the network interfaces: %w", err)
	}
	for _, i := range all {
		addrs, err := i.Addrs()
		if err != nil {
			return nil, fmt.Errorf("list the addresses of %s: %w", i.Name, err)
		}
		for _, a := range addrs {
			if n, ok := a.(*net.IPNet); ok && n.IP.Equal(net.ParseIP(addr)) {
				return &install.Link{Name: i.Name, MTU: i.MTU, Bond: bonds(i.Name), Speed: max(0, number(filepath.Join(netDir, i.Name, "speed")))}, nil
			}
		}
	}
	return nil, nil
}

// cards are the interfaces without others below them on which an interface lies: itself, where it
// is none of VLANs, bonds and bridges. What leads to a guest only is left out.
func cards(name string) (out []string) {
	for _, port := range ports(name) {
		if _, tap := os.Stat(filepath.Join(netDir, port, "tun_flags")); tap != nil {
			out = append(out, cards(port)...)
		}
	}
	if len(out) == 0 {
		out = []string{name}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// pathEnd looks at this host's end of a second path.
func pathEnd(p precheck.Path) *precheck.PathEnd {
	out := &precheck.PathEnd{}
	first, err := link(p.First)
	var second *install.Link
	if err == nil {
		second, err = link(p.Own)
	}
	if err != nil {
		out.Error = text.Clean(err.Error())
		return out
	}
	if first != nil {
		out.First = first.Name
	}
	if second == nil {
		return out
	}
	out.Dev = second.Name
	if first != nil {
		below := cards(first.Name)
		out.Cards = slices.DeleteFunc(cards(second.Name), func(c string) bool { return !slices.Contains(below, c) })
	}
	c, err := net.Dial("udp", net.JoinHostPort(p.Peer, strconv.Itoa(install.APIPort))) // nothing is sent
	if err != nil {
		out.Error = text.Clean(fmt.Sprintf("no route leads to %s: %v", p.Peer, err))
		return out
	}
	defer c.Close()
	from, err := netip.ParseAddrPort(c.LocalAddr().String())
	if err != nil {
		out.Error = text.Clean(err.Error())
		return out
	}
	out.From = from.Addr().Unmap().String()
	return out
}

func bridge(name string) install.Bridge {
	_, err := os.Stat(filepath.Join(netDir, name, "bridge"))
	if err != nil { // an Open vSwitch bridge has no such folder; libvirt would not attach to it by this name either
		return install.Bridge{}
	}
	b := install.Bridge{Exists: true, MTU: number(filepath.Join(netDir, name, "mtu")), Bond: bonds(name)}
	for _, port := range ports(name) {
		// A guest's own device does not lead out of the host.
		if _, tap := os.Stat(filepath.Join(netDir, port, "tun_flags")); tap != nil && number(filepath.Join(netDir, port, "carrier")) == 1 {
			b.Carrier = true
		}
	}
	return b
}

// ports are the devices of a bridge, or below a VLAN or bond.
func ports(name string) (out []string) {
	for _, pattern := range []string{"brif/*", "lower_*"} {
		found, _ := filepath.Glob(filepath.Join(netDir, name, pattern)) // the patterns are right
		for _, f := range found {
			if port := strings.TrimPrefix(filepath.Base(f), "lower_"); !slices.Contains(out, port) {
				out = append(out, port)
			}
		}
	}
	return out
}

// bonds says what is wrong with the bonds at or below an interface.
func bonds(name string) (wrong []string) {
	if lines, err := fieldsOf(filepath.Join("/proc/net/bonding", name)); err == nil {
		return bondFaults(name, lines)
	}
	for _, port := range ports(name) {
		wrong = append(wrong, bonds(port)...)
	}
	return wrong
}

// noPartner is what the kernel shows for an LACP partner that never spoke.
const noPartner = "00:00:00:00:00:00"

// bondFaults reads /proc/net/bonding/NAME: interfaces of it without a link, and
// an LACP partner that was not seen.
func bondFaults(name string, lines [][2]string) (wrong []string) {
	lacp, slave := false, ""
	for _, l := range lines {
		switch {
		case l[0] == "Bonding Mode":
			lacp = strings.Contains(l[1], "802.3ad")
		case l[0] == "Slave Interface":
			slave = l[1]
		case l[0] == "MII Status" && slave != "" && l[1] != "up":
			wrong = append(wrong, fmt.Sprintf("%s of %s is %s", slave, name, l[1]))
		case l[0] == "Partner Mac Address" && lacp && l[1] == noPartner:
			wrong = append(wrong, fmt.Sprintf("%s: the switch does not speak LACP", name))
		}
	}
	return slices.Compact(wrong)
}

// listeners hold the ports that the agent will have, so that others can try them.
type listeners struct {
	open  []io.Closer
	taken map[int]string // what was told when they were opened
}

// listen takes the ports, and tells which are taken and by what. Where our own
// agent runs, it has them.
func (l *listeners) listen(q install.Query, ours bool) map[int]string {
	if len(l.open) > 0 {
		return l.taken
	}
	taken := map[int]string{}
	if ours {
		return taken
	}
	l.taken = taken
	l.take(q.Addr, q.Ports, taken)
	if q.Second != "" && q.Second != q.Addr { // the checks refuse one address for both
		second := map[int]string{}
		l.take(q.Second, install.SecondPorts(), second)
		// An address that this host does not have is told by ofPair.
		if own, err := link(q.Second); err != nil || own != nil {
			maps.Copy(taken, second)
		}
	}
	return taken
}

// take takes ports of an address.
func (l *listeners) take(addr string, ports []int, taken map[int]string) {
	for _, port := range ports {
		at := net.JoinHostPort(addr, strconv.Itoa(port))
		ln, err := net.Listen("tcp", at)
		if err != nil {
			taken[port] = "TCP: " + err.Error()
			continue
		}
		l.open = append(l.open, ln)
		go func() {
			for {
				c, err := ln.Accept()
				if err != nil {
					return // it was closed
				}
				go swallow(c)
			}
		}()
		if port != install.APIPort {
			continue
		}
		udp, err := net.ListenPacket("udp", at)
		if err != nil {
			taken[port] = "UDP: " + err.Error()
			continue
		}
		l.open = append(l.open, udp)
	}
}

func (l *listeners) close() (err error) {
	for _, c := range l.open {
		err = errors.Join(err, c.Close())
	}
	l.open = nil
	return err
}

// reachWithin bounds one try of a port or of a frame.
const reachWithin = 3 * time.Second

// How a connection's speed is measured: for rateFor something is sent, then the other side has
// until rateWithin to have taken it.
const (
	rateFor    = time.Second
	rateWithin = 10 * time.Second
)

// swallow takes what others send to a port, so that they can measure how much that is.
func swallow(c net.Conn) {
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(rateWithin)); err != nil {
		return // the other side sees that it ends
	}
	_, _ = io.Copy(io.Discard, c) // the same
}

// rate is how much a connection takes in a second, in bytes.
func rate(ctx context.Context, at string) (n int64, err error) {
	c, err := (&net.Dialer{Timeout: reachWithin}).DialContext(ctx, "tcp", at)
	if err != nil {
		return 0, err
	}
	defer c.Close()
	begin := time.Now()
	if err := c.SetDeadline(begin.Add(rateWithin)); err != nil {
		return 0, err
	}
	chunk := make([]byte, 1<<18)
	for time.Since(begin) < rateFor {
		sent, err := c.Write(chunk)
		n += int64(sent)
		if err != nil {
			return 0, fmt.Errorf("send for a second: %w", err)
		}
	}
	if err := c.(*net.TCPConn).CloseWrite(); err != nil {
		return 0, fmt.Errorf("send for a second: %w", err)
	}
	// What is under way counts when the other side has taken it, which then ends, too.
	if left, err := io.Copy(io.Discard, c); err != nil || left > 0 {
		return 0, errors.Join(errors.New("the other side closed the connection or sent data, and was only to receive"), err)
	}
	return int64(float64(n) / time.Since(begin).Seconds()), nil
}

// reach tries all ports of the peers, and full frames to them.
func reach(ctx context.Context, peers []install.Peer) []install.Reached {
	out := make([]install.Reached, len(peers))
	var wg sync.WaitGroup
	for i, p := range peers {
		wg.Go(func() { out[i] = reachOne(ctx, p) })
	}
	wg.Wait()
	return out
}

func reachOne(ctx context.Context, p install.Peer) install.Reached {
	r := install.Reached{Host: p.Host, Ports: map[int]string{}}
	d := net.Dialer{Timeout: reachWithin}
	for _, port := range p.Ports {
		c, err := d.DialContext(ctx, "tcp", net.JoinHostPort(p.Addr, strconv.Itoa(port)))
		if err != nil {
			r.Ports[port] = err.Error()
			continue
		}
		c.Close()
	}
	if err := frames(p.Addr, p.MTU); err != nil {
		r.Frames = err.Error()
	}
	if p.Rate {
		n, err := rate(ctx, net.JoinHostPort(p.Addr, strconv.Itoa(install.PeerPort)))
		if r.Rate = n; err != nil {
			r.Unrated = err.Error()
		}
	}
	return r
}

// icmpHead is the length of the IPv4 and ICMP headers in bytes.
const icmpHead = 28

// frames sends a ping that fills a frame of mtu bytes and must not be cut, and
// waits for its answer.
func frames(addr string, mtu int) error {
	ip := net.ParseIP(addr).To4()
	if ip == nil || mtu <= icmpHead {
		return nil // only IPv4 is tried
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_ICMP)
	if err != nil {
		return fmt.Errorf("open a socket for pings: %w", err)
	}
	defer unix.Close(fd)
	to := &unix.SockaddrInet4{Addr: [4]byte(ip)}
	wait := unix.NsecToTimeval(int64(time.Second))
	err = errors.Join(
		unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_PROBE), // don't fragment, whatever the kernel has learnt
		unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &wait),
		unix.Connect(fd, to),
	)
	if err != nil {
		return fmt.Errorf("ping %s: %w", addr, err)
	}
	packet := echo(uint16(os.Getpid()), mtu-icmpHead)
	buf := make([]byte, 1<<16)
	for end := time.Now().Add(reachWithin); time.Now().Before(end); {
		if err := unix.Send(fd, packet, 0); err != nil {
			return fmt.Errorf("send a frame of %d bytes: %w", mtu, err)
		}
		for {
			n, _, err := unix.Recvfrom(fd, buf, 0)
			if err != nil {
				break // no answer within a second: another try
			}
			if isReply(buf[:n], packet) {
				return nil
			}
		}
	}
	return fmt.Errorf("frames of %d bytes get no answer", mtu)
}

// echo is an ICMP echo request (RFC 792) with n bytes of data.
func echo(id uint16, n int) []byte {
	b := make([]byte, 8+n)
	b[0] = 8
	b[4], b[5] = byte(id>>8), byte(id)
	b[7] = 1
	sum := uint32(0)
	for i := 0; i+1 < len(b); i += 2 {
		sum += uint32(b[i])<<8 | uint32(b[i+1])
	}
	for sum>>16 != 0 {
		sum = sum&0xffff + sum>>16
	}
	b[2], b[3] = byte(^sum>>8), byte(^sum)
	return b
}

// isReply: an echo reply (type 0) behind the IPv4 header, to this request.
func isReply(got, sent []byte) bool {
	if len(got) < 20 {
		return false
	}
	head := int(got[0]&0xf) * 4
	return len(got) >= head+len(sent) && got[head] == 0 && got[head+4] == sent[4] && got[head+5] == sent[5]
}
