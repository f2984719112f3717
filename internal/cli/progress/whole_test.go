package progress

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"holdfast/internal/cli/command"
	"holdfast/internal/job"
	"holdfast/testbed/try"
)

// TestAnAgentIsToldOfTheWholeJob, and of each host; the last line that it hears has the percentage of the whole, whatever the notes of
// steps have.
func TestAnAgentIsToldOfTheWholeJob(t *testing.T) {
	file := filepath.Join(t.TempDir(), "progress-1.json")
	var b strings.Builder
	a := &command.App{Env: command.Env{Stderr: &b}}
	j := job.View{State: "active", Steps: []job.StepView{
		{ID: "check", State: "done"},
		{ID: "h1/drain", Host: "h1", State: "skipped"},
		{ID: "h1/install", Host: "h1", State: "running", Note: "vm1 is moved, 90 % of it"},
		{ID: "h2/drain", Host: "h2", State: "failed", Why: "no space"},
		{ID: "h2/install", Host: "h2", State: "pending"},
		{ID: "h3/drain", Host: "h3", State: "pending"},
	}}
	ends := func(context.Context, job.View) (job.View, error) { return j, nil }
	follow := func() string {
		t.Helper()
		b.Reset()
		if _, err := Follow(t.Context(), a, j, ends, func(job.View) bool { return true }); err != nil {
			t.Fatal(err)
		}
		return b.String()
	}
	if got := follow(); strings.Contains(got, "are over") {
		t.Errorf("a person is told: %s", got)
	}
	t.Setenv(job.ProgressEnv, file)
	if got := follow(); !strings.HasSuffix(got, "\n2 of 6 steps are over, 33 %\n") {
		t.Errorf("%s", got)
	}
	var p job.Progress
	text, err := os.ReadFile(file)
	try.Must(t, err)
	try.Must(t, json.Unmarshal(text, &p))
	want := []job.Part{
		{Name: "coordinator", State: job.PartDone, Done: 1, Total: 1, Unit: "steps"},
		{Name: "h1", State: job.PartRunning, Done: 1, Total: 2, Unit: "steps", Note: "vm1 is moved, 90 % of it"},
		{Name: "h2", State: job.PartFailed, Total: 2, Unit: "steps", Note: "no space"},
		{Name: "h3", State: job.PartWaiting, Total: 1, Unit: "steps"},
	}
	if p.Line != "2 of 6 steps are over, 33 %" || len(p.Parts) != len(want) {
		t.Fatalf("%+v", p)
	}
	for i := range want {
		if p.Parts[i] != want[i] {
			t.Errorf("%+v, want %+v", p.Parts[i], want[i])
		}
	}
}
