// Package feature says what a platform must be able to do with guests, in which order that is tried on a
// test guest, and how the results of two runs compare: before and after a change of version.
//
// It is pure. Trying it on a real guest is in the folder guests.
package feature

import (
	"slices"
	"time"
)

// Name of a feature.
type Name string

// Features.
const (
	Restart Name = "restart"
	Stop    Name = "stop"
	Start   Name = "start"
	Attach  Name = "attach a volume"
	Detach  Name = "detach a volume"
	Image   Name = "image of a disk"
	Down    Name = "link down"
	Up      Name = "link up"
	Resize  Name = "resize"
	Live    Name = "live migration"
	Cold    Name = "cold migration"
	New     Name = "new guest"

	// By the API of OpenStack only.
	Inside   Name = "DHCP and metadata inside"
	Rebuild  Name = "rebuild"
	Metadata Name = "metadata service"
)

// All features in the order in which they are tried. A restart that a guest does not obey stays asked for
// in libvirt until it is stopped: so it comes before Stop.
func All() []Name {
	return []Name{Restart, Stop, Start, Attach, Detach, Image, Down, Up, Resize, Live, Cold, New}
}

// AllOfAPI are those that the API of OpenStack has, in the order in which they are tried. What is rebuilt is the new
// guest, unless told otherwise: a rebuild can not be put back.
func AllOfAPI() []Name { return append(All(), Inside, Rebuild, Metadata) }

// Continues reports whether a feature begins with what the one before it has left: nothing is put back
// between them.
func (n Name) Continues() bool {
	return n == Start || n == Detach || n == Up || n == Inside || n == Rebuild
}

// Facts of a test guest and a run, by which features are left out.
type Facts struct {
	Persistent bool // libvirt keeps its definition while it is off
	Cells      bool // its memory is divided into NUMA cells
	Disk       bool // it has a disk that it writes
	Card       bool // it has a network card
	Folder     bool // there is a directory for the files of small disks
	Target     bool // there is another host
}

// Skip tells why a feature can not be tried; "": it can.
func (f Facts) Skip(n Name) string {
	switch n {
	case Attach, Detach, New:
		if !f.Folder {
			return "its disks are no files: name a directory for small disks with --dir"
		}
	case Image:
		switch {
		case !f.Disk:
			return "it has no disk that it writes"
		case !f.Folder:
			return "its disks are no files: name a directory for the image with --dir"
		}
	case Down, Up:
		if !f.Card {
			return "it has no network card"
		}
	case Resize:
		switch {
		case !f.Persistent:
			return "it is transient: libvirt keeps no definition of it"
		case f.Cells:
			return "its memory is divided into NUMA cells"
		}
	case Live, Cold:
		if !f.Target {
			return "no --target given"
		}
	}
	return ""
}

// Outcome of a feature.
type Outcome string

// Outcomes.
const (
	OK      Outcome = "ok"
	Failed  Outcome = "failed"
	Skipped Outcome = "skipped"
)

// Result of a feature.
type Result struct {
	Name    Name    `json:"name"`
	Result  Outcome `json:"result"`
	Why     string  `json:"why"`     // it failed or was skipped; "" when ok
	Seconds float64 `json:"seconds"` // that it took; putting back not counted
}

// Guest names a guest.
type Guest struct {
	Name string `json:"name"`
	UUID string `json:"uuid"`
}

// Report is what a run has found.
type Report struct {
	Guest    Guest     `json:"guest"`
	Libvirt  string    `json:"libvirt,omitempty"` // version; "": libvirt was not asked
	QEMU     string    `json:"qemu,omitempty"`    // version
	Nova     string    `json:"nova,omitempty"`    // latest version of its API, such as 2.93; "": it was not asked
	At       time.Time `json:"at"`                // it began
	Features []Result  `json:"features"`
	// Left is what could not be put back, for people.
	Left []string `json:"left,omitempty"`
	// Interrupted: somebody ended it before all was tried.
	Interrupted bool `json:"interrupted,omitempty"`
}

// Count says how many features have an outcome.
func (r *Report) Count(o Outcome) (n int) {
	for _, f := range r.Features {
		if f.Result == o {
			n++
		}
	}
	return n
}

// find gives a feature's result; Skipped with Why when the report does not have it.
func (r *Report) find(n Name) Result {
	i := slices.IndexFunc(r.Features, func(f Result) bool { return f.Name == n })
	if i < 0 {
		return Result{Name: n, Result: Skipped, Why: "it was not tried"}
	}
	return r.Features[i]
}

// Row compares one feature of two runs.
type Row struct {
	Name        Name
	Before, Now Result
	Worse       bool // it was ok and is not now, or it failed and did not fail before
}

// Compare gives a row for each feature, in their order, those that only the earlier run had at the end.
func Compare(before, now *Report) []Row {
	var out []Row
	add := func(n Name) {
		b, a := before.find(n), now.find(n)
		worse := b.Result == OK && a.Result != OK || a.Result == Failed && b.Result != Failed
		out = append(out, Row{Name: n, Before: b, Now: a, Worse: worse})
	}
	for _, f := range now.Features {
		add(f.Name)
	}
	for _, f := range before.Features {
		if !slices.ContainsFunc(now.Features, func(g Result) bool { return g.Name == f.Name }) {
			add(f.Name)
		}
	}
	return out
}

// Order is what an operator asks for.
type Order struct {
	Guest  string        // name or UUID
	Target string        // address or name of another host, whose libvirtd is asked directly; "": none
	Here   string        // address or name by which that host reaches this one's libvirtd; "": as its connection tells
	URI    string        // connection URI of libvirtds, %s stands for the address: qemu+tls or qemu+tcp
	Shared []string      // directories that are the same on both hosts although their kind does not tell it
	Dir    string        // for the files of small disks; "": that of the guest's first disk in a file
	Wait   time.Duration // for the guest to obey, each time
}

// CloudOrder is what an operator asks for where the API of OpenStack is to try it.
type CloudOrder struct {
	Guest     string              // name or UUID of a server in the project of the login
	Target    string              // compute host to which it is moved and back; "": the scheduler chooses
	Flavor    string              // name or ID of the flavor of a resize; "": none
	Rebuild   bool                // the test guest itself is rebuilt, and loses what its disk has
	CloudInit bool                // the image runs cloud-init, or what runs a script of user data as well: the new guest is asked from inside
	URL       string              // of Nova's metadata service, such as http://127.0.0.1:8775; "": it is not asked
	Secret    string              // that it has in common with Neutron's metadata agent (metadata_proxy_shared_secret)
	Wait      time.Duration       // for the end of an action, each time
	Getenv    func(string) string // has the variables of openstack(1)
}

// DefaultCloudWait is how long an action may take by default: images are copied, and guests moved.
const DefaultCloudWait = 10 * time.Minute

// Bounds of Order.Wait and CloudOrder.Wait.
const (
	MinWait     = time.Second
	MaxWait     = 30 * time.Minute
	DefaultWait = 2 * time.Minute
)

// Progress is told when a feature begins.
type Progress struct {
	Name      Name // "" when all that is left is to put back
	Done, All int
	Names     []Name   // all, in their order
	Over      []Result // of those that were tried or skipped, in that order
}
