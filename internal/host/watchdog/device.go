package watchdog

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"
)

// Errors that callers branch on.
var (
	// ErrNoDevice: this host has no usable watchdog: by choice ("none"), because
	// the device is not there, or because its driver can not keep the promise.
	ErrNoDevice = errors.New("no watchdog device")
	// ErrBusy: another process holds the device.
	ErrBusy = errors.New("watchdog device is held by another process")
)

// Info is what is known of a device.
type Info struct {
	Identity string // what the driver calls itself, for example "Software Watchdog"
	// Timeout is from the last pet to the reset at the latest, by the host's clock
	// (host/clock): what the device was really set to, not what it was asked for.
	Timeout time.Duration
	// Least is the shortest Timeout that it can be set to, as far as is known.
	Least time.Duration
}

// Device is a watchdog that can be armed.
type Device interface {
	// Inspect tells what Arm with the same timeout would give, without arming.
	Inspect(ctx context.Context, timeout time.Duration) (Info, error)
	// Arm starts the timer, or takes over one that runs already because its
	// holder died; both count as a pet. When the device can not have the timeout
	// it takes the next shorter one, else its least; the Timer tells which. After ErrNoDevice and ErrBusy
	// nothing runs that did not before; after any other error it may.
	Arm(ctx context.Context, timeout time.Duration) (Timer, error)
}

// Timer is an armed device. One goroutine uses it.
type Timer interface {
	Info() Info
	// Pet restarts the timer.
	Pet() error
	// Set changes the timeout, as Arm does, and restarts the timer.
	Set(timeout time.Duration) error
	// Disarm stops the timer and closes the device. After nil it is certain that
	// it does not run; after an error it may.
	Disarm() error
	// Close lets go of the device and leaves the timer running.
	Close() error
}

// Open returns the device with the name: "/dev/watchdogN" (a kernel watchdog),
// "unix:PATH" (a simulated one, see Simulate) or "none" (one that always fails
// with ErrNoDevice). It touches no device yet, so that it fails for a bad name only.
func Open(name string) (Device, error) {
	if path, ok := strings.CutPrefix(name, "unix:"); ok && path != "" {
		return newSimDevice(path), nil
	}
	switch {
	case name == "none":
		return noDevice{}, nil
	case filepath.IsAbs(name) && filepath.Clean(name) == name && name != "/":
		return newKernelDevice(name), nil
	}
	return nil, fmt.Errorf("watchdog device %q: want a path such as /dev/watchdog0, unix:PATH or none", name)
}

// noDevice is the device of a host without a watchdog.
type noDevice struct{}

func (noDevice) Inspect(context.Context, time.Duration) (Info, error) {
	return Info{}, fmt.Errorf("%w: the agent's configuration says \"none\"", ErrNoDevice)
}

func (n noDevice) Arm(ctx context.Context, timeout time.Duration) (Timer, error) {
	_, err := n.Inspect(ctx, timeout)
	return nil, err
}
