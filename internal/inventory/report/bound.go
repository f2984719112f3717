package report

import (
	"fmt"
	"maps"
	"slices"

	"holdfast/internal/cluster"
	"holdfast/internal/inventory"
	"holdfast/internal/lib/text"
)

// Bounds of what is taken of a report. A host that runs guests only writes what it likes into its own, and each member and each list
// keeps the reports of all hosts: what is longer is cut, with "..." at its end, and what is more is left out.
const (
	maxBytes = 1 << 20 // of a report; one of 500 guests has a quarter of it. What is longer is not read at all

	maxName = 253 // bytes of a name, the longest that DNS knows
	maxWord = 100 // of a version, a kernel, a kind
	maxText = 300 // of a sentence

	maxGuests = 2000    // a host that reports more counts as one that can not list its guests
	maxItems  = 256     // of a list
	maxFew    = 16      // of a list in a list
	maxMiB    = 1 << 40 // 1 EiB
	maxCPUs   = 1 << 20
	maxNodes  = 256 // of an engine; a plan looks at each. Others count as not read
)

// bound cuts a report to size.
func (r *Record) bound() {
	h := &r.Host
	cut(maxWord, &h.CPUModel, &h.Version, &h.Kernel, &h.NextKernel, &h.Boot, &h.Install, &r.Agent)
	cut(maxName, &h.Group, &r.Addr, &r.API)
	cut(maxText, &r.Problem)
	h.Labels, r.Links = some(h.Labels), some(r.Links)
	h.Roles, h.Commands = first(h.Roles, maxFew), texts(h.Commands, maxItems)
	r.Addrs, r.Bundles = texts(r.Addrs, maxItems), texts(r.Bundles, maxItems)
	h.MemoryMiB, h.FreeBytes = max(0, min(h.MemoryMiB, maxMiB)), max(0, min(h.FreeBytes, maxMiB<<20))
	h.SkewMillis, h.LinkMiBps = max(-maxMiB, min(h.SkewMillis, maxMiB)), max(0, min(h.LinkMiBps, maxMiB))
	h.CPUs = max(0, min(h.CPUs, maxCPUs))
	maps.DeleteFunc(r.Links, func(_ string, rate int64) bool { return rate < 0 || rate > maxMiB })
	for i := range h.Roles {
		cut(maxWord, (*string)(&h.Roles[i]))
	}
	h.Pools, h.Engines, r.Certificates = first(h.Pools, maxItems), first(h.Engines, maxItems), first(r.Certificates, maxFew)
	for i := range h.Pools {
		p := &h.Pools[i]
		cut(maxName, &p.Name)
		cut(maxWord, &p.Kind, &p.Use)
	}
	for i := range h.Engines {
		e := &h.Engines[i]
		cut(maxName, &e.Dir)
		cut(maxWord, &e.Version, &e.Deploy)
		if e.Node < 0 || e.Node >= maxNodes {
			e.Node = -1
		}
		if e.Nodes < 0 || e.Nodes > maxNodes {
			e.Nodes = 0
		}
	}
	for i := range r.Certificates {
		c := &r.Certificates[i]
		cut(maxWord, &c.Which, &c.Serial, &c.State)
		cut(maxText, &c.Problem)
	}
	if len(r.VMs) > maxGuests {
		r.Unobservable, r.Problem = true, fmt.Sprintf("it reports %d guests, of which at most %d are read", len(r.VMs), maxGuests)
		r.VMs = first(r.VMs, maxGuests)
	}
	for i := range r.VMs {
		boundVM(&r.VMs[i], h.Name)
	}
}

// boundVM cuts what is said of a guest. It is on the host that reports it, whatever that says.
func boundVM(v *inventory.VM, host cluster.HostID) {
	v.Host = host
	cut(maxName, &v.Name)
	cut(maxWord, &v.UUID, &v.System, (*string)(&v.Policy))
	cut(maxText, &v.Busy)
	v.Fixed, v.Addresses = texts(v.Fixed, maxFew), texts(v.Addresses, maxFew)
	v.MemoryMiB, v.CPUs, v.Dirty = max(0, min(v.MemoryMiB, maxMiB)), max(0, min(v.CPUs, maxCPUs)), max(0, min(v.Dirty, maxMiB))
}

// cut cuts texts to a number of bytes.
func cut(most int, all ...*string) {
	for _, s := range all {
		if len(*s) > most {
			*s = text.Cut(*s, most)
		}
	}
}

// texts keeps the first texts of a list, none longer than a sentence.
func texts(list []string, most int) []string {
	list = first(list, most)
	for i := range list {
		cut(maxText, &list[i])
	}
	return list
}

// first keeps the first of a list, and not the memory of the others.
func first[T any](list []T, most int) []T {
	if len(list) <= most {
		return list
	}
	return slices.Clone(list[:most])
}

// some keeps the first entries of a map whose keys, and values that are texts, are no longer than a sentence.
func some[V any](m map[string]V) map[string]V {
	long := func(k string, v V) bool { s, _ := any(v).(string); return len(k) > maxText || len(s) > maxText }
	maps.DeleteFunc(m, long)
	if len(m) <= maxItems {
		return m
	}
	out := map[string]V{}
	for _, k := range slices.Sorted(maps.Keys(m))[:maxItems] {
		out[k] = m[k]
	}
	return out
}
