package progress

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"holdfast/internal/cli/output"
	"holdfast/internal/cluster/reason"
	"holdfast/internal/job"
	"holdfast/internal/upgrade"
	"holdfast/internal/upgrade/check"
)

// JobState is the state, or the result of a job that has ended.
func JobState(j job.View) output.Cell {
	switch {
	case j.State != "ended":
		return output.Cell{Text: output.Clean(j.State), Colour: output.Yellow}
	case j.Result == "done":
		return output.Cell{Text: "done", Colour: output.Green}
	}
	return output.Cell{Text: output.Clean(output.Or(j.Result, "ended")), Colour: output.Red}
}

// StepState is the state of a step.
func StepState(s job.StepView) output.Cell {
	switch s.State {
	case "done":
		return output.Cell{Text: "done", Colour: output.Green}
	case "failed", "unknown":
		return output.Cell{Text: s.State, Colour: output.Red}
	case "running":
		return output.Cell{Text: fmt.Sprintf("running %d %%", s.Percent), Colour: output.Yellow}
	}
	return output.Cell{Text: output.Clean(s.State)}
}

// StuckSteps are those that an operator has to decide about.
func StuckSteps(j job.View) []job.StepView {
	var out []job.StepView
	for _, s := range j.Steps {
		if s.State == "failed" || s.State == "unknown" {
			out = append(out, s)
		}
	}
	return out
}

// NeedsHelp reports whether a run is paused because of a failure. A run that somebody
// has paused, that pauses after a wave, or that asks for a person's word, is followed on.
func NeedsHelp(j job.View) bool {
	return j.State == "paused" && slices.ContainsFunc(j.WhyCodes, func(r reason.Reason) bool {
		return !r.Is(reason.PausedBy) && !r.Is(reason.WaveDone) && !r.Is(reason.Confirm)
	})
}

// FewLines of a log are shown, or all.
const (
	allOfTheLog = 1 << 20
	FewLines    = 5
)

// StuckText says why a step is stuck, with the last lines of its log.
func StuckText(b *strings.Builder, p output.Painter, s job.StepView, lines int) {
	word := s.State
	if word == "unknown" {
		word = "unclear"
	}
	text := output.Clean(s.ID)
	if s.Why != "" {
		text += ": " + output.Clean(s.Why)
	}
	output.Say(b, p, word, output.Red, text)
	log := strings.Split(strings.TrimRight(s.Tail, "\n"), "\n")
	for _, l := range log[max(0, len(log)-lines):] {
		if l != "" {
			b.WriteString("          | " + output.Clean(l) + "\n")
		}
	}
}

// Outcome is what a command that begins a run tells programs. Without a job, plan
// and report say what stands in the way.
type Outcome struct {
	Job    *job.View     `json:"job"`
	Plan   *upgrade.Plan `json:"plan,omitempty"`
	Report *check.Report `json:"report,omitempty"`
}

// Beginning says how a run is begun.
type Beginning struct {
	Yes, Wait bool
}

// Flags has a command take them.
func (b *Beginning) Flags(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&b.Yes, "yes", false, "begin without asking")
	cmd.Flags().BoolVar(&b.Wait, "wait", false, "wait until it has ended")
}
