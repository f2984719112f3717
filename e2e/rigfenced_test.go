package e2e

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/lib/clock"
	"holdfast/testbed/lab"
	"holdfast/testbed/need"
)

// Times of the profile fast, from the fault to the takeover. Each leaves a second
// for a busy machine.
const (
	// fencedWithin: 1 s of detection, the device, one write.
	fencedWithin = 2 * time.Second
	// deadlineWithin: (T + G) (1 + rho) / (1 - rho) + epsilon = 5.40 s after the last
	// renewal was seen, which is up to an election of the store (2 s) later when the
	// store's leader was lost with it, and a second.
	deadlineWithin = 8400 * time.Millisecond

	fencedMost   = fencedWithin + guestBoot
	deadlineMost = deadlineWithin + guestBoot
	// deafWithin is how long the store may take writes of a host that hears no answer.
	deafWithin = 15 * time.Second
	// hangWithin: a probe of the storage each 5 s, which hangs after 10 s.
	hangWithin = 17 * time.Second
)

func TestFencedDrills(t *testing.T) {
	need.Drill(t, "P2: faults of hosts and of their fence devices: a takeover has its proof, and nobody else is switched off")
	runAll(t, fenced, fencedDrills, defaultRuns)
}

var fencedDrills = map[string]drill{
	"power loss of the active host": {
		fault: crash, repair: back,
		most: fencedMost, away: true, proof: cluster.ProofFenced, decided: fencedWithin,
	},
	"isolation of the active host": {
		fault: isolate, repair: back,
		most: fencedMost, away: true, proof: cluster.ProofFenced, decided: fencedWithin, check: switchedOff,
	},
	"active host frozen": {
		fault: freeze, repair: back,
		most: fencedMost, away: true, proof: cluster.ProofFenced, decided: fencedWithin, check: switchedOff,
	},
	"guest crashes": {
		fault: func(ctx context.Context, r *rig, _ string) error { return inGuest(ctx, r, "/cgi-bin/crash") },
		most:  5*time.Second + guestBoot, long: true, check: nobodySwitched,
	},
	"fence device dead": {
		fault: func(ctx context.Context, r *rig, h string) error {
			return errors.Join(r.lab.BMCMode(ctx, h, lab.BMCDead), r.lab.Crash(ctx, h))
		},
		repair: back,
		most:   deadlineMost, away: true, proof: cluster.ProofDeadline, decided: deadlineWithin,
	},
	"fence device says yes and does nothing": {
		fault: func(ctx context.Context, r *rig, h string) error {
			return errors.Join(r.lab.BMCMode(ctx, h, lab.BMCLie), r.lab.Isolate(ctx, h))
		},
		repair: back,
		most:   deadlineMost, away: true, proof: cluster.ProofDeadline, decided: deadlineWithin, check: failedOnce,
	},
	"fence device refuses": {
		fault: func(ctx context.Context, r *rig, h string) error {
			return errors.Join(r.lab.BMCMode(ctx, h, lab.BMCRefuse), r.lab.Isolate(ctx, h))
		},
		repair: back,
		most:   deadlineMost, away: true, proof: cluster.ProofDeadline, decided: deadlineWithin, check: failedOnce,
	},
	"host and fence device lose power together": {
		fault:  func(ctx context.Context, r *rig, h string) error { return r.lab.CrashWithBMC(ctx, h) },
		repair: back,
		most:   deadlineMost, away: true, proof: cluster.ProofDeadline, decided: deadlineWithin,
	},
	"active host is not heard": {
		// It hears the others, but nothing that needs an answer goes on.
		fault: func(ctx context.Context, r *rig, h string) error {
			return others(r, h, func(x string) error { return r.lab.Cut(ctx, h, x) })
		},
		repair: hears,
		most:   fencedMost, away: true, proof: cluster.ProofFenced, decided: fencedWithin, check: switchedOff,
	},
	"active host does not hear": {
		// Its heartbeats arrive: it is left to keep its promise. What it writes also
		// arrives, until the store's members give up the connection:
		// only from then on it is silent.
		fault: func(ctx context.Context, r *rig, h string) error {
			return others(r, h, func(x string) error { return r.lab.Cut(ctx, x, h) })
		},
		repair: hears,
		most:   deadlineMost + deafWithin, away: true, proof: cluster.ProofDeadline, decided: deadlineWithin + deafWithin, check: nobodySwitched,
	},
	"active host cut off from the store": {
		fault:  func(ctx context.Context, r *rig, h string) error { return r.lab.CutStore(ctx, h) },
		repair: back,
		most:   deadlineMost, away: true, proof: cluster.ProofDeadline, decided: deadlineWithin, check: nobodySwitched,
	},
	"storage hangs on the active host": {
		fault:  func(ctx context.Context, r *rig, h string) error { return r.lab.HangStorage(ctx, h) },
		repair: func(ctx context.Context, r *rig, h string) error { return r.lab.UnhangStorage(ctx, h) },
		// The guest has its image open and goes on, until the agent moves it.
		most: hangWithin + deadlineMost, away: true,
		check: func(t testing.TB, r *rig, c course) {
			if len(c.told(cluster.EvStarted)) != 1 {
				t.Errorf("started %d times, want once", len(c.told(cluster.EvStarted)))
			}
		},
	},
}

func crash(ctx context.Context, r *rig, h string) error   { return r.lab.Crash(ctx, h) }
func isolate(ctx context.Context, r *rig, h string) error { return r.lab.Isolate(ctx, h) }
func freeze(ctx context.Context, r *rig, h string) error  { return r.lab.Freeze(ctx, h) }

// back brings a host back as a person does: its device, its power, its cables.
func back(ctx context.Context, r *rig, h string) error {
	if err := r.lab.BMCMode(ctx, h, lab.BMCOk); err != nil {
		return err
	}
	return errors.Join(r.lab.On(ctx, h), r.lab.Heal(ctx, h))
}

// hears brings a host back that was cut off one way, and waits until no connection
// of the store's members waits for a retransmission: TCP does so ever longer
// while it gets no answer, and until then one more loss may cost the majority.
func hears(ctx context.Context, r *rig, h string) error {
	if err := back(ctx, r, h); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		waits := ""
		err := every(r, func(x string) error {
			out, err := r.lab.Exec(ctx, x, "ss", "-Htnoi", "sport = :2380 or dport = :2380")
			if strings.Contains(out, "backoff:") {
				waits = x + ": " + out
			}
			return err
		})
		if err != nil || waits == "" {
			return err
		}
		if !clock.Sleep(ctx, 500*time.Millisecond) {
			return fmt.Errorf("wait for the connections of the store: %w: %s", ctx.Err(), waits)
		}
	}
}

// switchedOff: the device did it to this host alone, and it stayed off. The order
// is given again when a renewal that was on its way has changed the host's record.
func switchedOff(t testing.TB, r *rig, c course) {
	t.Helper()
	for _, h := range r.lab.Hosts() {
		want := 0
		if h == c.holder {
			want = 1
		}
		if n := c.did(h, "bmc", "off"); n < want || want == 0 && n > 0 {
			t.Errorf("the device of %s was told to switch off %d times, want %d", h, n, want)
		}
		if n := c.did(h, "on", ""); n != want {
			t.Errorf("%s was switched on %d times, want %d", h, n, want)
		}
	}
}

// nobodySwitched: no device was given an order, and no watchdog fired.
func nobodySwitched(t testing.TB, r *rig, c course) {
	t.Helper()
	for _, h := range r.lab.Hosts() {
		if n := c.did(h, "bmc", "off") + c.did(h, "watchdog", "fired"); n != 0 {
			t.Errorf("%s was switched off %d times, want never", h, n)
		}
	}
	if now := r.boots(t); !slices.Equal(now, c.boots) {
		t.Errorf("boots %v, were %v", now, c.boots)
	}
	if f := c.told(cluster.EvFenceFail); len(f) > 0 {
		t.Errorf("a device was asked: %+v", f)
	}
}

// failedOnce: the failure of the device is told once, and nobody was switched off.
func failedOnce(t testing.TB, r *rig, c course) {
	t.Helper()
	// A device that says yes is asked for 10 s whether it is true; the guest is
	// elsewhere by then.
	r.until(t, "the failure of the fence device to be told", func(context.Context) (string, bool) {
		c.events = r.events(t, c.at)
		return fmt.Sprint(c.events), len(c.told(cluster.EvFenceFail)) > 0
	})
	if f := c.told(cluster.EvFenceFail); len(f) != 1 || string(f[0].Host) != c.holder {
		t.Errorf("the failure of the fence device of %s was told %d times, want once: %+v", c.holder, len(f), f)
	}
	if now := r.boots(t); !slices.Equal(now, c.boots) {
		t.Errorf("boots %v, were %v", now, c.boots)
	}
}

// TestLostHeartbeatsAloneSwitchNobodyOff drops the heartbeats of the active host
// to and from all others: it renews, so it lives.
func TestLostHeartbeatsAloneSwitchNobodyOff(t *testing.T) {
	need.Drill(t, "P2: a host whose heartbeats are lost, and that renews, is not switched off")
	onLab(t, fenced, lostHeartbeatsAloneSwitchNobodyOff)
}

func lostHeartbeatsAloneSwitchNobodyOff(t testing.TB, r *rig) {
	st := r.healthy(t)
	at, boots := time.Now(), r.boots(t)
	end := r.undisturbed(t, st)
	holder := string(st.Owner.Host)
	port := 0
	for _, h := range st.Hosts {
		if h.Name == st.Owner.Host {
			port = h.HeartbeatPort
		}
	}
	if port == 0 {
		t.Fatalf("%s tells no port of its heartbeats: %+v", holder, st.Hosts)
	}
	rules := fmt.Sprintf(`table inet mute { chain in { type filter hook input priority 0; udp dport %d drop; }
 chain out { type filter hook output priority 0; udp sport %d drop; }; }`, port, port)
	if _, err := r.lab.Exec(t.Context(), holder, "nft", rules); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if _, err := r.lab.Exec(context.Background(), holder, "nft", "delete", "table", "inet", "mute"); err != nil {
			t.Error(err)
		}
	})
	select {
	case <-time.After(8 * time.Second): // twice the lease, eight times the detection
	case <-t.Context().Done():
	}
	if out, err := r.lab.Exec(t.Context(), holder, "nft", "list", "table", "inet", "mute"); err != nil || !strings.Contains(out, "drop") {
		t.Errorf("the rules are gone: the drill is void: %s, %v", out, err)
	}
	nobodySwitched(t, r, course{holder: holder, boots: boots, lab: r.history(t, at), events: r.events(t, at)})
	end()
}
