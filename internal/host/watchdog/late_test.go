package watchdog

import (
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"holdfast/internal/cluster"
	decide "holdfast/internal/host/watchdog/keeper"
)

// slowFile is a kernel's watchdog in time that the test makes pass. Its holder may
// be stopped once before a keepalive.
type slowFile struct {
	fakeFile
	now  cluster.Instant
	rate float64                                // of the clock that its timer counts by
	stop func(most time.Duration) time.Duration // before the next keepalive; nil: none
	fire cluster.Instant
	pets []cluster.Instant
}

func (s *slowFile) restart() {
	s.fire = s.now.Add(time.Duration(float64(s.fakeFile.now) * float64(time.Second) / s.rate))
}

func (s *slowFile) KeepAlive() error {
	s.pets = append(s.pets, s.now)
	if stop := s.stop; stop != nil {
		s.stop = nil
		// Any longer, and the host would have been reset.
		s.now = s.now.Add(stop(s.fire.Sub(s.now) - 1))
	}
	s.restart()
	return nil
}

func (s *slowFile) SetTimeout(n int) error {
	err := s.fakeFile.SetTimeout(n)
	s.restart()
	return err
}

// slowKeeper is a keeper of that watchdog.
func slowKeeper(t *testing.T, f *slowFile, attrs map[string]string) *keeper {
	t.Helper()
	dir := t.TempDir()
	boot := filepath.Join(dir, "boot")
	if err := os.WriteFile(boot, []byte("b"), 0o600); err != nil {
		t.Fatal(err)
	}
	m, err := newMark(filepath.Join(dir, "mark"), boot)
	if err != nil {
		t.Fatal(err)
	}
	dev := fakeKernel(t, &f.fakeFile, nil, attrs)
	dev.open = func(string) (kernelFile, error) { return f, nil }
	now := func() cluster.Instant { return f.now }
	return newKeeper(t.Context(), keeper{dev: dev, want: 4 * time.Second, now: now, mark: m, log: slog.New(slog.DiscardHandler)})
}

// A watchdog of the kernel counts whole seconds, has a least timeout, and its
// clock may be slewed by 10 %. A holder that is stopped in a pet, at any moment and
// for as long as the device lets it, must not make the reset later than L + W.
func TestALatePetOnAKernelDevice(t *testing.T) {
	for name, attrs := range map[string]map[string]string{
		"softdog":          {"min_timeout": "1", "max_timeout": "65535", "nowayout": "0"},
		"a minimum of 2 s": {"min_timeout": "2", "max_timeout": "613", "nowayout": "0"},
		"a minimum of 5 s": {"min_timeout": "5", "max_timeout": "613", "nowayout": "0"},
		"none is told":     {"nowayout": "0"},
	} {
		for _, rate := range []float64{0.9, 1, 1.1} {
			t.Run(fmt.Sprintf("%s at %v", name, rate), func(t *testing.T) {
				late := 0
				for seed := range uint64(25) {
					late += latePetOn(t, attrs, rate, seed)
				}
				if late == 0 {
					t.Error("no pet came late: the test tests nothing")
				}
			})
		}
	}
}

func latePetOn(t *testing.T, attrs map[string]string, rate float64, seed uint64) int {
	rnd := rand.New(rand.NewPCG(seed, 3))
	f := &slowFile{fakeFile: fakeFile{options: good, now: 60}, now: cluster.Instant(time.Hour), rate: rate}
	k := slowKeeper(t, f, attrs)
	limit := f.now.Add(4*time.Second + time.Duration(rnd.Int64N(int64(2*time.Second))))
	if err := k.arm(t.Context(), limit); err != nil {
		t.Fatal(err)
	}
	w := k.rules.Promise()
	for f.now < f.fire {
		if rnd.IntN(6) == 0 && k.rules.Late() == 0 {
			f.stop = func(most time.Duration) time.Duration {
				return max(most-time.Duration(rnd.Int64N(int64(2*time.Second))), 0)
			}
		}
		k.tick(t.Context())
		f.now = min(f.now.Add(k.wait()), max(f.fire, f.now))
	}
	for _, at := range f.pets {
		// Keepalives after the limit belong to a shorter timeout.
		if at > limit && f.fakeFile.now*int(time.Second) >= int(w) {
			t.Errorf("seed %d: petted %v after the limit", seed, at.Sub(limit))
		}
	}
	if f.fire > limit.Add(w) {
		t.Fatalf("seed %d: reset %v after L + W", seed, f.fire.Sub(limit.Add(w)))
	}
	if k.rules.Late() > 0 {
		return 1
	}
	return 0
}

// What a device that lies makes of it is said.
func TestADeviceThatCanNotBeShortened(t *testing.T) {
	f := &slowFile{fakeFile: fakeFile{options: good, now: 60}, now: cluster.Instant(time.Hour), rate: 1}
	k := slowKeeper(t, f, map[string]string{"min_timeout": "1", "nowayout": "0"})
	limit := f.now.Add(4 * time.Second)
	if err := k.arm(t.Context(), limit); err != nil {
		t.Fatal(err)
	}
	f.grain = 3 // from now on it rounds all timeouts up to 3 s
	f.now = f.now.Add(time.Second)
	f.stop = func(time.Duration) time.Duration { return 3500 * time.Millisecond }
	k.tick(t.Context())
	if k.rules.Late() != 500*time.Millisecond || k.fault == nil {
		t.Fatalf("late by %v: %v", k.rules.Late(), k.fault)
	}
	if st := k.handle(t.Context(), call{req: request{Op: opStatus, Format: format}}); st.Error == "" || st.Limit != limit {
		t.Errorf("%+v: want it said", st)
	}
	if k.rules.Ask(f.now).Do == decide.Restart {
		t.Error("petted on")
	}
}
