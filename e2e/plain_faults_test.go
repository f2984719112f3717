package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/config"
	"holdfast/internal/host/watchdog"
	"holdfast/testbed/lab"
	"holdfast/testbed/need"
)

// plainDeadline is (T + G) (1 + rho) / (1 - rho) + epsilon = 8.66 s, and a second
// for a busy machine.
const plainDeadline = 9660 * time.Millisecond

// TestAFrozenHostIsReset: the watchdog ends what stands still, before the takeover.
func TestAFrozenHostIsReset(t *testing.T) {
	need.Drill(t, "P2: the watchdog ends a host that stands still before its guest is taken over")
	d := drill{
		fault: freeze, // the watchdog resets it
		most:  plainDeadline + guestBoot, away: true, proof: cluster.ProofDeadline, decided: plainDeadline,
		check: func(t testing.TB, r *rig, c course) {
			fired := time.Time{}
			for _, e := range c.lab {
				if e.Host == c.holder && e.What == "watchdog" {
					fired = e.Time
				}
			}
			taken := c.told(cluster.EvTakeover)
			if fired.IsZero() || len(taken) == 1 && !fired.Before(taken[0].Time) {
				t.Errorf("the watchdog fired at %s, the takeover was %+v", fired, taken)
			}
		},
	}
	var got []figures
	for range runs(t, defaultRuns) {
		onLab(t, plain, func(t testing.TB, r *rig) { got = append(got, d.run(t, r)) })
	}
	report(t, "active host frozen", got)
}

// TestAHostThatStandsStillWithItsWatchdog is what a hypervisor that is itself a VM
// does when it is paused: nothing resets it, and it goes on after the takeover.
// The image's lock keeps the second guest away as long as the first has the disk,
// and the first is killed before anything else when its host goes on.
func TestAHostThatStandsStillWithItsWatchdog(t *testing.T) {
	need.Drill(t, "P1: a host that was paused with its watchdog kills its old guest first, and no two wrote: the lock of the image")
	onLab(t, plain, aHostThatStandsStillWithItsWatchdog)
}

func aHostThatStandsStillWithItsWatchdog(t testing.TB, r *rig) {
	st := r.healthy(t)
	holder := string(st.Owner.Host)
	boots := r.boots(t)
	before := r.answer(t)
	end := r.watching(t)
	at := time.Now()
	if err := r.lab.Freeze(t.Context(), holder); err != nil {
		t.Fatal(err)
	}
	if err := watchdog.PowerCycle(t.Context(), filepath.Join(r.lab.Dir(), "wd", holder+".sock")); err != nil {
		t.Fatal(err)
	}
	r.until(t, "the takeover", func(context.Context) (string, bool) {
		for _, e := range r.events(t, at) {
			if e.Kind == cluster.EvTakeover {
				return "", e.Proof == cluster.ProofDeadline
			}
		}
		return "no takeover", false
	})
	r.until(t, "a start to be refused by the lock", func(context.Context) (string, bool) {
		all := r.events(t, at)
		for _, e := range all {
			if e.Kind == cluster.EvReleased && strings.Contains(e.Detail, "lock") {
				return "", true
			}
		}
		return fmt.Sprintf("%+v", all), false
	})
	if err := r.lab.Thaw(t.Context(), holder); err != nil {
		t.Fatal(err)
	}
	thawed := time.Now()
	r.until(t, "the old guest to be killed", func(context.Context) (string, bool) {
		ls, err := r.lab.Status(t.Context())
		for _, h := range ls.Hosts {
			if h.Name == holder && h.Guests == 0 {
				return "", true
			}
		}
		return fmt.Sprintf("%+v, %v", ls, err), false
	})
	killed := time.Since(thawed)
	r.healthy(t)
	after := r.answer(t)
	if after.Boot == before.Boot || !strings.Contains(after.Prev, before.Boot) {
		t.Errorf("before %+v, after %+v", before, after)
	}
	w := end()
	if w.err != nil {
		t.Fatal(w.err)
	}
	for i, a := range w.seen.Holders {
		for _, b := range w.seen.Holders[i+1:] {
			if !a.Ran.IsZero() && !b.Ran.IsZero() && a.Ran.Before(b.LastRan) && b.Ran.Before(a.LastRan) {
				t.Errorf("two guests ran at once: %+v and %+v", a, b)
			}
		}
	}
	if now := r.boots(t); fmt.Sprint(now) != fmt.Sprint(boots) {
		t.Errorf("boots %v, were %v: the drill is void", now, boots)
	}
	t.Logf("the old guest was gone %s after its host went on", killed.Round(time.Millisecond))
}

// TestStepsOfTheWallClock: an hour forth, two back, one forth, on the active host
// and on another. Nothing is decided by it.
func TestStepsOfTheWallClock(t *testing.T) {
	need.Drill(t, "P2: steps of the wall clock decide nothing")
	onLab(t, plain, stepsOfTheWallClock)
}

func stepsOfTheWallClock(t testing.TB, r *rig) {
	st := r.healthy(t)
	boots := r.boots(t)
	end := r.undisturbed(t, st)
	for _, h := range []string{string(st.Owner.Host), another(r, st.Owner.Host)} {
		for _, d := range []time.Duration{time.Hour, -2 * time.Hour, time.Hour} {
			r.until(t, "the clock to be stepped", func(ctx context.Context) (string, bool) {
				err := r.lab.StepClock(ctx, h, d) // a thread that reads the clock is in the way
				return fmt.Sprint(err), err == nil
			})
			time.Sleep(2500 * time.Millisecond) // more than a renewal
		}
	}
	end()
	if now := r.boots(t); fmt.Sprint(now) != fmt.Sprint(boots) {
		t.Errorf("boots %v, were %v", now, boots)
	}
}

// TestTheWordOfAnOperator: a host that promises nothing is lost with the guest.
// Nothing starts until a person has said that it is off.
func TestTheWordOfAnOperator(t *testing.T) {
	need.Drill(t, "P2: the guest of a host that promises nothing starts elsewhere only by a person's word")
	onLab(t, plain, theWordOfAnOperator)
}

func theWordOfAnOperator(t testing.TB, r *rig) {
	st := r.healthy(t)
	home := string(st.Owner.Host)
	h := another(r, st.Owner.Host)
	good, err := os.ReadFile(r.disk(h, "agent.json"))
	if err != nil {
		t.Fatal(err)
	}
	r.variant(t, h, h, "bare.json", func(n *config.Node) { n.Watchdog.Device = "none" })
	if err := os.Rename(r.disk(h, "bare.json"), r.disk(h, "agent.json")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		err := os.WriteFile(r.disk(h, "agent.json"), good, 0o600)
		if err = errors.Join(err, r.lab.Crash(ctx, h), r.lab.On(ctx, h)); err != nil {
			t.Error(err)
		}
	})
	if err := errors.Join(r.lab.Off(t.Context(), h), r.lab.On(t.Context(), h)); err != nil {
		t.Fatal(err)
	}
	r.until(t, h+" to be back without a watchdog", func(ctx context.Context) (string, bool) {
		st, err := r.status(ctx)
		for _, x := range st.Hosts {
			if string(x.Name) == h && x.Alive && x.Fit && x.Guard == 0 {
				return "", true
			}
		}
		return fmt.Sprintf("%+v, %v", st.Hosts, err), false
	})
	r.command(t, home, "migrate", h)
	s := r.begin(t)
	word := func() (string, error) {
		return r.lab.Exec(t.Context(), home, "sh", "-c", "echo "+h+" | "+r.exe+" confirm-off "+h)
	}
	if out, err := word(); err == nil || !strings.Contains(err.Error(), "is not off") {
		t.Errorf("confirm-off of a living host: %s, %v", out, err)
	}
	if err := r.lab.Crash(t.Context(), h); err != nil {
		t.Fatal(err)
	}
	r.until(t, "the status to ask for the word", func(ctx context.Context) (string, bool) {
		st, err := r.status(ctx)
		return fmt.Sprintf("%q, %v", st.Waiting, err), strings.Contains(st.Waiting, "holdfast confirm-off "+h) && !st.Takeover.Possible
	})
	time.Sleep(6 * time.Second) // far beyond every deadline
	if ls, err := r.lab.Status(t.Context()); err != nil || guests(ls) != 0 {
		t.Errorf("before the word: %+v, %v", ls, err)
	}
	if out, err := word(); err != nil {
		t.Fatalf("confirm-off: %s, %v", out, err)
	}
	s.upAgain(t, func(a lab.Answer) bool { return a.Boot != s.before.Boot })
	var operator []cluster.Event
	for _, e := range r.events(t, s.at) {
		if e.Kind == cluster.EvTakeover {
			operator = append(operator, e)
		}
	}
	if len(operator) != 1 || operator[0].Proof != cluster.ProofOperator || operator[0].Detail == "" {
		t.Errorf("takeovers %+v: want one by the word of a named operator", operator)
	}
	s.end().oneHolder(t)
}

// TestAFullDiskAtTheStart runs the agent of a cluster of its own, with a data
// directory of 8 MiB: it says what is wrong and where, and ends when told.
func TestAFullDiskAtTheStart(t *testing.T) {
	need.Drill(t, "P7: an agent whose disk is full says what is wrong and where, and ends when told")
	onLab(t, plain, aFullDiskAtTheStart)
}

func aFullDiskAtTheStart(t testing.TB, r *rig) {
	st := r.healthy(t)
	end := r.undisturbed(t, st)
	h := another(r, st.Owner.Host)
	file := r.variant(t, h, h, "small.json", func(n *config.Node) {
		const u, c = "https://127.0.0.1:12380", "https://127.0.0.1:12379"
		n.Cluster, n.DataDir, n.RunDir, n.Driver = "small", "/mnt/small", "/run/small", "process"
		n.Process = config.Process{Command: []string{"/bin/sleep", "1"}, Dir: "/nonexistent"}
		n.Store = config.Store{Endpoints: []string{c},
			Member: &config.Member{ListenPeer: u, PeerURL: u, ListenClient: c, ClientURL: c, Initial: map[string]string{h: u}}}
		n.API.Listen, n.Watchdog.Device = "", "none"
	})
	script := fmt.Sprintf(`set -e; mkdir -p /mnt/small; mount -t tmpfs -o size=8m none /mnt/small
%s agent --config %s >/run/small.log 2>&1 & pid=$!
trap 'kill $pid; wait $pid; pid=$(sed -n "s/^  "pid": \([0-9]*\),/\1/p" /run/small/store/store.json); [ -z "$pid" ] || kill -9 $pid; sleep 0.2; umount /mnt/small' EXIT
for i in $(seq 100); do said=$(%s status --socket /run/small/holdfast.sock 2>&1 || true)
  case $(echo $said) in *"no space left on device"*) echo $said; exit 0;; esac; sleep 0.1; done
echo "$said"; cat /run/small.log; exit 1`, r.exe, file, r.exe)
	out, err := r.lab.Exec(t.Context(), h, "sh", "-c", script)
	if err != nil || !strings.Contains(out, "/run/small/store/store.log") {
		t.Errorf("%v: %s", err, out)
	}
	end()
}
