package replicate

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-mysql-org/go-mysql/replication"

	"holdfast/testbed/need"
)

// TestEventsThatAreNotKnown: what is known by its number only is passed over when it
// changes no row, and ends what can be followed when that can not be told.
func TestEventsThatAreNotKnown(t *testing.T) {
	for _, c := range []struct {
		number replication.EventType
		flags  uint16
		want   string // of the error, "" for none
	}{
		{replication.HEARTBEAT_EVENT, 0, ""}, {replication.HEARTBEAT_LOG_EVENT_V2, 0, ""},
		{replication.STOP_EVENT, 0, ""}, {replication.XA_PREPARE_LOG_EVENT, 0, ""},
		{replication.USER_VAR_EVENT, 0, ""}, {replication.VIEW_CHANGE_EVENT, 0, ""}, {replication.APPEND_BLOCK_EVENT, 0, ""},
		{replication.INCIDENT_EVENT, 0, "the server has lost events"},
		{replication.LOAD_EVENT, 0, "number 6"}, {replication.EXEC_LOAD_EVENT, 0, "number 10"},
		{171, 0, "may be of changed rows"}, // MariaDB: rows, deleted, compressed, of the second version
		{90, 0, "number 90"},
		{90, replication.LOG_EVENT_IGNORABLE_F, ""},
	} {
		f := &follower{at: place{"bin.000001", 4}}
		err := f.apply(&replication.BinlogEvent{Header: &replication.EventHeader{EventType: c.number, Flags: c.flags},
			Event: &replication.GenericEvent{}})
		if c.want == "" && err != nil {
			t.Errorf("%d: %v", c.number, err)
		}
		if c.want != "" && (!errors.Is(err, errFatal) || !strings.Contains(err.Error(), c.want) ||
			!strings.Contains(err.Error(), "after position bin.000001:4") || !strings.Contains(err.Error(), "begun anew")) {
			t.Errorf("%d: %v, want %q", c.number, err, c.want)
		}
	}
}

// TestStatementsOfLoad: the names are where the event says, whatever comes before them.
func TestStatementsOfLoad(t *testing.T) {
	f := &follower{tables: map[[2]string]*table{{"nova", "instances"}: {}}}
	event := func(settings, schema, query, sum string) []byte {
		raw := make([]byte, replication.EventHeaderSize+26)
		raw[replication.EventHeaderSize+8], raw[replication.EventHeaderSize+11] = byte(len(schema)), byte(len(settings))
		return append(raw, settings+schema+"\x00"+query+sum...)
	}
	const load = "LOAD DATA LOCAL INFILE 'x' INTO TABLE "
	for _, c := range []struct {
		raw  []byte
		want string
	}{
		{event("\x00\x01", "nova", load+"instances (id)", ""), "database nova, "},
		{event("", "x", load+"`nova`.`instances`", "\x00\n--"), "database nova, "},
		{event("", "", load+"nova.instances", "\xffsum"), "database nova, "},
		{event("", "", load+"nova.instances", ""), "database nova, "},
		{event("\x04", "x", load+"instances FIELDS TERMINATED BY 'nova'", "\xffsum"), ""},
		{event("", "nova", load+"others FIELDS TERMINATED BY 'x'", "\xffsum"), "database nova, "},
		{event("", "", "", "")[:40], "is not understood"},
		{event("\x01\x02", "nova", load, "")[:50], "is not understood"}, {nil, "is not understood"},
	} {
		err := f.apply(&replication.BinlogEvent{RawData: c.raw, Header: &replication.EventHeader{}, Event: &replication.ExecuteLoadQueryEvent{}})
		if (err != nil) != (c.want != "") || err != nil && (!errors.Is(err, errFatal) || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%q: %v, want %q", c.raw, err, c.want)
		}
	}
}

// TestLoadedByAStatement: a session that logs statements loads a file. In a database
// that is not mapped it does not matter.
func TestLoadedByAStatement(t *testing.T) {
	need.More(t)
	w := newWorld(t, false)
	w.src.SQL(firstRows)
	w.copy()
	file := filepath.Join(t.TempDir(), "rows")
	if err := os.WriteFile(file, []byte("600\n601\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	w.src.SQL("SET GLOBAL local_infile = 1")
	load := "CREATE DATABASE IF NOT EXISTS others; USE others; CREATE TABLE IF NOT EXISTS other (x INT) " +
		"ENGINE=InnoDB; SET SESSION binlog_format = STATEMENT; LOAD DATA LOCAL INFILE '" + file + "' INTO TABLE "
	w.src.SQL(load + "other (x)")
	w.mustFollow()
	w.equal()
	w.src.SQL(load + "old_nova.aggregates (id) SET name = CONCAT('loaded ', id)")
	w.refused("database old_nova", "binlog_format was not ROW", "LOAD DATA LOCAL INFILE", "begun anew")
}
