package watchdog

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// fakeFile is the kernel's side of an open watchdog.
type fakeFile struct {
	options           uint32
	supportErr        error
	setErr, getErr    error
	now, least, grain int // seconds
	did               []string
}

func (f *fakeFile) Support() (string, uint32, error) { return "fake dog", f.options, f.supportErr }

func (f *fakeFile) SetTimeout(s int) error {
	if f.setErr != nil {
		return f.setErr
	}
	if s < f.least {
		return unix.EINVAL
	}
	f.now = s
	if f.grain > 0 {
		f.now = (s + f.grain - 1) / f.grain * f.grain
	}
	return nil
}

func (f *fakeFile) Timeout() (int, error) { return f.now, f.getErr }
func (f *fakeFile) KeepAlive() error      { f.did = append(f.did, "pet"); return nil }
func (f *fakeFile) Close() error          { f.did = append(f.did, "close"); return nil }
func (f *fakeFile) Write(p []byte) (int, error) {
	f.did = append(f.did, string(p))
	return len(p), nil
}

// fakeKernel is a device node and its folder in sysfs.
func fakeKernel(t *testing.T, f *fakeFile, openErr error, attrs map[string]string) kernelDevice {
	t.Helper()
	dir := t.TempDir()
	path := filepath.Join(dir, "watchdog0")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, value := range attrs {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(value+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return kernelDevice{path: path, sys: dir, open: func(string) (kernelFile, error) { return f, openErr }}
}

const good = unix.WDIOF_SETTIMEOUT | unix.WDIOF_MAGICCLOSE | unix.WDIOF_KEEPALIVEPING

func TestKernelTimeout(t *testing.T) {
	limits := map[string]string{"identity": "fake dog", "min_timeout": "2", "max_timeout": "30", "nowayout": "0", "options": "0x8180"}
	// Each second may take 1.125 s by the host's clock.
	s := func(n int) time.Duration { return time.Duration(n) * 1125 * time.Millisecond }
	for _, c := range []struct {
		name              string
		file              fakeFile
		attrs             map[string]string
		ask               time.Duration
		guess, get, least time.Duration
	}{
		{"exact", fakeFile{options: good, now: 60}, limits, s(4), s(4), s(4), s(2)},
		{"rounded down", fakeFile{options: good, now: 60}, limits, 4900 * time.Millisecond, s(4), s(4), s(2)},
		{"room for a slew", fakeFile{options: good, now: 60}, limits, 4 * time.Second, s(3), s(3), s(2)},
		{"at least the minimum", fakeFile{options: good, now: 60}, limits, time.Second, s(2), s(2), s(2)},
		{"at most the maximum", fakeFile{options: good, now: 60}, limits, time.Minute, s(30), s(30), s(2)},
		{"no sysfs: no shorter one is known", fakeFile{options: good, now: 60}, nil, 500 * time.Millisecond, s(1), s(1), s(1)},
		{"no sysfs, longer", fakeFile{options: good, now: 60}, nil, 5 * time.Second, s(4), s(4), s(4)},
		{"no minimum", fakeFile{options: good, now: 60}, map[string]string{"min_timeout": "0"}, 5 * time.Second, s(4), s(4), s(1)},
		{"driver's own grain", fakeFile{options: good, now: 60, grain: 5}, limits, 4 * time.Second, s(3), s(5), s(5)},
		{"refused by the driver", fakeFile{options: good, now: 60, least: 10}, nil, 4 * time.Second, s(3), s(60), s(60)},
		{"fixed", fakeFile{options: good, now: 60, setErr: unix.EOPNOTSUPP}, limits, 4 * time.Second, s(3), s(60), s(60)},
		{"no maximum", fakeFile{options: good, now: 60}, map[string]string{"max_timeout": "0", "min_timeout": "1"},
			time.Minute, s(53), s(53), s(1)},
	} {
		dev := fakeKernel(t, &c.file, nil, c.attrs)
		info, err := dev.Inspect(t.Context(), c.ask)
		if err != nil || info.Timeout != c.guess || info.Identity != c.attrs["identity"] {
			t.Errorf("%s: inspect: %+v, %v, want %v", c.name, info, err, c.guess)
		}
		timer := mustArm(t, dev, c.ask)
		if got := timer.Info(); got.Timeout != c.get || got.Identity != "fake dog" || got.Least != c.least {
			t.Errorf("%s: armed %+v, want %v and at least %v", c.name, got, c.get, c.least)
		}
		if err := timer.Pet(); err != nil {
			t.Errorf("%s: pet: %v", c.name, err)
		}
		if err := timer.Disarm(); err != nil {
			t.Errorf("%s: disarm: %v", c.name, err)
		}
		if got := strings.Join(c.file.did, " "); got != "pet pet V close" {
			t.Errorf("%s: did %q", c.name, got)
		}
	}
}

func TestKernelRefuses(t *testing.T) {
	for _, c := range []struct {
		name    string
		file    fakeFile
		open    error
		attrs   map[string]string
		inspect error // nil: not known before it is open
		arm     error
	}{
		{"nowayout", fakeFile{options: good, now: 60}, nil, map[string]string{"nowayout": "1"}, ErrNoDevice, ErrNoDevice},
		{"no magic, says sysfs", fakeFile{now: 60}, nil, map[string]string{"options": "0x8080"}, ErrNoDevice, ErrNoDevice},
		{"no magic", fakeFile{now: 60}, nil, nil, nil, ErrNoDevice},
		{"busy", fakeFile{}, &os.PathError{Op: "open", Err: unix.EBUSY}, nil, nil, ErrBusy},
		{"no such device", fakeFile{}, &os.PathError{Op: "open", Err: unix.ENODEV}, nil, nil, ErrNoDevice},
		{"not allowed", fakeFile{}, &os.PathError{Op: "open", Err: unix.EACCES}, nil, nil, unix.EACCES},
		{"no watchdog", fakeFile{supportErr: unix.ENOTTY}, nil, nil, nil, unix.ENOTTY},
		{"set fails", fakeFile{options: good, now: 60, setErr: unix.EIO}, nil, nil, nil, unix.EIO},
		{"get fails", fakeFile{options: good, now: 60, getErr: unix.EIO}, nil, nil, nil, unix.EIO},
	} {
		dev := fakeKernel(t, &c.file, c.open, c.attrs)
		if _, err := dev.Inspect(t.Context(), time.Second); !errors.Is(err, c.inspect) {
			t.Errorf("%s: inspect: %v, want %v", c.name, err, c.inspect)
		}
		if _, err := dev.Arm(t.Context(), time.Second); !errors.Is(err, c.arm) {
			t.Errorf("%s: arm: %v, want %v", c.name, err, c.arm)
		}
		// A timer that ran before must not be stopped by a failed arming.
		if strings.Contains(strings.Join(c.file.did, " "), "V") {
			t.Errorf("%s: did %q", c.name, c.file.did)
		}
	}
	dev := fakeKernel(t, &fakeFile{options: good, now: 60}, nil, map[string]string{"state": "active"})
	if err := mustArm(t, dev, time.Second).Disarm(); err == nil {
		t.Error("disarmed, but the driver says that the timer still runs")
	}
	f := &fakeFile{options: good, now: 60}
	if err := mustArm(t, fakeKernel(t, f, nil, nil), time.Second).Close(); err != nil || f.did[len(f.did)-1] != "close" || len(f.did) != 2 {
		t.Errorf("close: %v, did %q", err, f.did)
	}
}

// The real file, on something that is no watchdog: nothing may be written to it.
func TestKernelFileOnOtherDevice(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{path, "/dev/null"} {
		dev, err := Open(path)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := dev.Arm(t.Context(), time.Second); !errors.Is(err, unix.ENOTTY) && !errors.Is(err, unix.EINVAL) {
			t.Errorf("arm %s: %v, want ENOTTY or EINVAL", path, err)
		}
	}
	if b, err := os.ReadFile(path); err != nil || string(b) != "precious" {
		t.Errorf("the file is now %q, %v", b, err)
	}
}
