package lab_test

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/bougou/go-ipmi/pkg/client"
	"github.com/bougou/go-ipmi/pkg/command/chassis"
	ipmi "github.com/bougou/go-ipmi/pkg/types"

	"holdfast/internal/host/watchdog"
	"holdfast/testbed/lab"
	"holdfast/testbed/need"
	"holdfast/testbed/try"
)

// bmcSession logs in to a host's management controller from the switch, runs fn
// and logs out. Each answer is waited for 500 ms, and no packet is repeated.
func bmcSession(t *testing.T, l *lab.Lab, host string, fn func(context.Context, *client.Client) error) error {
	t.Helper()
	raw, err := os.ReadFile(l.HostPath("h1", "bmc.password"))
	try.Must(t, err)
	at := l.BMCAddr(host)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	return l.InSwitch(func() error {
		c, err := client.NewClient(at.Addr().String(), int(at.Port()), lab.BMCUser, strings.TrimSpace(string(raw)))
		if err != nil {
			return err
		}
		c.WithCipherSuiteID(ipmi.CipherSuiteID3).WithTimeout(500 * time.Millisecond).WithRetry(0)
		if err := c.Connect(ctx); err != nil {
			return err
		}
		err = fn(ctx, c)
		if cerr := c.Close(ctx); err == nil {
			err = cerr
		}
		return err
	})
}

// powered asks the controller for the power of its host.
func powered(t *testing.T, l *lab.Lab, host string) (bool, error) {
	t.Helper()
	on := false
	err := bmcSession(t, l, host, func(ctx context.Context, c *client.Client) error {
		r, err := c.GetChassisStatus(ctx)
		if err == nil {
			on = r.PowerIsOn
		}
		return err
	})
	return on, err
}

func order(t *testing.T, l *lab.Lab, host string, what chassis.ChassisControl) error {
	t.Helper()
	return bmcSession(t, l, host, func(ctx context.Context, c *client.Client) error {
		_, err := c.ChassisControl(ctx, what)
		return err
	})
}

// waitPower waits until the controller and the laboratory itself say the same
// of the host's power.
func waitPower(t *testing.T, l *lab.Lab, host string, want bool) lab.HostStatus {
	t.Helper()
	deadline := hopeless()
	for {
		on, err := powered(t, l, host) // an answer may come late on a busy machine
		h := hostStatus(t, l, host)
		if err == nil && on == want && h.On == want {
			return h
		}
		if time.Now().After(deadline) {
			t.Fatalf("power of %s: the controller says %v, %v, it is %+v; want %v", host, on, err, h, want)
		}
	}
}

func hostStatus(t *testing.T, l *lab.Lab, host string) lab.HostStatus {
	t.Helper()
	s, err := l.Status(t.Context())
	try.Must(t, err)
	i := slices.IndexFunc(s.Hosts, func(h lab.HostStatus) bool { return h.Name == host })
	return s.Hosts[i]
}

// TestBMC switches hosts by their management controllers, well-behaved and not.
func TestBMC(t *testing.T) {
	need.Drill(t, "the laboratory: management controllers switch hosts, and lie, refuse, are slow or dead when they are to")
	ctx := t.Context()
	l := up(t, lab.Options{Hosts: 3, BMCs: true, Watchdogs: true})
	for _, step := range []struct {
		name string
		run  func(*testing.T, *lab.Lab)
	}{
		{"reached from a host", testBMCReach}, {"off and on", testBMCPower}, {"reset", testBMCReset},
		{"lie", testBMCLie}, {"refuse", testBMCRefuse}, {"slow", testBMCSlow}, {"dead", testBMCDead},
		{"crash meanwhile", testBMCCrash}, {"frozen host", testBMCFrozen}, {"watchdog meanwhile", testBMCWatchdog},
	} {
		if !t.Run(step.name, func(t *testing.T) { step.run(t, l) }) {
			t.FailNow()
		}
	}
	for host, mode := range map[string]string{"h1": "sleepy", "h2": "slow:-1s", "h3": "slow:1h", "h9": "ok"} {
		if err := l.BMCMode(ctx, host, mode); err == nil {
			t.Errorf("mode %s of %s was accepted", mode, host)
		}
	}
}

func testBMCReach(t *testing.T, l *lab.Lab) {
	for _, h := range l.Hosts() {
		_, err := l.Exec(t.Context(), h, "busybox", "ping", "-c1", "-W2", "-q", l.BMCAddr("h1").Addr().String())
		try.Must(t, err)
		id, err := l.Exec(t.Context(), h, "cat", lab.MachineUUID)
		try.Must(t, err)
		if strings.TrimSpace(id) != l.HostUUID(h) {
			t.Errorf("%s has the UUID %q, want %s", h, id, l.HostUUID(h))
		}
		info, err := os.Stat(l.HostPath(h, "bmc.password"))
		try.Must(t, err)
		if info.Mode().Perm() != 0o600 {
			t.Errorf("password of %s has mode %v", h, info.Mode())
		}
	}
	err := bmcSession(t, l, "h2", func(ctx context.Context, c *client.Client) error {
		r, err := c.GetSystemGUID(ctx)
		if err != nil {
			return err
		}
		id, err := ipmi.ParseGUID(r.GUID[:], ipmi.GUIDModeIPMI)
		if err == nil && id.String() != l.HostUUID("h2") {
			t.Errorf("system GUID %s, want %s", id, l.HostUUID("h2"))
		}
		return err
	})
	try.Must(t, err)
}

func testBMCPower(t *testing.T, l *lab.Lab) {
	boots := waitPower(t, l, "h2", true).Boots
	start := time.Now()
	try.Must(t, order(t, l, "h2", chassis.ChassisControlPowerDown))
	accepted := time.Since(start)
	h := waitPower(t, l, "h2", false)
	t.Logf("off: accepted after %v, off after %v", accepted, time.Since(start))
	if h.Cable {
		t.Error("the cable of a host without power is in")
	}
	try.Must(t, order(t, l, "h2", chassis.ChassisControlPowerDown)) // off already
	start = time.Now()
	try.Must(t, order(t, l, "h2", chassis.ChassisControlPowerUp))
	if h := waitPower(t, l, "h2", true); h.Boots != boots+1 {
		t.Errorf("after off and on: %+v, want %d boots", h, boots+1)
	}
	t.Logf("on after %v", time.Since(start))
	try.Must(t, l.On(t.Context(), "h2"))
	waitReady(t, l, "h2", boots+1)
}

// waitReady waits until the host's boot with this number has its libvirtd.
func waitReady(t *testing.T, l *lab.Lab, host string, boots int) {
	t.Helper()
	deadline := hopeless()
	for {
		h := hostStatus(t, l, host)
		if h.Boots >= boots && h.On && h.Daemons["libvirtd"] != 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s is not up for the time no. %d: %+v", host, boots, h)
		}
		time.Sleep(10 * time.Millisecond) // between two looks at a condition
	}
}

func testBMCReset(t *testing.T, l *lab.Lab) {
	boots := hostStatus(t, l, "h2").Boots
	try.Must(t, order(t, l, "h2", chassis.ChassisControlHardReset))
	waitReady(t, l, "h2", boots+1)
	try.Must(t, order(t, l, "h2", chassis.ChassisControlPowerCycle))
	waitReady(t, l, "h2", boots+2)
}

func testBMCLie(t *testing.T, l *lab.Lab) {
	try.Must(t, l.BMCMode(t.Context(), "h3", lab.BMCLie))
	try.Must(t, order(t, l, "h3", chassis.ChassisControlPowerDown))
	for range 5 {
		if h := waitPower(t, l, "h3", true); h.Boots != 1 {
			t.Errorf("a lying controller switched its host: %+v", h)
		}
	}
	try.Must(t, l.BMCMode(t.Context(), "h3", lab.BMCOk))
}

func testBMCRefuse(t *testing.T, l *lab.Lab) {
	try.Must(t, l.BMCMode(t.Context(), "h3", lab.BMCRefuse))
	if err := order(t, l, "h3", chassis.ChassisControlPowerDown); err == nil || !strings.Contains(strings.ToLower(err.Error()), "ff") {
		t.Errorf("order to a refusing controller: %v, want completion code 0xff", err)
	}
	waitPower(t, l, "h3", true)
	try.Must(t, l.BMCMode(t.Context(), "h3", lab.BMCOk))
}

func testBMCSlow(t *testing.T, l *lab.Lab) {
	try.Must(t, l.BMCMode(t.Context(), "h3", lab.BMCSlow+"800ms"))
	start := time.Now()
	if err := order(t, l, "h3", chassis.ChassisControlPowerDown); err == nil {
		t.Errorf("a slow controller answered after %v", time.Since(start))
	}
	deadline := hopeless()
	for hostStatus(t, l, "h3").On {
		if time.Now().After(deadline) {
			t.Fatal("a slow order was never carried out")
		}
		time.Sleep(10 * time.Millisecond) // between two looks at a condition
	}
	if took := time.Since(start); took < 800*time.Millisecond {
		t.Errorf("off after %v, want 800 ms or more", took)
	}
	// Another mode ends the wait: a dead one forgets the order.
	try.Must(t, l.On(t.Context(), "h3"))
	try.Must(t, l.BMCMode(t.Context(), "h3", lab.BMCSlow+"10m"))
	if err := order(t, l, "h3", chassis.ChassisControlPowerDown); err == nil {
		t.Error("a slow controller answered")
	}
	try.Must(t, l.BMCMode(t.Context(), "h3", lab.BMCDead))
	try.Must(t, l.BMCMode(t.Context(), "h3", lab.BMCOk))
	waitPower(t, l, "h3", true)
}

func testBMCDead(t *testing.T, l *lab.Lab) {
	ctx := t.Context()
	try.Must(t, l.CrashWithBMC(ctx, "h3"))
	if hostStatus(t, l, "h3").On {
		t.Error("the host outlived its power supply")
	}
	if on, err := powered(t, l, "h3"); err == nil {
		t.Errorf("a dead controller answered that the power is %v", on)
	}
	try.Must(t, l.BMCMode(ctx, "h3", lab.BMCDead)) // again
	try.Must(t, l.On(ctx, "h3"))
	if _, err := powered(t, l, "h3"); err == nil {
		t.Error("the controller came back with its host")
	}
	try.Must(t, l.BMCMode(ctx, "h3", lab.BMCOk))
	waitPower(t, l, "h3", true)
}

// testBMCCrash lets the controller and the laboratory take the same power at
// the same time.
func testBMCCrash(t *testing.T, l *lab.Lab) {
	ctx := t.Context()
	for range 3 {
		boots := hostStatus(t, l, "h1").Boots
		crashed := make(chan error, 1)
		go func() { crashed <- l.Crash(ctx, "h1") }()
		try.Must(t, order(t, l, "h1", chassis.ChassisControlPowerDown))
		try.Must(t, <-crashed)
		waitPower(t, l, "h1", false)
		try.Must(t, order(t, l, "h1", chassis.ChassisControlPowerUp))
		waitReady(t, l, "h1", boots+1)
	}
}

// testBMCFrozen switches a frozen and isolated host off.
func testBMCFrozen(t *testing.T, l *lab.Lab) {
	ctx := t.Context()
	try.Must(t, l.Freeze(ctx, "h2"))
	try.Must(t, l.Isolate(ctx, "h2"))
	try.Must(t, order(t, l, "h2", chassis.ChassisControlPowerDown))
	waitPower(t, l, "h2", false)
	try.Must(t, l.On(ctx, "h2"))
}

// testBMCWatchdog switches a host off while its watchdog resets it: it must not
// come back.
func testBMCWatchdog(t *testing.T, l *lab.Lab) {
	ctx := t.Context()
	try.Must(t, l.Freeze(ctx, "h2"))
	dev, err := watchdog.Open("unix:" + filepath.Join(l.Dir(), "wd", "h2.sock"))
	try.Must(t, err)
	timer, err := dev.Arm(ctx, 300*time.Millisecond)
	try.Must(t, err)
	try.Must(t, timer.Close())
	deadline := hopeless()
	for hostStatus(t, l, "h2").On {
		if time.Now().After(deadline) {
			t.Fatal("the watchdog did not fire")
		}
		time.Sleep(10 * time.Millisecond) // between two looks at a condition
	}
	try.Must(t, order(t, l, "h2", chassis.ChassisControlPowerDown))
	// The reset would power it on 2 s after it fired.
	for end := time.Now().Add(2500 * time.Millisecond); time.Now().Before(end); {
		if on, err := powered(t, l, "h2"); err != nil || on {
			t.Fatalf("the controller's host came back with its watchdog's reset: %v, %v", on, err)
		}
	}
	try.Must(t, l.On(ctx, "h2"))
}
