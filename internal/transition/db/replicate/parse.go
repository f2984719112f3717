package replicate

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"

	gomysql "github.com/go-mysql-org/go-mysql/mysql"
	"github.com/go-mysql-org/go-mysql/replication"
	"github.com/klauspost/compress/zstd"
)

// This file takes the bytes of events apart.

// largest is how many bytes a transaction may have that MySQL has compressed into one
// event (binlog_transaction_compression): all of them are in memory at once then. Their
// events are taken apart one by one. Other transactions may be of any size.
const largest = 256 << 20

// parser takes events apart. It is the library's, which would do so while it reads, would
// decompress whatever comes, and would read what it has decompressed by other settings.
type parser struct {
	library *replication.BinlogParser
	inner   *replication.BinlogParser // for events in compressed transactions: they have no checksums
}

// newParser makes one; wanted tells of which tables rows are to be read.
func newParser(flavor string, wanted func(db, table string) bool) *parser {
	one := func() *replication.BinlogParser {
		p := replication.NewBinlogParser()
		p.SetFlavor(flavor)
		p.SetTimestampStringLocation(time.UTC)
		p.SetRowsEventDecodeFunc(func(e *replication.RowsEvent, data []byte) error {
			pos, err := e.DecodeHeader(data)
			if err != nil || !wanted(string(e.Table.Schema), string(e.Table.Table)) {
				return err
			}
			return e.DecodeData(pos, data)
		})
		return p
	}
	return &parser{one(), one()}
}

// parse takes one event apart, of which the header is known. Of a compressed transaction
// the Event is a payload.
func (p *parser) parse(raw *replication.BinlogEvent) (*replication.BinlogEvent, error) {
	return guarded(raw.Header, func() (*replication.BinlogEvent, error) {
		if raw.Header.EventType == replication.TRANSACTION_PAYLOAD_EVENT {
			return p.payload(raw)
		}
		e, err := p.library.Parse(raw.RawData)
		if err != nil {
			return nil, err
		}
		return e, p.format(e)
	})
}

// guarded calls what takes an event apart, or one within it. Its error is that the event
// can not be taken apart: it never will be.
func guarded(h *replication.EventHeader, parse func() (*replication.BinlogEvent, error)) (e *replication.BinlogEvent, err error) {
	defer func() {
		if r := recover(); r != nil { // the library does not look where an event ends
			err = fmt.Errorf("it is cut short or damaged (%v)", r)
		}
		var known *replication.EventError
		if errors.As(err, &known) {
			err = errors.New(known.Err) // without the event's bytes
		}
		if err != nil {
			e, err = nil, fatal(fmt.Errorf("event %s before position %d of its file can not be read: %w: want %s", h.EventType, h.LogPos, err, anew))
		}
	}()
	return parse()
}

// format tells the parser of events in compressed transactions what form events have, if
// an event tells it: the same, without checksums. Which of them there is is its fifth byte
// from the end.
func (p *parser) format(e *replication.BinlogEvent) error {
	f, ok := e.Event.(*replication.FormatDescriptionEvent)
	if !ok {
		return nil
	}
	data := slices.Clone(e.RawData)
	if f.ChecksumAlgorithm == replication.BINLOG_CHECKSUM_ALG_CRC32 {
		data[len(data)-1-replication.BinlogChecksumLength] = replication.BINLOG_CHECKSUM_ALG_OFF
	}
	_, err := p.inner.Parse(data)
	return err
}

// payload is the Event of a compressed transaction: its events, which are taken apart one
// by one, since all their rows may be more than memory should hold.
type payload struct {
	replication.GenericEvent
	parser *replication.BinlogParser
	header *replication.EventHeader // of the whole
	left   []byte                   // the events that were not taken yet, one after the other
}

// next takes the next event out, of which there must be one.
func (p *payload) next() (*replication.BinlogEvent, error) {
	n := sizeOf(p.left)
	data := p.left[:n]
	p.left = p.left[n:]
	return guarded(p.header, func() (*replication.BinlogEvent, error) { return p.parser.Parse(data) })
}

// sizeOf is how many bytes an event has, by its header.
func sizeOf(event []byte) uint32 { return binary.LittleEndian.Uint32(event[9:]) }

// payload unpacks a compressed transaction, and looks whether it is whole.
func (p *parser) payload(raw *replication.BinlogEvent) (*replication.BinlogEvent, error) {
	data, err := unpack(raw.RawData[replication.EventHeaderSize:])
	if err != nil {
		return nil, err
	}
	for rest := data; len(rest) > 0; {
		if len(rest) < replication.EventHeaderSize {
			return nil, fmt.Errorf("a compressed transaction ends with %d bytes that are no event", len(rest))
		}
		n := sizeOf(rest)
		if n < replication.EventHeaderSize || uint64(n) > uint64(len(rest)) {
			return nil, fmt.Errorf("a compressed transaction has an event of %d bytes, where %d are left", n, len(rest))
		}
		rest = rest[n:]
	}
	return &replication.BinlogEvent{Header: raw.Header, Event: &payload{parser: p.inner, header: raw.Header, left: data}}, nil
}

// Fields of a compressed transaction: each a number, the length of its value, and the
// value, up to the one that has neither. A number is written as lengths are in packets,
// which the library overlooks (MySQL's source, codecs::binary::Transaction_payload).
const (
	fieldsEnd = iota
	packedSize
	packing
	unpackedSize
)

// Ways in which a transaction is packed.
const (
	packedZstd = 0
	packedNot  = 255
)

// fields are the values of a compressed transaction's fields, by their numbers, and what
// comes after them: what is packed, and a checksum; nil when they do not end.
func fields(body []byte) (values [unpackedSize + 1]uint64, rest []byte) {
	for len(body) > 0 && body[0] != fieldsEnd {
		if len(body) < 2 || len(body) < 2+int(body[1]) {
			return values, nil
		}
		field, end := int(body[0]), 2+int(body[1])
		if field < len(values) {
			values[field], _, _ = gomysql.LengthEncodedInt(body[2:end])
		}
		body = body[end:]
	}
	if len(body) == 0 {
		return values, nil
	}
	return values, body[1:]
}

// unpack gives the events of a compressed transaction, one after the other.
func unpack(body []byte) (data []byte, err error) {
	has, rest := fields(body)
	size, want := has[packedSize], has[unpackedSize]
	switch {
	case want > largest:
		return nil, fmt.Errorf("a compressed transaction of %d MiB: want at most %d MiB, or "+
			"binlog_transaction_compression OFF in sessions with larger ones", want>>20, largest>>20)
	case rest == nil, size == 0, size > uint64(len(rest)):
		return nil, fmt.Errorf("a compressed transaction of %d bytes, of which %d are there", size, len(rest))
	case has[packing] == packedNot:
		return rest[:size], nil
	case has[packing] != packedZstd:
		return nil, fmt.Errorf("a transaction that is compressed in way %d: want zstd (%d)", has[packing], packedZstd)
	}
	d, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(largest))
	if err != nil {
		return nil, err
	}
	defer d.Close()
	if data, err = d.DecodeAll(rest[:size], nil); err != nil {
		return nil, fmt.Errorf("a compressed transaction: %w", err)
	}
	if uint64(len(data)) != want {
		return nil, fmt.Errorf("a compressed transaction of %d bytes, which says that it has %d", len(data), want)
	}
	return data, nil
}
