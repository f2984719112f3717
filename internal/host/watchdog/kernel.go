package watchdog

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// kernelDevice is a watchdog of the kernel (Documentation/watchdog/watchdog-api.rst).
// Its timeouts are whole seconds, and it may count them by CLOCK_MONOTONIC, which
// NTP daemons slew: softdog does (drivers/watchdog/softdog.c), and so does the
// kernel where it pets a device with a short heartbeat for a longer timeout
// (drivers/watchdog/watchdog_dev.c). Which one does is not told, so all are taken
// to: a timeout of n s is one of slowest(n s) by the host's clock.
type kernelDevice struct {
	path string
	sys  string // its folder in sysfs; may not exist (CONFIG_WATCHDOG_SYSFS)
	open func(path string) (kernelFile, error)
}

// kernelFile is the open device file, as the kernel's watchdog API has it.
type kernelFile interface {
	Support() (identity string, options uint32, err error)
	SetTimeout(seconds int) error
	Timeout() (seconds int, err error)
	KeepAlive() error
	Write(p []byte) (int, error)
	Close() error
}

func newKernelDevice(path string) kernelDevice {
	name := filepath.Base(path)
	if name == "watchdog" { // the kernel's alias for the first one
		name = "watchdog0"
	}
	return kernelDevice{path: path, sys: filepath.Join("/sys/class/watchdog", name), open: openKernelFile}
}

func (d kernelDevice) Inspect(_ context.Context, timeout time.Duration) (Info, error) {
	if err := d.usable(); err != nil {
		return Info{}, err
	}
	info := Info{Identity: d.attr("identity"), Timeout: slowest(d.seconds(timeout))}
	info.Least = d.least(info.Timeout)
	return info, nil
}

// usable tells what is wrong with the device, as far as that can be known
// without opening, which would arm it.
func (d kernelDevice) usable() error {
	if _, err := os.Stat(d.path); err != nil {
		return fmt.Errorf("%w: %w (is the driver loaded, for example by: modprobe softdog)", ErrNoDevice, err)
	}
	if d.attr("nowayout") == "1" {
		return fmt.Errorf("%w: %s can not be disarmed: its driver was loaded with nowayout=1", ErrNoDevice, d.path)
	}
	if o, err := strconv.ParseUint(d.attr("options"), 0, 32); err == nil && o&unix.WDIOF_MAGICCLOSE == 0 {
		return noMagic(d.attr("identity"))
	}
	return nil
}

// noMagic refuses a driver that stops its timer at any close of the device.
func noMagic(identity string) error {
	return fmt.Errorf("%w: driver %q has no magic close, so the death of the holder would disarm it", ErrNoDevice, identity)
}

// attr reads an attribute in sysfs; "" when there is none.
func (d kernelDevice) attr(name string) string {
	b, err := os.ReadFile(filepath.Join(d.sys, name))
	if err != nil {
		return "" // not every kernel and driver has it; callers do without
	}
	return strings.TrimSpace(string(b))
}

// slowest is the longest that so many seconds of a slewed clock may take.
func slowest(seconds int) time.Duration { return time.Duration(seconds) * slewedSecond }

// least is the shortest timeout, when the device has the timeout now. A driver
// that tells no minimum may not be able to have a shorter one.
func (d kernelDevice) least(now time.Duration) time.Duration {
	low, err := strconv.Atoi(d.attr("min_timeout"))
	if err != nil {
		return now
	}
	return slowest(max(low, 1))
}

// seconds is the timeout to set: in whole seconds, the largest that takes no longer
// than asked for even when they are slewed, within the driver's limits as far as
// these are known.
func (d kernelDevice) seconds(timeout time.Duration) int {
	s := max(int(timeout/slewedSecond), 1)
	if high, err := strconv.Atoi(d.attr("max_timeout")); err == nil && high > 0 {
		s = min(s, high)
	}
	if low, err := strconv.Atoi(d.attr("min_timeout")); err == nil {
		s = max(s, low)
	}
	return s
}

func (d kernelDevice) Arm(_ context.Context, timeout time.Duration) (Timer, error) {
	if err := d.usable(); err != nil {
		return nil, err
	}
	f, err := d.open(d.path)
	switch {
	case errors.Is(err, unix.EBUSY):
		return nil, fmt.Errorf("open %s: %w", d.path, ErrBusy)
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, unix.ENODEV), errors.Is(err, unix.ENXIO):
		return nil, fmt.Errorf("%w: %w", ErrNoDevice, err)
	case err != nil:
		return nil, fmt.Errorf("open the watchdog: %w", err)
	}
	t := &kernelTimer{dev: d, f: f}
	if err := t.setup(timeout); err != nil {
		// No magic: the timer may be one that runs since before, for a reason.
		return nil, errors.Join(fmt.Errorf("arm %s: %w", d.path, err), f.Close())
	}
	return t, nil
}

// kernelTimer is an open, and so armed, watchdog of the kernel.
type kernelTimer struct {
	dev  kernelDevice
	f    kernelFile
	info Info
}

func (t *kernelTimer) setup(timeout time.Duration) error {
	identity, options, err := t.f.Support()
	if err != nil {
		return fmt.Errorf("read its abilities: %w", err)
	}
	if options&unix.WDIOF_MAGICCLOSE == 0 {
		return noMagic(identity)
	}
	t.info.Identity = identity
	return t.Set(timeout)
}

func (t *kernelTimer) Info() Info { return t.info }

func (t *kernelTimer) Pet() error {
	if err := t.f.KeepAlive(); err != nil {
		return fmt.Errorf("pet %s: %w", t.dev.path, err)
	}
	return nil
}

func (t *kernelTimer) Set(timeout time.Duration) error {
	want := t.dev.seconds(timeout)
	err := t.f.SetTimeout(want)
	// A driver may have one fixed timeout, or refuse this one without saying in
	// sysfs which it takes: then the one that it has counts.
	if err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.EOPNOTSUPP) && !errors.Is(err, unix.ENOTTY) {
		return fmt.Errorf("set a timeout of %d s: %w", want, err)
	}
	got, gerr := t.f.Timeout()
	if gerr != nil {
		return fmt.Errorf("read the timeout: %w", gerr)
	}
	if got <= 0 {
		return fmt.Errorf("driver %q says that its timeout is %d s", t.info.Identity, got)
	}
	t.info.Timeout = slowest(got)
	t.info.Least = max(t.info.Least, t.dev.least(t.info.Timeout))
	if err != nil || got > want {
		t.info.Least = max(t.info.Least, t.info.Timeout) // it does not do what sysfs says
	}
	return t.Pet() // not every driver restarts its timer with a new timeout
}

func (t *kernelTimer) Disarm() error {
	n, err := t.f.Write([]byte{'V'})
	if err == nil && n != 1 {
		err = fmt.Errorf("wrote %d bytes of 1", n)
	}
	if err := errors.Join(err, t.f.Close()); err != nil {
		return fmt.Errorf("disarm %s: %w", t.dev.path, err)
	}
	// close(2) succeeds even when the driver refuses to stop.
	if t.dev.attr("state") == "active" {
		return fmt.Errorf("disarm %s: the driver did not stop its timer", t.dev.path)
	}
	return nil
}

func (t *kernelTimer) Close() error {
	if err := t.f.Close(); err != nil {
		return fmt.Errorf("close %s: %w", t.dev.path, err)
	}
	return nil
}
