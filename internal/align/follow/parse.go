package follow

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
// event (binlog_transaction_compression): all of it is in memory at once then, several
// times. Other transactions come event by event, and may be of any size.
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

// parse takes one event apart, of which the header is known.
func (p *parser) parse(raw *replication.BinlogEvent) (e *replication.BinlogEvent, err error) {
	defer func() { // the library does not look where an event ends
		if r := recover(); r != nil {
			err = p.refused(raw, fmt.Errorf("%v", r))
		}
	}()
	if raw.Header.EventType == replication.TRANSACTION_PAYLOAD_EVENT {
		e, err = p.payload(raw)
	} else if e, err = p.library.Parse(raw.RawData); err == nil {
		err = p.format(e)
	}
	if err != nil {
		var known *replication.EventError
		if errors.As(err, &known) {
			err = errors.New(known.Err) // without the event's bytes
		}
		return nil, p.refused(raw, err)
	}
	return e, nil
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

// payload takes a compressed transaction apart.
func (p *parser) payload(raw *replication.BinlogEvent) (*replication.BinlogEvent, error) {
	data, err := unpack(raw.RawData[replication.EventHeaderSize:])
	if err != nil {
		return nil, err
	}
	out := &replication.TransactionPayloadEvent{}
	for len(data) > 0 {
		if len(data) < replication.EventHeaderSize {
			return nil, fmt.Errorf("a compressed transaction ends with %d bytes that are no event", len(data))
		}
		n := binary.LittleEndian.Uint32(data[9:]) // where a header has the event's size
		if n < replication.EventHeaderSize || uint64(n) > uint64(len(data)) {
			return nil, fmt.Errorf("a compressed transaction has an event of %d bytes, where %d are left", n, len(data))
		}
		e, err := p.inner.Parse(data[:n])
		if err != nil {
			return nil, err
		}
		out.Events, data = append(out.Events, e), data[n:]
	}
	return &replication.BinlogEvent{RawData: raw.RawData, Header: raw.Header, Event: out}, nil
}

// refused is the error of an event that can not be taken apart: it never will be.
func (p *parser) refused(raw *replication.BinlogEvent, err error) error {
	return fatal(fmt.Errorf("event %s before position %d of its file: %w: want %s", raw.Header.EventType, raw.Header.LogPos, err, anew))
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
		return nil, fmt.Errorf("a compressed transaction of %d MiB: want at most %d MiB, or binlog_transaction_compression OFF in sessions with larger ones", want>>20, largest>>20)
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
