package engine

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/job"
	"holdfast/testbed/need"
	"holdfast/testbed/try"
)

// drill is a job of fourteen steps on three hosts, with all kinds of Executors.
func drill() []toyStep {
	step := func(id string, host cluster.HostID, kind string, after ...string) toyStep {
		return toyStep{Step: job.Step{ID: id, Host: host, Kind: kind, Timeout: time.Minute, Idempotent: kind == "idem"}, After: after}
	}
	return []toyStep{
		step("c/off", "", "once"),
		step("h1/stage", "h1", "idem", "c/off"),
		step("h2/stage", "h2", "idem", "c/off"),
		step("h3/stage", "h3", "idem", "c/off"),
		step("h1/install", "h1", "once", "h1/stage"),
		step("h2/install", "h2", "child", "h2/stage"),
		step("h3/install", "h3", "once", "h3/stage"),
		step("h1/hook", "h1", "blind", "h1/install"),
		step("h2/hook", "h2", "blind", "h2/install"),
		step("h2/reboot", "h2", "reboot", "h2/hook", "h3/install"),
		step("h3/reboot", "h3", "reboot", "h2/reboot"),
		step("c/switch", "", "blind", "h3/reboot", "h1/hook"),
		step("h1/reboot", "h1", "reboot", "c/switch"),
		step("c/on", "", "once", "h1/reboot"),
	}
}

// run does the drill with a bomb in the agent of one host, and checks what came of
// it. It returns the names of the points that the agent passed.
func run(t *testing.T, host cluster.HostID, at int, f fate, stays bool) (names []string, gone bool) {
	w, _ := memWorld(t, "h1", "h2", "h3")
	w.stays, w.glance = stays, time.Second
	b := w.machine[host].bomb
	b.at, b.fate = at, f
	w.elect("h1")
	for _, h := range []cluster.HostID{"h1", "h2", "h3"} {
		w.boot(h)
	}
	w.submit(upgradeJob("u1"), drill())
	unknown := w.operate("u1")
	w.stop()
	b.mu.Lock()
	defer b.mu.Unlock()
	name := "no point"
	if b.gone {
		name = fmt.Sprintf("point %d, %s", at, b.names[at-1])
	}
	j, err := Load(t.Context(), w.admin, "u1")
	if err != nil {
		t.Fatal(err)
	}
	if j.Job.Result != "done" {
		t.Errorf("%s: job ended as %q", name, j.Job.Result)
	}
	for _, s := range drill() {
		n, r := w.effects[s.ID], j.Records[s.ID]
		switch {
		case !r.State.Over():
			t.Errorf("%s: %s is %s", name, s.ID, r.State)
		case s.Idempotent && (n < 1 || n > r.Attempt):
			t.Errorf("%s: %s was done %d times in %d attempts", name, s.ID, n, r.Attempt)
		case !s.Idempotent && n != 1:
			t.Errorf("%s: %s was done %d times", name, s.ID, n)
		case unknown[s.ID] && s.Kind != "blind":
			t.Errorf("%s: %s was unknown, although its probe can tell", name, s.ID)
		}
	}
	if at == 0 && len(unknown) > 0 {
		t.Errorf("undisturbed, and yet unknown: %v", unknown)
	}
	if t.Failed() {
		t.Logf("%s", j.text())
	}
	return b.names, b.gone
}

// operate waits for the end of a job as an operator who looks what steps with an
// unknown outcome have done.
func (w *world) operate(id string) (unknown map[string]bool) {
	unknown = map[string]bool{}
	w.await(id, 10*time.Minute, "ended", func(j Journal) bool {
		for step, r := range j.Records {
			if r.State != job.Unknown {
				continue
			}
			unknown[step] = true
			w.mu.Lock()
			done := w.effects[step] > 0
			w.mu.Unlock()
			if done {
				w.order(job.Skip, id, step, "it was done")
			} else {
				w.order(job.Retry, id, step, "")
			}
		}
		return ended(j)
	})
	return unknown
}

// TestCrashAnywhere ends the agent of the coordinator, and that of another host,
// before and after each transaction and each boundary of an Executor, loses the answers of
// transactions, and requires the job to end as if nothing had happened.
func TestCrashAnywhere(t *testing.T) {
	every := 8
	if try.Race || testing.Short() {
		every = 32
	}
	crashes(t, every)
}

func TestCrashAnywhereAtLength(t *testing.T) {
	need.Drill(t, "P3: a job ends as if nothing had happened when an agent ends at any of its points, or any answer is lost")
	crashes(t, 1)
}

// crashes tries every so-manieth point, other ones in each run.
func crashes(t *testing.T, every int) {
	for _, c := range []struct {
		what  string
		host  cluster.HostID
		stays bool
	}{
		{"the coordinator's, another host takes over", "h1", false},
		{"the coordinator's, which coordinates again", "h1", true},
		{"another host's", "h2", false},
	} {
		t.Run(c.what, func(t *testing.T) {
			var names []string
			synctest.Test(t, func(t *testing.T) { names, _ = run(t, c.host, 0, passes, c.stays) })
			killed, all := 0, 0
			every := max(1, min(every, len(names)/2))
			for at := rand.IntN(every); at < len(names); at += every {
				for _, f := range []fate{endsBefore, endsAfter, replyLost, requestLost} {
					if !possible(f, isWrite(names[at]), true) {
						continue
					}
					all++
					// What happens at the same moment may come in another order, so that the
					// last points are not always there.
					gone := false
					for try := 0; !gone && try < 5; try++ {
						synctest.Test(t, func(t *testing.T) { _, gone = run(t, c.host, at+1, f, c.stays) })
					}
					if gone {
						killed++
					} else if at < len(names)*9/10 {
						t.Errorf("at point %d of %d (%s) nothing happened to the agent", at+1, len(names), names[at])
					}
					if t.Failed() {
						t.Fatalf("at point %d (%s) the agent %s", at+1, names[at], f)
					}
				}
			}
			if killed == 0 {
				t.Error("no fate happened")
			}
			t.Logf("%d of %d fates at %d points, every %d", killed, all, len(names), every)
		})
	}
}
