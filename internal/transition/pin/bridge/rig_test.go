package bridge

import (
	"encoding/binary"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"holdfast/internal/host/ovs"
	"holdfast/internal/transition/pin"
	"holdfast/testbed/nettest"
	"holdfast/testbed/ovstest"
	"holdfast/testbed/try"
)

const (
	bridgeName = "br-int"
	protocols  = "OpenFlow10,OpenFlow13,OpenFlow14" // those that Neutron's agent sets
	rate       = ovstest.Rate
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

// send sends packets at the rate from one host to another.
func (r *rig) send(t *testing.T, from, to int) *ovstest.Traffic {
	t.Helper()
	return ovstest.Send(t, r.hosts[from], r.hosts[to], ovstest.Addr(from), ovstest.Addr(to))
}

// later waits for what takes seconds: a look starts programs.
func (r *rig) later(t *testing.T, what string, ok func() bool) {
	t.Helper()
	try.Until(t, what, func() bool { time.Sleep(250 * time.Millisecond); return ok() })
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
