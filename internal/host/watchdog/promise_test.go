package watchdog

import (
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"holdfast/internal/cluster"
	decide "holdfast/internal/host/watchdog/keeper"
	"holdfast/testbed/need"
)

// The promise, for random histories of a host: whatever happens, a device that
// was not disarmed fires by limit + W; and it does not fire while a holder that
// lives may pet.
func TestKeeperPromise(t *testing.T) {
	keeperPromise(t, 30)
}

// TestKeeperPromiseAtLength plays more histories, without a freeze and with one.
func TestKeeperPromiseAtLength(t *testing.T) {
	need.Drill(t, "P1: a watchdog fires in time in each of 2,000 random histories of a host, with frozen holders among them")
	keeperPromise(t, 1000)
	keeperPromiseWhenFrozen(t, 1000)
}

func keeperPromise(t *testing.T, histories uint64) {
	dir := t.TempDir()
	for seed := range histories {
		synctest.Test(t, func(t *testing.T) { history(t, dir, seed, false) })
	}
}

// The same with a holder that is stopped between its look at the clock and the
// pet, for any time: the pet comes too late, the reset must not.
func TestKeeperPromiseWhenFrozen(t *testing.T) { keeperPromiseWhenFrozen(t, 30) }

func keeperPromiseWhenFrozen(t *testing.T, histories uint64) {
	dir := t.TempDir()
	late := 0
	for seed := range histories {
		synctest.Test(t, func(t *testing.T) { late += history(t, dir, seed, true) })
	}
	if late < int(histories)/12 {
		t.Errorf("only %d pets came too late: the test tests nothing", late)
	}
}

// history plays one random history and returns how many pets came too late.
func history(t *testing.T, dir string, seed uint64, freezes bool) (late int) {
	const grain = time.Millisecond // of the simulated device's protocol
	rnd := rand.New(rand.NewPCG(seed, 1))
	span := func(d time.Duration) time.Duration { return time.Duration(rnd.Int64N(int64(d))) }
	v := newWorld(t, dir, time.Second+span(5*time.Second).Round(time.Second))
	defer v.end()
	// What the history demands; 0: not armed.
	var limit cluster.Instant
	if freezes {
		var mu sync.Mutex
		dice := rand.New(rand.NewPCG(seed, 2))
		v.dev.freeze = func() time.Duration {
			mu.Lock()
			defer mu.Unlock()
			if dice.IntN(6) > 0 {
				return 0
			}
			return time.Duration(dice.Int64N(int64(v.w)))
		}
	}
	check := func(step string) {
		// A pet that begins after the limit is a mistake even if it is made good.
		for _, at := range v.pets() {
			if at > limit && len(v.fired()) == 0 { // after a reset the limit is not known
				t.Fatalf("seed %d, %s: a pet began %v after the limit", seed, step, at.Sub(limit))
			}
		}
		if fires := v.fired(); len(fires) > 0 {
			at := fires[0]
			switch {
			case len(fires) > 1:
				t.Fatalf("seed %d, %s: fired %d times for one arming", seed, step, len(fires))
			case limit == 0:
				t.Fatalf("seed %d, %s: fired at %v, not armed", seed, step, at)
			case at > limit.Add(v.w+grain):
				t.Fatalf("seed %d, %s: fired %v after limit + W", seed, step, at.Sub(limit.Add(v.w)))
			case !freezes && at.Sub(v.lastGood) < v.w-max(v.w/8, decide.MinInterval)-grain:
				t.Fatalf("seed %d, %s: fired %v after a living holder could pet", seed, step, at.Sub(v.lastGood))
			}
			limit = 0
			v.reboot()
			return
		}
		if limit > 0 && v.now() > limit.Add(v.w+grain) {
			t.Fatalf("seed %d, %s: not fired %v after limit + W", seed, step, v.now().Sub(limit.Add(v.w)))
		}
	}
	pass := func(step string, d time.Duration) {
		// In small steps, so that what is true in between is seen.
		for end := v.now().Add(d); v.now() < end && len(v.fired()) == 0; {
			if v.stop != nil && v.now() <= limit {
				v.lastGood = v.now()
			}
			time.Sleep(50 * time.Millisecond)
			synctest.Wait()
		}
		check(step)
	}
	for range 40 {
		if v.stop == nil {
			pass("down", span(v.w*5/4))
			v.start()
			check("start")
		}
		switch n := rnd.IntN(10); {
		case n < 5:
			until := v.now().Add(span(8*time.Second) - time.Second)
			st := v.ask(request{Op: opArm, Until: until})
			switch {
			case len(v.fired()) > 0:
			case limit == 0 && st.Armed && st.Limit == 0:
				limit = until // a first arming that failed may have started the timer
			default:
				limit = max(limit, st.Limit)
			}
			if st.Error == "" && (st.Limit < until || !st.Armed) {
				t.Fatalf("seed %d: arm until %d: %+v", seed, until, st)
			}
		case n == 5:
			// After an error the host may still be reset, and must be able to say so.
			if st := v.ask(request{Op: opDisarm}); !st.Armed && len(v.fired()) == 0 {
				limit = 0
			}
		case n == 6:
			v.kill()
		}
		if v.stop != nil && strings.Contains(v.ask(request{Op: opStatus}).Error, errTooLate.Error()) {
			late++
		}
		synctest.Wait()
		check("after a step")
		pass("time", span(6*time.Second))
	}
	return late
}
