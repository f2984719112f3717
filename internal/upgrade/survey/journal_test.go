package survey

import (
	"encoding/json"
	"reflect"
	"slices"
	"strings"
	"testing"

	"holdfast/internal/cluster"
	"holdfast/internal/fleet/evacuate"
	"holdfast/internal/inventory"
	"holdfast/internal/inventory/manifest"
	"holdfast/internal/job"
	"holdfast/internal/upgrade"
	"holdfast/internal/upgrade/check"
)

// with puts a status into the run.
func (r *Run) with(t *testing.T, st upgrade.Status) *Run {
	t.Helper()
	data, err := json.Marshal(st)
	if err != nil {
		t.Fatal(err)
	}
	r.Job.Data = data
	return r
}

func TestTheQuestionIsThatOfTheRun(t *testing.T) {
	w := well()
	w.host("h3").Version = "E0306" // it is left out
	run := w.ended(t, upgrade.Options{Mode: manifest.Rolling, KeepGuests: true, Confirmed: []string{"x"}, DefaultPolicy: inventory.PolicyCold})
	run.with(t, upgrade.Status{Hosts: map[cluster.HostID]upgrade.HostState{"m1": upgrade.HostRollupDone,
		"h1": upgrade.HostRollup}, Dropped: map[cluster.HostID]string{"h2": "bob"}})
	q, err := run.Question(check.After, &w.man)
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(q.Left)
	want := Question{
		When: check.After, SHA256: sha, Manifest: &w.man, Mode: manifest.Rolling, Stay: true, From: "E0303", Left: []cluster.HostID{"h2", "h3"},
		Done: []cluster.HostID{"m1"}, Policy: inventory.PolicyCold, Confirmed: []string{"x"},
	}
	if !reflect.DeepEqual(q, want) {
		t.Errorf("%+v\nwant %+v", q, want)
	}
}

func TestARunThatSwitchesHAOffSwitchesItOn(t *testing.T) {
	w := well()
	w.man.RequiresReboot = true
	q, err := w.ended(t, upgrade.Options{Mode: manifest.Reboot}).Question(check.After, &w.man)
	if err != nil || q.HABefore == nil || !*q.HABefore {
		t.Errorf("%v %+v", err, q)
	}
}

// A plan of a rollback leads from the new version to the old one; checks know an
// upgrade from the old to the new one.
func TestTheWayBackIsJudgedAsSuch(t *testing.T) {
	w := well()
	up := w.ended(t, upgrade.Options{Mode: manifest.Rolling})
	back := &Run{Plan: &upgrade.Plan{
		Format: 1, Purpose: upgrade.ForRollback, Bundle: "cas", From: "E0306", To: "E0303", Options: up.Plan.Options, Hosts: up.Plan.Hosts[:2],
		Left: []upgrade.LeftHost{{Name: "h3", Why: "never upgraded"}},
	}}
	back.with(t, upgrade.Status{Cluster: upgrade.Rolldown,
		Hosts: map[cluster.HostID]upgrade.HostState{"h1": upgrade.HostRolldownDone, "h2": upgrade.HostRolldown, "m1": upgrade.HostRollupDone}})
	q, err := back.Question(check.After, &w.man)
	if err != nil || !q.Back || q.From != "E0303" || !slices.Equal(q.Done, []cluster.HostID{"h1"}) {
		t.Errorf("%v %+v", err, q)
	}
	in := look(t, w.survey("m1"), q) // all have E0303
	if fs := check.Run(in); check.Worst(fs) == check.Fail {
		t.Errorf("%+v", fs[0])
	}
	r := Report(in, "m1")
	if r.From != "E0306" || r.To != "E0303" || r.Cluster != "lab" || len(r.Hosts) != 4 {
		t.Errorf("%+v", r)
	}
	if err := back.Fill(&r, nil, ""); err != nil {
		t.Fatal(err)
	}
	var notes []string
	for _, h := range r.Hosts {
		notes = append(notes, string(h.Name)+": "+h.Note)
	}
	if got := strings.Join(notes, "; "); got != "m1: upgraded; h1: rolled back; h2: half rolled back; h3: left out: never upgraded" {
		t.Errorf("%s", got)
	}
	if !strings.HasPrefix(r.Bundle, "cas E0306 (sha256 6f0c") || r.State != "rolldown" {
		t.Errorf("%q %q", r.Bundle, r.State)
	}
}

func TestOneOfSeveralWaysIsEnough(t *testing.T) {
	step := func(id, kind string, soft bool, args any) upgrade.Step {
		text, err := json.Marshal(args)
		if err != nil {
			t.Fatal(err)
		}
		return upgrade.Step{Step: job.Step{ID: id, Host: "h1", Kind: kind, Args: text}, Soft: soft}
	}
	run := &Run{Plan: &upgrade.Plan{Stages: []upgrade.Stage{{Chains: []upgrade.Chain{
		{Steps: []upgrade.Step{
			step("h1/install/db", upgrade.KindAction, false, upgrade.ActionArgs{Module: "db", Phase: manifest.Install}),
			step("h1/back", evacuate.KindUndrain, true, evacuate.UndrainArgs{}), step("h1/reboot", upgrade.KindReboot, false, upgrade.RebootArgs{}),
			step("h1/check", upgrade.KindCheck, false, upgrade.CheckArgs{}), step("h1/drain", evacuate.KindDrain, false, evacuate.DrainArgs{}),
		}},
		{OneOf: true, Steps: []upgrade.Step{step("m1/ha-on", upgrade.KindHAOn, false, nil),
			step("m2/ha-on", upgrade.KindHAOn, false, nil), step("m3/ha-on", upgrade.KindHAOn, false, nil)}},
		{OneOf: true, Steps: []upgrade.Step{step("m1/x", upgrade.KindHAOn, false, nil), step("m2/x", upgrade.KindHAOn, false, nil)}},
	}}}}, Records: map[string]job.Record{
		"h1/install/db": {State: job.Failed, Attempt: 2, Exit: 4, Why: "why", Tail: "tail"},
		"h1/back":       {State: job.Failed}, "h1/reboot": {State: job.Unknown},
		"h1/check": {State: job.Running}, "h1/drain": {State: job.Granted}, "m1/ha-on": {State: job.Failed},
		"m2/ha-on": {State: job.Done}, "m1/x": {State: job.Skipped, By: "bob"},
	}}
	j, err := run.Journal("h1/check")
	if err != nil {
		t.Fatal(err)
	}
	want := []check.StepEnd{
		{Step: "h1/install/db", Host: "h1", Module: "db", Phase: "install", State: check.StepFailed, Attempt: 2,
			Exit: 4, Why: "why", Tail: "tail"},
		{Step: "h1/back", Host: "h1", State: check.StepFailed, Soft: true},
		{Step: "h1/reboot", Host: "h1", State: check.StepUnknown}, {Step: "h1/drain", Host: "h1", State: check.StepRunning},
		{Step: "m1/ha-on", Host: "h1", State: check.StepFailed, Soft: true}, {Step: "m2/ha-on", Host: "h1", State: check.StepDone, Soft: true},
		{Step: "m1/x", Host: "h1", State: check.StepSkipped, Soft: true, By: "bob"},
	}
	if !reflect.DeepEqual(j.Steps, want) {
		t.Errorf("%+v\nwant %+v", j.Steps, want)
	}
}

func TestAStatusThatCanNotBeReadIsAnError(t *testing.T) {
	run := well().ended(t, upgrade.Options{Mode: manifest.Rolling})
	run.Job.Data = json.RawMessage(`"x"`)
	if _, err := run.Question(check.After, nil); err == nil {
		t.Error("question")
	}
	if _, err := run.Journal(""); err == nil {
		t.Error("journal")
	}
	if err := run.Fill(&check.Report{}, nil, ""); err == nil {
		t.Error("report")
	}
}
