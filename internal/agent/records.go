package agent

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"strings"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/ha"
)

// Keys in the store, below the cluster's prefix. Everything under state/ is
// followed by every agent; the log is only read on request.
const (
	keyState   = "state/"
	keyCoord   = keyState + "coordinator"
	keyHosts   = keyState + "hosts/"
	keyOwners  = keyState + "owner/"
	keyWants   = keyState + "want/"
	keyConfig  = keyState + "config"
	keyBeat    = keyState + "heartbeat" // the secret of the members' heartbeats, 32 bytes
	keyPercent = keyState + "progress/"
	keyLog     = "log/"
)

// key is where a record of the core is.
func (a *Agent) key(k ha.Key) string {
	switch k.Kind {
	case ha.KindCoordinator:
		return keyCoord
	case ha.KindHost:
		return hostKey(k.Name)
	case ha.KindOwner:
		return ownerKey(a.s.core.Resource)
	}
	return wantKey(a.s.core.Resource)
}

// value is what a record of the core holds, with the writer's wall clock.
func (a *Agent) value(p ha.Put) any {
	switch p.Kind {
	case ha.KindCoordinator:
		return p.Coord
	case ha.KindHost:
		return p.Host
	case ha.KindOwner:
		o := *p.Owner
		o.Time = time.Now().UTC()
		return o
	}
	return p.Want
}

func hostKey(h cluster.HostID) string         { return keyHosts + string(h) }
func ownerKey(r cluster.ResourceID) string    { return keyOwners + string(r) }
func wantKey(r cluster.ResourceID) string     { return keyWants + string(r) }
func progressKey(r cluster.ResourceID) string { return keyPercent + string(r) }

// logKey orders events by their writer's wall clock; the sequence keeps apart
// what one writer says in one nanosecond.
func logKey(e cluster.Event, seq uint64) string {
	return fmt.Sprintf("%s%020d-%s-%d", keyLog, e.Time.UnixNano(), e.By, seq)
}

// encode gives the JSON of a record, and in a second line its checksum: a member
// of the store whose disk has changed a bit must not make this host believe
// something else. The records hold nothing that JSON can not express, so an error
// is a defect of this program.
func encode(record any) []byte {
	b, err := json.Marshal(record)
	if err != nil {
		panic(fmt.Sprintf("encode %T: %v", record, err))
	}
	return fmt.Appendf(b, "\n%08x", checksum(b))
}

// errChecksum: a record is not what was written.
var errChecksum = errors.New("the checksum is wrong: a member of the store has damaged data")

// unseal returns the JSON of what encode wrote.
func unseal(value []byte) ([]byte, error) {
	i := bytes.LastIndexByte(value, '\n')
	if i < 0 || string(value[i+1:]) != fmt.Sprintf("%08x", checksum(value[:i])) {
		return nil, errChecksum
	}
	return value[:i], nil
}

func checksum(b []byte) uint32 { return crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)) }

// hostOf returns the host that a key under state/hosts/ is about.
func hostOf(key string) (cluster.HostID, bool) {
	h, ok := strings.CutPrefix(key, keyHosts)
	return cluster.HostID(h), ok
}

// stamp completes an event.
func stamp(e cluster.Event, now time.Time) cluster.Event {
	e.Time = now.UTC()
	return e
}
