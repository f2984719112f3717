package replicate

import (
	"math"
	"strings"
	"testing"

	"github.com/go-mysql-org/go-mysql/replication"
)

// made is an event of so many bytes that tells where it ends by 32 bits, or by none.
func made(e replication.Event, kind replication.EventType, size, pos uint32) *replication.BinlogEvent {
	return &replication.BinlogEvent{Header: &replication.EventHeader{EventType: kind, EventSize: size, LogPos: pos}, Event: e}
}

func begins(file string, pos uint64) *replication.BinlogEvent {
	e := made(&replication.RotateEvent{Position: pos, NextLogName: []byte(file)}, replication.ROTATE_EVENT, 40, 0)
	e.Header.Flags = replication.LOG_EVENT_ARTIFICIAL_F
	return e
}

func starts(pos uint32) *replication.BinlogEvent {
	return made(&replication.MariadbGTIDEvent{}, replication.MARIADB_GTID_EVENT, 42, pos)
}

func ends(size, pos uint32) *replication.BinlogEvent {
	return made(&replication.XIDEvent{}, replication.XID_EVENT, size, pos)
}

func something(size, pos uint32) *replication.BinlogEvent {
	return made(&replication.TableMapEvent{}, replication.TABLE_MAP_EVENT, size, pos)
}

func heartbeat27(pos uint32) *replication.BinlogEvent {
	return made(&replication.GenericEvent{}, replication.HEARTBEAT_EVENT, 39, pos)
}

// take gives events to a run that has read up to a position.
func take(t *testing.T, from place, events ...*replication.BinlogEvent) *follower {
	t.Helper()
	f := &follower{at: from, from: from, here: from, last: from}
	for i, e := range events {
		if err := f.event(t.Context(), e); err != nil {
			t.Fatalf("event %d: %v", i, err)
		}
	}
	return f
}

// TestPositions: of files that are longer than 32 bits can tell, and of events that tell
// nothing, as MariaDB's from 11.4 on.
func TestPositions(t *testing.T) {
	const file, gib = "bin.000001", 1 << 30
	long := func() (out []*replication.BinlogEvent) { // from 1000 to 5 GiB + 1073
		out = append(out, begins(file, 1000), starts(1042))
		for i := range uint32(5) {
			out = append(out, something(gib, 1042+(i+1)*gib)) // the last is beyond what 32 bits tell
		}
		return append(out, ends(31, 1073+gib))
	}
	silent := func() (out []*replication.BinlogEvent) {
		out = append(out, begins(file, 1000), starts(1042))
		for range 5 {
			out = append(out, something(gib, 0))
		}
		return append(out, ends(31, 1173+gib)) // events of 100 bytes are not sent to us
	}
	for _, c := range []struct {
		name     string
		events   []*replication.BinlogEvent
		at, from uint64
		last     uint64
		blind    bool
	}{
		{"a transaction", []*replication.BinlogEvent{begins(file, 1000), starts(1042), something(100, 1142),
			ends(31, 1173)}, 1173, 1173, 1173, false},
		{"a part of one", []*replication.BinlogEvent{begins(file, 1000), starts(1042), something(100, 1142)}, 1000, 1000, 1142, false},
		{"without positions", []*replication.BinlogEvent{begins(file, 1000), starts(1042), something(100, 0),
			ends(31, 1173)}, 1173, 1173, 1173, false},
		{"a part without positions", []*replication.BinlogEvent{begins(file, 1000), starts(1042), something(100, 0)}, 1000, 1000, 1042, true},
		{"a statement without", []*replication.BinlogEvent{begins(file, 1000), something(100, 0)}, 1000, 1000, 1000, true},
		{"and what tells", []*replication.BinlogEvent{begins(file, 1000), something(100, 0), heartbeat27(1100)}, 1100, 1100, 1100, false},
		{"beyond 4 GiB", long(), 5*gib + 1073, 1000, 5*gib + 1073, false},
		{"and more", append(long(), heartbeat27(1073+gib), starts(1115+gib), ends(31, 1146+gib)), 5*gib + 1146, 1000, 5*gib + 1146, false},
		{"beyond, without positions", silent(), 5*gib + 1173, 1000, 5*gib + 1173, false},
		{"in a part of it", silent()[:6], 1000, 1000, 1042, true},
		{"it is read again", append(long(), long()[:4]...), 5*gib + 1073, 1000, 5*gib + 1073, false},
		{"the end of the numbers", []*replication.BinlogEvent{begins(file, math.MaxUint32-50),
			starts(math.MaxUint32 - 8), ends(31, 22)}, 1<<32 + 22, math.MaxUint32 - 50, 1<<32 + 22, false},
	} {
		f := take(t, place{file, c.events[0].Event.(*replication.RotateEvent).Position}, c.events...)
		if f.at != (place{file, c.at}) || f.from != (place{file, c.from}) || f.last != (place{file, c.last}) || f.blind != c.blind {
			t.Errorf("%s: at %s, to be read from %s, last %s, blind %v: want %d, %d, %d, %v", c.name, f.at, f.from,
				f.last, f.blind, c.at, c.from, c.last, c.blind)
		}
	}
	f := take(t, place{file, 1000}, append(long(), begins("bin.000002", 4), starts(46), ends(31, 77))...)
	if f.at != (place{"bin.000002", 77}) || f.from != f.at {
		t.Errorf("in the next file: at %s, from %s", f.at, f.from)
	}
}

// TestAPositionThatIsTooFar: the server would take its last 32 bits.
func TestAPositionThatIsTooFar(t *testing.T) {
	_, err := open(t.Context(), nil, place{"bin.000001", 1 << 32}, nil)
	if err == nil || passing(err) || !strings.Contains(err.Error(), "position bin.000001:4294967296 is beyond 4 GiB") {
		t.Error(err)
	}
}
