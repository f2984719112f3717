package drbd

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"

	"holdfast/internal/lib/fail"
)

// procFile tells how all devices are, without a program: a look costs nothing, so it can be
// taken several times a second. The module 9 has only its version there.
const procFile = "/proc/drbd"

// Glance is Status, read from the kernel's file where the device is there. Create has seen
// to it that the minor is this resource's. What holds writes back is "held" in it.
func (d *Driver) Glance(ctx context.Context) (State, error) {
	b, err := os.ReadFile(procFile)
	if err != nil {
		return State{}, err
	}
	st, found, err := glance(string(b), d.cfg.Minor)
	if err != nil || found {
		return st, err
	}
	return d.Status(ctx)
}

// glance reads the device of a minor, as drbd_seq_show of 8.4 writes it:
//
//	0: cs:SyncTarget ro:Secondary/Primary ds:Inconsistent/UpToDate C r-----
//	   ns:0 nr:8 dw:8 dr:0 al:0 bm:0 lo:0 pe:0 ua:0 ap:0 ep:1 wo:f oos:40128
//
// found is false for one that is not there, and for one without disk and connection, which
// the kernel calls Unconfigured.
func glance(text string, minor int) (st State, found bool, err error) {
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		number, rest, ok := strings.Cut(strings.TrimSpace(line), ": cs:")
		if !ok || number != strconv.Itoa(minor) {
			continue
		}
		f := strings.Fields(rest)
		if len(f) == 1 && f[0] == "Unconfigured" {
			return st, false, nil
		}
		wrong := fmt.Errorf("%s: %q: want cs, ro, ds and the flags of a device", procFile, line)
		if len(f) < 4 { // the letter of the protocol is a space while there is no connection
			return st, false, wrong
		}
		role, peerRole, okRole := pairOf(f[1], "ro:")
		disk, peerDisk, okDisk := pairOf(f[2], "ds:")
		flags := f[len(f)-1]
		if !okRole || !okDisk || len(flags) != 6 || flags[0] != 'r' && flags[0] != 's' {
			return st, false, wrong
		}
		st = State{Up: true, Role: role, Suspended: "no", Disk: disk, PeerRole: peerRole, PeerDisk: peerDisk, Minor: number}
		if flags[0] == 's' {
			st.Suspended = "held"
		}
		if st.Connection, st.Replication, ok = phases(f[0]); !ok {
			return State{}, false, wrong
		}
		if i+1 < len(lines) {
			if _, oos, ok := strings.Cut(lines[i+1], " oos:"); ok {
				if st.OutOfSync, err = strconv.ParseUint(strings.TrimSpace(oos), 10, 64); err != nil {
					return State{}, false, fmt.Errorf("%s: oos: value %q: want a number of KiB", procFile, oos)
				}
			}
		}
		return st, true, nil
	}
	return st, false, nil
}

// pairOf cuts "ro:Primary/Secondary".
func pairOf(word, key string) (own, peer string, ok bool) {
	word, ok = strings.CutPrefix(word, key)
	if !ok {
		return "", "", false
	}
	own, peer, ok = strings.Cut(word, "/")
	return own, peer, ok && own != "" && peer != ""
}

// phases are the connection and the replication of what the kernel has as one word.
func phases(cs string) (connection, replication string, ok bool) {
	switch cs {
	case "StandAlone", "Disconnecting", "Unconnected", "Timeout", "BrokenPipe", "NetworkFailure", "ProtocolError", "TearDown":
		return cs, "Off", true
	case "WFConnection":
		return "Connecting", "Off", true
	case "WFReportParams":
		return "Connected", "Off", true
	case "Connected":
		return cs, "Established", true
	case "StartingSyncS", "StartingSyncT", "WFBitMapS", "WFBitMapT", "WFSyncUUID", "SyncSource", "SyncTarget",
		"PausedSyncS", "PausedSyncT", "VerifyS", "VerifyT", "Ahead", "Behind":
		return "Connected", cs, true
	}
	return "", "", false
}

// ownMinor refuses a minor that is another resource's: Glance would tell of that one.
func (d *Driver) ownMinor(st State) error {
	want := strconv.Itoa(d.cfg.Minor)
	if st.Minor != "" && st.Minor != want {
		return fail.Errorf(fail.Refused, "DRBD %s: its device has the minor %s: want %s, as configured", d.cfg.Resource, st.Minor, want)
	}
	b, err := os.ReadFile(procFile)
	if err != nil {
		return err
	}
	_, taken, err := glance(string(b), d.cfg.Minor)
	if err != nil || !taken || st.Minor == want {
		return err
	}
	return fail.Errorf(fail.Refused, "DRBD %s: the minor %s is that of another resource", d.cfg.Resource,
		want).With("give Pair.Device.Minor another number: drbdadm status tells which ones are used")
}
