package ping

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"time"
)

// ErrBusy is what a Wire's Send wraps when this host took no packet although
// there may be a way to the target: nothing was sent, so nothing is lost.
var ErrBusy = errors.New("the host sends no packet just now")

// Look is how long a Wire waits for messages at most.
const Look = 100 * time.Millisecond

// Packet is an ICMP message to or from an address, without the IP header, or a frame of
// ARP; what is received of these has no Addr.
type Packet struct {
	Addr    netip.Addr
	Message []byte
	// The rest is said of what was received.
	At      time.Time // when this host took it in
	Dropped bool      // before it came messages for which this host had no room
}

// Wire carries ICMP messages of one version of IP, or frames of ARP of one interface. The
// checksum of what is received was right.
type Wire interface {
	// Send sends packets in their order; it fills in the checksums. It never waits.
	// n were sent. When these are not all, err says why the next one was not: an
	// error that is not ErrBusy means that there is no way to its address just now.
	Send(batch []Packet) (n int, err error)
	// Receive fills batch with the messages that have come, in their order. It waits
	// for one, but not longer than Look, after which n is 0. All that this host had
	// taken in until seen was returned by this call or an earlier one. The messages
	// may be read until the next call. It fails after Close.
	Receive(batch []Packet) (n int, seen time.Time, err error)
	Close() error
}

// Types of messages.
const (
	request4, answer4 = 8, 0
	request6, answer6 = 128, 129
)

// size of a message: type, code, checksum, identifier, sequence, and our payload:
// the target's token and the whole number of the packet.
const size = 8 + 8 + 4

// request makes an echo request without its checksum in b, which has the size.
func request(b []byte, to netip.Addr, id uint16, seq uint32, token uint64) {
	b[0], b[1], b[2], b[3] = request6, 0, 0, 0
	if to.Is4() {
		b[0] = request4
	}
	binary.BigEndian.PutUint16(b[4:], id)
	binary.BigEndian.PutUint16(b[6:], uint16(seq))
	binary.BigEndian.PutUint64(b[8:], token)
	binary.BigEndian.PutUint32(b[16:], seq)
}

// answer reads an echo reply of ours; ok is false for everything else.
func answer(from netip.Addr, b []byte) (id uint16, seq uint32, token uint64, ok bool) {
	want := byte(answer6)
	if from.Is4() {
		want = answer4
	}
	if len(b) != size || b[0] != want || b[1] != 0 {
		return 0, 0, 0, false
	}
	seq = binary.BigEndian.Uint32(b[16:])
	if binary.BigEndian.Uint16(b[6:]) != uint16(seq) {
		return 0, 0, 0, false
	}
	return binary.BigEndian.Uint16(b[4:]), seq, binary.BigEndian.Uint64(b[8:]), true
}

// checksum is the Internet checksum; 0 over a message that has its own.
func checksum(b []byte) uint16 {
	var sum uint32
	for ; len(b) > 1; b = b[2:] {
		sum += uint32(binary.BigEndian.Uint16(b))
	}
	if len(b) == 1 {
		sum += uint32(b[0]) << 8
	}
	for sum>>16 != 0 {
		sum = sum&0xffff + sum>>16
	}
	return ^uint16(sum)
}
