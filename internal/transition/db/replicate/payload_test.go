package replicate

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	gomysql "github.com/go-mysql-org/go-mysql/mysql"
	"github.com/go-mysql-org/go-mysql/replication"
	"github.com/klauspost/compress/zstd"

	"holdfast/internal/transition/db/mapping"
	"holdfast/testbed/need"
)

// payloadOf is the event of a compressed transaction.
func payloadOf(way, packed, unpacked uint64, rest []byte) *replication.BinlogEvent {
	var body []byte
	for _, f := range [][2]uint64{{packing, way}, {unpackedSize, unpacked}, {packedSize, packed}} {
		n := gomysql.PutLengthEncodedInt(f[1])
		body = append(append(body, byte(f[0]), byte(len(n))), n...)
	}
	body = append(append(body, fieldsEnd), rest...)
	h := &replication.EventHeader{EventType: replication.TRANSACTION_PAYLOAD_EVENT,
		EventSize: uint32(replication.EventHeaderSize + len(body)), LogPos: 700}
	return &replication.BinlogEvent{Header: h, RawData: append(make([]byte, replication.EventHeaderSize), body...)}
}

// bare is an event without its checksum.
func bare(raw *replication.BinlogEvent) []byte {
	event := slices.Clone(raw.RawData[:len(raw.RawData)-replication.BinlogChecksumLength])
	binary.LittleEndian.PutUint32(event[9:], uint32(len(event)))
	return event
}

// plain is an event without checksum.
func plain(kind replication.EventType, body []byte) []byte {
	event := append(make([]byte, replication.EventHeaderSize), body...)
	event[4] = byte(kind)
	binary.LittleEndian.PutUint32(event[9:], uint32(len(event)))
	return event
}

// bodyOfBegin is the body of the statement by which MySQL begins a transaction in its log.
var bodyOfBegin = append(make([]byte, 14), "BEGIN"...)

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
	need.Seconds(t)
	zeros := zipped(t, make([]byte, 100))
	short, long := make([]byte, 19), make([]byte, 19)
	short[9], long[9] = 18, 20
	cut := append(plain(replication.QUERY_EVENT, bodyOfBegin), plain(replication.WRITE_ROWS_EVENTv2, make([]byte, 81))[:50]...)
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
		{payloadOf(packedNot, n(cut), n(cut), cut), "an event of 100 bytes, where 50 are left"},
		{&replication.BinlogEvent{Header: &replication.EventHeader{EventType: replication.TRANSACTION_PAYLOAD_EVENT,
			LogPos: 700}}, "event TransactionPayloadEvent"},
	} {
		e, err := newParser(gomysql.MySQLFlavor, nil).parse(c.event)
		if e != nil || err == nil || passing(err) || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "position 700") {
			t.Errorf("%v, want %q", err, c.want)
		}
	}
	for _, size := range []uint64{0, 250, 251, 255, 1 << 16, 1 << 24, 5 << 30} {
		if has, rest := fields(payloadOf(size, 1, size,
			[]byte("x")).RawData[replication.EventHeaderSize:]); has != [4]uint64{0, 1, size, size} || string(rest) != "x" {
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
	need.More(t)
	local := time.Local
	t.Cleanup(func() { time.Local = local })
	time.Local = time.FixedZone("far", 5*3600)
	w := newWorld(t, false)
	w.src.SQL("CREATE TABLE old_nova.stamps (id INT PRIMARY KEY, at TIMESTAMP(3) NULL) ENGINE=InnoDB")
	from, err := now(t.Context(), w.source)
	if err != nil {
		t.Fatal(err)
	}
	w.src.SQL("SET time_zone = '+00:00'; INSERT INTO old_nova.stamps VALUES (1, '2024-01-02 03:04:05.678'); INSERT " +
		"INTO old_nova.other VALUES (1, 1)")
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
		all = append(all, bare(raw)...)
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
		for p := e.Event.(*payload); len(p.left) > 0; {
			inner, err := p.next()
			if err != nil {
				t.Fatal(err)
			}
			if r, ok := inner.Event.(*replication.RowsEvent); ok {
				got += fmt.Sprintf("%s %v ", r.Table.Table, r.Rows)
			}
		}
		if want := "stamps [[1 2024-01-02 03:04:05.678]] other [] "; got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

// TestADamagedCompressedTransaction ends before what comes after the damage is taken.
func TestADamagedCompressedTransaction(t *testing.T) {
	data := slices.Concat(plain(replication.QUERY_EVENT, bodyOfBegin),
		plain(replication.WRITE_ROWS_EVENTv2, make([]byte, 9)), plain(replication.XID_EVENT, make([]byte, 8)))
	e, err := newParser(gomysql.MySQLFlavor, nil).parse(payloadOf(packedNot, uint64(len(data)), uint64(len(data)), data))
	if err != nil {
		t.Fatal(err)
	}
	at := place{"bin.000001", 600}
	f := &follower{at: at, from: at, here: at, last: at, saved: at, batch: newBatch(&mapping.Plan{}), idle: true}
	if err := f.event(t.Context(), e); err == nil || passing(err) ||
		!strings.Contains(err.Error(), "event TransactionPayloadEvent before position 700") {
		t.Error(err)
	}
	if p := e.Event.(*payload); len(p.left) != replication.EventHeaderSize+8 || !f.within || f.at != at || f.from != at {
		t.Errorf("%d bytes are left, at %s, to be read from %s, within %v", len(p.left), f.at, f.from, f.within)
	}
}

// packs reads the log up to the end of a transaction, packs that as MySQL does, and takes in
// what is before it.
func (d *driven) packs() (whole *replication.BinlogEvent, end uint32) {
	d.t.Helper()
	all := plain(replication.QUERY_EVENT, bodyOfBegin)
	for within := false; end == 0; {
		raw, err := d.s.events.GetEvent(d.t.Context())
		if err != nil {
			d.t.Fatal(err)
		}
		switch {
		case raw.Header.EventType == replication.MARIADB_GTID_EVENT:
			within = true
		case within:
			all = append(all, bare(raw)...)
			if raw.Header.EventType == replication.XID_EVENT {
				end = raw.Header.LogPos
			}
		default:
			e, err := d.s.parser.parse(raw)
			if err == nil {
				err = d.event(d.t.Context(), e)
			}
			if err != nil {
				d.t.Fatal(err)
			}
		}
	}
	packed := zipped(d.t, all)
	raw := payloadOf(packedZstd, uint64(len(packed)), uint64(len(all)), packed)
	raw.Header.LogPos = end
	whole, err := d.s.parser.parse(raw)
	if err != nil {
		d.t.Fatal(err)
	}
	return whole, end
}

// TestACompressedTransactionInPages: one with more changed rows than memory should hold is
// carried over in parts, and the journal stays before it until it is whole. A run that ends
// within it reads it again.
func TestACompressedTransactionInPages(t *testing.T) {
	need.More(t)
	for _, ends := range []bool{false, true} {
		t.Run(fmt.Sprintf("ends within: %v", ends), func(t *testing.T) { inPages(t, newWorld(t, false), ends) })
	}
}

func inPages(t *testing.T, w *world, ends bool) {
	const room = 700 // keys; an event has some 250
	w.src.SQL("USE old_nova; INSERT INTO aggregates (id, name) SELECT seq, CONCAT('n', seq) FROM seq_1_to_6000")
	w.copy()
	w.src.SQL("USE old_nova; UPDATE aggregates SET name = CONCAT('m', id)")
	d := w.drive(room)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var at place
	events, most := 0, 0
	d.s.parser = newParser(gomysql.MariaDBFlavor, func(string, string) bool { // asked of each event of rows, before these are taken
		events, most = events+1, max(most, d.batch.size)
		if d.idle || !d.within || !d.blind || d.at != at || d.from != at {
			t.Errorf("idle %v, within %v, blind %v, at %s, to be read from %s, want %s", d.idle, d.within, d.blind, d.at, d.from, at)
		}
		if events == 15 && ends {
			cancel()
		}
		return true
	})
	e, end := d.packs()
	at, d.idle = d.at, true
	err := d.event(ctx, e)
	carried, saved := w.dst.SQL("SELECT COUNT(*) FROM new_api.aggregates WHERE name LIKE 'm%'"), w.state().Pos
	t.Logf("%d events, %d keys at most before one, %s rows carried over, the journal at %d, it was read up to "+
		"%s of %d: %v", events, most, carried, saved, d.at, end, err)
	if most == 0 || most >= room || saved > at.pos {
		t.Errorf("%d keys were held before an event, want less than %d; the journal is at %d, want at most %s", most, room, saved, at)
	}
	if n, err := strconv.Atoi(carried); err != nil || n < 6000/4 || n >= 6000 {
		t.Errorf("%s rows are carried over, %v", carried, err)
	}
	if ends {
		if !errors.Is(err, context.Canceled) || d.at != at {
			t.Fatal(d.at, err)
		}
		w.mustFollow()
		w.equal()
		return
	}
	if want := (place{at.file, uint64(end)}); err != nil || d.at != want || d.from != want || d.last != want || d.blind || d.within {
		t.Fatalf("%v, at %s, to be read from %s, last %s, want %s; blind %v, within %v", err, d.at, d.from, d.last, want, d.blind, d.within)
	}
	if err := d.carry(t.Context()); err != nil || w.state().Pos != uint64(end) {
		t.Fatal(err, w.state().Pos, end)
	}
	w.equal()
}
