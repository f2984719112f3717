package follow

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	gomysql "github.com/go-mysql-org/go-mysql/mysql"
	"github.com/go-mysql-org/go-mysql/replication"
	"github.com/klauspost/compress/zstd"
)

// payloadOf is the event of a compressed transaction.
func payloadOf(way, packed, unpacked uint64, rest []byte) *replication.BinlogEvent {
	var body []byte
	for _, f := range [][2]uint64{{packing, way}, {unpackedSize, unpacked}, {packedSize, packed}} {
		n := gomysql.PutLengthEncodedInt(f[1])
		body = append(append(body, byte(f[0]), byte(len(n))), n...)
	}
	body = append(append(body, fieldsEnd), rest...)
	h := &replication.EventHeader{EventType: replication.TRANSACTION_PAYLOAD_EVENT, EventSize: uint32(replication.EventHeaderSize + len(body)), LogPos: 700}
	return &replication.BinlogEvent{Header: h, RawData: append(make([]byte, replication.EventHeaderSize), body...)}
}

func zipped(t *testing.T, data []byte) []byte {
	t.Helper()
	w, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	return w.EncodeAll(data, nil)
}

// TestCompressedTransactions: one that would not fit into memory is refused by what it says
// of itself, before it is taken apart, or as it is; and what is no event.
func TestCompressedTransactions(t *testing.T) {
	zeros := zipped(t, make([]byte, 100))
	short, long := make([]byte, 19), make([]byte, 19)
	short[9], long[9] = 18, 20
	larger := zipped(t, make([]byte, largest+1))
	n := func(b []byte) uint64 { return uint64(len(b)) }
	for _, c := range []struct {
		event *replication.BinlogEvent
		want  string
	}{
		{payloadOf(packedZstd, n(zeros), largest+1, zeros), "a compressed transaction of 256 MiB: want at most"},
		{payloadOf(packedZstd, n(zeros), 5<<30, zeros), "a compressed transaction of 5120 MiB"},
		{payloadOf(packedZstd, n(larger), 100, larger), "decompressed size exceeds configured limit"},
		{payloadOf(packedZstd, n(zeros), 99, zeros), "of 100 bytes, which says that it has 99"},
		{payloadOf(packedZstd, n(zeros), 100, zeros), "an event of 0 bytes, where 100 are left"},
		{payloadOf(packedZstd, n(zeros)+1, 100, zeros), fmt.Sprintf("of %d bytes, of which %d are there", len(zeros)+1, len(zeros))},
		{payloadOf(packedZstd, 0, 100, nil), "of 0 bytes"},
		{payloadOf(packedZstd, 12, 100, []byte("no such form")), "magic"},
		{payloadOf(7, n(zeros), 100, zeros), "compressed in way 7"},
		{payloadOf(packedNot, 18, 18, make([]byte, 22)), "ends with 18 bytes that are no event"},
		{payloadOf(packedNot, 19, 19, short), "an event of 18 bytes, where 19 are left"},
		{payloadOf(packedNot, 19, 19, long), "an event of 20 bytes, where 19 are left"},
		{&replication.BinlogEvent{Header: &replication.EventHeader{EventType: replication.TRANSACTION_PAYLOAD_EVENT, LogPos: 700}}, "event TransactionPayloadEvent"},
	} {
		_, err := newParser(gomysql.MySQLFlavor, nil).parse(c.event)
		if err == nil || passing(err) || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "position 700") {
			t.Errorf("%v, want %q", err, c.want)
		}
	}
	for _, size := range []uint64{0, 250, 251, 255, 1 << 16, 1 << 24, 5 << 30} {
		if has, rest := fields(payloadOf(size, 1, size, []byte("x")).RawData[replication.EventHeaderSize:]); has != [4]uint64{0, 1, size, size} || string(rest) != "x" {
			t.Errorf("%d is read as %d, %q", size, has, rest)
		}
	}
	for _, bad := range [][]byte{nil, {3}, {3, 9}, {3, 8, 1}, {9, 1, 1}} {
		if _, rest := fields(bad); rest != nil {
			t.Errorf("%v: %v", bad, rest)
		}
	}
}

// TestRowsOfCompressedTransactions are read as those of others: times in UTC, wherever
// this program runs, and rows of mapped tables alone. The events are MariaDB's, packed
// here as MySQL does: without checksums, which stand behind all of them.
func TestRowsOfCompressedTransactions(t *testing.T) {
	local := time.Local
	t.Cleanup(func() { time.Local = local })
	time.Local = time.FixedZone("far", 5*3600)
	w := newWorld(t, false)
	w.src.SQL("CREATE TABLE old_nova.stamps (id INT PRIMARY KEY, at TIMESTAMP(3) NULL) ENGINE=InnoDB")
	from, err := now(t.Context(), w.source)
	if err != nil {
		t.Fatal(err)
	}
	w.src.SQL("SET time_zone = '+00:00'; INSERT INTO old_nova.stamps VALUES (1, '2024-01-02 03:04:05.678'); INSERT INTO old_nova.other VALUES (1, 1)")
	wanted := func(_, table string) bool { return table == "stamps" }
	s, err := open(t.Context(), w.source, from, wanted)
	if err != nil {
		t.Fatal(err)
	}
	defer s.close()
	var all []byte
	for rows := 0; rows < 2; {
		raw, err := s.events.GetEvent(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		e, err := s.parser.parse(raw) // tells it the form of events
		if err != nil {
			t.Fatal(err)
		}
		switch e.Event.(type) {
		case *replication.RowsEvent:
			rows++
		case *replication.TableMapEvent, *replication.QueryEvent, *replication.XIDEvent:
		default:
			continue
		}
		event := slices.Clone(raw.RawData[:len(raw.RawData)-replication.BinlogChecksumLength])
		binary.LittleEndian.PutUint32(event[9:], uint32(len(event)))
		all = append(all, event...)
	}
	packed := zipped(t, all)
	for _, p := range []*replication.BinlogEvent{
		payloadOf(packedZstd, uint64(len(packed)), uint64(len(all)), append(packed, "\x28\xb5\x2f\xfd"...)),
		payloadOf(packedNot, uint64(len(all)), uint64(len(all)), append(all, "sums"...)),
	} {
		e, err := s.parser.parse(p)
		if err != nil {
			t.Fatal(err)
		}
		got := ""
		for _, inner := range e.Event.(*replication.TransactionPayloadEvent).Events {
			if r, ok := inner.Event.(*replication.RowsEvent); ok {
				got += fmt.Sprintf("%s %v ", r.Table.Table, r.Rows)
			}
		}
		if want := "stamps [[1 2024-01-02 03:04:05.678]] other [] "; got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
