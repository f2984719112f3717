package shared

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
)

// Errors that callers tell apart.
var (
	// ErrNone: the device says that it has no persistent reservations.
	ErrNone = errors.New("the device has no persistent reservations")
	// ErrConflict: somebody else holds the reservation, or this node is not registered.
	ErrConflict = errors.New("reservation conflict")
	// ErrAttention: the device has had something to tell again and again in place of an answer.
	ErrAttention = errors.New("unit attention again and again")
	// ErrPath: no answer came from the device.
	ErrPath = errors.New("no path to the device")

	errAttention = errors.New("unit attention") // once
	errIllegal   = errors.New("illegal request")
)

// Key tells who is registered. None is 0.
type Key uint64

// KeyOf is the key of node 0 or 1 of a pair: 7 bytes of its name's hash, and the node's number.
func KeyOf(pair string, node int) Key {
	sum := sha256.Sum256([]byte("holdfast pair " + pair))
	return Key(binary.BigEndian.Uint64(sum[:8])&^0xff | uint64(node&1+1))
}

func (k Key) String() string { return fmt.Sprintf("%#x", uint64(k)) }

// Operation codes and service actions (SPC-4, PERSISTENT RESERVE IN and OUT).
const (
	opIn, opOut = 0x5e, 0x5f

	inKeys, inReservation, inCapabilities = 0, 1, 2

	outReserve, outRelease, outClear, outPreempt, outPreemptAbort, outRegisterIgnore = 1, 2, 3, 4, 5, 6
)

// writeExclusive is a type of reservation (SPC-4, "Persistent reservation type codes"); its scope, the whole unit, is 0.
const writeExclusive = 1

// inBytes is what an answer may have: a header and 1023 keys.
const inBytes = 8192

// commandIn asks.
func commandIn(action byte) []byte {
	c := make([]byte, 10)
	c[0], c[1] = opIn, action
	binary.BigEndian.PutUint16(c[7:], inBytes)
	return c
}

// commandRead reads the first block (SBC-3, "READ (10) command").
func commandRead() []byte { return []byte{0x28, 0, 0, 0, 0, 0, 0, 0, 1, 0} }

// commandOut changes something. own is the key by which this node is registered; of a
// registration it is not looked at. of is the new key, or the one that is preempted.
func commandOut(action byte, own, of Key) (command, parameters []byte) {
	c, p := make([]byte, 10), make([]byte, 24)
	c[0], c[1] = opOut, action
	switch action {
	case outReserve, outRelease, outPreempt, outPreemptAbort:
		c[2] = writeExclusive
	}
	binary.BigEndian.PutUint32(c[5:], uint32(len(p)))
	binary.BigEndian.PutUint64(p, uint64(own))
	binary.BigEndian.PutUint64(p[8:], uint64(of))
	return c, p
}

// parseKeys reads READ KEYS (SPC-4, "READ KEYS service action"). Two nexus may have one key.
func parseKeys(b []byte) ([]Key, error) {
	list, err := listed(b)
	if err != nil || len(list)%8 != 0 {
		return nil, fmt.Errorf("READ KEYS: %w", errors.Join(err, errShort(b)))
	}
	var keys []Key
	for ; len(list) > 0; list = list[8:] {
		keys = append(keys, Key(binary.BigEndian.Uint64(list)))
	}
	return keys, nil
}

// Reservation is what a device says of it.
type Reservation struct {
	Key  Key  // of who holds it, 0: nobody
	Type byte // 1: Write Exclusive
}

// parseReservation reads READ RESERVATION (SPC-4, the service action of that name).
func parseReservation(b []byte) (r Reservation, err error) {
	list, err := listed(b)
	switch {
	case err != nil || len(list) != 0 && len(list) < 16:
		return r, fmt.Errorf("READ RESERVATION: %w", errors.Join(err, errShort(b)))
	case len(list) == 0:
		return r, nil
	}
	r = Reservation{Key: Key(binary.BigEndian.Uint64(list)), Type: list[13] & 0x0f}
	if scope := list[13] >> 4; scope != 0 {
		return r, fmt.Errorf("READ RESERVATION: scope %d: want 0, the whole unit", scope)
	}
	return r, nil
}

// listed is what follows the header of 8 bytes, the last four of which are its length.
func listed(b []byte) ([]byte, error) {
	if len(b) < 8 {
		return nil, errShort(b)
	}
	n := binary.BigEndian.Uint32(b[4:])
	if uint64(n) > uint64(len(b)-8) {
		return nil, errShort(b)
	}
	return b[8 : 8+n], nil
}

func errShort(b []byte) error { return fmt.Errorf("an answer of %d bytes is cut short", len(b)) }

// parseCapabilities reads REPORT CAPABILITIES (SPC-4, the same): whether the device has
// reservations of the type Write Exclusive. One that does not tell its types may have it.
func parseCapabilities(b []byte) (bool, error) {
	if len(b) < 8 || binary.BigEndian.Uint16(b) < 8 {
		return false, fmt.Errorf("REPORT CAPABILITIES: %w", errShort(b))
	}
	told := b[3]&0x80 != 0
	return !told || b[4]&(1<<writeExclusive) != 0, nil
}

// answer is how the device has ended a command.
type answer struct {
	status byte   // SAM-5, "Status codes"
	host   uint16 // of the kernel's transport, 0: it has an answer
	driver uint16
	sense  []byte
}

// err is nil for a command that was carried out (SAM-5, "Status"; SPC-4, "Sense data" and its codes).
func (a answer) err() error {
	const good, check, conflict = 0, 2, 0x18
	// The bits of driver that count are the low ones; 8 says that there is a sense.
	switch driver := a.driver & 0x0f; {
	case a.host != 0:
		return fmt.Errorf("%w: host status %#x", ErrPath, a.host)
	case a.status == conflict:
		return ErrConflict
	case a.status == good && (driver == 0 || driver == 8):
		return nil
	case a.status == check:
		key, code, ok := parseSense(a.sense)
		what := fmt.Sprintf("sense key %#x, additional sense code %04x", key, code)
		switch {
		case !ok:
			return fmt.Errorf("a check condition whose sense can not be read: %x", a.sense)
		case key == 6:
			return fmt.Errorf("%w: %s", errAttention, what)
		case key == 5 && (code>>8 == 0x20 || code>>8 == 0x24): // invalid operation code, invalid field in the CDB
			return fmt.Errorf("%w: %s", errIllegal, what)
		}
		return errors.New(what)
	}
	return fmt.Errorf("status %#x, driver status %#x", a.status, a.driver)
}

// parseSense reads the sense key, and the additional sense code with its qualifier, of fixed
// or descriptor format (SPC-4, "Sense data").
func parseSense(b []byte) (key byte, code uint16, ok bool) {
	if len(b) == 0 {
		return 0, 0, false
	}
	switch format := b[0] & 0x7f; {
	case (format == 0x70) && len(b) >= 14:
		return b[2] & 0x0f, binary.BigEndian.Uint16(b[12:]), true
	case (format == 0x72) && len(b) >= 4:
		return b[1] & 0x0f, binary.BigEndian.Uint16(b[2:]), true
	}
	return 0, 0, false // 0x71 and 0x73 are of an earlier command
}
