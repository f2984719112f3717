package told

import (
	"slices"
	"testing"

	"holdfast/internal/job"
)

// TestStateOfAStep: one that runs and has not told how far it is has no figure.
func TestStateOfAStep(t *testing.T) {
	for s, want := range map[job.StepView]string{
		{State: "running"}:              "running",
		{State: "running", Percent: 40}: "running 40 %",
		{State: "done", Percent: 100}:   "done",
		{State: "unknown"}:              "unknown",
	} {
		if got := StepState(s).Text; got != want {
			t.Errorf("%s at %d: %q, want %q", s.State, s.Percent, got, want)
		}
	}
}

// TestOneSentenceForManyHosts: what is the same of several hosts is said once.
func TestOneSentenceForManyHosts(t *testing.T) {
	for _, c := range []struct{ in, want []string }{
		{nil, []string{}},
		{[]string{"h1: it is down", "h2: it is down", "h3: it is full"}, []string{"h1, h2: it is down", "h3: it is full"}},
		{[]string{"commit: h1: The host is down.", "commit: h2: The host is down.", "rollback: h1: The host is down."},
			[]string{"commit: h1, h2: The host is down.", "rollback: h1: The host is down."}},
		{[]string{"the store has no leader", "the store has no leader"}, []string{"the store has no leader"}},
		{[]string{"holdfast upgrade retry h1/db", "holdfast upgrade rollback"},
			[]string{"holdfast upgrade retry h1/db", "holdfast upgrade rollback"}},
		{[]string{"h1: a", "h1: b"}, []string{"h1: a", "h1: b"}},
	} {
		if got := Together(c.in); !slices.Equal(got, c.want) {
			t.Errorf("%q becomes %q, want %q", c.in, got, c.want)
		}
	}
}
