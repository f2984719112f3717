package virthost

import (
	"bytes"
	"errors"
	"net"
	"time"

	"golang.org/x/sys/unix"
)

// Sniffed is what came over a network device.
type Sniffed struct {
	Bytes  int // of all frames
	Clear  int // frames with the text in them
	Missed int // frames that the kernel had no room for
}

// sniffer looks for a text in every frame that goes over a device, both ways.
type sniffer struct {
	fd   int
	text []byte
	stop chan struct{}
	done chan Sniffed
}

func newSniffer(device, text string) (*sniffer, error) {
	dev, err := net.InterfaceByName(device)
	if err != nil {
		return nil, err
	}
	const all = unix.ETH_P_ALL<<8&0xff00 | unix.ETH_P_ALL>>8 // in network order
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, all)
	if err != nil {
		return nil, err
	}
	err = errors.Join(
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 256<<20),
		unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Usec: 50_000}),
		unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: dev.Index}),
	)
	if err != nil {
		return nil, errors.Join(err, unix.Close(fd))
	}
	s := &sniffer{fd: fd, text: []byte(text), stop: make(chan struct{}), done: make(chan Sniffed, 1)}
	go s.run()
	return s, nil
}

func (s *sniffer) run() {
	var seen Sniffed
	frame := make([]byte, 256<<10)
	for {
		n, _, err := unix.Recvfrom(s.fd, frame, 0)
		if err == nil {
			seen.Bytes += n
			if bytes.Contains(frame[:n], s.text) {
				seen.Clear++
			}
			continue
		}
		select {
		case <-s.stop:
			if st, err := unix.GetsockoptTpacketStats(s.fd, unix.SOL_PACKET, unix.PACKET_STATISTICS); err == nil {
				seen.Missed = int(st.Drops)
			}
			s.done <- seen
			return
		default:
		}
	}
}

// end tells what was seen, when nothing more comes.
func (s *sniffer) end() (Sniffed, error) {
	time.Sleep(100 * time.Millisecond)
	close(s.stop)
	seen := <-s.done
	return seen, unix.Close(s.fd)
}
