package watchdog

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"holdfast/internal/cluster"
)

// world is a host with a simulated device in virtual time.
type world struct {
	t        *testing.T
	dir      string
	epoch    time.Time
	boots    int
	w        time.Duration
	dev      *slowDevice
	sim      *simulator
	simStop  func()
	mu       sync.Mutex
	fires    []cluster.Instant // since the last boot
	calls    chan call
	stop     func() error // of the holder; nil: none runs
	lastGood cluster.Instant
	begun    []cluster.Instant // when pets began, since the last look
}

// slowDevice is a device whose holder may be stopped right before a pet.
type slowDevice struct {
	Device
	freeze func() time.Duration
	begin  func() // of a pet
}

type slowTimer struct {
	Timer
	freeze func() time.Duration
	begin  func()
}

func (d *slowDevice) Arm(ctx context.Context, timeout time.Duration) (Timer, error) {
	time.Sleep(d.freeze())
	t, err := d.Device.Arm(ctx, timeout)
	if err != nil {
		return nil, err
	}
	return slowTimer{t, d.freeze, d.begin}, nil
}

func (t slowTimer) Pet() error {
	t.begin()
	time.Sleep(t.freeze())
	return t.Timer.Pet()
}

func never() time.Duration { return 0 }

func (v *world) began() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.begun = append(v.begun, v.now())
}

// pets are the beginnings of pets since the last call.
func (v *world) pets() []cluster.Instant {
	v.mu.Lock()
	defer v.mu.Unlock()
	b := v.begun
	v.begun = nil
	return b
}

// newWorld is called inside a bubble.
func newWorld(t *testing.T, dir string, w time.Duration) *world {
	t.Helper()
	v := &world{t: t, dir: dir, epoch: time.Now().Add(-time.Hour), w: w}
	sim, err := newSimulator(SimConfig{OnFire: func() {
		v.mu.Lock()
		defer v.mu.Unlock()
		v.fires = append(v.fires, v.now())
	}})
	if err != nil {
		t.Fatal(err)
	}
	v.sim = sim
	if err := os.RemoveAll(filepath.Join(dir, "armed")); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { sim.run(ctx) })
	v.dev = &slowDevice{freeze: never, begin: v.began, Device: simDevice{dial: func(context.Context) (net.Conn, error) {
		near, far := net.Pipe()
		wg.Go(func() { sim.serve(ctx, far) })
		return near, nil
	}}}
	v.simStop = func() { cancel(); wg.Wait() }
	v.reboot()
	return v
}

func (v *world) end() {
	v.kill()
	v.simStop()
}

// fired returns when the device fired since the last boot.
func (v *world) fired() []cluster.Instant {
	v.mu.Lock()
	defer v.mu.Unlock()
	return slices.Clone(v.fires)
}

func (v *world) now() cluster.Instant { return cluster.Instant(time.Since(v.epoch)) }

// reboot is a new boot id, and nothing that runs. A holder that was frozen
// when the device fired may have armed it again, which the reset undoes.
func (v *world) reboot() {
	v.t.Helper()
	v.kill()
	v.sim.command(v.t.Context(), nil, "power-cycle")
	v.mu.Lock()
	v.fires = nil
	v.mu.Unlock()
	v.boots++
	if err := os.WriteFile(filepath.Join(v.dir, "boot"), fmt.Appendf(nil, "boot-%d\n", v.boots), 0o600); err != nil {
		v.t.Fatal(err)
	}
}

// start runs a holder.
func (v *world) start() {
	v.t.Helper()
	m, err := newMark(filepath.Join(v.dir, "armed"), filepath.Join(v.dir, "boot"))
	if err != nil {
		v.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	k := newKeeper(ctx, keeper{dev: v.dev, want: v.w, now: v.now, mark: m, log: slog.New(slog.DiscardHandler)})
	v.calls = make(chan call)
	done := make(chan error, 1)
	go func() { done <- k.run(ctx, v.calls) }()
	v.stop = func() error { cancel(); return <-done }
	synctest.Wait()
}

// kill ends the holder. That it ends by its context makes no difference to the
// device: it is closed without magic, as the kernel does for the dead.
func (v *world) kill() error {
	if v.stop == nil {
		return nil
	}
	err := v.stop()
	v.stop = nil
	return err
}

func (v *world) ask(req request) Status {
	req.Format = format
	return v.askAs(req)
}

func (v *world) askAs(req request) Status {
	reply := make(chan Status, 1)
	v.calls <- call{req, nil, reply}
	return <-reply
}

// A request in a format that the holder does not know, or without one, changes nothing.
func TestKeeperRefusesOtherFormats(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		v := newWorld(t, dir, 4*time.Second)
		defer v.end()
		v.start()
		for _, n := range []int{0, format + 1} {
			if st := v.askAs(request{Format: n, Op: opArm, Until: v.now().Add(time.Second)}); !st.Refused || st.Armed {
				t.Errorf("format %d: %+v", n, st)
			}
		}
	})
}

// What a holder leaves is what the next one of the same boot finds.
func TestMark(t *testing.T) {
	boot := filepath.Join(t.TempDir(), "boot")
	if err := os.WriteFile(boot, []byte("b1"), 0o600); err != nil {
		t.Fatal(err)
	}
	m, err := newMark(boot+".armed", boot)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []leftover{{cluster.Instant(time.Hour), 3 * time.Second}, {0, time.Second}} {
		if err := m.save(want); err != nil {
			t.Fatal(err)
		}
		if l, ok, err := m.load(); err != nil || !ok || l != want {
			t.Errorf("%+v, %v, %v: want %+v", l, ok, err, want)
		}
	}
	m.boot = "b2"
	if l, ok, err := m.load(); err != nil || ok {
		t.Errorf("of another boot: %+v, %v, %v", l, ok, err)
	}
}

func TestKeeperPetsUntilTheLimit(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		v := newWorld(t, dir, 4*time.Second)
		defer v.end()
		v.start()
		if st := v.ask(request{Op: opStatus}); st.Armed || st.Timeout != 4*time.Second || st.Error != "" || st.Identity != "simulated watchdog" {
			t.Fatalf("before arming: %+v", st)
		}
		limit := v.now().Add(10 * time.Second)
		if st := v.ask(request{Op: opArm, Until: limit}); !st.Armed || st.Limit != limit || st.Error != "" {
			t.Fatalf("arm: %+v", st)
		}
		if st := v.ask(request{Op: opArm, Until: limit.Add(-time.Second)}); st.Limit != limit || st.Error != "" {
			t.Fatalf("an earlier limit is not ignored: %+v", st)
		}
		time.Sleep(limit.Add(v.w).Sub(v.now()) - v.w/8 - time.Millisecond)
		if len(v.fired()) != 0 {
			t.Fatalf("fired at %v, limit %v", v.fired(), limit)
		}
		time.Sleep(v.w/8 + 2*time.Millisecond)
		if len(v.fired()) != 1 || v.fired()[0] > limit.Add(v.w) {
			t.Fatalf("fired at %v, want once by %v", v.fired(), limit.Add(v.w))
		}
		pets := v.pets()
		if last := pets[len(pets)-1]; last > limit || last < limit.Add(-v.w/8) {
			t.Fatalf("the last pet began %v before the limit: want one in the last interval, and none after it", limit.Sub(last))
		}
		time.Sleep(time.Hour)
		if len(v.fired()) != 1 {
			t.Fatalf("fired %d times for one arming", len(v.fired()))
		}
	})
}

func TestKeeperRefuses(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		v := newWorld(t, dir, 4*time.Second)
		defer v.end()
		v.start()
		for name, req := range map[string]request{
			"no limit":      {Op: opArm},
			"past":          {Op: opArm, Until: v.now() - 1},
			"far":           {Op: opArm, Until: v.now().Add(maxAhead + 1)},
			"expired":       {Op: opArm, Until: v.now().Add(time.Second), Expires: v.now() - 1},
			"unknown":       {Op: "pet"},
			"empty":         {},
			"late disarm":   {Op: opDisarm, Expires: v.now() - 1},
			"negative":      {Op: opArm, Until: -1},
			"case of words": {Op: "Arm", Until: v.now().Add(time.Second)},
		} {
			if st := v.ask(req); !st.Refused || st.Error == "" || st.Armed {
				t.Errorf("%s: %+v", name, st)
			}
		}
		time.Sleep(time.Minute)
		if len(v.fired()) != 0 {
			t.Errorf("fired at %v, never armed", v.fired())
		}
	})
}

func TestKeeperResumesAfterTheLimit(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		v := newWorld(t, dir, 4*time.Second)
		defer v.end()
		v.start()
		v.ask(request{Op: opArm, Until: v.now().Add(time.Second)})
		time.Sleep(3 * time.Second)
		if st := v.ask(request{Op: opStatus}); !st.Armed || st.LastPet > st.Limit {
			t.Fatalf("after the limit: %+v", st)
		}
		limit := v.now().Add(5 * time.Second)
		if st := v.ask(request{Op: opArm, Until: limit}); st.Error != "" || st.Limit != limit {
			t.Fatalf("arm again: %+v", st)
		}
		time.Sleep(5 * time.Second)
		if len(v.fired()) != 0 {
			t.Fatalf("fired at %v, limit %v", v.fired(), limit)
		}
		if st := v.ask(request{Op: opDisarm}); st.Armed || st.Limit != 0 || st.Error != "" {
			t.Fatalf("disarm: %+v", st)
		}
		time.Sleep(time.Minute)
		if len(v.fired()) != 0 {
			t.Fatalf("fired at %v after disarm", v.fired())
		}
	})
}

// A holder stopped right before a pet makes it too late. The reset must still
// come by limit + W, and if a new limit comes first, the timeout is whole again.
func TestKeeperAfterALatePet(t *testing.T) {
	dir := t.TempDir()
	for _, renewed := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) { latePet(t, dir, renewed) })
	}
}

func latePet(t *testing.T, dir string, renewed bool) {
	v := newWorld(t, dir, 4*time.Second)
	defer v.end()
	var stopped atomic.Bool
	v.dev.freeze = func() time.Duration {
		if stopped.Swap(false) {
			return 3 * time.Second
		}
		return 0
	}
	v.start()
	limit := v.now().Add(time.Second)
	v.ask(request{Op: opArm, Until: limit})
	stopped.Store(true)
	time.Sleep(4 * time.Second)
	st := v.ask(request{Op: opStatus})
	if !st.Armed || st.LastPet <= limit || st.Timeout != v.w || !strings.Contains(st.Error, errTooLate.Error()) {
		t.Fatalf("after the late pet: %+v", st)
	}
	if !renewed {
		time.Sleep(limit.Add(v.w).Sub(v.now()) + time.Millisecond)
		if fires := v.fired(); len(fires) != 1 || fires[0] > limit.Add(v.w) {
			t.Errorf("fired at %v, want once by %v", fires, limit.Add(v.w))
		}
		return
	}
	if st := v.ask(request{Op: opArm, Until: v.now().Add(time.Minute)}); st.Error != "" {
		t.Fatalf("arm: %+v", st)
	}
	time.Sleep(10 * time.Second)
	killed := v.now()
	v.kill()
	time.Sleep(v.w + time.Millisecond)
	if fires := v.fired(); len(fires) != 1 || fires[0] < killed.Add(v.w-v.w/8) {
		t.Errorf("killed at %v, fired at %v, timeout %v", killed, fires, v.w)
	}
}

// A disarm whose mark can not be removed is no success, but arms nothing again.
func TestKeeperMarkStays(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		v := newWorld(t, dir, 4*time.Second)
		defer v.end()
		v.start()
		v.ask(request{Op: opArm, Until: v.now().Add(time.Minute)})
		armed := filepath.Join(dir, "armed")
		if err := os.Remove(armed); err != nil {
			t.Fatal(err)
		}
		if err := os.MkdirAll(filepath.Join(armed, "in the way"), 0o700); err != nil {
			t.Fatal(err)
		}
		if st := v.ask(request{Op: opDisarm}); !st.Armed || st.Error == "" {
			t.Fatalf("disarm: %+v", st)
		}
		time.Sleep(10 * time.Minute)
		if len(v.fired()) != 0 {
			t.Fatalf("fired at %v after disarm", v.fired())
		}
		if err := os.RemoveAll(armed); err != nil {
			t.Fatal(err)
		}
		if st := v.ask(request{Op: opDisarm}); st.Armed || st.Error != "" {
			t.Fatalf("disarm again: %+v", st)
		}
	})
}

func TestKeeperEndsArmed(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		v := newWorld(t, dir, 4*time.Second)
		defer v.end()
		v.start()
		if err := v.kill(); err != nil {
			t.Fatalf("ends not armed: %v", err)
		}
		v.start()
		v.ask(request{Op: opArm, Until: v.now().Add(time.Minute)})
		if err := v.kill(); !errors.Is(err, ErrLeftArmed) {
			t.Fatalf("ends armed: %v, want ErrLeftArmed", err)
		}
		time.Sleep(4*time.Second + time.Millisecond)
		if len(v.fired()) != 1 {
			t.Fatalf("fired at %v, want once", v.fired())
		}
	})
}

// A new boot must not continue what the old one armed, and a holder after the
// limit must be able to disarm what its predecessor armed without petting it.
func TestKeeperAndItsPredecessor(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		v := newWorld(t, dir, 4*time.Second)
		defer v.end()
		v.start()
		v.ask(request{Op: opArm, Until: v.now().Add(2 * time.Second)})
		v.kill()
		time.Sleep(3 * time.Second)
		v.start()
		if st := v.ask(request{Op: opStatus}); !st.Armed || st.LastPet != 0 {
			t.Fatalf("next holder after the limit: %+v", st)
		}
		if st := v.ask(request{Op: opDisarm}); st.Armed || st.Error != "" {
			t.Fatalf("disarm by the next holder: %+v", st)
		}
		time.Sleep(time.Minute)
		if len(v.fired()) != 0 {
			t.Fatalf("fired at %v after disarm", v.fired())
		}
		v.ask(request{Op: opArm, Until: v.now().Add(time.Minute)})
		v.sim.command(t.Context(), nil, "power-cycle")
		v.reboot()
		v.start()
		if st := v.ask(request{Op: opStatus}); st.Armed {
			t.Fatalf("armed by an earlier boot: %+v", st)
		}
		v.kill()
		if err := os.WriteFile(filepath.Join(dir, "armed"), []byte("{}"), 0o600); err != nil {
			t.Fatal(err)
		}
		v.start()
		if st := v.ask(request{Op: opStatus}); !st.Armed || st.Limit != 0 || st.Error == "" {
			t.Fatalf("unreadable mark: %+v", st)
		}
		time.Sleep(time.Minute)
		if st := v.ask(request{Op: opDisarm}); st.Armed || st.Error != "" || len(v.fired()) != 0 {
			t.Fatalf("disarm with an unreadable mark: %+v, fired %v", st, v.fired())
		}
	})
}
