package report

import (
	"cmp"
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/inventory"
	"holdfast/internal/job"
	"holdfast/internal/lib/text"
)

// Prefix is where the hosts' records are.
const Prefix = "fleet/"

// RecordKey is where a host's record is.
func RecordKey(h cluster.HostID) string { return Prefix + string(h) }

// Record is what a host says of itself for jobs. Each host writes its own.
type Record struct {
	Host         inventory.Host   `json:"host"`
	VMs          []inventory.VM   `json:"vms,omitempty"`
	Addr         string           `json:"addr"`              // of its libvirtd, for migrations
	API          string           `json:"api,omitempty"`     // of its agent, https://IP:PORT; "": not served over TLS
	Addrs        []string         `json:"addrs,omitempty"`   // IP addresses of the host, for guests that move over a network of their own
	Links        map[string]int64 `json:"links,omitempty"`   // what the networks of these carry, MiB/s, as far as it is known
	Agent        string           `json:"agent"`             // version of its agent, for people
	Bundles      []string         `json:"bundles,omitempty"` // SHA-256 of the bundles that it has, hex
	Unobservable bool             `json:"blind,omitempty"`   // its guests could not be listed: VMs says nothing
	Problem      string           `json:"problem,omitempty"` // what could not be found out, for people
	Seq          uint64           `json:"seq"`               // counts the writes
	At           time.Time        `json:"at"`                // wall clock of the host, for people
	// Generation is job.Generation of its agent; 0: it does not count them yet.
	Generation int `json:"generation,omitempty"`
	// CarriesLive: its agent lets guests go on that arrive standing still. One that does not say so
	// takes their words away, and does nothing.
	CarriesLive bool `json:"carriesLive,omitempty"`
	// MigrateTLS: it can receive guests' memory by TLS.
	MigrateTLS bool `json:"migrateTLS,omitempty"`
	// Forgotten: a person has said that the host is gone for good. What stays is that the name is a
	// host's: a certificate with it has no more rights than before. A host that reports anew is back.
	Forgotten bool `json:"forgotten,omitempty"`
	// Certificates of the host; nil: it does not tell.
	Certificates []inventory.Certificate `json:"certificates,omitempty"`
}

// DecodeRecord reads the value of a key. What is longer or more than a host may say is cut, see bound; names of others are left as
// they are written: who shows them on a terminal cleans them.
func DecodeRecord(key string, value []byte) (Record, error) {
	var r Record
	if len(value) > maxBytes {
		return r, fmt.Errorf("read record %s: it has %d bytes, at most %d are read", key, len(value), maxBytes)
	}
	if err := json.Unmarshal(value, &r); err != nil {
		return r, fmt.Errorf("read record %s: %w", key, err)
	}
	if RecordKey(r.Host.Name) != key {
		return r, fmt.Errorf("read record %s: it is about host %q", key, text.Cut(string(r.Host.Name), maxWord))
	}
	r.bound()
	return r, nil
}

// Seen is a host's record with the time at which this process saw it change.
type Seen struct {
	Record
	SeenAt time.Time // monotonic
	Mod    int64     // revision
}

// In returns the address of the host in a network, a CIDR; "" when there is none.
func (r Record) In(network string) string {
	prefix, err := netip.ParsePrefix(network)
	if err != nil {
		return "" // none is asked for: the command line has checked it
	}
	for _, a := range r.Addrs {
		if addr, err := netip.ParseAddr(a); err == nil && prefix.Contains(addr) {
			return a
		}
	}
	return ""
}

// Link returns what the network carries over which the host's guests move, MiB/s: a CIDR, or
// "" for that of its libvirtd. 0: not known.
func (r Record) Link(network string) int64 {
	if at := r.In(network); at != "" {
		return r.Links[at]
	}
	return r.Links[r.Addr]
}

// Silent is how long ago a record may have changed last for its host to count as
// up: three reports and a little.
const Silent = 35 * time.Second

// Up reports whether the host counts as up.
func (s Seen) Up(now time.Time) bool { return s.UpFor(now) > 0 }

// UpFor is for how long the host counts as up if it is heard of no more, 0 when it does not.
func (s Seen) UpFor(now time.Time) time.Duration { return max(0, Silent-now.Sub(s.SeenAt)) }

// Hosts gives what the scheduler wants to know.
func Hosts(seen map[cluster.HostID]Seen, now time.Time) map[cluster.HostID]job.HostState {
	out := make(map[cluster.HostID]job.HostState, len(seen))
	for h, s := range seen {
		out[h] = job.HostState{Up: s.Up(now), Boot: s.Host.Boot, Version: s.Agent, Generation: s.Generation}
	}
	return out
}

// Inventory is made of the records, in the order of names. version is what is
// installed. A host that can not list its guests counts as down. A guest that
// several hosts know, because it moves or because one of them is away, is there
// once: where it runs by the word of a host that is up.
//
// network is the CIDR over which guests move, "" for any.
func Inventory(name, version, network string, seen map[cluster.HostID]Seen, now time.Time) inventory.Inventory {
	inv := inventory.Inventory{Cluster: name, Version: version, At: now.UTC()}
	type known struct {
		vm   inventory.VM
		down bool // its host
	}
	vms := map[string]known{}
	for _, s := range seen {
		h := s.Host
		h.Down, h.LinkMiBps = !s.Up(now) || s.Unobservable, s.Link(network)
		inv.Hosts = append(inv.Hosts, h)
		for _, vm := range s.VMs {
			id := cmp.Or(vm.UUID, string(vm.Host)+"/"+vm.Name)
			old, twice := vms[id]
			better := cmp.Or(inventory.CompareBools(vm.Running && !h.Down, old.vm.Running && !old.down),
				inventory.CompareBools(!h.Down, !old.down), inventory.Compare(string(old.vm.Host), string(vm.Host)))
			if !twice || better > 0 {
				vms[id] = known{vm, h.Down}
			}
		}
	}
	for _, k := range vms {
		inv.VMs = append(inv.VMs, k.vm)
	}
	slices.SortFunc(inv.Hosts, func(a, b inventory.Host) int { return inventory.Compare(string(a.Name), string(b.Name)) })
	slices.SortFunc(inv.VMs, func(a, b inventory.VM) int {
		return inventory.Compare(string(a.Host)+"/"+a.Name, string(b.Host)+"/"+b.Name)
	})
	return inv
}
