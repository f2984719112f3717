// Package records is how the records of the management VM stand in the store: their keys,
// and their JSON with its checksum.
package records

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"

	"holdfast/internal/cluster"
	"holdfast/internal/store"
)

// Keys in the store, below the cluster's prefix. Everything under state/ is
// followed by every agent; the log is only read on request.
const (
	KeyState      = "state/"
	KeyCoord      = KeyState + "coordinator"
	KeyHosts      = KeyState + "hosts/"
	KeyOwners     = KeyState + "owner/"
	KeyWants      = KeyState + "want/"
	KeyConfig     = KeyState + "config"
	KeyBeat       = KeyState + "heartbeat" // the secret of the members' heartbeats, 32 bytes
	KeyPercent    = KeyState + "progress/"
	KeyLog        = "log/"
	KeyAccess     = "access/"               // users, tokens and sessions, which only members see
	KeyNotify     = "notify/"               // how far each receiver of messages was told of events, by its name
	KeyGeneration = KeyState + "generation" // the restore generation, in decimal; without it, it is 1
	KeyRequests   = "requests/"             // requests that were carried out, by their idempotency key
	KeyLeft       = KeyState + "left/"      // members that were replaced, by their identity
	KeyBooted     = KeyState + "booted/"    // the configuration with which the resource was started last
	KeyHistory    = "config/"               // the last configurations, by their number
)

// The keys of single records.
func HostKey(h cluster.HostID) string         { return KeyHosts + string(h) }
func OwnerKey(r cluster.ResourceID) string    { return KeyOwners + string(r) }
func WantKey(r cluster.ResourceID) string     { return KeyWants + string(r) }
func ProgressKey(r cluster.ResourceID) string { return KeyPercent + string(r) }
func BootedKey(r cluster.ResourceID) string   { return KeyBooted + string(r) }
func LeftKey(identity string) string          { return KeyLeft + identity }
func HistoryKey(number int) string            { return fmt.Sprintf("%s%010d", KeyHistory, number) }

// LogKey orders events by their writer's wall clock; the sequence keeps apart
// what one writer says in one nanosecond.
func LogKey(e cluster.Event, seq uint64) string {
	return fmt.Sprintf("%s%020d-%s-%d", KeyLog, e.Time.UnixNano(), e.By, seq)
}

// Encode gives the JSON of a record, and in a second line its checksum: a member
// of the store whose disk has changed a bit must not make this host believe
// something else. The records hold nothing that JSON can not express, so an error
// is a defect of this program.
func Encode(record any) []byte {
	b, err := json.Marshal(record)
	if err != nil {
		panic(fmt.Sprintf("encode %T: %v", record, err))
	}
	return fmt.Appendf(b, "\n%08x", checksum(b))
}

// errChecksum: a record is not what was written.
var errChecksum = errors.New("the checksum is wrong: a member of the store has damaged data")

// Unseal returns the JSON of what Encode wrote.
func Unseal(value []byte) ([]byte, error) {
	i := bytes.LastIndexByte(value, '\n')
	if i < 0 || string(value[i+1:]) != fmt.Sprintf("%08x", checksum(value[:i])) {
		return nil, errChecksum
	}
	return value[:i], nil
}

func checksum(b []byte) uint32 { return crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)) }

// Decode reads a record; a deleted one is the zero value.
func Decode[T any](kv store.KV, deleted bool) (T, error) {
	var r T
	if deleted {
		return r, nil
	}
	b, err := Unseal(kv.Value)
	if err == nil {
		err = json.Unmarshal(b, &r)
	}
	if err != nil {
		return r, fmt.Errorf("record %s: %w", kv.Key, err)
	}
	return r, nil
}

// DecodeTo is decode for a record that is handed on.
func DecodeTo[T any](kv store.KV, deleted bool) (*T, error) {
	r, err := Decode[T](kv, deleted)
	return &r, err
}
