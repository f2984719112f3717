package lab

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"holdfast/internal/host/watchdog"
)

// resetDelay is the time from a watchdog's reset to the power-on, as firmware
// takes it.
const resetDelay = 2 * time.Second

func (p plan) device(h string) string { return p.path("wd", h+".sock") }

// WatchdogDevice is the name of the host's simulated watchdog, as the host sees it.
func WatchdogDevice(host string) string { return "unix:" + WatchdogDir + "/" + host + ".sock" }

// startWatchdogs starts the process that holds the watchdogs of all hosts,
// unless it is there, and waits for the devices.
func (l *Lab) startWatchdogs(ctx context.Context) error {
	err := l.startHelper(ctx, watchdogsCommand, l.p.path("wd", "log"), func(s *state) *Process { return &s.Watchdogs })
	if err != nil {
		return fmt.Errorf("start watchdogs: %w", err)
	}
	for _, h := range l.p.hosts() {
		if err := l.p.waitDevice(ctx, h); err != nil {
			return fmt.Errorf("start watchdogs: %w%s", err, tail(l.p.path("wd", "log")))
		}
	}
	return nil
}

// startHelper starts one of the laboratory's own processes outside of the hosts,
// unless it runs. at is where the state keeps it.
func (l *Lab) startHelper(ctx context.Context, command, log string, at func(*state) *Process) error {
	_, err := release(l.hold(ctx, func(s *state) (*detached, error) {
		if at(s).alive() {
			return nil, nil
		}
		d, err := startDetached([]string{l.p.self(), command, l.p.Dir}, 0, log)
		if err == nil {
			*at(s) = d.Process
		}
		return d, err
	}))
	return err
}

// waitDevice waits until the host's watchdog answers, and resets it as a
// power-on does.
func (p plan) waitDevice(ctx context.Context, h string) error {
	var last error
	err := poll(ctx, patience, "the watchdog of "+h, func() (bool, error) {
		last = watchdog.PowerCycle(ctx, p.device(h))
		return last == nil, nil
	})
	if err != nil {
		return errors.Join(err, last)
	}
	return nil
}

// disarm stops the watchdog of a host that lost its power. Without watchdogs
// there is nothing to do.
func (p plan) disarm(ctx context.Context, h string) error {
	s, err := loadState(p.Dir)
	if err != nil {
		return err
	}
	if !s.Watchdogs.alive() {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	if err := watchdog.PowerCycle(ctx, p.device(h)); err != nil && s.Watchdogs.alive() {
		return err
	}
	return nil
}

// watchdogsMain is the process of all hosts' watchdogs. It lives outside the
// hosts, until SIGTERM or Down.
func watchdogsMain(ctx context.Context, dir string) error {
	return outside(ctx, dir, func(ctx context.Context, l *Lab, h string) error { return l.runWatchdog(ctx, h) })
}

func (l *Lab) runWatchdog(ctx context.Context, host string) error {
	socket := l.p.device(host)
	if err := os.Remove(socket); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("remove old socket: %w", err)
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, nil)).With("host", host)
	return watchdog.Simulate(ctx, watchdog.SimConfig{
		Socket: socket, Identity: "laboratory watchdog of " + host,
		OnFire: func() {
			if err := l.reset(ctx, host); err != nil {
				log.Error("reset by watchdog", "err", err)
			}
		},
	})
}

// reset is what the hardware does when a watchdog fires: the power goes, and
// comes back.
func (l *Lab) reset(ctx context.Context, host string) error {
	s, lerr := loadState(l.p.Dir)
	err := errors.Join(lerr, l.p.record(host, "watchdog", "fired"), l.Crash(ctx, host))
	if err != nil || s.Options.StayOff {
		return err
	}
	if err := l.firmware(ctx, host, s.Hosts[host].Orders); ctx.Err() == nil {
		return err
	}
	return nil
}
