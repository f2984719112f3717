package fleet

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/job"
	"holdfast/internal/upgrade"
)

// keyPrefix is where the hosts' records are.
const keyPrefix = "fleet/"

func recordKey(h cluster.HostID) string { return keyPrefix + string(h) }

// Record is what a host says of itself for jobs. Each host writes its own.
type Record struct {
	Host    upgrade.Host `json:"host"`
	VMs     []upgrade.VM `json:"vms,omitempty"`
	Addr    string       `json:"addr"`              // of its libvirtd, for migrations
	API     string       `json:"api,omitempty"`     // of its agent, https://IP:PORT; "": not served over TLS
	Agent   string       `json:"agent"`             // version of its agent
	Problem string       `json:"problem,omitempty"` // what could not be found out, for people
	Seq     uint64       `json:"seq"`               // counts the writes
	At      time.Time    `json:"at"`                // wall clock of the host, for people
}

func decodeRecord(key string, value []byte) (Record, error) {
	var r Record
	if err := json.Unmarshal(value, &r); err != nil {
		return r, fmt.Errorf("read record %s: %w", key, err)
	}
	if recordKey(r.Host.Name) != key {
		return r, fmt.Errorf("read record %s: it is about host %q", key, r.Host.Name)
	}
	return r, nil
}

// Seen is a host's record with the time at which this process saw it change.
type Seen struct {
	Record
	SeenAt time.Time // monotonic
	Mod    int64     // revision
}

// Silent is how long ago a record may have changed last for its host to count as
// up: three reports and a little.
const Silent = 35 * time.Second

// Hosts gives what the conductor wants to know.
func Hosts(seen map[cluster.HostID]Seen, now time.Time) map[cluster.HostID]job.HostState {
	out := make(map[cluster.HostID]job.HostState, len(seen))
	for h, s := range seen {
		out[h] = job.HostState{Up: now.Sub(s.SeenAt) < Silent, Boot: s.Host.Boot, Version: s.Agent}
	}
	return out
}

// Inventory is made of the records, in the order of names. version is what is
// installed.
func Inventory(name, version string, seen map[cluster.HostID]Seen, now time.Time) upgrade.Inventory {
	inv := upgrade.Inventory{Cluster: name, Version: version, At: now.UTC()}
	for _, s := range seen {
		h := s.Host
		h.Down = now.Sub(s.SeenAt) >= Silent
		inv.Hosts = append(inv.Hosts, h)
		inv.VMs = append(inv.VMs, s.VMs...)
	}
	slices.SortFunc(inv.Hosts, func(a, b upgrade.Host) int { return compare(string(a.Name), string(b.Name)) })
	slices.SortFunc(inv.VMs, func(a, b upgrade.VM) int { return compare(string(a.Host)+"/"+a.Name, string(b.Host)+"/"+b.Name) })
	return inv
}
