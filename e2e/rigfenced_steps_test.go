package e2e

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"holdfast/internal/cluster"
	"holdfast/testbed/lab"
	"holdfast/testbed/need"
)

// spread gives n times from the first to the last, equally far apart.
func spread(n int, first, last time.Duration) []time.Duration {
	all := []time.Duration{first}
	for i := 1; i < n; i++ {
		all = append(all, first+(last-first)*time.Duration(i)/time.Duration(n-1))
	}
	return all
}

// second is what the observer and the guest say about a run with two faults.
type second struct {
	r      *rig
	before lab.Answer
	at     time.Time
	end    func() watch
}

func (r *rig) begin(t testing.TB) *second {
	t.Helper()
	before := r.answer(t)
	return &second{r: r, before: before, end: r.watching(t), at: time.Now()}
}

// upAgain waits until the guest answers, by the record on a host that lives.
func (s *second) upAgain(t testing.TB, ok func(lab.Answer) bool) {
	t.Helper()
	s.r.until(t, "the guest to answer", func(ctx context.Context) (string, bool) {
		a, err := s.r.lab.Ask(ctx)
		return fmt.Sprintf("%+v, %v", a, err), err == nil && ok(a)
	})
}

// judge wants health, one guest at any time, and a disk without a gap.
func (s *second) judge(t testing.TB, what string) {
	t.Helper()
	st := s.r.healthy(t)
	after := s.r.answer(t)
	time.Sleep(300 * time.Millisecond) // for the client to note the end of the outage
	w := s.end()
	w.oneHolder(t)
	if after.Boot == s.before.Boot && after.N < s.before.N || after.Boot != s.before.Boot && !strings.Contains(after.Prev, s.before.Boot) {
		t.Errorf("%s: the disk does not go on: %+v, then %+v", what, s.before, after)
	}
	var said []string
	for _, e := range s.r.events(t, s.at) {
		said = append(said, fmt.Sprintf("%.2f %s %s %s %s %s", e.Time.Sub(s.at).Seconds(), e.By, e.Kind, e.Host, e.Proof, e.Detail))
	}
	t.Logf("%s: outage %.2f s, %s on %s; %s", what, longest(w).Seconds(), st.Owner.Epoch, st.Owner.Host, strings.Join(said, "; "))
}

// apart waits for health, and moves the guest away from the coordinator's host
// if it is there.
func (r *rig) apart(t testing.TB) cluster.Status {
	t.Helper()
	st := r.healthy(t)
	if st.Coordinator == st.Owner.Host {
		r.command(t, string(st.Owner.Host), "migrate", another(r, st.Owner.Host))
		st = r.healthy(t)
	}
	if st.Coordinator == "" || st.Coordinator == st.Owner.Host {
		t.Fatalf("the coordinator is %q, the guest on %s: want them apart", st.Coordinator, st.Owner.Host)
	}
	return st
}

// TestTheCoordinatorIsKilledInATakeover kills its agent at moments around the
// detection, the order to the fence device, its answer, the takeover and the start.
func TestTheCoordinatorIsKilledInATakeover(t *testing.T) {
	need.Drill(t, "P3: the coordinator's agent is killed at moments of a takeover")
	for _, after := range spread(3*runs(t, defaultRuns), 850*time.Millisecond, 1350*time.Millisecond) {
		onLab(t, fenced, func(t testing.TB, r *rig) {
			st := r.apart(t)
			holder, coordinator := string(st.Owner.Host), string(st.Coordinator)
			s := r.begin(t)
			if err := r.lab.Crash(t.Context(), holder); err != nil {
				t.Fatal(err)
			}
			time.Sleep(after - time.Since(s.at))
			if err := r.lab.Kill(t.Context(), coordinator, lab.AgentDaemon); err != nil {
				t.Fatal(err)
			}
			s.upAgain(t, func(a lab.Answer) bool { return a.Boot != s.before.Boot })
			if err := back(t.Context(), r, holder); err != nil {
				t.Fatal(err)
			}
			s.judge(t, fmt.Sprintf("agent of the coordinator killed %.3f s after the loss", after.Seconds()))
		})
	}
}

// TestTheCoordinatorIsLostInATakeover takes the power of the coordinator, too:
// then the majority is gone until one of the two is back.
func TestTheCoordinatorIsLostInATakeover(t *testing.T) {
	need.Drill(t, "P2: the coordinator loses its power in a takeover")
	for _, after := range spread(runs(t, defaultRuns)+1, 900*time.Millisecond, 1250*time.Millisecond) {
		onLab(t, fenced, func(t testing.TB, r *rig) {
			st := r.apart(t)
			holder, coordinator := string(st.Owner.Host), string(st.Coordinator)
			s := r.begin(t)
			if err := r.lab.Crash(t.Context(), holder); err != nil {
				t.Fatal(err)
			}
			time.Sleep(after - time.Since(s.at))
			if err := r.lab.Crash(t.Context(), coordinator); err != nil {
				t.Fatal(err)
			}
			if err := r.lab.On(t.Context(), coordinator); err != nil {
				t.Fatal(err)
			}
			s.upAgain(t, func(a lab.Answer) bool { return a.Boot != s.before.Boot })
			if err := back(t.Context(), r, holder); err != nil {
				t.Fatal(err)
			}
			s.judge(t, fmt.Sprintf("power loss of the coordinator %.3f s after that of the active host", after.Seconds()))
		})
	}
}

// TestACoordinatorThatHearsNobodySwitchesNobodyOff makes the coordinator deaf,
// while it reaches the fence devices and has a lease for some seconds: its own
// ears are no majority. Whether the guest goes on depends on where the store's
// leader is; a deaf leader stalls the store.
func TestACoordinatorThatHearsNobodySwitchesNobodyOff(t *testing.T) {
	need.Drill(t, "P2: a deaf coordinator switches nobody off")
	for range runs(t, defaultRuns) {
		onLab(t, fenced, func(t testing.TB, r *rig) {
			st := r.apart(t)
			deaf := string(st.Coordinator)
			time.Sleep(2 * time.Second) // a migration that has just ended is another drill
			s, boots := r.begin(t), r.boots(t)
			err := others(r, deaf, func(x string) error { return r.lab.Cut(t.Context(), x, deaf) })
			if err != nil {
				t.Fatal(err)
			}
			time.Sleep(8 * time.Second) // twice the lease
			c := course{holder: string(st.Owner.Host), boots: boots, lab: r.history(t, s.at)}
			nobodySwitched(t, r, c)
			if err := back(t.Context(), r, deaf); err != nil {
				t.Fatal(err)
			}
			if err := hears(t.Context(), r, deaf); err != nil {
				t.Fatal(err)
			}
			if t.Failed() {
				return
			}
			s.judge(t, "the coordinator was deaf for 8 s")
		})
	}
}

// TestTheSourceOfAMigrationIsNotReset cuts it off as soon as the guest has left:
// it holds nothing.
func TestTheSourceOfAMigrationIsNotReset(t *testing.T) {
	need.Drill(t, "P2: the source of a migration that has ended holds nothing, and is not reset")
	for range runs(t, defaultRuns) {
		onLab(t, fenced, func(t testing.TB, r *rig) {
			st := r.healthy(t)
			from, to := string(st.Owner.Host), another(r, st.Owner.Host)
			r.until(t, "the target to reach the store", func(ctx context.Context) (string, bool) {
				st, err := r.statusOf(ctx, to)
				return fmt.Sprint(err, st.StoreError), err == nil && st.Connected
			})
			s, boots := r.begin(t), r.boots(t)
			r.until(t, "the migration", func(context.Context) (string, bool) {
				ctx, cancel := waiting(t)
				defer cancel()
				out, err := r.lab.Exec(ctx, to, r.exe, "migrate", to)
				if err == nil {
					return out, true
				}
				st, serr := r.statusOf(ctx, to) // the reply may be lost of one that was done
				return fmt.Sprint(out, err, serr), serr == nil && string(st.Owner.Host) == to
			})
			if err := r.lab.Isolate(t.Context(), from); err != nil {
				t.Fatal(err)
			}
			time.Sleep(7 * time.Second) // T + G is 5 s
			nobodySwitched(t, r, course{boots: boots, lab: r.history(t, s.at)})
			if t.Failed() {
				return
			}
			if err := back(t.Context(), r, from); err != nil {
				t.Fatal(err)
			}
			s.judge(t, "the source was cut off after the migration")
		})
	}
}

// TestFaultsInAMigration: each side loses its power or its agent, at times spread
// over a migration of 0.6 s.
func TestFaultsInAMigration(t *testing.T) {
	need.Drill(t, "P1: each side loses its power or its agent at moments of a migration")
	faultsInAMigration(t, fenced, map[string]sideFault{
		"source loses power":   {0, crash},
		"target loses power":   {1, crash},
		"source's agent ended": {0, killAgent},
		"target's agent ended": {1, killAgent},
	}, 2*runs(t, defaultRuns))
}

// sideFault is a fault of one side of a migration: 0 the source, 1 the target.
type sideFault struct {
	side  int
	fault func(context.Context, *rig, string) error
}

func killAgent(ctx context.Context, r *rig, h string) error {
	return r.lab.Kill(ctx, h, lab.AgentDaemon)
}

func faultsInAMigration(t *testing.T, k kind, faults map[string]sideFault, times int) {
	for name, f := range faults {
		t.Run(strings.NewReplacer(" ", "-", "'", "").Replace(name), func(t *testing.T) {
			for _, after := range spread(times, 50*time.Millisecond, 900*time.Millisecond) {
				onLab(t, k, func(t testing.TB, r *rig) {
					st := r.healthy(t)
					sides := []string{string(st.Owner.Host), another(r, st.Owner.Host)}
					s := r.begin(t)
					ctx, cancel := waiting(t)
					said := make(chan string, 1)
					go func() {
						out, err := r.lab.Exec(ctx, third(r, sides), r.exe, "migrate", sides[1])
						said <- fmt.Sprint(out, err)
					}()
					time.Sleep(after - time.Since(s.at))
					ferr := f.fault(t.Context(), r, sides[f.side])
					s.upAgain(t, func(a lab.Answer) bool { return a.Boot != s.before.Boot || a.N > s.before.N+20 })
					cancel()
					lines := strings.Split(strings.TrimSpace(<-said), "\n") // progress first
					if ferr != nil {
						t.Fatal(ferr)
					}
					if err := back(t.Context(), r, sides[f.side]); err != nil {
						t.Fatal(err)
					}
					s.judge(t, fmt.Sprintf("%s %.3f s after the command, which said %q", name, after.Seconds(), lines[len(lines)-1]))
				})
			}
		})
	}
}

// third names a host that is none of the two.
func third(r *rig, two []string) string {
	for _, h := range r.lab.Hosts() {
		if h != two[0] && h != two[1] {
			return h
		}
	}
	return ""
}
