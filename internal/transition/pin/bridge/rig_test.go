package bridge

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"holdfast/internal/host/ovs"
	"holdfast/internal/testbed/nettest"
	"holdfast/internal/testbed/ovstest"
	"holdfast/internal/testbed/try"
	"holdfast/internal/transition/pin"
)

const (
	bridgeName = "br-int"
	protocols  = "OpenFlow10,OpenFlow13,OpenFlow14" // those that Neutron's agent sets
	rate       = 1000                               // packets a second
)

// tenants are flows of two tenants on a bridge, which has no other boundary between them: NORMAL would
// forward from each of its ports to all others. Ports 1 and 2 are one's, 3 and 4 the other's.
func tenants() (out []string) {
	for port := 1; port <= 4; port++ {
		vlan, other := 10+10*((port-1)/2), port+1-2*((port-1)%2)
		out = append(out, fmt.Sprintf("table=0,priority=9,in_port=%d actions=set_field:0x%x->reg6,resubmit(,25)", port, port),
			fmt.Sprintf("table=25,priority=2,reg6=0x%x,dl_src=%s actions=mod_vlan_vid:%d,goto_table:60", port, ovstest.MAC(port), vlan),
			fmt.Sprintf("table=60,priority=4,dl_vlan=%d,dl_dst=%s actions=strip_vlan,output:%d", vlan, ovstest.MAC(port), port),
			fmt.Sprintf("table=60,priority=1,dl_vlan=%d,reg6=0x%x actions=strip_vlan,output:%d", vlan, port, other))
	}
	return append(out, "table=60,priority=0 actions=drop")
}

// rig is a bridge with the two tenants' hosts.
type rig struct {
	*ovstest.Switch
	hosts map[int]nettest.End
}

func newRig(t *testing.T) *rig {
	t.Helper()
	r := &rig{Switch: ovstest.New(t), hosts: map[int]nettest.End{}}
	r.Bridge(t, bridgeName, protocols)
	for port := 1; port <= 4; port++ {
		r.hosts[port] = r.Host(t, bridgeName, port)
	}
	for port, h := range r.hosts { // no ARP: each lost packet is one of those that are counted
		for other := range r.hosts {
			if port != other {
				h.IP(t, "neigh", "add", ovstest.Addr(other).String(), "lladdr", ovstest.MAC(other), "nud", "permanent", "dev", "eth0")
			}
		}
	}
	r.Add(t, bridgeName, 1, tenants()...)
	return r
}

// rewrite is what an agent does that starts: all flows of its last run go, and slowly come anew
// under another cookie.
func (r *rig) rewrite(t *testing.T, from, to uint64) {
	t.Helper()
	r.Delete(t, bridgeName, from)
	for _, f := range tenants() {
		time.Sleep(30 * time.Millisecond)
		r.Add(t, bridgeName, to, f)
	}
}

func (r *rig) dump(t *testing.T) pin.Dump {
	t.Helper()
	text, err := ovs.Look(t.Context(), bridgeName, "OpenFlow14")
	try.Must(t, err)
	d, err := pin.Read(text.Flows, text.Groups, text.Ports)
	try.Must(t, err)
	return d
}

// traffic are numbered packets from one host to another.
type traffic struct {
	sent, got int
	lost      []int // numbers of packets, which were sent at the rate
	stop      func()
}

// send sends packets at the rate until stop, which waits for the last ones and counts.
func (r *rig) send(t *testing.T, from, to int) *traffic {
	t.Helper()
	const port = 7777
	in := listen(t, r.hosts[to], netip.AddrPortFrom(ovstest.Addr(to), port))
	out := listen(t, r.hosts[from], netip.AddrPortFrom(ovstest.Addr(from), port))
	x, done := &traffic{}, make(chan struct{})
	var w sync.WaitGroup
	w.Go(func() {
		dest := net.UDPAddrFromAddrPort(netip.AddrPortFrom(ovstest.Addr(to), port))
		for begun := time.Now(); ; time.Sleep(time.Millisecond) {
			// What was missed is sent after and after: a burst would not fit into the switch's queue.
			due := int(time.Since(begun) * rate / time.Second)
			for most := x.sent + 3; x.sent < min(due, most); x.sent++ {
				if _, err := out.WriteToUDP(binary.BigEndian.AppendUint64(nil, uint64(x.sent)), dest); err != nil {
					t.Errorf("send: %v", err)
					return
				}
			}
			select {
			case <-done:
				return
			default:
			}
		}
	})
	seen := map[uint64]bool{}
	var reader sync.WaitGroup
	reader.Go(func() {
		for b := make([]byte, 64); ; {
			n, err := in.Read(b)
			switch {
			case errors.Is(err, os.ErrDeadlineExceeded):
				return
			case err != nil || n != 8:
				t.Errorf("receive: %d bytes, %v", n, err)
				return
			}
			seen[binary.BigEndian.Uint64(b)] = true
		}
	})
	x.stop = func() {
		close(done)
		w.Wait()
		if err := in.SetReadDeadline(time.Now().Add(2 * time.Second)); err != nil {
			t.Error(err)
		}
		reader.Wait()
		in.Close() // it has been read to its end
		out.Close()
		x.got = len(seen)
		for i := range x.sent {
			if !seen[uint64(i)] {
				x.lost = append(x.lost, i)
			}
		}
	}
	return x
}

// listen opens a socket on a host. Its packets have no checksums: the userspace datapath forwards them
// without those that the kernel leaves to the card.
func listen(t *testing.T, at nettest.End, addr netip.AddrPort) (c *net.UDPConn) {
	t.Helper()
	try.Must(t, at.Do(func() (err error) {
		c, err = net.ListenUDP("udp4", net.UDPAddrFromAddrPort(addr))
		return err
	}))
	raw, err := c.SyscallConn()
	try.Must(t, err)
	try.Must(t, raw.Control(func(fd uintptr) {
		err = errors.Join(unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_NO_CHECK, 1),
			unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 16<<20)) // room for a reader that waits for a processor
	}))
	try.Must(t, err)
	t.Cleanup(func() { c.Close() })
	return c
}

// frameType is that of the frames that look for leaks (IEEE 802, local experiments).
const frameType = 0x88b5

// frames sends broadcast frames of each host until the returned function is called, which tells for
// each port how many frames it got of which.
func (r *rig) frames(t *testing.T) (stop func() map[int]map[int]int) {
	t.Helper()
	done := make(chan struct{})
	var senders, readers sync.WaitGroup
	var mu sync.Mutex
	got := map[int]map[int]int{}
	end := make(chan struct{})
	for port, h := range r.hosts {
		got[port] = map[int]int{}
		fd, card := packetSocket(t, h)
		senders.Go(func() {
			frame := append([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, hardware(port)...)
			frame = append(binary.BigEndian.AppendUint16(frame, frameType), byte(port))
			frame = append(frame, make([]byte, 50)...)
			for {
				select {
				case <-done:
					return
				case <-time.After(5 * time.Millisecond):
				}
				if err := unix.Sendto(fd, frame, 0, &unix.SockaddrLinklayer{Ifindex: card, Protocol: swapped(frameType)}); err != nil {
					t.Errorf("send a frame: %v", err)
					return
				}
			}
		})
		readers.Go(func() {
			for b := make([]byte, 256); ; {
				n, from, err := unix.Recvfrom(fd, b, 0)
				if l, ok := from.(*unix.SockaddrLinklayer); ok && err == nil && n > 14 && l.Pkttype != unix.PACKET_OUTGOING {
					mu.Lock()
					got[port][int(b[14])]++
					mu.Unlock()
				}
				select {
				case <-end:
					return
				default:
				}
			}
		})
	}
	return func() map[int]map[int]int {
		close(done)
		senders.Wait()
		time.Sleep(500 * time.Millisecond) // the last frames
		close(end)
		readers.Wait()
		return got
	}
}

func packetSocket(t *testing.T, at nettest.End) (fd, card int) {
	t.Helper()
	try.Must(t, at.Do(func() error {
		i, err := net.InterfaceByName("eth0")
		if err != nil {
			return err
		}
		card = i.Index
		fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, int(swapped(frameType)))
		return err
	}))
	t.Cleanup(func() { unix.Close(fd) })
	try.Must(t, unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Usec: 100_000}))
	return fd, card
}

func swapped(n uint16) uint16 { return n<<8 | n>>8 }

func hardware(port int) []byte {
	m, err := net.ParseMAC(ovstest.MAC(port))
	if err != nil {
		panic(err)
	}
	return m
}

// leaks are the frames that went from one tenant's port to another's.
func leaks(got map[int]map[int]int) (n int, within int) {
	for to, from := range got {
		for port, count := range from {
			if (port-1)/2 == (to-1)/2 {
				within += count
			} else {
				n += count
			}
		}
	}
	return n, within
}

// has reports whether an error says something.
func has(err error, want string) bool { return err != nil && strings.Contains(err.Error(), want) }
