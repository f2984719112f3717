package drbd

import (
	"fmt"
	"strconv"
	"strings"
)

// State is how a device is, in the words of DRBD. "" is what the kernel did not say.
type State struct {
	Up          bool   // the kernel has the resource
	Role        string // Primary, Secondary
	Suspended   string // no, or what holds all writes back: user, fencing, no-data; held: not said
	Disk        string // UpToDate, Consistent, Outdated, Inconsistent, Diskless, ...
	Connection  string // Connected, Connecting, StandAlone, ...
	PeerRole    string
	Replication string // Established, SyncSource, SyncTarget, Off, ...
	PeerDisk    string
	OutOfSync   uint64 // KiB that the peer has otherwise, as far as this node knows
	Minor       string // of the device
	Path        bool   // DRBD 9 knows the addresses of both ends; 8.4 has them with the connection
}

// Linked reports that the peer is connected and has everything.
func (s State) Linked() bool {
	return s.Connection == "Connected" && s.Replication == "Established" && s.PeerDisk == "UpToDate"
}

// Alone reports that the device is up and does not try to connect.
func (s State) Alone() bool { return s.Up && (s.Connection == "StandAlone" || s.Connection == "") }

// Frozen reports that all writes are held back.
func (s State) Frozen() bool { return s.Suspended != "no" && s.Suspended != "" }

// Good reports that the disk has kept all that it ever had.
func (s State) Good() bool { return s.Disk == "UpToDate" || s.Disk == "Consistent" }

// take takes in a line of "drbdsetup events2", of 8.4 or of 9, about the resource. end is
// true for the line after all that exists.
//
//	exists device name:r0 volume:0 minor:0 disk:UpToDate
//	2026-11-20T06:34:49.697421+00:00 change resource name:r0 role:Primary
//	exists -
//
// A resource has one device and one peer. Kinds that it does not know, as helpers,
// say nothing about the state.
func (s *State) take(resource, line string) (end bool, err error) {
	f := strings.Fields(line)
	if len(f) > 0 && len(f[0]) > 10 && f[0][4] == '-' && f[0][7] == '-' {
		f = f[1:] // the time
	}
	if len(f) < 2 {
		return false, fmt.Errorf("drbdsetup events2: line %q: want an event and what it is about", line)
	}
	if f[0] == "exists" && f[1] == "-" {
		return true, nil
	}
	values := map[string]string{}
	for _, w := range f[2:] {
		if k, v, ok := strings.Cut(w, ":"); ok {
			values[k] = v
		}
	}
	if values["name"] != resource {
		return false, nil
	}
	set := func(to *string, key string) {
		if v, ok := values[key]; ok {
			*to = v
		}
	}
	gone := f[0] == "destroy"
	switch f[0] {
	case "exists", "create", "change", "destroy":
	default:
		return false, nil // a call of a helper, for example
	}
	switch {
	case f[1] == "resource" && gone:
		*s = State{}
	case f[1] == "resource":
		s.Up = true
		set(&s.Role, "role")
		set(&s.Suspended, "suspended")
	case f[1] == "device" && gone:
		s.Disk, s.Minor = "", ""
	case f[1] == "device":
		set(&s.Disk, "disk")
		set(&s.Minor, "minor")
	case f[1] == "connection" && gone:
		s.Connection, s.PeerRole = "", ""
	case f[1] == "connection":
		set(&s.Connection, "connection")
		set(&s.PeerRole, "role")
	case f[1] == "path":
		s.Path = !gone
	case f[1] == "peer-device" && gone:
		s.Replication, s.PeerDisk = "", ""
	case f[1] == "peer-device":
		set(&s.Replication, "replication")
		set(&s.PeerDisk, "peer-disk")
		if v, ok := values["out-of-sync"]; ok {
			if s.OutOfSync, err = strconv.ParseUint(v, 10, 64); err != nil {
				return false, fmt.Errorf("drbdsetup events2: out-of-sync: value %q: want a number of KiB", v)
			}
		}
	}
	return false, nil
}
