package ovstest

import (
	"encoding/binary"
	"errors"
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

// Rate is how many packets Send sends in a second.
const Rate = 1000

// Traffic are numbered packets from one host to another.
type Traffic struct {
	Sent, Got int
	Lost      []int  // numbers of packets, which were sent at the rate
	Stop      func() // ends it
}

// Send sends packets at the rate until Stop is called, which waits for the last ones and counts.
func Send(t testing.TB, from, to nettest.End, source, destination netip.Addr) *Traffic {
	t.Helper()
	port := 7000 + uint16(destination.As4()[3]) // hosts may send to each other
	in := listen(t, to, netip.AddrPortFrom(destination, port))
	out := listen(t, from, netip.AddrPortFrom(source, port))
	x, done := &Traffic{}, make(chan struct{})
	var w sync.WaitGroup
	w.Go(func() {
		dest := net.UDPAddrFromAddrPort(netip.AddrPortFrom(destination, port))
		for begun := time.Now(); ; time.Sleep(time.Millisecond) {
			// What was missed is sent after and after: a burst would not fit into the switch's queue.
			due := int(time.Since(begun) * Rate / time.Second)
			for most := x.Sent + 3; x.Sent < min(due, most); x.Sent++ {
				if _, err := out.WriteToUDP(binary.BigEndian.AppendUint64(nil, uint64(x.Sent)), dest); err != nil {
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
	x.Stop = sync.OnceFunc(func() {
		close(done)
		w.Wait()
		if err := in.SetReadDeadline(time.Now().Add(2 * time.Second)); err != nil {
			t.Error(err)
		}
		reader.Wait()
		in.Close() // it has been read to its end
		out.Close()
		x.Got = len(seen)
		for i := range x.Sent {
			if !seen[uint64(i)] {
				x.Lost = append(x.Lost, i)
			}
		}
	})
	t.Cleanup(x.Stop)
	return x
}

// listen opens a socket on a host.
func listen(t testing.TB, at nettest.End, addr netip.AddrPort) (c *net.UDPConn) {
	t.Helper()
	try.Must(t, at.Do(func() (err error) {
		c, err = net.ListenUDP("udp4", net.UDPAddrFromAddrPort(addr))
		return err
	}))
	raw, err := c.SyscallConn()
	try.Must(t, err)
	try.Must(t, raw.Control(func(fd uintptr) {
		err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 16<<20) // room for a reader that waits for a processor
	}))
	try.Must(t, err)
	t.Cleanup(func() { c.Close() })
	return c
}
