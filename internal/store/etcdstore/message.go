package etcdstore

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/http"

	"google.golang.org/protobuf/encoding/protowire"
)

// maxOps is how many conditions, and how many writes, a transaction may have; etcd allows as many, but
// looks only when each has been decoded and judged.
const maxOps = 128

// envelope is what gRPC has before each message: a byte that is 0 unless it is compressed, and its size.
const envelope = 5

var errForm = errors.New("do in a transaction anything but to write or delete a key")

// sizeOf reads an envelope. Messages are bounded before they are decoded: a field of one byte can take
// fifty in memory, and compressed ones a thousand; our clients do not compress.
func sizeOf(head []byte, most int64) (int64, error) {
	n := int64(binary.BigEndian.Uint32(head[1:envelope]))
	switch {
	case head[0] != 0:
		return 0, errors.New("the message is compressed; only plain ones are allowed")
	case n > most:
		return 0, fmt.Errorf("the message has %d bytes; at most %d are allowed", n, most)
	}
	return n, nil
}

// readMessage reads a message with its envelope, whole: gRPC takes 16 KiB for each piece that it is given. io.EOF: there is none.
func readMessage(r io.Reader, most int64) ([]byte, error) {
	var head [envelope]byte
	if _, err := io.ReadFull(r, head[:]); err == io.EOF {
		return nil, err
	} else if err != nil {
		return nil, fmt.Errorf("read the message: %w", err)
	}
	n, err := sizeOf(head[:], most)
	if err != nil {
		return nil, err
	}
	b := bytes.NewBuffer(head[:])
	if _, err := io.CopyN(b, r, n); err != nil {
		return nil, fmt.Errorf("read the message: %w", err)
	}
	return b.Bytes(), nil
}

// checkTxn looks at the form of an encoded transaction: how many conditions and writes it has, each of
// which is one thing, and nothing that etcd's own form does not have.
func checkTxn(msg []byte) error {
	var counts [4]int // by the number of the field: 1 conditions, 2 writes, 3 those if the conditions do not hold
	return fields(msg, func(num protowire.Number, value []byte) error {
		if num > 3 || value == nil {
			return errForm
		}
		if counts[num]++; counts[num] > maxOps {
			return fmt.Errorf("write more than %d keys or have more than %d conditions in a transaction", maxOps, maxOps)
		}
		if num == 1 {
			return nil
		}
		things := 0
		return fields(value, func(num protowire.Number, value []byte) error {
			things++
			if write := num == 2 || num == 3; !write || value == nil || things > 1 { // 1 reads, 4 is a transaction in it
				return errForm
			}
			return nil
		})
	})
}

// fields gives each field of an encoded message; value is nil for one that is no message and no bytes.
func fields(msg []byte, give func(num protowire.Number, value []byte) error) error {
	for len(msg) > 0 {
		num, kind, n := protowire.ConsumeTag(msg)
		if n < 0 {
			return errForm
		}
		msg = msg[n:]
		if n = protowire.ConsumeFieldValue(num, kind, msg); n < 0 {
			return errForm
		}
		var value []byte
		if kind == protowire.BytesType {
			value, _ = protowire.ConsumeBytes(msg) // its size has just been checked
		}
		if err := give(num, value); err != nil {
			return err
		}
		msg = msg[n:]
	}
	return nil
}

// messages is the body of a stream, each message of which is bounded, and is read when it is wanted only: gRPC
// behind net/http keeps what it has read and nobody has taken, without a bound.
type messages struct {
	body   io.ReadCloser
	wanted chan struct{}
	closed <-chan struct{}
	close  context.CancelFunc
	rest   []byte // of the message under way
	err    error
}

// newMessages are those of a body, until it is closed or ctx ends.
func newMessages(ctx context.Context, body io.ReadCloser) *messages {
	m := &messages{body: body, wanted: make(chan struct{}, 1)}
	ctx, m.close = context.WithCancel(ctx)
	m.closed = ctx.Done()
	return m
}

// want lets one more message be read.
func (m *messages) want() {
	select {
	case m.wanted <- struct{}{}:
	default:
	}
}

// Close ends what is read, and what waits to be.
func (m *messages) Close() error {
	m.close()
	return m.body.Close()
}

// Read implements io.Reader. It hands on nothing of a message that is too large, or has not come whole.
func (m *messages) Read(p []byte) (int, error) {
	if len(m.rest) == 0 && m.err == nil {
		select {
		case <-m.wanted:
		case <-m.closed:
			return 0, http.ErrBodyReadAfterClose
		}
		m.rest, m.err = readMessage(m.body, smallBody)
	}
	if m.err != nil {
		return 0, m.err
	}
	n := copy(p, m.rest)
	m.rest = m.rest[n:]
	return n, nil
}
