package ovstest

import (
	"encoding/binary"
	"errors"
	"maps"
	"net"
	"net/netip"
	"os"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"holdfast/testbed/nettest"
	"holdfast/testbed/try"
)

// Broadcast is the MAC address of all.
const Broadcast = "ff:ff:ff:ff:ff:ff"

// Frame is from whom a frame is and to whom, by MAC address.
type Frame struct{ From, To string }

// Frames are the frames that a host gets and sends, counted.
type Frames struct {
	mu   sync.Mutex
	seen map[Frame]int
}

// Watch counts frames on a host's eth0 until the end of the test.
func Watch(t testing.TB, at nettest.End) *Frames {
	t.Helper()
	f := &Frames{seen: map[Frame]int{}}
	card := open(t, at)
	var w sync.WaitGroup
	t.Cleanup(func() {
		if err := card.Close(); err != nil {
			t.Error(err)
		}
		w.Wait()
	})
	w.Go(func() {
		for b := make([]byte, 2048); ; {
			n, err := card.Read(b)
			switch {
			case errors.Is(err, os.ErrClosed):
				return
			case err != nil:
				t.Errorf("read frames: %v", err)
				return
			case n >= 14:
				f.mu.Lock()
				f.seen[Frame{net.HardwareAddr(b[6:12]).String(), net.HardwareAddr(b[:6]).String()}]++
				f.mu.Unlock()
			}
		}
	})
	return f
}

// Seen are the frames so far.
func (f *Frames) Seen() map[Frame]int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return maps.Clone(f.seen)
}

// From counts the frames so far that are from a MAC address.
func (f *Frames) From(mac string) (n int) {
	for frame, count := range f.Seen() {
		if frame.From == mac {
			n += count
		}
	}
	return n
}

// open opens a host's eth0 for frames.
func open(t testing.TB, at nettest.End) (card *os.File) {
	t.Helper()
	try.Must(t, at.Do(func() error {
		eth0, err := net.InterfaceByName("eth0")
		if err != nil {
			return err
		}
		all := binary.BigEndian.Uint16(binary.NativeEndian.AppendUint16(nil, unix.ETH_P_ALL)) // in the network's order
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, int(all))
		if err != nil {
			return err
		}
		card = os.NewFile(uintptr(fd), "eth0")
		return errors.Join(unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 16<<20), // as for traffic
			unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: eth0.Index}))
	}))
	return card
}

// Ask has the host on a port ask all others for the MAC address of an address that nobody has, a hundred times a second, until the end
// of the test: switches flood that to all who may see it.
func Ask(t testing.TB, from nettest.End, port int, nobody netip.Addr) {
	t.Helper()
	card := open(t, from)
	mac, err := net.ParseMAC(MAC(port))
	try.Must(t, err)
	own := Addr(port).As4()
	q := append([]byte{255, 255, 255, 255, 255, 255}, mac...)
	q = append(q, 8, 6, 0, 1, 8, 0, 6, 4, 0, 1) // ARP: who has an IPv4 address (RFC 826)
	q = append(append(q, mac...), own[:]...)
	q = append(append(q, 0, 0, 0, 0, 0, 0), nobody.AsSlice()...)
	q = append(q, make([]byte, 60-len(q))...)
	done := make(chan struct{})
	var w sync.WaitGroup
	t.Cleanup(func() {
		close(done)
		w.Wait()
		if err := card.Close(); err != nil {
			t.Error(err)
		}
	})
	w.Go(func() {
		for every := time.NewTicker(10 * time.Millisecond); ; {
			select {
			case <-done:
				every.Stop()
				return
			case <-every.C:
				if _, err := card.Write(q); err != nil {
					t.Errorf("send a frame: %v", err)
					return
				}
			}
		}
	})
}
