package config

import (
	"testing"
	"time"

	"holdfast/internal/cluster"
)

func TestTheDefaultTimingsKeepTheRules(t *testing.T) {
	wantFaults(t, Timings{}.Check())
	want := cluster.Timings{Lease: 6 * time.Second, Keepalive: 2 * time.Second, Grace: 2 * time.Second, Watchdog: 4 * time.Second,
		Epsilon: 500 * time.Millisecond, Drift: 0.01, Election: 4 * time.Second, Heartbeat: 200 * time.Millisecond, Detection: 2 * time.Second}
	if got := (Timings{}).Values(); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
}

func TestTheFastProfileKeepsTheRulesAndCanBeChanged(t *testing.T) {
	wantFaults(t, Timings{Profile: ProfileFast}.Check())
	wantFaults(t, Timings{Profile: profileDefault}.Check())
	v := Timings{Profile: ProfileFast, Lease: Duration(5 * time.Second)}.Values()
	if v.Lease != 5*time.Second || v.Detection != time.Second || v.Drift != 0.01 {
		t.Errorf("%+v, want the fast values with a lease of 5s", v)
	}
	wantFaults(t, Timings{Profile: "faster"}.Check(), `Timings.Profile: value "faster": want default or fast`)
}

func TestTimingsBelowTheMinimumAreRefusedWithTheSum(t *testing.T) {
	runTimings := func(name, timings string, want ...string) faultCase {
		return one(name, `"CPU": 4`, `"CPU": 4, "Timings": `+timings, want...)
	}
	runFaults(t, []faultCase{
		runTimings("a grace too short for the watchdog", `{"Grace": "1s"}`,
			`Timings.Grace: value "1s": Lease 6s + Grace 1s = 7s is less than Watchdog 4s + 2 x Keepalive 2s = 8s`),
		runTimings("a watchdog too long blames the watchdog", `{"Watchdog": "5s"}`,
			`Timings.Watchdog: value "5s": Lease 6s + Grace 2s = 8s is less than Watchdog 5s + 2 x Keepalive 2s = 9s`),
		runTimings("exactly the sum is accepted", `{"Watchdog": "5s", "Grace": "3s"}`),
		runTimings("a keepalive of more than a third of the lease", `{"Lease": "5s", "Grace": "3s"}`,
			`Timings.Lease: Keepalive 2s is more than Lease 5s / 3 = 1.666666666s`),
		runTimings("an epsilon below the grain", `{"Epsilon": "99ms"}`,
			`Timings.Epsilon: value "99ms": Epsilon 99ms is less than 100ms, the resolution of watchdogs`),
		runTimings("exactly the grain is accepted, for the wait has both drifts", `{"Epsilon": "100ms", "Drift": 0.1}`),
		runTimings("a grace below its minimum", `{"Grace": "400ms", "Watchdog": "2s"}`,
			`Timings.Grace: value "400ms": Grace 400ms is less than 500ms`),
		runTimings("an election below two keepalives", `{"Election": "3s"}`,
			`Timings.Election: value "3s": Election 3s is less than 2 x Keepalive 2s = 4s`),
		runTimings("a detection below four heartbeats", `{"Detection": "700ms"}`,
			`Timings.Detection: value "700ms": Detection 700ms is less than 4 x Heartbeat 200ms = 800ms`),
		runTimings("a detection longer than the lease", `{"Detection": "7s"}`, `Timings.Detection: Detection 7s is more than Lease 6s`),
		runTimings("a heartbeat that floods", `{"Heartbeat": "10ms"}`, `Timings.Heartbeat: Heartbeat 10ms is less than 50ms`),
		runTimings("several sums at once", `{"Grace": "1s", "Election": "1s"}`, `Timings.Grace: = 7s`, `Timings.Election: = 4s`),
		runTimings("a written zero is not the default", `{"Drift": 0, "Lease": "0s"}`, `Timings.Drift: at least 0.001`, `Timings.Lease: above 0`),
		runTimings("a drift of more than a tenth", `{"Drift": 0.2}`, `Timings.Drift: at most 0.1`),
		runTimings("a drift better than oscillators are", `{"Drift": 0.0009}`, `Timings.Drift: at least 0.001`),
		runTimings("a huge drift", `{"Drift": 1e999}`, `Timings.Drift: finite`),
		runTimings("a huge duration", `{"Lease": "2000000h"}`, `Timings.Lease: at most 1h`),
		runTimings("a negative duration", `{"Grace": "-2s"}`, `Timings.Grace: above 0`),
		runTimings("a number without a unit", `{"Lease": "6"}`, `Timings.Lease: such as "6s"`),
		runTimings("an unknown timing", `{"Leases": "6s"}`, `Timings.Leases: nearest known one is "Lease"`),
	})
}

func TestCheckNeedsNoDocument(t *testing.T) {
	wantFaults(t, Timings{Lease: -1}.Check(), "Timings.Lease: above 0")
	wantFaults(t, Timings{Drift: 0.5}.Check(), "Timings.Drift: at most 0.1")
	wantFaults(t, Timings{Grace: Duration(time.Second)}.Check(), "Timings.Grace: = 8s")
}

// silence is how long a coordinator waits for the deadline proof about a host
// with guard g, on its own clock.
func silence(t cluster.Timings, g time.Duration) time.Duration {
	return time.Duration(float64(t.Lease+g)*(1+t.Drift)/(1-t.Drift)) + t.Epsilon
}

// Whatever the rules accept is safe with the worst pair of clocks: a holder's
// that is slow, a coordinator's that is fast, and the latest grain of a watchdog
// that was measured.
func TestWhatIsAcceptedIsSafe(t *testing.T) {
	const grain = 80 * time.Millisecond
	accepted := 0
	for _, drift := range []float64{0.001, 0.01, 0.05, 0.1} {
		for _, lease := range []time.Duration{time.Second, 6 * time.Second, 30 * time.Second, time.Hour} {
			for _, grace := range []time.Duration{500 * time.Millisecond, 2 * time.Second, time.Minute} {
				for _, epsilon := range []time.Duration{50 * time.Millisecond, 100 * time.Millisecond, 6100 * time.Millisecond} {
					keep := lease / 3
					tm := Timings{Lease: Duration(lease), Keepalive: Duration(keep), Grace: Duration(grace),
						Watchdog: Duration(lease / 4), Epsilon: Duration(epsilon),
						Drift: drift, Election: Duration(min(2*keep, time.Hour)), Heartbeat: Duration(100 * time.Millisecond), Detection: Duration(lease / 2)}
					if len(tm.Check()) > 0 {
						continue
					}
					accepted++
					v := tm.Values()
					reset := time.Duration(float64(lease+grace)/(1-drift)) + grain
					if wait := time.Duration(float64(silence(v, grace)) / (1 + drift)); wait < reset {
						t.Errorf("%+v: accepted, taken over %v before the reset", v, reset-wait)
					}
				}
			}
		}
	}
	if accepted < 50 {
		t.Errorf("only %d of the sums were accepted: the test tests little", accepted)
	}
	def, fast := Timings{}.Values(), Timings{Profile: ProfileFast}.Values()
	if a, b := silence(def, def.Grace).Round(time.Millisecond),
		silence(fast, fast.Grace).Round(time.Millisecond); a != 8662*time.Millisecond || b != 5401*time.Millisecond {
		t.Errorf("the defaults wait for %v and %v: want what docs/operations.md says", a, b)
	}
}
