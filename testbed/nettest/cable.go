package nettest

import (
	"fmt"
	"net/netip"
	"os"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// End is a host at the end of a cable, which is its eth0.
type End struct{ space *os.File }

// Cable makes two hosts that are joined by nothing but a cable: one that goes down
// takes the other's carrier. They have 192.0.2.1 and 2001:db8::1, 192.0.2.2 and
// 2001:db8::2. It skips the test where that is not possible: it takes root and
// iproute2.
func Cable(t *testing.T) (here, there End) {
	t.Helper()
	asks(t)
	ends := [2]End{{space(t)}, {space(t)}}
	ends[0].IP(t, "link", "add", "eth0", "type", "veth", "peer", "name", "eth0", "netns", path(ends[1].space))
	for i, e := range ends {
		e.IP(t, "link", "set", "lo", "up")
		e.IP(t, "addr", "add", fmt.Sprintf("192.0.2.%d/24", i+1), "dev", "eth0")
		e.IP(t, "addr", "add", fmt.Sprintf("2001:db8::%d/64", i+1), "dev", "eth0", "nodad")
		e.IP(t, "link", "set", "eth0", "up")
	}
	return ends[0], ends[1]
}

// IP runs ip(8) on the host, and returns what it says.
func (e End) IP(t testing.TB, args ...string) string {
	t.Helper()
	return must(t, e.space, append([]string{"ip"}, args...)...)
}

// NFT runs nft(8) on the host.
func (e End) NFT(t *testing.T, args ...string) {
	t.Helper()
	must(t, e.space, append([]string{"nft"}, args...)...)
}

// Do calls fn on the host. A socket that it opens stays there; a goroutine that it
// starts does not.
func (e End) Do(fn func() error) error { return inside(e.space, fn) }

// Second joins two hosts of the switch by a cable of their own, their eth1, with the
// addresses of Second.
func (n *Net) Second(t *testing.T, a, b int) {
	t.Helper()
	must(t, n.hosts[a], "ip", "link", "add", "eth1", "type", "veth", "peer", "name", "eth1", "netns", path(n.hosts[b]))
	for _, h := range []int{a, b} {
		must(t, n.hosts[h], "ip", "addr", "add", n.SecondAddr(h).String()+"/24", "dev", "eth1")
		must(t, n.hosts[h], "ip", "link", "set", "eth1", "up")
	}
}

// SecondAddr is the address of a host on the cable of Second.
func (n *Net) SecondAddr(host int) netip.Addr {
	return netip.AddrFrom4([4]byte{10, 78, 0, byte(host + 1)})
}

// CutSecond drops all that comes to a host over the cable of Second; who sends it is not told.
func (n *Net) CutSecond(t *testing.T, host int) {
	t.Helper()
	must(t, n.hosts[host], "nft", "table inet second { chain c { type filter hook input priority 0; iifname eth1 drop; }; }")
}

// HealSecond ends CutSecond.
func (n *Net) HealSecond(t *testing.T, host int) {
	t.Helper()
	must(t, n.hosts[host], "nft", "delete table inet second")
}

// Alone makes a host that is joined with nothing. It skips the test where that is not
// possible: it takes root and iproute2.
func Alone(t testing.TB) End {
	t.Helper()
	asks(t)
	e := End{space(t)}
	e.IP(t, "link", "set", "lo", "up")
	return e
}

// Join joins two hosts by a cable, whose ends have names.
func Join(t testing.TB, here End, card string, there End, other string) {
	t.Helper()
	here.IP(t, "link", "add", card, "type", "veth", "peer", "name", other, "netns", path(there.space))
	here.IP(t, "link", "set", card, "up")
	there.IP(t, "link", "set", other, "up")
}

// FillChecksums has a host's kernel fill the checksums in of what it sends by a card. A veth says that it does that itself, so who reads
// its frames as they are, as the userspace datapath of Open vSwitch does, gets them without.
func (e End) FillChecksums(t testing.TB, card string) {
	t.Helper()
	err := e.Do(func() error {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		off := struct{ command, value uint32 }{command: 0x17} // ETHTOOL_STXCSUM of linux/ethtool.h
		request := struct {                                   // ifreq of linux/if.h
			name [unix.IFNAMSIZ]byte
			data unsafe.Pointer
			_    [16]byte
		}{data: unsafe.Pointer(&off)}
		copy(request.name[:unix.IFNAMSIZ-1], card)
		if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCETHTOOL, uintptr(unsafe.Pointer(&request))); errno != 0 {
			return fmt.Errorf("switch the checksums of %s off: %w", card, errno)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
