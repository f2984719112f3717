package watchdog

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"holdfast/testbed/need"
	"holdfast/testbed/try"
)

// Variables that let the contract run on a real watchdog, as root in a virtual
// machine that may be reset: the device's path, and, if it shall be fired (the
// machine is reset, which only an observer outside can see), any second value.
const (
	envDevice = "HOLDFAST_TEST_WATCHDOG"
	envFire   = "HOLDFAST_TEST_WATCHDOG_FIRE"
)

// contractRig is a device under the contract's test.
type contractRig struct {
	dev     Device
	timeout time.Duration
	fires   func() int // nil: firing ends the machine that runs the test
}

func TestContractSimulated(t *testing.T) {
	need.Real(t)
	t.Parallel()
	dev, _, fires := startSim(t, SimConfig{})
	testContract(t, contractRig{dev: dev, timeout: 2 * time.Second, fires: fires})
}

func TestContractKernel(t *testing.T) {
	path := os.Getenv(envDevice)
	if path == "" {
		t.Skipf("%s names no watchdog: this needs a real one in a machine that may be reset", envDevice)
	}
	dev, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	testContract(t, contractRig{dev: dev, timeout: 5 * time.Second})
	if os.Getenv(envFire) == "" {
		return
	}
	timer := mustArm(t, dev, 5*time.Second)
	w := timer.Info().Timeout
	if err := timer.Close(); err != nil {
		t.Fatal(err)
	}
	t.Logf("expect the reset in %v", w)
	time.Sleep(w + time.Second)
	t.Errorf("no reset %v after the last pet", w+time.Second)
}

// testContract is what every device has to do. It ends with the device disarmed.
func testContract(t *testing.T, rig contractRig) {
	ctx := t.Context()
	quiet := func(t *testing.T, d time.Duration) {
		t.Helper()
		time.Sleep(d) // nothing to wait for: the claim is that nothing happens
		if rig.fires != nil && rig.fires() != 0 {
			t.Fatal("fired")
		}
	}
	t.Run("inspect does not arm", func(t *testing.T) {
		info, err := rig.dev.Inspect(ctx, rig.timeout)
		if err != nil || info.Timeout <= 0 || info.Timeout > 2*rig.timeout {
			t.Fatalf("inspect: %+v, %v", info, err)
		}
		quiet(t, info.Timeout+100*time.Millisecond)
	})
	t.Run("petted it does not fire, nor after disarm", func(t *testing.T) {
		timer := mustArm(t, rig.dev, rig.timeout)
		w := timer.Info().Timeout
		if timer.Info().Identity == "" {
			t.Error("no identity")
		}
		for range 12 {
			quiet(t, w/8)
			if err := timer.Pet(); err != nil {
				t.Fatal(err)
			}
		}
		if err := timer.Disarm(); err != nil {
			t.Fatal(err)
		}
		quiet(t, w+100*time.Millisecond)
	})
	t.Run("one holder at a time", func(t *testing.T) {
		timer := mustArm(t, rig.dev, rig.timeout)
		if other, err := rig.dev.Arm(ctx, rig.timeout); !errors.Is(err, ErrBusy) {
			t.Errorf("second holder: %v, %v, want ErrBusy", other, err)
		}
		if err := timer.Disarm(); err != nil {
			t.Fatal(err)
		}
	})
	t.Run("a close without disarm is continued", func(t *testing.T) {
		timer := mustArm(t, rig.dev, rig.timeout)
		w := timer.Info().Timeout
		for range 3 {
			quiet(t, w/2)
			if err := timer.Close(); err != nil {
				t.Fatal(err)
			}
			timer = mustArm(t, rig.dev, rig.timeout)
		}
		if err := timer.Disarm(); err != nil {
			t.Fatal(err)
		}
		quiet(t, w+100*time.Millisecond)
	})
	t.Run("a longer timeout counts", func(t *testing.T) {
		timer := mustArm(t, rig.dev, rig.timeout)
		short := timer.Info().Timeout
		if err := timer.Set(2 * rig.timeout); err != nil {
			t.Fatal(err)
		}
		if long := timer.Info().Timeout; long > short {
			quiet(t, (short+long)/2)
		}
		if err := timer.Disarm(); err != nil {
			t.Fatal(err)
		}
	})
	if rig.fires == nil {
		return
	}
	t.Run("a close without disarm fires once", func(t *testing.T) {
		timer := mustArm(t, rig.dev, rig.timeout)
		if err := timer.Close(); err != nil {
			t.Fatal(err)
		}
		quiet(t, rig.timeout/2)
		try.Until(t, "the device to fire", func() bool { return rig.fires() == 1 })
		timer = mustArm(t, rig.dev, rig.timeout)
		if err := timer.Disarm(); err != nil {
			t.Fatal(err)
		}
		if rig.fires() != 1 {
			t.Errorf("fired %d times", rig.fires())
		}
	})
}

// startSim runs a simulated device for the test's duration.
func startSim(t *testing.T, cfg SimConfig) (dev Device, socket string, fires func() int) {
	t.Helper()
	var n atomic.Int64
	ready := make(chan struct{})
	if cfg.Socket == "" {
		cfg.Socket = filepath.Join(try.ShortDir(t), "wd")
	}
	cfg.OnFire = func() { n.Add(1) }
	cfg.Ready = func() { close(ready) }
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- Simulate(ctx, cfg) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	select {
	case <-ready:
	case err := <-done:
		done <- nil
		t.Fatal(err)
	}
	dev, err := Open("unix:" + cfg.Socket)
	if err != nil {
		t.Fatal(err)
	}
	return dev, cfg.Socket, func() int { return int(n.Load()) }
}

func mustArm(t *testing.T, dev Device, timeout time.Duration) Timer {
	t.Helper()
	timer, err := dev.Arm(t.Context(), timeout)
	if err != nil {
		t.Fatal(err)
	}
	return timer
}

func TestOpenNames(t *testing.T) {
	for _, name := range []string{"", "unix:", "watchdog0", "/", "/dev/../watchdog", "softdog", "none "} {
		if dev, err := Open(name); err == nil {
			t.Errorf("Open(%q) = %v, want an error", name, dev)
		}
	}
	for _, name := range []string{"none", "unix:/nowhere/wd", "/nowhere/watchdog0"} {
		dev, err := Open(name)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := dev.Inspect(t.Context(), time.Second); !errors.Is(err, ErrNoDevice) {
			t.Errorf("inspect %s: %v, want ErrNoDevice", name, err)
		}
		if _, err := dev.Arm(t.Context(), time.Second); !errors.Is(err, ErrNoDevice) {
			t.Errorf("arm %s: %v, want ErrNoDevice", name, err)
		}
	}
}
