package bridge

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"holdfast/internal/host/ovs"
	"holdfast/internal/lib/durable"
	"holdfast/internal/lib/proc"
)

// cleanup is the service with which distributions run Neutron's program that deletes the ports of
// bridges: it is for the boot, and runs also when the unit is started anew and, in some, when it
// is stopped, as by the upgrade of a package. Nothing forwards the packets of a port that is gone.
// While a bridge is pinned its programs are replaced, by a drop-in that the next boot does not have.
type cleanup struct {
	systemctl string
	runtime   string // folder of units of this boot; there is none where systemd does not run (sd_booted(3))
}

var cleanupService = cleanup{"systemctl", "/run/systemd/system"}

const (
	cleanupUnit    = "neutron-ovs-cleanup.service"
	cleanupDropIn  = "zzz-holdfast-pin.conf" // the last one counts (systemd.unit(5))
	cleanupNothing = "[Service]\nExecStartPre=\nExecStart=\nExecStart=/bin/true\nExecStartPost=\nExecStop=\nExecStopPost=\n"
	systemctlTakes = 30 * time.Second
)

// programs are what a unit starts and stops with, as systemctl shows them.
var programs = regexp.MustCompile(`\bpath=(\S+)`)

// disarm keeps the service from running its program; did is false where there is no such service.
func (c cleanup) disarm(ctx context.Context) (did bool, err error) {
	if is, err := c.there(ctx); !is || err != nil {
		return false, err
	}
	dir := filepath.Join(c.runtime, cleanupUnit+".d")
	if err = durable.MakeDir(dir); err == nil {
		err = durable.WriteFile(filepath.Join(dir, cleanupDropIn), []byte(cleanupNothing), 0o644)
	}
	if err == nil {
		_, err = c.ask(ctx, "daemon-reload")
	}
	var left string
	if err == nil {
		left, err = c.runs(ctx)
	}
	if err == nil && left != "" {
		err = fmt.Errorf("it would still run %s", left)
	}
	if err != nil {
		return false, fmt.Errorf("keep %s from deleting ports: %w", cleanupUnit, errors.Join(err, c.rearm(context.WithoutCancel(ctx))))
	}
	return true, nil
}

// there reports whether systemd runs, and has the service.
func (c cleanup) there(ctx context.Context) (bool, error) {
	if _, err := os.Stat(c.runtime); errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	state, err := c.ask(ctx, "show", "--property=LoadState", "--value", cleanupUnit)
	if err != nil {
		return false, fmt.Errorf("look for %s: %w", cleanupUnit, err)
	}
	state = strings.TrimSpace(state)
	return state != "not-found" && state != "masked", nil
}

// runs is a program that the service would run, "" for none.
func (c cleanup) runs(ctx context.Context) (string, error) {
	out, err := c.ask(ctx, "show", "--property=ExecStartPre,ExecStart,ExecStartPost,ExecStop,ExecStopPost", cleanupUnit)
	if err != nil {
		return "", err
	}
	for _, p := range programs.FindAllStringSubmatch(out, -1) {
		if p[1] != "/bin/true" {
			return p[1], nil
		}
	}
	return "", nil
}

// rearm ends what disarm has done for a bridge, unless another one is pinned: the service knows no single bridge.
func rearm(ctx context.Context, bridge string) error {
	if is, err := cleanupService.disarmed(); !is || err != nil {
		return err
	}
	other, err := pinnedBeside(ctx, bridge)
	switch {
	case err != nil:
		return fmt.Errorf("%s still does nothing, until the next boot: whether another bridge is pinned is not known: %w", cleanupUnit, err)
	case other != "":
		return nil
	}
	return cleanupService.rearm(ctx)
}

// pinnedBeside names another bridge that is pinned, "" for none.
func pinnedBeside(ctx context.Context, bridge string) (string, error) {
	all, err := ovs.Bridges(ctx)
	if err != nil {
		return "", err
	}
	for _, name := range slices.Sorted(maps.Keys(all)) {
		if name == bridge {
			continue
		}
		version, err := speak(ctx, name, all[name])
		if err != nil {
			continue // it can not be spoken to as a pin needs it
		}
		d, err := dump(ctx, name, version)
		if err != nil {
			return "", err
		}
		if d.Entries() > 0 {
			return name, nil
		}
	}
	return "", nil
}

// disarmed reports whether disarm has been called, in this boot.
func (c cleanup) disarmed() (bool, error) {
	_, err := os.Stat(filepath.Join(c.runtime, cleanupUnit+".d", cleanupDropIn))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// rearm ends what disarm has done, where it has.
func (c cleanup) rearm(ctx context.Context) error {
	dir := filepath.Join(c.runtime, cleanupUnit+".d")
	err := os.Remove(filepath.Join(dir, cleanupDropIn))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		_, err = c.ask(ctx, "daemon-reload")
	}
	if err != nil {
		return fmt.Errorf("give %s its programs back, which the next boot does, too: %w", cleanupUnit, err)
	}
	_ = os.Remove(dir) // somebody else may have something in it
	return nil
}

func (c cleanup) ask(ctx context.Context, args ...string) (string, error) {
	out, said, err := proc.Run(ctx, systemctlTakes, "", c.systemctl, args...)
	if err != nil {
		return "", fmt.Errorf("%s %s: %w", c.systemctl, strings.Join(args, " "), proc.Told(err, said))
	}
	return out, nil
}
