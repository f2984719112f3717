package check

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"testing"

	"holdfast/internal/inventory/manifest"
	"holdfast/internal/job"
	"holdfast/internal/upgrade/check/faults"
)

func builtinFaults() *faults.Catalogue {
	c, err := faults.Builtin()
	if err != nil {
		panic(err) // it is built in
	}
	return c
}

// sampleJournal has a step of each state.
func sampleJournal() Journal {
	return Journal{State: "rollup", Steps: []StepEnd{
		{Step: "h1/install/db", Host: "h1", State: StepDone, Attempt: 2, Tail: "LREP already exist", Why: "of the first attempt"},
		{Step: "h1/back", Host: "h1", State: StepFailed, Soft: true, Attempt: 1, Why: "guest a stays on h2: no room"},
		{Step: "h2/start/logicrep", Host: "h2", Module: "logicrep", Phase: "start", State: StepFailed, Attempt: 2, Exit: 3,
			Why: "start logicrep: exit status 3", Tail: "begin\n\nCREATE USER failed: LREP already exist\r\n" + hostile + "\n"},
		{Step: "h3/reboot", Host: "h3", State: StepUnknown, Attempt: 1, Why: "the host went away"},
		{Step: "h3/postCheck/db", Host: "h3", State: StepSkipped, By: "anna", Why: "checked by hand"},
		{Step: "h3/undrain", Host: "h3", State: StepRunning},
		{Step: "cluster/post-check", State: StepPending},
	}}
}

func TestFailedTellsWhatStopsTheRunFirst(t *testing.T) {
	got, err := Failed(sampleJournal(), builtinFaults())
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for _, f := range got {
		lines = append(lines, string(f.Level)+" "+f.String())
	}
	want := []string{
		"fail Step h2/start/logicrep of host h2 failed (attempt 2, exit code 3): start logicrep: exit status 3",
		"fail Step h3/reboot of host h3 may or may not have been done: the host went away",
		"warn Step h1/back of host h1 failed: guest a stays on h2: no room",
		"warn Step h3/postCheck/db of host h3 was skipped by anna: checked by hand",
	}
	if !slices.Equal(lines, want) {
		t.Errorf("%s", strings.Join(lines, "\n"))
	}
	if hits := got[0].Faults; len(hits) == 0 || hits[0].ID != "logrep-user-exists" ||
		!strings.Contains(hits[0].Causes[0].Remedy, "ds.username") {
		t.Errorf("known faults: %+v", hits)
	}
	if len(got[1].Faults) != 0 {
		t.Errorf("known faults of a log without any: %+v", got[1].Faults)
	}
	if got, err := Failed(sampleJournal(), nil); err != nil || len(got) != 4 || got[0].Faults != nil {
		t.Errorf("without a catalogue: %v %+v", err, got)
	}
}

// What a program has said of trouble is told with its remedy, also of a step that was done.
func TestWhatWasSaidByAStepThatSucceeded(t *testing.T) {
	j := Journal{Steps: []StepEnd{
		{Step: "m/install/cas", Host: "m", State: StepDone, Tail: "Upgrade is done!", Found: []job.Finding{
			{Fault: "single-path-pools", Level: "warn", Text: "The CVK(h2) have single path ocfs2 pools"},
			{Fault: faults.MarkedWarn, Level: "warn", File: "/var/log/upgrade/postcheck-report_1.txt", Text: "[WARN] time differs"},
		}},
		{Step: "h1/start/x", State: StepFailed, Why: "LREP already exist",
			Found: []job.Finding{{Fault: "logrep-user-exists", Level: "fail", Text: "LREP already exist"}}},
	}}
	got, err := Failed(j, builtinFaults())
	if err != nil || len(got) != 2 || len(got[0].Faults) != 1 || got[1].Level != Warn || len(got[1].Faults) != 2 {
		t.Fatalf("%v %+v", err, got)
	}
	if got, err := Failed(j, nil); err != nil || len(got) != 2 {
		t.Errorf("without a catalogue: %v %+v", err, got)
	}
	var text, page bytes.Buffer
	r := Report{When: After, Ended: testNow, Failures: got}
	if err := errors.Join(WriteText(&text, r), WriteHTML(&page, r)); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"Step m/install/cas of host m was done, and its program has reported faults", "The CVK(h2) have single path ocfs2 pools",
		"remove its shared pools, reboot it", "[WARN] time differs (/var/log/upgrade/postcheck-report_1.txt)",
	} {
		for name, got := range map[string]string{"text": text.String(), "page": page.String()} {
			if !strings.Contains(got, want) {
				t.Errorf("%s lacks %q:\n%s", name, want, got)
			}
		}
	}
}

func TestStepsAreCounted(t *testing.T) {
	n := CountSteps(sampleJournal())
	if n != (Steps{All: 7, Done: 1, Failed: 2, Unknown: 1, Skipped: 1, Running: 1, Pending: 1}) {
		t.Errorf("%+v", n)
	}
	if got := n.String(); got != "1 of 7 done, 2 failed, 1 unclear, 1 skipped, 1 under way, 1 not begun" {
		t.Errorf("%q", got)
	}
	if got := CountSteps(Journal{}).String(); got != "0 of 0 done" {
		t.Errorf("%q", got)
	}
}

// A run with a failed step is not well, whatever the checks say.
func TestAFailedStepIsInTheVerdict(t *testing.T) {
	fs, err := Failed(sampleJournal(), nil)
	if err != nil {
		t.Fatal(err)
	}
	r := Report{When: After, Ended: testNow, Findings: []Finding{{Check: "facts", Level: OK, Text: "Facts of the hosts"}}, Failures: fs}
	if r.Worst() != Fail {
		t.Errorf("worst is %s", r.Worst())
	}
	var b bytes.Buffer
	if err := WriteText(&b, r); err != nil {
		t.Fatal(err)
	}
	if !strings.HasSuffix(b.String(), "[FAIL] Post-check status of this environment... 2 failed, 2 warnings.\n") {
		t.Errorf("%s", b.String())
	}
	b.Reset()
	if err := WriteHTML(&b, r); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(b.String(), "Nothing needs attention") || !strings.Contains(b.String(), "h3/reboot") {
		t.Errorf("%s", b.String())
	}
}

func TestAboutIsOneHostsView(t *testing.T) {
	fs := []Finding{
		{Check: "kernel", Scope: ScopeHost, Where: "h1", Host: "h1", Level: Fail, Text: "mine"},
		{Check: "kernel", Scope: ScopeHost, Where: "h2", Host: "h2", Level: Fail, Text: "of another"},
		{Check: "commands", Scope: ScopeHost, Where: "h2", Host: "h2", Level: Fail, Text: "of another"},
		{Check: "store-quorum", Scope: ScopeCluster, Level: Warn, Text: "of all"},
		{Check: "busy-guests", Scope: ScopeVM, Where: "a", Host: "h1", Level: Info, Text: "a guest of mine"},
		{Check: "mine", Scope: ScopeCluster, Level: OK, Text: "mine"},
	}
	var got []string
	for _, f := range About(fs, "h1") {
		got = append(got, string(f.Level)+" "+f.Check+" "+f.Text)
	}
	want := []string{"fail kernel mine", "info busy-guests a guest of mine", "ok busy-guests Busy guests",
		"ok commands Required commands", "ok mine mine"}
	if !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
}

// Guests that stay where they are need no room elsewhere, and may be fixed.
func TestGuestsThatStayAreNotJudged(t *testing.T) {
	in := well()
	in.Inventory.VMs[0].Fixed, in.Inventory.VMs[0].MemoryMiB, in.Inventory.VMs[1].Dirty = []string{"host device"}, 65<<10, 500
	ids := []string{"capacity", "migratable", "dirty-rate"}
	for _, c := range []struct {
		mode         manifest.Mode
		stay, reboot bool
		want         Level
	}{{"rolling", false, false, Fail}, {"rolling", true, false, OK}, {"rolling", true, true, Fail},
		{"offline", false, true, OK}, {"reboot", false, true, Fail}} {
		in.Mode, in.Stay, in.Manifest.RequiresReboot = c.mode, c.stay, c.reboot
		for _, id := range ids {
			if got := Worst(only(t, id, in)); got != c.want {
				t.Errorf("%+v: %s is %s", c, id, got)
			}
		}
	}
	// The white list knows a run that reboots in the end as a rolling one.
	in.Mode = manifest.Reboot
	if fs := only(t, "white-list", in); Worst(fs) != OK {
		t.Errorf("%+v", fs)
	}
}
