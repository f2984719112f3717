package ping

import (
	"encoding/binary"
	"errors"
	"net/netip"
)

// ErrBusy is what a Wire's Send wraps when this host took no packet although
// there may be a way to the target: nothing was sent, so nothing is lost.
var ErrBusy = errors.New("the host sends no packet just now")

// Wire carries ICMP messages of one version of IP, without the IP header. The
// checksum of what is received was right.
type Wire interface {
	// Send sends a message; it fills in the checksum. It never waits. An error
	// that is not ErrBusy means that there is no way to the address just now.
	Send(to netip.Addr, message []byte) error
	// Receive waits for a message. It fails after Close.
	Receive(b []byte) (n int, from netip.Addr, err error)
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

// request makes an echo request without its checksum.
func request(to netip.Addr, id uint16, seq uint32, token uint64) []byte {
	b := make([]byte, size)
	b[0] = request6
	if to.Is4() {
		b[0] = request4
	}
	binary.BigEndian.PutUint16(b[4:], id)
	binary.BigEndian.PutUint16(b[6:], uint16(seq))
	binary.BigEndian.PutUint64(b[8:], token)
	binary.BigEndian.PutUint32(b[16:], seq)
	return b
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
