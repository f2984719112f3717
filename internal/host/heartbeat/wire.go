package heartbeat

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"time"

	"holdfast/internal/cluster"
)

// The datagram, integers in big endian:
//
//	 0  4  magic
//	 4  1  version
//	 5  1  n, number of sightings
//	 6 16  digest of the cluster's id
//	22  8  sender (hostKey)
//	30  8  receiver (hostKey)
//	38  8  sender's instance
//	46  8  sequence number within that instance
//	54  8  receiver's instance that the sender heard last, 0 for none
//	62  8  the sequence number heard from it, 0 for none
//	70 12n sightings: host (8), age in ms (4), ascending by host
//	   32  HMAC-SHA256 of all that
//
// Hosts are named by a digest, so that a datagram for 64 of them fits into one
// frame of any network whatever their names.
const (
	magic       = "HFHB"
	version     = 1
	headerSize  = 70
	entrySize   = 12
	macSize     = sha256.Size
	maxEntries  = 64
	maxDatagram = headerSize + maxEntries*entrySize + macSize // 870 bytes
	keySize     = 32
)

// maxAge is the largest age that is told. What is older is told as so old: a
// host is never said to be silent for longer than it was.
const maxAge = time.Hour

// sighting is how long ago the sender heard a host.
type sighting struct {
	host uint64
	age  time.Duration // whole milliseconds, 0 to maxAge
}

// message is a decoded datagram.
type message struct {
	cluster   [16]byte
	from, to  uint64
	instance  uint64 // never 0
	seq       uint64 // never 0
	echo      echo
	sightings []sighting
}

// echo names the last datagram that the sender has heard from the receiver. It
// shows that the sender's datagram was made after that one.
type echo struct {
	instance, seq uint64
}

// Reasons of a datagram that can not be decoded.
var (
	errMalformed = errors.New("malformed heartbeat")
	errVersion   = errors.New("heartbeat of an unknown version")
)

// hostKey is a host's name in datagrams.
func hostKey(h cluster.HostID) uint64 {
	sum := sha256.Sum256([]byte("host\x00" + string(h)))
	return binary.BigEndian.Uint64(sum[:])
}

// clusterKey is a cluster's id in datagrams.
func clusterKey(id string) [16]byte {
	sum := sha256.Sum256([]byte("cluster\x00" + id))
	return [16]byte(sum[:])
}

// encode appends the datagram of m, without its HMAC. m has at most maxEntries
// sightings.
func encode(b []byte, m *message) []byte {
	b = append(b, magic...)
	b = append(b, version, byte(len(m.sightings)))
	b = append(b, m.cluster[:]...)
	for _, v := range [...]uint64{m.from, m.to, m.instance, m.seq, m.echo.instance, m.echo.seq} {
		b = binary.BigEndian.AppendUint64(b, v)
	}
	for _, s := range m.sightings {
		b = binary.BigEndian.AppendUint64(b, s.host)
		b = binary.BigEndian.AppendUint32(b, uint32(s.age/time.Millisecond))
	}
	return b
}

// decode reads into m what encode wrote, and nothing else. It uses m's memory
// again and keeps nothing of b. The error is errMalformed or errVersion.
func decode(b []byte, m *message) error {
	if len(b) < len(magic)+1 || string(b[:len(magic)]) != magic {
		return errMalformed
	}
	if b[4] != version {
		return errVersion
	}
	if len(b) < headerSize || b[5] > maxEntries || len(b) != headerSize+int(b[5])*entrySize {
		return errMalformed
	}
	copy(m.cluster[:], b[6:])
	for i, v := range [...]*uint64{&m.from, &m.to, &m.instance, &m.seq, &m.echo.instance, &m.echo.seq} {
		*v = binary.BigEndian.Uint64(b[22+8*i:])
	}
	if m.instance == 0 || m.seq == 0 || (m.echo.instance == 0) != (m.echo.seq == 0) {
		return errMalformed
	}
	return decodeSightings(b[headerSize:], m)
}

func decodeSightings(b []byte, m *message) error {
	m.sightings = m.sightings[:0]
	for ; len(b) > 0; b = b[entrySize:] {
		s := sighting{binary.BigEndian.Uint64(b), time.Duration(binary.BigEndian.Uint32(b[8:])) * time.Millisecond}
		if n := len(m.sightings); s.age > maxAge || n > 0 && m.sightings[n-1].host >= s.host {
			return errMalformed
		}
		m.sightings = append(m.sightings, s)
	}
	return nil
}

// sealer makes and checks HMACs. It is for one goroutine; its memory is used
// again, so that a datagram costs none.
type sealer struct {
	key [keySize]byte
	mac hash.Hash // nil until a key is known
	sum [macSize]byte
}

// use takes the key. It reports whether there is one; the error says that it is
// of no use.
func (s *sealer) use(key []byte) (bool, error) {
	if key == nil {
		return false, nil
	}
	if len(key) != keySize {
		return false, fmt.Errorf("heartbeat key of %d bytes: want %d", len(key), keySize)
	}
	if s.mac == nil || s.key != [keySize]byte(key) {
		s.key = [keySize]byte(key)
		s.mac = hmac.New(sha256.New, s.key[:])
	}
	return true, nil
}

// seal appends the HMAC of b to it.
func (s *sealer) seal(b []byte) []byte {
	s.mac.Reset()
	s.mac.Write(b)
	return s.mac.Sum(b)
}

// check reports whether mac is the HMAC of body.
func (s *sealer) check(body, mac []byte) bool {
	s.mac.Reset()
	s.mac.Write(body)
	return hmac.Equal(mac, s.mac.Sum(s.sum[:0]))
}
