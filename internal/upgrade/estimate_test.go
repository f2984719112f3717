package upgrade

import (
	"testing"
	"time"

	"holdfast/internal/inventory/manifest"
	"holdfast/internal/job"
)

// TestEstimatesLearnFromTheLastRun: reboots and programs take what they took, in the middle of all hosts, and
// never more than their timeout.
func TestEstimatesLearnFromTheLastRun(t *testing.T) {
	inv := hosts(3)
	o := Options{Mode: manifest.Reboot}
	before := mustBuild(t, webBundle(), inv, o)
	recs := map[string]job.Record{}
	began := time.Unix(1000, 0)
	reboots := 0
	for _, s := range before.Steps() {
		r := job.Record{Step: s.ID, State: job.Done, Began: began, Ended: began.Add(time.Second)}
		switch s.Kind {
		case KindReboot:
			reboots++
			r.Ended = began.Add([]time.Duration{time.Minute, 9 * time.Minute, 30 * time.Minute}[reboots-1])
		case KindStage:
			r.State = job.Failed // says nothing
		}
		recs[s.ID] = r
	}
	took := Took(before, recs)
	if reboots != 3 || took[KindReboot] != 9*time.Minute || took[KindStage] != 0 || took[KindAction+"/web/install"] != time.Second {
		t.Fatalf("%d reboots, took %v", reboots, took)
	}
	inv.Took = took
	after := mustBuild(t, webBundle(), inv, o)
	if after.Hosts[0].Turn < 9*time.Minute || after.Hosts[0].Turn >= 9*time.Minute+guessReboot {
		t.Errorf("a turn takes %s, before %s", after.Hosts[0].Turn, before.Hosts[0].Turn)
	}
	inv.Took = map[string]time.Duration{KindReboot: 1000 * time.Hour}
	for _, s := range before.Steps() {
		b := builder{inv: &inv}
		if s.Kind == KindReboot && b.guess(&Step{Step: s}) != s.Timeout {
			t.Errorf("%s is expected to take more than its timeout", s.ID)
		}
	}
}
