package probe

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/store"
)

// Keys. A run can not be called as the folder of addresses, nor a host as the plan.
const (
	keyAll    = "upgrade-probe/"
	nameAddrs = "addr"
	namePlan  = "plan"
	keyAddrs  = keyAll + nameAddrs + "/"
	keyBase   = "base/" // below a run
)

func addrKey(h cluster.HostID) string               { return keyAddrs + string(h) }
func runKey(run string) string                      { return keyAll + run + "/" }
func planKey(run string) string                     { return runKey(run) + namePlan }
func clockKey(run string) string                    { return runKey(run) + "time/passed" }
func partKeys(run, id string) string                { return planKey(run) + "/" + id + "/" }
func baseKey(run string, h cluster.HostID) string   { return runKey(run) + keyBase + string(h) }
func recordKey(run string, h cluster.HostID) string { return runKey(run) + string(h) }

// Bounds of what is kept.
const (
	maxGuests = 200      // that a host pings
	maxBytes  = 90 << 10 // of guests in a record; with all else it stays below 100 KiB
	maxAddrs  = 4        // of a guest
	maxName   = 100      // bytes of a guest's name
)

// plan says that a run is measured.
type plan struct {
	Run    string    `json:"run"`
	ID     string    `json:"id"`             // of the parts that hold: others are of attempts that came second
	Began  time.Time `json:"began"`          // wall clock of the coordinator, for people
	Guests int       `json:"guests"`         // in all parts
	Left   int       `json:"left,omitempty"` // guests that nobody pings
}

// part says whom a host pings.
type part struct {
	Of     cluster.HostID `json:"of"` // where they lived
	Guests []name         `json:"guests"`
	Left   int            `json:"left,omitempty"` // more guests of that host, which nobody pings
}

type name struct {
	UUID string `json:"uuid"`
	Name string `json:"name"`
	// Addrs are those that people have said.
	Addrs []string `json:"addrs,omitempty"`
}

// addresses are those of the guests that run on a host.
type addresses struct {
	Run    string              `json:"run"`
	Guests map[string][]string `json:"guests"`         // by UUID
	Left   int                 `json:"left,omitempty"` // guests that found no room
}

// record is what a host has counted.
type record struct {
	Run     string         `json:"run"`
	Host    cluster.HostID `json:"host"`
	By      string         `json:"by"`     // whoever counts, random: a host that begins anew is another one
	Passed  int64          `json:"passed"` // ms since the run began
	At      time.Time      `json:"at"`     // wall clock of the host, for people: it may be wrong
	Problem string         `json:"problem,omitempty"`
	Guests  []row          `json:"guests"`
}

// row is about one guest. Times are in ms, since the run began or long.
type row struct {
	UUID      string `json:"uuid"`
	Addr      string `json:"addr,omitempty"` // "": none has answered yet
	Sent      int64  `json:"sent"`
	Lost      int64  `json:"lost"`
	Longest   int64  `json:"longest"`
	Unwatched int64  `json:"unwatched"`
	First     int64  `json:"from,omitempty"` // with Last, when something was sent; 0: not known
	Last      int64  `json:"to,omitempty"`
}

// passed is how long the run took when the record was written.
func (r record) passed() time.Duration { return millis(r.Passed) }

func decode[T any](kv store.KV) (T, error) {
	var v T
	if err := json.Unmarshal(kv.Value, &v); err != nil {
		return v, fmt.Errorf("read %s: %w", kv.Key, err)
	}
	return v, nil
}

func encode(key string, v any) (store.Op, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return store.Op{}, fmt.Errorf("write %s: %w", key, err)
	}
	return store.Op{Key: key, Value: b}, nil
}

// room is what an entry takes in a record, bytes.
func room(v any) int {
	b, err := json.Marshal(v)
	if err != nil {
		return maxBytes // it can not be written at all
	}
	return len(b) + 1
}

// fit cuts a name of a guest to size.
func fit(s string) string {
	if len(s) > maxName {
		s = s[:maxName]
	}
	return strings.ToValidUTF8(s, "")
}

// usable reports whether keys can be made of the name of a run.
func usable(run string) bool {
	return run != "" && run != nameAddrs && !strings.Contains(run, "/")
}
