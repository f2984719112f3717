// Package ovs asks and programs the bridges of this host's Open vSwitch by its own programs,
// ovs-vsctl and ovs-ofctl. OVS_RUNDIR says where its sockets are, as for those programs.
//
// It returns what they print; what that means for a pin is in internal/transition/pin.
package ovs

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"holdfast/internal/lib/clock"
	"holdfast/internal/lib/fail"
	"holdfast/internal/lib/proc"
	"holdfast/internal/lib/text"
)

// commandWithin bounds one call of a program.
const commandWithin = 30 * time.Second

// looks is how often a bridge is asked that does not answer, lookAgain the time between.
const (
	looks     = 3
	lookAgain = time.Second
)

// Facts of a bridge that say how it can be programmed.
type Facts struct {
	Protocols   []string // as in the database: OpenFlow10 to OpenFlow15; empty: the default of this version
	FailMode    string   // standalone, secure; "" is standalone
	Controllers int
	// Restoring is flow-restore-wait: until it ends no flow counts, and then all are read anew.
	Restoring bool
	Other     map[string]string // other_config
}

// Bridge looks a bridge up, by one call of ovs-vsctl. It is Invalid where there is none of that
// name, and Unavailable where Open vSwitch does not answer.
func Bridge(ctx context.Context, name string) (Facts, error) {
	all, err := Bridges(ctx)
	if err != nil {
		return Facts{}, err
	}
	f, ok := all[name]
	if !ok {
		return f, fail.Errorf(fail.Invalid, "bridge %q: Open vSwitch has none of that name; it has %s", name,
			text.Clean(strings.Join(slices.Sorted(maps.Keys(all)), ", ")))
	}
	return f, nil
}

// Bridges asks for all bridges, by name.
func Bridges(ctx context.Context) (map[string]Facts, error) {
	out, err := run(ctx, "", "ovs-vsctl", "--timeout=10", "--format=json", "--",
		"--columns=name,protocols,fail_mode,controller,other_config", "list", "Bridge", "--", "--if-exists", "get",
		"Open_vSwitch", ".", "other_config:flow-restore-wait")
	if err != nil {
		return nil, fail.Errorf(fail.Unavailable, "ask Open vSwitch for its bridges: %w",
			err).With("see that Open vSwitch runs on this host, and that you are root")
	}
	all, err := bridges(out)
	if err != nil {
		return nil, fail.Errorf(fail.Failed, "read what ovs-vsctl prints: %w", err)
	}
	return all, nil
}

// bridges reads a line with the table of bridges and one with flow-restore-wait.
func bridges(out string) (map[string]Facts, error) {
	first, restore, _ := strings.Cut(out, "\n")
	rows, err := table(first, 5)
	if err != nil {
		return nil, err
	}
	all := map[string]Facts{}
	for _, r := range rows {
		f := Facts{Protocols: r[1].set, FailMode: r[2].text(), Controllers: len(r[3].set), Other: r[4].pairs}
		f.Restoring = strings.Trim(strings.TrimSpace(restore), `"`) == "true"
		all[r[0].text()] = f
	}
	return all, nil
}

// Dump is what ovs-ofctl prints of a bridge, with numbers for ports and tables.
type Dump struct{ Flows, Groups, Ports string }

// Look dumps a bridge, spoken to in an OpenFlow version such as OpenFlow14. It is Unavailable where
// the bridge does not answer in it. A question that fails is asked again, as it changes nothing: a busy ovs-vswitchd was seen to
// close a connection ("Broken pipe").
func Look(ctx context.Context, bridge, version string) (Dump, error) {
	var d Dump
	var w sync.WaitGroup
	errs := make([]error, 3)
	for i, q := range []struct {
		what string
		into *string
	}{{"dump-flows", &d.Flows}, {"dump-groups", &d.Groups}, {"dump-ports-desc", &d.Ports}} {
		w.Go(func() {
			for try := 1; ; try++ {
				*q.into, errs[i] = run(ctx, "", "ovs-ofctl", "--timeout=25", "-O", version, "--no-names", q.what, bridge)
				if errs[i] == nil || errors.Is(errs[i], exec.ErrNotFound) || try == looks || !clock.Sleep(ctx, lookAgain) {
					return
				}
			}
		})
	}
	w.Wait()
	if err := cmp.Or(errs...); err != nil {
		return d, away(bridge, err)
	}
	return d, nil
}

// away is the error of a bridge that does not answer.
func away(bridge string, err error) error {
	e := fail.Errorf(fail.Unavailable, "ask bridge %s: %w", bridge, err)
	if unserved(err) {
		e = fail.Because(err, fail.Unavailable, fmt.Sprintf("bridge %s is in the database of Open vSwitch, and "+
			"ovs-vswitchd does not serve it", bridge)).
			With("see that ovs-vswitchd runs: systemctl status openvswitch-switch (on some hosts openvswitch)")
	}
	return e
}

// unserved reports what ovs-ofctl says of a bridge for which ovs-vswitchd has made no socket, as it does not run.
func unserved(err error) bool { return strings.Contains(err.Error(), "is not a bridge or a socket") }

// Speaks reports whether a bridge answers in a version of OpenFlow. It is Unavailable where ovs-vswitchd does not serve it.
func Speaks(ctx context.Context, bridge, version string) (bool, error) {
	_, err := run(ctx, "", "ovs-ofctl", "--timeout=25", "-O", version, "--no-names", "dump-ports-desc", bridge)
	if err != nil && unserved(err) {
		return false, away(bridge, err)
	}
	return err == nil, nil
}

// lineOf is where ovs-ofctl does not understand its input, a line from 1 on.
var lineOf = text.Pattern(`ovs-ofctl: -:(\d+): `)

// Apply has a bridge take lines of `ovs-ofctl bundle` (ovs-ofctl(8)): all of them at once, or none. An
// error does not say which; look at the bridge. It names the line that was not taken, or the flow of it.
func Apply(ctx context.Context, bridge, version string, lines []string) error {
	_, err := run(ctx, strings.Join(lines, "\n")+"\n", "ovs-ofctl", "--timeout=25", "-O", version, "bundle", bridge, "-")
	if err == nil {
		return nil
	}
	if at := lineOf().FindStringSubmatch(err.Error()); at != nil {
		if n, parse := strconv.Atoi(at[1]); parse == nil && n >= 1 && n <= len(lines) {
			err = fmt.Errorf("%.300s: %w", lines[n-1], err)
		}
	}
	return fmt.Errorf("have bridge %s take a bundle of %d lines: %w", bridge, len(lines), err)
}

// Note sets a key in other_config of a bridge; "" takes it away.
func Note(ctx context.Context, bridge, key, value string) error {
	args := []string{"--timeout=10", "--no-wait", "--", "set", "Bridge", bridge, "other_config:" + key + "=" + strconv.Quote(value)}
	if value == "" {
		args = []string{"--timeout=10", "--no-wait", "--", "remove", "Bridge", bridge, "other_config", key}
	}
	if _, err := run(ctx, "", "ovs-vsctl", args...); err != nil {
		return fmt.Errorf("note %s in other_config of bridge %s: %w", key, bridge, err)
	}
	return nil
}

func run(ctx context.Context, input, name string, args ...string) (string, error) {
	out, said, err := proc.Run(ctx, commandWithin, input, name, args...)
	switch {
	case errors.Is(err, exec.ErrNotFound):
		return "", fmt.Errorf("%s is not on this host: %w", name, exec.ErrNotFound)
	case err != nil:
		return "", fmt.Errorf("%s: %w", name, proc.Told(err, said))
	}
	return out, nil
}
