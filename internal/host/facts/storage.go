package facts

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"holdfast/internal/inventory/fact"
	"holdfast/internal/lib/text"

	"github.com/moby/sys/mountinfo"
)

// o2cb reads OCFS2's heartbeat threshold: of the configuration, and in use.
func (g *Gatherer) o2cb() (fact.O2CB, error) {
	var o fact.O2CB
	for _, name := range []string{"etc/default/o2cb", "etc/sysconfig/o2cb"} {
		b, err := read(g.file(name))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return o, fmt.Errorf("read the threshold of O2CB: %w", err)
		}
		v := shellVars(b)
		o.Present = v["O2CB_ENABLED"] != "false"
		if t := v["O2CB_HEARTBEAT_THRESHOLD"]; t != "" {
			if o.Configured, err = strconv.Atoi(t); err != nil {
				return o, fmt.Errorf("read the threshold of O2CB: /%s: O2CB_HEARTBEAT_THRESHOLD: want a number, not %q", name, t)
			}
		}
		break
	}
	clusters, err := filepath.Glob(g.file("sys/kernel/config/cluster/*/heartbeat/dead_threshold"))
	if err != nil {
		return o, fmt.Errorf("read the threshold of O2CB: %w", err)
	}
	for _, c := range clusters {
		b, err := read(c)
		if err != nil {
			return o, fmt.Errorf("read the threshold of O2CB: %w", err)
		}
		if o.Active, err = strconv.Atoi(strings.TrimSpace(string(b))); err != nil {
			return o, fmt.Errorf("read the threshold of O2CB: %s: want a number", c)
		}
		o.Present = true
	}
	return o, nil
}

// noSessions is iscsiadm's exit code when there are none.
const noSessions = 21

func (g *Gatherer) iscsi(ctx context.Context) ([]fact.Session, error) {
	o, err := g.run(ctx, "iscsiadm", "-m", "session")
	switch {
	case errors.Is(err, errNotThere):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("list iSCSI sessions: %w", err)
	case o.exit == noSessions:
		return nil, nil
	case o.exit != 0:
		return nil, fmt.Errorf("list iSCSI sessions: iscsiadm ended with %d: %s", o.exit, lastLine(o.all()))
	}
	return parseSessions(string(o.out))
}

var sessionLine = text.Pattern(`^[a-z0-9_]+: \[(\d{1,9})\] (\S+) (\S+)`)

// parseSessions reads what `iscsiadm -m session` says:
//
//	tcp: [1] 10.0.0.5:3260,1 iqn.2003-01.org.linux-iscsi.array:lun (non-flash)
func parseSessions(text string) ([]fact.Session, error) {
	var out []fact.Session
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if line == "" {
			continue
		}
		m := sessionLine().FindStringSubmatch(line)
		if m == nil {
			return nil, fmt.Errorf("read the answer of iscsiadm: the line %q", shorten(line))
		}
		id, err := strconv.Atoi(m[1])
		if err != nil {
			return nil, fmt.Errorf("read the answer of iscsiadm: %w", err)
		}
		portal, _, _ := strings.Cut(m[2], ",")
		out = append(out, fact.Session{ID: id, Portal: portal, Target: m[3]})
	}
	return out, nil
}

// ports reads the Fibre Channel ports from sysfs.
func (g *Gatherer) ports() ([]fact.Port, error) {
	hosts, err := filepath.Glob(g.file("sys/class/fc_host/*"))
	if err != nil {
		return nil, fmt.Errorf("list Fibre Channel ports: %w", err)
	}
	var out []fact.Port
	for _, h := range hosts {
		state, err := read(filepath.Join(h, "port_state"))
		if err != nil {
			return nil, fmt.Errorf("list Fibre Channel ports: %w", err)
		}
		p := fact.Port{Name: filepath.Base(h), State: strings.TrimSpace(string(state))}
		if name, err := read(filepath.Join(h, "port_name")); err == nil {
			p.Name += " " + strings.TrimSpace(string(name))
		}
		out = append(out, p)
	}
	return out, nil
}

func (g *Gatherer) maps(ctx context.Context) ([]fact.Map, error) {
	o, err := g.run(ctx, "multipath", "-ll")
	switch {
	case errors.Is(err, errNotThere):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("list multipath devices: %w", err)
	case o.exit != 0:
		// It ends with 1 when the host has no device mapper or no device.
		if m := parseMaps(string(o.out)); len(m) > 0 {
			return m, nil
		}
		if _, err := os.Stat(g.file("sys/class/misc/device-mapper")); errors.Is(err, fs.ErrNotExist) {
			return nil, nil
		}
		return nil, fmt.Errorf("list multipath devices: multipath ended with %d: %s", o.exit, lastLine(o.all()))
	}
	return parseMaps(string(o.out)), nil
}

var (
	mapLine  = text.Pattern(`^(?:[a-z]+: )?(\S+?)(?: \(([^)\s]+)\))? (?:(dm-\d+)|undef)(?:\s|$)`)
	pathLine = text.Pattern(`^[|` + "`" + `\\ +_-]*(?:\d+:\d+:\d+:\d+|#:#:#:#) +(\S+) +(?:\d+:\d+|-|#:#|\[[^\]]*\]) *(.*)$`)
)

// parseMaps reads what `multipath -ll` says, in the forms of old and new releases.
// Lines that are neither a device nor a path are passed over: sizes, groups of
// paths, messages.
func parseMaps(text string) []fact.Map {
	var out []fact.Map
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\r\n\t ")
		if m := pathLine().FindStringSubmatch(line); m != nil {
			if len(out) > 0 {
				last := &out[len(out)-1]
				last.Paths = append(last.Paths, pathOf(m[1], m[2]))
			}
			continue
		}
		if strings.Contains(line, " | ") {
			continue // a message, with its time in front
		}
		if m := mapLine().FindStringSubmatch(line); m != nil {
			x := fact.Map{Name: m[1], WWID: m[2], Device: m[3]}
			if x.WWID == "" {
				x.WWID = x.Name // no alias
			}
			out = append(out, x)
		}
	}
	return out
}

// pathOf judges a path: both the kernel and the checker must say that it works.
func pathOf(device, state string) fact.Path {
	words := strings.FieldsFunc(state, func(r rune) bool { return r == ' ' || r == '[' || r == ']' })
	up := len(words) > 0
	for _, w := range words {
		switch w {
		case "failed", "faulty", "offline", "shaky", "undef", "i/o", "timeout", "unknown":
			up = false
		}
	}
	return fact.Path{Device: device, State: strings.Join(words, " "), Up: up}
}

var (
	scsiDisk  = text.Pattern(`^/dev/sd[a-z]+[0-9]*$`)
	partition = text.Pattern(`(-part|p)?[0-9]+$`)
)

// mounts lists mounted cluster file systems. When the multipath devices are not
// known, the number of paths of what is on one is not known either.
func (g *Gatherer) mounts(maps []fact.Map, mapsErr error) ([]fact.Mount, error) {
	b, err := read(g.file("proc/self/mountinfo"))
	if err != nil {
		return nil, fmt.Errorf("list mounts: %w", err)
	}
	out := parseMounts(string(b))
	for i := range out {
		switch m := &out[i]; {
		case scsiDisk().MatchString(m.Device):
			m.Paths = 1
		case mapsErr == nil:
			m.Paths = pathsOf(m.Device, maps)
		}
	}
	return out, nil
}

// pathsOf counts the ways to a device, 0 when it is no multipath device.
func pathsOf(device string, maps []fact.Map) int {
	name := filepath.Base(device)
	for _, n := range []string{name, partition().ReplaceAllString(name, "")} {
		for _, m := range maps {
			if n == m.Name || n == m.WWID || n == m.Device && n == name {
				return len(m.Paths)
			}
		}
	}
	return 0
}

// parseMounts reads mountinfo: "36 35 98:0 / /vms/a rw - ocfs2 /dev/dm-1 rw". It
// goes line by line, as the library gives up at the first that it can not read.
func parseMounts(text string) []fact.Mount {
	var out []fact.Mount
	seen := map[string]bool{}
	for line := range strings.Lines(text) {
		found, err := mountinfo.GetMountsFromReader(strings.NewReader(line), mountinfo.FSTypeFilter("ocfs2", "gfs2"))
		if err != nil {
			continue
		}
		for _, m := range found {
			if dir := m.Mountpoint; dir != "" && m.Source != "" && !seen[dir] {
				seen[dir] = true
				out = append(out, fact.Mount{Name: filepath.Base(dir), Dir: dir, Kind: m.FSType, Device: m.Source})
			}
		}
	}
	return out
}
