package probe

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/job"
	"holdfast/internal/job/engine"
	"holdfast/internal/upgrade"
)

// turn carries out a step about the guests of a host, and gives its log.
func (w *world) turn(h cluster.HostID, args upgrade.LossesArgs) (string, error) {
	w.t.Helper()
	text, err := json.Marshal(args)
	if err != nil {
		w.t.Fatal(err)
	}
	var log bytes.Buffer
	err = Turn{w.hosts[h].service}.Do(w.t.Context(), task(h, text, 1, &log))
	return log.String(), err
}

func task(h cluster.HostID, args []byte, attempt int, log *bytes.Buffer) engine.Task {
	return engine.Task{
		Job: "up1", Step: job.Step{ID: string(h) + "/losses", Host: h, Kind: upgrade.KindLosses, Args: args, Timeout: 5 * time.Minute},
		Attempt: attempt, Host: h, Log: log, Note: func(string, int) {}, Count: func(n int64) { fmt.Fprintf(log, "counted %d\n", n) },
	}
}

// found is what a later process finds of the end of a host's turn.
func (w *world) found(h cluster.HostID, attempt int) engine.Probed {
	w.t.Helper()
	p, err := Turn{w.hosts[h].service}.Probe(w.t.Context(), task(h, []byte(`{"work":"turn","limit":1}`), attempt, new(bytes.Buffer)))
	if err != nil {
		w.t.Fatal(err)
	}
	return p
}

func (w *world) begin(h cluster.HostID) {
	w.t.Helper()
	if log, err := w.turn(h, upgrade.LossesArgs{Work: "turn", Begin: true}); err != nil {
		w.t.Fatalf("%v: %s", err, log)
	}
}

// dark keeps a guest silent for some seconds.
func (w *world) dark(guest, seconds int) {
	w.set(func() { w.dead[addr(guest)] = true })
	time.Sleep(time.Duration(seconds) * time.Second)
	w.set(func() { w.dead[addr(guest)] = false })
}

func TestATurnIsJudgedByWhatItsGuestsLose(t *testing.T) {
	inWorld(t, 3, []cluster.HostID{"h1", "h2", "h2", "h3"}, func(t *testing.T, w *world) {
		w.set(func() { w.run = "up1" })
		w.begin("h2") // waits for the plan of who pings whom
		time.Sleep(20 * time.Second)
		w.dark(2, 7) // before the turn of h3, and in that of h2
		time.Sleep(20 * time.Second)
		w.begin("h3")
		if log, err := w.turn("h2", upgrade.LossesArgs{Work: "turn", Limit: 8}); err != nil ||
			!strings.Contains(log, "counted 7\n") || !strings.Contains(log, "g2 has lost 7 packets\n") ||
			!strings.Contains(log, "g3 has lost 0 packets\n") || strings.Contains(log, "g4") {
			t.Errorf("below the limit: %v: %s", err, log)
		}
		w.begin("h2") // done again: what was noted stays
		if got := w.found("h2", 1); got != engine.NotDone {
			t.Errorf("an agent that ended before it had judged: %v", got)
		}
		_, err := w.turn("h2", upgrade.LossesArgs{Work: "turn", Limit: 7})
		if want := "the limit is 7 lost packets: g2 has lost 7 packets"; err == nil || err.Error() != want {
			t.Errorf("at the limit: %v, want %s", err, want)
		}
		// An agent that ended before that was told must not pass it by counting from now on.
		if got := w.found("h2", 1); got != engine.CanNotTell {
			t.Errorf("an agent that ended when it had judged: %v", got)
		}
		if got := w.found("h2", 2); got != engine.NotDone {
			t.Errorf("the next attempt: %v", got)
		}
		// Repeated by an operator: what was told counts as known.
		if log, err := w.turn("h2", upgrade.LossesArgs{Work: "turn", Limit: 1}); err != nil {
			t.Errorf("repeated: %v: %s", err, log)
		}
		// A guest that moves here now is not of the turn, one that has left is.
		w.set(func() { w.seen.VMs[2].Host, w.seen.VMs[0].Host = "h3", "h2" })
		w.dark(1, 3)
		w.dark(3, 2)
		_, err = w.turn("h2", upgrade.LossesArgs{Work: "turn", Limit: 1})
		if want := "the limit is 1 lost packets: g3 has lost 2 packets"; err == nil || err.Error() != want {
			t.Errorf("a guest that has moved: %v, want %s", err, want)
		}
		if log, err := w.turn("h3", upgrade.LossesArgs{Work: "turn", Limit: 1}); err != nil {
			t.Errorf("a host whose guests have lost nothing: %v: %s", err, log)
		}
	})
}

func TestATurnEndsWhenItsGuestsAnswer(t *testing.T) {
	inWorld(t, 3, []cluster.HostID{"h1", "h2", "h3"}, func(t *testing.T, w *world) {
		w.set(func() { w.run = "up1" })
		time.Sleep(30 * time.Second)
		w.begin("h2")
		w.set(func() { w.dead[addr(2)] = true })
		_, err := w.turn("h2", upgrade.LossesArgs{Work: "turn", Limit: 1000})
		if want := "the limit is 1000 lost packets: g2 does not answer"; err == nil || err.Error() != want {
			t.Errorf("%v, want %s", err, want)
		}
		w.set(func() { w.dead[addr(2)] = false })
		// Whoever pings it is away, and comes back.
		w.begin("h1")
		w.crash("h3")
		time.AfterFunc(2*time.Minute, func() { w.start("h3") })
		began := time.Now()
		if log, err := w.turn("h1", upgrade.LossesArgs{Work: "turn", Limit: 1}); err != nil ||
			time.Since(began) < 2*time.Minute || !strings.Contains(log, "waits: counts of lost packets from h3") {
			t.Errorf("after %v: %v: %s", time.Since(began), err, log)
		}
		// It never comes back: nobody can tell.
		w.crash("h3")
		_, err = w.turn("h1", upgrade.LossesArgs{Work: "turn", Limit: 1})
		if want := "nobody can tell what the guests have lost: no new counts from h3: timed out"; err == nil || err.Error() != want {
			t.Errorf("%v, want %s", err, want)
		}
		w.start("h3")
		// It can not ping.
		w.set(func() { w.nic = errNoSocket })
		w.stop("h3")
		w.start("h3")
		_, err = w.turn("h1", upgrade.LossesArgs{Work: "turn", Limit: 1})
		if want := "the limit is 1 lost packets: nobody can tell whether g1 answers: h3, which pings it, " +
			"says: no socket"; err == nil || err.Error() != want {
			t.Errorf("%v, want %s", err, want)
		}
	})
}

func TestATurnThatWasNotNoted(t *testing.T) {
	inWorld(t, 2, []cluster.HostID{"h1", "h2"}, func(t *testing.T, w *world) {
		w.set(func() { w.run = "up1" })
		time.Sleep(30 * time.Second)
		if _, err := w.turn("h2", upgrade.LossesArgs{Work: "turn", Limit: 1}); err == nil ||
			!strings.Contains(err.Error(), "it is now: repeat this step") {
			t.Errorf("%v", err)
		}
		if got := w.found("h2", 1); got != engine.CanNotTell {
			t.Errorf("an agent that ended when it had noted: %v", got)
		}
		if log, err := w.turn("h2", upgrade.LossesArgs{Work: "turn", Limit: 1}); err != nil {
			t.Errorf("repeated: %v: %s", err, log)
		}
		// Another work on the same host begins with what is lost then.
		w.dark(2, 3)
		time.Sleep(20 * time.Second)
		if log, err := w.turn("h2", upgrade.LossesArgs{Work: "software", Begin: true}); err != nil {
			t.Errorf("another work: %v: %s", err, log)
		}
		if log, err := w.turn("h2", upgrade.LossesArgs{Work: "software", Limit: 1}); err != nil {
			t.Errorf("another work ends: %v: %s", err, log)
		}
		w.set(func() { w.seen.VMs = nil })
		w.begin("h1")
		if log, err := w.turn("h1", upgrade.LossesArgs{Work: "turn", Limit: 1}); err != nil {
			t.Errorf("a host without guests: %v: %s", err, log)
		}
	})
}
