package ha

import (
	"strings"
	"testing"

	"holdfast/internal/cli/output"
	"holdfast/internal/job"
)

// TestJobText: of a step that failed it shows what its program said last; an answer without steps has no table.
func TestJobText(t *testing.T) {
	j := job.View{ID: "transition-1", Title: "the transition", User: "root", State: "paused", Steps: []job.StepView{
		{ID: "copy/one", State: "done", Tail: "all is well\n"},
		{ID: "ready/databases", State: "failed", Attempt: 1, Why: "ended with exit code 2",
			Tail: strings.Repeat("a row\n", 20) + "live guests are in states that there are: 1 row\n"},
	}}
	got := jobText(j, output.Painter{})
	if _, after, there := strings.Cut(got, "failed    ready/databases: ended with exit code 2\n"); !there ||
		!strings.HasSuffix(after, "          | live guests are in states that there are: 1 row\n") || strings.Count(after, "a row") > 5 {
		t.Errorf("%s", got)
	}
	if strings.Contains(got, "all is well") {
		t.Errorf("it shows the log of a step that is done:\n%s", got)
	}
	j.Steps = nil
	if got := jobText(j, output.Painter{}); strings.Contains(got, "STEP") {
		t.Errorf("%s", got)
	}
}
