package follow

import (
	"errors"
	"fmt"
	"time"

	gomysql "github.com/go-mysql-org/go-mysql/mysql"
	"github.com/go-mysql-org/go-mysql/replication"
)

// This file takes the bytes of events apart.

// largest is how many bytes a transaction may have that MySQL has compressed into one
// event (binlog_transaction_compression): all of it is in memory at once then, several
// times. Other transactions come event by event, and may be of any size.
const largest = 256 << 20

// parser takes events apart. It is the library's, which would do so while it reads, and
// would decompress whatever comes.
type parser struct {
	library *replication.BinlogParser
}

// newParser makes one; wanted tells of which tables rows are to be read.
func newParser(flavor string, wanted func(db, table string) bool) *parser {
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
	return &parser{p}
}

// parse takes one event apart, of which the header is known.
func (p *parser) parse(raw *replication.BinlogEvent) (e *replication.BinlogEvent, err error) {
	defer func() { // the library does not look where an event ends
		if r := recover(); r != nil {
			err = p.refused(raw, fmt.Errorf("%v", r))
		}
	}()
	if raw.Header.EventType == replication.TRANSACTION_PAYLOAD_EVENT {
		if n := unpacked(raw.RawData[replication.EventHeaderSize:]); n > largest {
			return nil, p.refused(raw, fmt.Errorf("a compressed transaction of %d MiB: want at most %d MiB, or binlog_transaction_compression OFF in sessions with larger ones", n>>20, largest>>20))
		}
	}
	if e, err = p.library.Parse(raw.RawData); err != nil {
		var known *replication.EventError
		if errors.As(err, &known) {
			err = errors.New(known.Err) // without the event's bytes
		}
		return nil, p.refused(raw, err)
	}
	return e, nil
}

// refused is the error of an event that can not be taken apart: it never will be.
func (p *parser) refused(raw *replication.BinlogEvent, err error) error {
	return fatal(fmt.Errorf("event %s before position %d of its file: %w: want %s", raw.Header.EventType, raw.Header.LogPos, err, anew))
}

// Fields of a compressed transaction: each a number, the length of its value, and the
// value, up to the one that has neither. A number is written as lengths are in packets,
// which the library overlooks (MySQL's source, codecs::binary::Transaction_payload).
const (
	fieldsEnd    = 0
	unpackedSize = 3
)

// unpacked is how many bytes a compressed transaction says that it has; 0 when it does not.
func unpacked(body []byte) uint64 {
	for len(body) > 2 && body[0] != fieldsEnd {
		field, end := body[0], 2+int(body[1])
		if end > len(body) {
			return 0
		}
		if field == unpackedSize {
			n, _, _ := gomysql.LengthEncodedInt(body[2:end])
			return n
		}
		body = body[end:]
	}
	return 0
}
